import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { judge } from "../../cli/verify.ts";
import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { newFolder } from "../journal/scene.ts";
import { livedThrough, lying, packed, run } from "./scene.ts";
import type { Lie, Log } from "./scene.ts";

let log: Log;
let honest: { readonly file: string; readonly roots: string };
beforeAll(async () => {
  log = await livedThrough(4);
  honest = await packed(log);
});

describe("replay (4.5)", () => {
  test("decides every recorded call again and comes to the same, over approvals, freezes and a restart", async () => {
    for (const code of [
      "",
      "DENY_NO_MATCH",
      "DENY_RULE",
      "DENY_SCHEMA_MISMATCH",
      "DENY_TOOL_NOT_FOUND",
      "REPLAY_DETECTED",
      "DENY_MALFORMED_CALL",
      "DENY_APPROVAL_REQUIRED",
      "SYSTEM_FROZEN",
    ])
      expect([...log.codes]).toContain(code);
    const { code, text } = await run(honest.file, "--trust", honest.roots, "--json");
    expect(text).toContain('"reproduced":true');
    expect(code).toBe(0);
    const report: { receipts: number; same: number; ungated: number; effects: number } = JSON.parse(text);
    expect(report).toMatchObject({ verified: true, redacted: 0, condensed: 0, changes: [], ungated: 4 });
    expect(report.same + report.ungated).toBe(report.receipts);
    expect(report.receipts).toBeGreaterThan(35);
    expect(report.effects).toBeGreaterThan(9);
  });

  test("does not take an approval for granted on nobody's word", async () => {
    await expect(run(honest.file)).rejects.toThrow("whose approvals count");
  });

  test("is what `replay/run.sh` in the pack calls", () => {
    const script = execFileSync("tar", ["-xOf", honest.file, "replay/run.sh"], { encoding: "utf8" });
    expect(script).toContain('exec atoll replay "$1"');
  });

  test("with another policy lists what would change, and only that", async () => {
    const folder = newFolder();
    execFileSync("tar", ["-xf", honest.file, "-C", folder]);
    const [name] = readdirSync(join(folder, "policies"));
    const policy = JSON.parse(readFileSync(join(folder, "policies", name ?? ""), "utf8"));
    const same = join(folder, "same.json");
    writeFileSync(same, JSON.stringify(policy));
    expect(
      JSON.parse((await run(honest.file, "--trust", honest.roots, "--policy", same, "--json")).text),
    ).toMatchObject({ reproduced: true, changes: [] });
    for (const rule of policy.rules) if (rule.id === "nothing-is-deleted") rule.then = "allow";
    const other = join(folder, "other.json");
    writeFileSync(other, JSON.stringify(policy));
    const { code, text } = await run(honest.file, "--trust", honest.roots, "--policy", other);
    expect(code).toBe(0);
    expect(text).toContain("4 would change");
    expect(text).toContain("tool:github/delete_repo: DENY DENY_RULE -> ALLOW");
  });
});

const receiptOf = (body: JsonObject): JsonObject | undefined =>
  body["type"] === "atoll.dev/receipt/v1" ? body : undefined;
/** Changes the receipt that `when` finds. */
const inReceipt =
  (when: (r: JsonObject, kind: string) => boolean, change: (r: JsonObject) => JsonObject): Lie["node"] =>
  ({ node }) => {
    const r = receiptOf(node.body);
    return r !== undefined && when(r, node.kind) ? { ...r, ...change(r) } : undefined;
  };
const inFacts =
  (when: (f: JsonObject) => boolean, change: (f: JsonObject) => JsonObject): Lie["input"] =>
  (v) =>
    v["type"] === "atoll.dev/facts/v1" && when(v) ? { ...v, ...change(v) } : undefined;
const member = (o: JsonObject, name: string): JsonObject => (isObject(o[name]) ? o[name] : {});

