// Takes away each field of the policy document in turn, in a copy of the tree, and asks the tests: some must fail.
//
//   node test/long/fields.ts [FIELD…]     about ten minutes on two cores; exit 1 when a field survives

import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { policyReference } from "../../cli/authoring/schema.ts";

const root = resolve(import.meta.dirname, "../..");
if (process.argv.includes("--help")) {
  console.log(
    "usage: node test/long/fields.ts [FIELD…]\nTakes away each field of the policy document in turn; some test must fail.",
  );
  process.exit(0);
}

/** What stands for a field that cannot be absent: the least that binds. */
const LEAST: Readonly<Record<string, unknown>> = {
  name: "x",
  "connectors.*.kind": "mcp",
  "tools[].effect": "E0",
  "tools[].sideEffect": "read_only",
  "tools[].sandbox": "isolated",
  "tools[].input": true,
  "tools[].rate.perMinute": 1e9,
  "tools[].cost.microUsd": 0,
  "profiles[].match": { principal: "*" },
  "rules[].tools": ["*"],
  "rules[].then": "allow",
  "rules[].id": "x",
  "approvals.*.quorum": 1,
  "ceiling.forbidden[].tools": [],
  "ceiling.forbidden[].reason": "x",
  "perimeter.hours.days": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
  "perimeter.hours.from": "00:00",
  "perimeter.hours.to": "24:00",
  "perimeter.hours.timezone": "UTC",
  "perimeter.dataClasses.deny": [],
  "identity.mode": "serviceAccount",
  "models[].price.inputMicroUsdPerMTok": 0,
  "models[].price.outputMicroUsdPerMTok": 0,
};
const fields = [...policyReference().matchAll(/^\| `([^`]+)`/gm)].flatMap(([, f]) => f ?? []);
const chosen = process.argv.slice(2).length > 0 ? process.argv.slice(2) : fields;
for (const f of chosen)
  if (!fields.includes(f)) throw new Error(`\`${f}\` is no field of docs/reference/policy.md`);

const copy = mkdtempSync(join(tmpdir(), "atoll-fields-"));
process.on("exit", () => rmSync(copy, { recursive: true, force: true }));
const tracked = execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" })
  .split("\0")
  .filter((f) => f !== "");
for (const file of tracked) cpSync(join(root, file), join(copy, file));
symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));

const SHAPE = join(copy, "kernel/policy/shape.ts");
const original = readFileSync(SHAPE, "utf8");
interface Cut {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}
/** What no gate judges but the loading itself: each check that stands alone goes in turn. */
const CHECKS: Readonly<Record<string, readonly Cut[]>> = {
  apiVersion: [
    {
      file: "kernel/policy/shape.ts",
      from: 'apiVersion: choice("atoll.dev/policy/v1")',
      to: "apiVersion: anyText",
    },
  ],
  layer: [
    { file: "kernel/policy/compile.ts", from: 'if (doc.layer !== "P1")', to: 'if (doc.layer === "")' },
    { file: "kernel/policy/layers.ts", from: 'if (p0.layer !== "P0")', to: 'if (p0.layer === "")' },
  ],
};
const MARK = "if (isPolicyDoc(value)) return value;";
if (!original.includes(MARK))
  throw new Error("parsePolicy has changed: this script no longer knows where to cut");

function patched(field: string): string {
  const path = field.split(/\.|(?=\[\])/).map((p) => (p === "[]" || p === "*" ? "*" : p));
  const drop = `
function cut(value: any, path: readonly string[], least: any): any {
  const [head, ...rest] = path;
  if (value === undefined || value === null || typeof value !== "object") return value;
  if (head === "*") {
    if (Array.isArray(value)) return value.map((v) => cut(v, rest, least));
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, cut(v, rest, least)]));
  }
  if (!Object.hasOwn(value, head as string)) return value;
  const copy: any = { ...value };
  if (rest.length > 0) copy[head as string] = cut(copy[head as string], rest, least);
  else if (least === undefined) delete copy[head as string];
  else copy[head as string] = least;
  return copy;
}
`;
  const least = LEAST[field] === undefined ? "undefined" : JSON.stringify(LEAST[field]);
  return (
    original.replace(MARK, `if (isPolicyDoc(value)) return cut(value, ${JSON.stringify(path)}, ${least});`) +
    drop
  );
}

