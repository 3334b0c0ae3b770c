// `npm test`: everything that shows the project to be sound, in order of cost, with one closing count.
//
//   npm test                     all of it
//   npm test -- --only unit,proc some steps (names below)
//   npm test -- --list           the steps
//
// A step that cannot run here is reported as skipped with its reason. With CI=true a skip is a failure.

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asked, someOf } from "../kind-e2e/asked.ts";

interface Outcome {
  readonly passed: number;
  readonly failed: number;
}
interface Step {
  readonly name: string;
  readonly what: string;
  /** Debian packages that the step needs: [program, or a command that succeeds when it is there; package]. */
  readonly needs?: readonly (readonly [string, string])[];
  readonly root?: boolean;
  /** Its tests start programs of this checkout as other users. */
  readonly others?: boolean;
  run(): Promise<Outcome>;
}

// Whatever a test leaves in the system's folder for such things, it leaves in here, and other users may do the same.
const scratch = mkdtempSync(join(tmpdir(), "atoll-test-"));
chmodSync(scratch, 0o1777);
process.once("exit", () => rmSync(scratch, { recursive: true, force: true }));

function command(program: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: "inherit", env: { ...process.env, TMPDIR: scratch } });
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}

const single =
  (program: string, ...args: string[]) =>
  async (): Promise<Outcome> =>
    (await command(program, args)) === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };

/** A vitest project; its own report is counted, and a report that is missing, empty or has skipped tests fails the step. */
const suite = (project: string) => async (): Promise<Outcome> => {
  const file = join(scratch, `${project}.json`);
  const code = await command("vitest", [
    "run",
    "--project",
    project,
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${file}`,
    ...(project === "unit" ? [] : ["--no-file-parallelism"]),
  ]);
  if (!existsSync(file)) return { passed: 0, failed: 1 };
  const report: {
    numPassedTests: number;
    numFailedTests: number;
    numPendingTests: number;
    numTodoTests: number;
    numFailedTestSuites: number;
  } = JSON.parse(readFileSync(file, "utf8"));
  const skipped = report.numPendingTests + report.numTodoTests;
  if (skipped > 0)
    console.log(`${project}: ${skipped} tests were skipped inside the suite, which counts as failed`);
  const failed = report.numFailedTests + skipped;
  const unseen = code !== 0 && failed === 0 ? 1 : 0;
  return { passed: report.numPassedTests, failed: failed + unseen + (report.numPassedTests === 0 ? 1 : 0) };
};

const STEPS: readonly Step[] = [
  { name: "types", what: "strict type check", run: single("tsc", "-p", ".") },
  {
    name: "page",
    what: "strict type check of the evidence page",
    run: single("tsc", "-p", "cli/viewer"),
  },
  { name: "lint", what: "type-aware linter", run: single("oxlint", "--type-aware", "--deny-warnings") },
  { name: "format", what: "formatter", run: single("biome", "format", ".") },
  {
    name: "unit",
    what: "units, properties, vectors, architecture",
    run: suite("unit"),
    needs: [["openssl", "openssl"]],
  },
  {
    name: "proc",
    what: "the built programs as processes",
    run: suite("proc"),
    needs: [
      ["strace", "strace"],
      ["python3", "python3"],
      ["python3 -c 'import cryptography'", "python3-cryptography"],
      ["openssl", "openssl"],
      ["chromium", "chromium"],
      ["psql", "postgresql"],
    ],
  },
  {
    name: "netns",
    what: "lock and island in real network namespaces",
    root: true,
    others: true,
    run: suite("netns"),
    needs: [
      ["nft", "nftables"],
      ["ip", "iproute2"],
      ["tcpdump", "tcpdump"],
      ["python3", "python3"],
    ],
  },
  {
    name: "kube",
    what: "operator and admission against a real kube-apiserver",
    root: true,
    run: suite("kube"),
    needs: [["go", "golang"]],
  },
];

const isThere = (probe: string): boolean =>
  spawnSync("sh", ["-c", probe.includes(" ") ? probe : `command -v ${probe}`]).status === 0;
const isRoot = process.getuid?.() === 0;

/** The first folder above this file that only its owner may enter. */
function closedFolder(): string | undefined {
  const above = import.meta.dirname.split("/").map((_, i, names) => names.slice(0, i + 1).join("/"));
  return above.find((folder) => folder !== "" && (statSync(folder).mode & 0o001) === 0);
}

/** Installs what is missing where that is possible; the answer is the reason why not. */
function provide(step: Step): string | undefined {
  if (step.root === true && !isRoot) return "needs root";
  const closed = step.others === true ? closedFolder() : undefined;
  if (closed !== undefined)
    return `its tests run as other users too, and those may not enter ${closed}: chmod o+x ${closed}, or clone elsewhere`;
  const missing = (step.needs ?? []).filter(([program]) => !isThere(program));
  if (missing.length === 0) return undefined;
  const packages = missing.map(([, name]) => name);
  if (!isRoot || !isThere("apt-get")) return `needs ${packages.join(", ")}`;
  console.log(`installing ${packages.join(", ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  spawnSync("apt-get", ["update", "-qq"], { stdio: "inherit", env });
  spawnSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages], {
    stdio: "inherit",
    env,
  });
  const still = missing.filter(([program]) => !isThere(program));
  return still.length === 0 ? undefined : `could not install ${still.map(([, name]) => name).join(", ")}`;
}

async function main(): Promise<number> {
  const { list, only } = asked(
    `usage: npm test [-- --only NAME,…] [-- --list]
${STEPS.map((s) => `  ${s.name.padEnd(8)} ${s.what}`).join("\n")}
A step that cannot run here is skipped with its reason; with CI=true a skip is a failure. The last line is the count.`,
    { list: false, only: someOf(...STEPS.map((s) => s.name)) },
  );
  if (list) {
    for (const s of STEPS) console.log(`${s.name.padEnd(8)} ${s.what}`);
    return 0;
  }
  const lines: string[] = [];
  let passed = 0;
  let failed = 0;
  for (const step of STEPS.filter((s) => only.includes(s.name))) {
    const reason = provide(step);
    if (reason !== undefined) {
      lines.push(`${step.name.padEnd(8)} skipped: ${reason}`);
      if (process.env["CI"] === "true") failed += 1;
      continue;
    }
    console.log(`\n== ${step.name}: ${step.what}`);
    const started = Date.now();
    const outcome = await step.run();
    passed += outcome.passed;
    failed += outcome.failed;
    lines.push(
      `${step.name.padEnd(8)} ${outcome.passed} passed, ${outcome.failed} failed, ${((Date.now() - started) / 1000).toFixed(1)} s`,
    );
  }
  console.log(`\n${lines.join("\n")}\n${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

process.exitCode = await main();