const LIES: readonly (readonly [string, Lie, RegExp])[] = [
  [
    "a denial by a rule that is recorded under another code",
    {
      node: inReceipt(
        (r) => r["reason_code"] === "DENY_RULE",
        () => ({ reason_code: "DENY_NO_MATCH" }),
      ),
    },
    /verdict is `ATTESTATION DENIED DENY_NO_MATCH` and should be `ATTESTATION DENIED DENY_RULE`/,
  ],
  [
    "a denial recorded as one that the executor may add",
    {
      node: inReceipt(
        (r) => r["reason_code"] === "DENY_RULE",
        () => ({ reason_code: "BUDGET_ERROR" }),
      ),
    },
    /BUDGET_ERROR.*should be.*DENY_RULE/,
  ],
  [
    "a permit whose rule is another",
    {
      node: inReceipt(
        (_r, k) => k === "INTENT",
        () => ({ rule_id: "notes" }),
      ),
    },
    /rule_id is `notes`/,
  ],
  [
    "a permit that reserved less",
    {
      node: inReceipt(
        (_r, k) => k === "INTENT",
        (r) => ({ usage: { ...member(r, "usage"), calls: 0 } }),
      ),
    },
    /usage\.calls is `0`/,
  ],
  [
    "a permit that lasts longer",
    {
      node: inReceipt(
        (_r, k) => k === "INTENT",
        () => ({ expires_at: "2030-01-01T00:00:00.000Z" }),
      ),
    },
    /expires_at is/,
  ],
  [
    "gates that did not run",
    {
      node: inReceipt(
        (r) => r["reason_code"] === "DENY_RULE",
        () => ({ gates_hash: `sha256:${"0".repeat(64)}` }),
      ),
    },
    /gates_hash is/,
  ],
  [
    "a permit in another's name",
    {
      node: inReceipt(
        (_r, k) => k === "INTENT",
        () => ({ principal: "serviceAccount:a/b" }),
      ),
    },
    /principal is/,
  ],
  [
    "an outcome of another tool than the permit's",
    {
      node: inReceipt(
        (_r, k) => k === "EFFECT",
        () => ({ tool: "tool:github/delete_repo" }),
      ),
    },
    /tool is/,
  ],
  [
    "another tool judged than named",
    {
      node: inReceipt(
        (r) => r["reason_code"] === "DENY_RULE",
        () => ({ tool: "tool:github/list_issues" }),
      ),
    },
    /verdict is/,
  ],
  [
    "facts in which the call was an attack",
    {
      input: inFacts(
        () => true,
        (f) => ({ scan: { ...member(f, "scan"), level: "CRITICAL" } }),
      ),
    },
    /should be `ATTESTATION DENIED PROMPT_INJECTION_DETECTED`/,
  ],
  [
    "facts in which nothing was frozen",
    {
      input: inFacts(
        (f) => member(f, "freeze")["state"] === "frozen",
        () => ({ freeze: { state: "clear" } }),
      ),
    },
    /facts\.freeze is `clear`/,
  ],
  [
    "facts of another session",
    {
      input: inFacts(
        () => true,
        (f) => ({ session: { ...member(f, "session"), id: `ses_${"0".repeat(32)}` } }),
      ),
    },
    /facts\.session is/,
  ],
  [
    "an approval that nobody signed",
    {
      input: inFacts(
        (f) => member(f, "approval")["state"] === "granted",
        (f) => {
          const approval = member(f, "approval");
          return { approval: { ...approval, evidence: { ...member(approval, "evidence"), assertions: [] } } };
        },
      ),
    },
    /verdict is `INTENT PERMITTED` and should be `ATTESTATION DENIED APPROVAL_INVALID`/,
  ],
  [
    "arguments that the rule would have refused",
    { input: (v) => (v["repo"] === "acme/r0" ? { repo: "evil/r0" } : undefined) },
    /verdict is `INTENT PERMITTED` and should be `ATTESTATION DENIED DENY_NO_MATCH`/,
  ],
  [
    "a policy that would have allowed what was denied",
    {
      input: (v) =>
        v["apiVersion"] === "atoll.dev/policy/v1" && Array.isArray(v["rules"])
          ? {
              ...v,
              rules: v["rules"].map((r) =>
                isObject(r) && r["id"] === "nothing-is-deleted" ? { ...r, then: "allow" } : r,
              ),
            }
          : undefined,
    },
    /should be `INTENT PERMITTED`/,
  ],
];

describe("a guardian that lies in its own signed log is found by the replay, and not by the signatures:", () => {
  test("nothing, when the same log is only signed again", async () => {
    const { file, roots } = await packed(await lying(log, {}));
    expect((await run(file, "--trust", roots)).text).toContain("come out as recorded");
  });
  for (const [name, lie, words] of LIES)
    test(name, async () => {
      const { file, roots } = await packed(await lying(log, lie));
      expect(judge(file, parseTrustRoots(readFileSync(roots, "utf8")))).toMatchObject({ kind: "pack" });
      const { code, text } = await run(file, "--trust", roots);
      expect(text).toMatch(words);
      expect(code).toBe(1);
    });
});

describe("a pack edited by hand is refused:", () => {
  const EDITS: readonly (readonly [string, RegExp, string, string])[] = [
    ["a fact", /^replay\/inputs\.jsonl$/, '"tainted":false', '"tainted":true'],
    ["a policy", /^policies\//, '"then":"deny"', '"then":"allow"'],
    ["a verdict", /^nodes\//, '"DENY_RULE"', '"DENY_NO_MATCH"'],
  ];
  for (const [what, path, from, to] of EDITS)
    test(`${what}, with keys and without`, async () => {
      const folder = newFolder();
      execFileSync("tar", ["-xf", honest.file, "-C", folder]);
      let edited = 0;
      for (const sub of ["replay", "policies", "nodes"])
        for (const name of readdirSync(join(folder, sub))) {
          if (!path.test(`${sub}/${name}`)) continue;
          const file = join(folder, sub, name);
          const text = readFileSync(file, "utf8");
          if (!text.includes(from)) continue;
          writeFileSync(file, text.replace(from, to));
          edited++;
        }
      expect(edited).toBeGreaterThan(0);
      expect((await run(folder, "--trust", honest.roots)).code).toBe(1);
      const { code, text } = await run(folder);
      expect(code, text).toBe(1);
    });
});