const vitest = join(root, "node_modules/vitest/vitest.mjs");
/** The tests from the quickest to the slowest; the first that fails settles it. */
const STAGES: readonly (readonly string[])[] = [
  ["test/policy/fields.test.ts"],
  [
    "test/policy",
    "test/guardian/guardian.test.ts",
    "test/executor",
    "test/ceremony/ceremony.test.ts",
    "test/budget",
  ],
  ["test/surfaces", "test/cli"],
];
const sound = new Set<readonly string[]>();
/** The first test that fails; a stage that is reached for the first time has to pass with nothing taken away. */
function firstFailure(restored: (run: () => string | undefined) => string | undefined): string | undefined {
  for (const stage of STAGES) {
    if (!sound.has(stage)) {
      const untouched = restored(() => failureIn(stage));
      if (untouched !== undefined) throw new Error(`a test fails with nothing taken away: ${untouched}`);
      sound.add(stage);
    }
    const found = failureIn(stage);
    if (found !== undefined) return found;
  }
  return undefined;
}
function failureIn(stage: readonly string[]): string | undefined {
  const run = spawnSync(
    process.execPath,
    [
      vitest,
      "run",
      "--project",
      "unit",
      "--bail",
      "1",
      "--reporter",
      "json",
      "--outputFile",
      join(copy, "report.json"),
      ...stage,
    ],
    {
      cwd: copy,
      encoding: "utf8",
      maxBuffer: 1 << 28,
    },
  );
  if (run.status === 0) return undefined;
  const report = JSON.parse(readFileSync(join(copy, "report.json"), "utf8")) as {
    testResults?: {
      assertionResults: { status: string; fullName: string }[];
      message: string;
      name: string;
    }[];
  };
  for (const file of report.testResults ?? [])
    for (const t of file.assertionResults) if (t.status === "failed") return t.fullName;
  const broken = report.testResults?.find((f) => f.message !== "");
  if (broken !== undefined) return `${broken.name}: ${broken.message.split("\n", 1)[0] ?? ""}`;
  throw new Error(`the tests did not run: ${run.stdout}${run.stderr}`);
}

/** The test that finds a field, or one check of it, gone. */
function without(field: string, cut: Cut | undefined): string | undefined {
  const file = cut === undefined ? SHAPE : join(copy, cut.file);
  const before = readFileSync(file, "utf8");
  if (cut !== undefined && !before.includes(cut.from))
    throw new Error(`${cut.file} has changed: \`${cut.from}\` is not there`);
  const after = cut === undefined ? patched(field) : before.replace(cut.from, cut.to);
  writeFileSync(file, after);
  try {
    return firstFailure((run) => {
      writeFileSync(file, before);
      const found = run();
      writeFileSync(file, after);
      return found;
    });
  } finally {
    writeFileSync(file, before);
  }
}
const both = (a: string | undefined, b: string | undefined): string | undefined =>
  a === undefined || b === undefined ? undefined : `${a}", "${b}`;

let survived = 0;
for (const [i, field] of chosen.entries()) {
  const found = (CHECKS[field] ?? [undefined]).map((cut) => without(field, cut)).reduce(both);
  if (found === undefined) survived++;
  console.log(
    `${i + 1}/${chosen.length} ${field}: ${found === undefined ? "SURVIVES" : `found by "${found}"`}`,
  );
}
console.log(`${chosen.length - survived} passed, ${survived} failed`);
process.exitCode = survived === 0 ? 0 : 1;
