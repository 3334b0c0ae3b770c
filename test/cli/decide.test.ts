import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import { sampleDoc } from "../guardian/sample.ts";
import { typed } from "./typed.ts";
import type { Said } from "./typed.ts";

const folder = mkdtempSync(join(tmpdir(), "decide-"));
const put = (name: string, value: unknown): string => {
  const path = join(folder, name);
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
};
const bundle = put("policy.json", sampleDoc);
const facts = put("facts.json", { principal: { serviceAccount: "triage-bot" } });

const run = (call: unknown, ...more: readonly string[]): Promise<Said> =>
  typed(["decide", "--bundle", bundle, "--call", put("call.json", call), "--facts", facts, ...more]);
const issue = (repo: string) => ({ tool: "tool:github/create_issue", args: { repo, title: "x" } });

test("the exit code is the verdict", async () => {
  expect(await run(issue("acme/web"))).toMatchObject({ code: 0, out: "ALLOW by rule own-repos-only\n" });
  expect(await run(issue("other/web"))).toMatchObject({ code: 3 });
  expect(await run({ ...issue("acme/web"), tool: "tool:github/create_release" })).toMatchObject({ code: 4 });
});
test("a malformed call exits 2 and names path and reason", async () => {
  expect(await run({ tool: "github" })).toMatchObject({
    code: 2,
    err: expect.stringContaining("call.tool: expected"),
  });
  expect(await run({ ...issue("a"), arguments: {} })).toMatchObject({
    code: 2,
    err: expect.stringContaining("call.arguments: is not a known member"),
  });
  expect(await run("{nothing")).toMatchObject({ code: 2 });
});
test("--json has the members that are documented, all and in this order, whatever the verdict", async () => {
  const page = readFileSync(new URL("../../docs/kernel.md", import.meta.url), "utf8");
  const table = page.slice(page.indexOf("| member |"), page.indexOf("The same judgement"));
  const documented = table
    .split("\n")
    .filter((row) => row.startsWith("| `"))
    .flatMap((row) => [...(row.split("|")[1] ?? "").matchAll(/`(\w+)`/g)].map(([, name]) => name ?? ""));
  const calls = [
    [issue("acme/web"), "ALLOW", "", "own-repos-only", ""],
    [issue("other/web"), "DENY", "DENY_NO_MATCH", "", ""],
    [
      { ...issue("acme/web"), tool: "tool:github/create_release" },
      "ESCALATE",
      "DENY_APPROVAL_REQUIRED",
      "releases-need-two",
      "one",
    ],
  ] as const;
  for (const [call, verdict, code, rule, ceremony] of calls) {
    const { out: stdout } = await run(call, "--json");
    expect(stdout.endsWith("}\n") && stdout.indexOf("\n") === stdout.length - 1).toBe(true);
    const said = JSON.parse(stdout);
    expect(Object.keys(said)).toEqual(documented);
    expect(said).toMatchObject({ verdict, reason_code: code, rule_id: rule, ceremony, shadows: [] });
    expect(said.args_hash).toBe(hashJson(call.args));
    expect(said.policy_hash).toBe(hashJson(sampleDoc));
  }
  expect(await run(issue("other/web"), "--json")).toEqual(await run(issue("other/web"), "--json"));
});
test("an unknown fact is refused by its path", async () => {
  const bad = put("bad.json", { session: { taint: true } });
  expect(await run(issue("acme/web"), "--facts", bad)).toMatchObject({
    code: 2,
    err: expect.stringContaining("facts.session.taint: is not a known field; did you mean `tainted`?"),
  });
});
