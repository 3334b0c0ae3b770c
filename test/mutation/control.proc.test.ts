// The measure itself: it falls when a test file is taken away, counts what nobody reaches, and refuses tests that fail.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const scratch = mkdtempSync(join(tmpdir(), "atoll-mutants-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const program = fileURLToPath(new URL("../long/mutation/run.ts", import.meta.url));

interface Told {
  readonly all: { readonly score: number; readonly killed: number; readonly unreached: number };
  readonly left: readonly { readonly line: number; readonly column: number; readonly to: string }[];
}
function run(tests: readonly string[], ...more: string[]) {
  const args = ["--file", "kernel/guardian/requirements.ts", "--tests", tests.join(","), "--json"];
  const state = ["--state", join(scratch, "state.jsonl")];
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args, ...state, ...more], {
    encoding: "utf8",
  });
  const told = (): Told => JSON.parse(stdout);
  return { status, told, stderr };
}
const OWN = "test/guardian/requirements.test.ts";
const OTHER = "test/receipts/nodes.test.ts";

test("the score falls when a test file is taken away, and what is known holds only as long as its test does", () => {
  const whole = run([OWN, OTHER]);
  expect(whole.status, whole.stderr).toBe(0);
  expect(whole.told().all.score).toBeGreaterThan(90);
  const again = run([OWN, OTHER]);
  expect(again.stderr).toContain(", 0 to try");
  expect(again.told().all).toEqual(whole.told().all);
  const less = run([OWN, OTHER], "--without", OWN);
  expect(less.status).toBe(1);
  expect(less.told().all).toMatchObject({ score: 0, killed: 0 });
  expect(less.told().all.unreached).toBeGreaterThan(100);
  expect(less.told().left[0]).toMatchObject({ file: "kernel/guardian/requirements.ts", status: "unreached" });
});

test("tests that fail without a mutant measure nothing", () => {
  const told = run(["test/mutation/failing.ts"]);
  expect(told.status).not.toBe(0);
  expect(told.stderr).toContain("two is three fails without a mutant");
});
