import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { decideCommand } from "../../cli/decide.ts";
import { sampleDoc } from "../guardian/sample.ts";

const folder = mkdtempSync(join(tmpdir(), "decide-"));
const put = (name: string, value: unknown): string => {
  const path = join(folder, name);
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
};
const bundle = put("policy.json", sampleDoc);
const facts = put("facts.json", { principal: { serviceAccount: "triage-bot" } });

function run(call: unknown, ...more: readonly string[]) {
  const out = { stdout: "", stderr: "" };
  const io = {
    stdout: { write: (t: string) => (out.stdout += t) },
    stderr: { write: (t: string) => (out.stderr += t) },
  };
  const path = put("call.json", call);
  const exit = decideCommand(["--bundle", bundle, "--call", path, "--facts", facts, ...more], io);
  return { exit, ...out };
}
const issue = (repo: string) => ({ tool: "tool:github/create_issue", args: { repo, title: "x" } });

test("the exit code is the verdict", () => {
  expect(run(issue("acme/web"))).toMatchObject({ exit: 0, stdout: "ALLOW by rule own-repos-only\n" });
  expect(run(issue("other/web"))).toMatchObject({ exit: 3 });
  expect(run({ ...issue("acme/web"), tool: "tool:github/create_release" })).toMatchObject({ exit: 4 });
});
test("a malformed call exits 2 and names path and reason", () => {
  expect(run({ tool: "github" })).toMatchObject({
    exit: 2,
    stderr: expect.stringContaining("call.tool: expected"),
  });
  expect(run({ ...issue("a"), arguments: {} })).toMatchObject({
    exit: 2,
    stderr: expect.stringContaining("call.arguments: is not a known member"),
  });
  expect(run("{nothing")).toMatchObject({ exit: 2 });
});
test("--json has the same members whatever the verdict", () => {
  const members = [issue("acme/web"), issue("other/web")].map((c) =>
    Object.keys(JSON.parse(run(c, "--json").stdout)),
  );
  expect(members[0]).toEqual(members[1]);
  expect(members[0]?.slice(0, 5)).toEqual(["verdict", "reason_code", "detail", "rule_id", "effect_class"]);
});
test("an unknown fact is refused by its path", () => {
  const bad = put("bad.json", { session: { taint: true } });
  expect(run(issue("acme/web"), "--facts", bad)).toMatchObject({
    exit: 2,
    stderr: expect.stringContaining("facts.session.taint: is not a known field; did you mean `tainted`?"),
  });
});
