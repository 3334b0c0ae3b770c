// `npm run coverage`: which branches of the trusted base the quick tests take, file by file, and that they take all but
// those that are listed here. --help says this; --show prints every branch that is not taken.
//
// What runs in the sandbox's own process and threads is not seen from here; test/sandbox judges it from outside.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FOLDERS = "contracts,crypto,guardian,executor,proofgraph,trust,receipts,canonicalize,manifest";
const TESTS =
  "contracts crypto guardian executor proofgraph trust receipts canonicalize manifest identity keys"
    .concat(" policy/bundle policy/authoring ceremony/ceremony cli/decide")
    .split(" ")
    .map((name) => `test/${name}`);

/** Branches that may stay untaken, by file: fallbacks of an index that is always within its bounds. */
const UNTAKEN: Readonly<Record<string, number>> = JSON.parse(
  readFileSync(new URL("coverage.json", import.meta.url), "utf8"),
);

interface Place {
  readonly line?: number;
  readonly column?: number;
}
interface Covered {
  readonly branchMap: Readonly<
    Record<
      string,
      {
        readonly type: string;
        readonly loc: { readonly start: Place };
        readonly locations: readonly { readonly start: Place }[];
      }
    >
  >;
  readonly b: Readonly<Record<string, readonly number[]>>;
}

function main(argv: readonly string[]): number {
  if (argv.includes("--help")) {
    console.log(readFileSync(new URL(import.meta.url), "utf8").split("\n\n")[0]);
    return 0;
  }
  const scratch = mkdtempSync(join(tmpdir(), "atoll-coverage-"));
  try {
    const run = spawnSync(
      "vitest",
      [
        "run",
        "--project",
        "unit",
        ...TESTS,
        "--coverage",
        "--coverage.provider=v8",
        "--coverage.reporter=json",
        "--coverage.reportOnFailure",
        `--coverage.reportsDirectory=${scratch}`,
        `--coverage.include=kernel/{${FOLDERS}}/**/*.ts`,
        "--reporter=dot",
        // Tests of processor time: a counted program takes longer.
        "-t",
        "^(?!hostile)",
      ],
      { stdio: "inherit", env: { ...process.env, ATOLL_RUNS: "300", ATOLL_SIGNATURE_RUNS: "20" } },
    );
    if (run.status !== 0) return 1;
    const files: Readonly<Record<string, Covered>> = JSON.parse(
      readFileSync(join(scratch, "coverage-final.json"), "utf8"),
    );
    return report(files, argv.includes("--show"));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function report(files: Readonly<Record<string, Covered>>, show: boolean): number {
  let [all, taken, wrong] = [0, 0, 0];
  for (const [path, file] of Object.entries(files)) {
    const name = path.slice(path.indexOf("/kernel/") + 1);
    const lines = readFileSync(path, "utf8").split("\n");
    let untaken = 0;
    for (const [id, counts] of Object.entries(file.b))
      for (const [i, count] of counts.entries()) {
        all++;
        if (count > 0) taken++;
        else {
          untaken++;
          const branch = file.branchMap[id];
          const line = branch?.locations[i]?.start.line ?? branch?.loc.start.line ?? 0;
          if (show) console.log(`${name}:${line} ${branch?.type ?? ""}: ${lines[line - 1]?.trim() ?? ""}`);
        }
      }
    const allowed = UNTAKEN[name] ?? 0;
    if (untaken > allowed) {
      wrong++;
      console.log(`${name}: ${untaken} branches are not taken, ${allowed} may be`);
    } else if (untaken < allowed)
      console.log(`${name}: only ${untaken} branches are not taken, ${allowed} are listed`);
  }
  console.log(`branches: ${taken} of ${all} (${((100 * taken) / all).toFixed(2)} %)`);
  return wrong === 0 && all > 2000 ? 0 : 1;
}

process.exitCode = main(process.argv.slice(2));
