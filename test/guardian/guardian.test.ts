import { expect, test } from "vitest";
import { GATES } from "../../kernel/contracts/contracts.ts";
import type { Facts, JsonObject } from "../../kernel/contracts/contracts.ts";
import { decide, isPermit } from "../../kernel/guardian/guardian.ts";
import { NO_POLICY, compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc } from "./sample.ts";

const policy = compilePolicy(sampleDoc);
const issue = (args: JsonObject = { repo: "acme/web", title: "crash" }) =>
  callOf("tool:github/create_issue", args);
const judged = (call = issue(), over: Partial<Facts> = {}) => decide(call, policy, factsOf(policy, over));
const codeOf = (v: ReturnType<typeof decide>) => (v.verdict === "ALLOW" ? "" : v.code);

test("an allowed call passes all thirteen gates in their order and yields a permit", () => {
  const v = judged();
  expect(v.verdict === "DENY" ? v.detail : v.verdict).toBe("ALLOW");
  expect(v.gates).toEqual(GATES);
  expect(v.ruleId).toBe("own-repos-only");
  expect(v.verdict === "ALLOW" && isPermit(v.permit)).toBe(true);
  expect(isPermit({ call: issue() })).toBe(false);
});

test("no policy denies with POLICY_NOT_READY", () => {
  expect(codeOf(decide(issue(), NO_POLICY, factsOf(NO_POLICY)))).toBe("POLICY_NOT_READY");
});

test("a deny rule beats an allow rule and names itself", () => {
  const v = judged(issue({ repo: "acme/web", title: "a secret" }));
  expect([codeOf(v), v.ruleId]).toEqual(["DENY_RULE", "no-secrets"]);
});

test("an escalation names its ceremony", () => {
  const v = judged(callOf("tool:github/create_release", { repo: "acme/web", title: "v1" }));
  expect(v.verdict === "ESCALATE" && v.ceremony.name).toBe("one");
});

test("each refused call has one code", () => {
  const cases: readonly (readonly [string, ReturnType<typeof decide>])[] = [
    ["DENY_TOOL_NOT_FOUND", judged(callOf("tool:github/delete_repo", {}))],
    ["DENY_SCHEMA_MISMATCH", judged(issue({ repo: "acme/web" }))],
    ["DENY_SCHEMA_MISMATCH", judged(issue({ repo: "acme/web", title: "x", more: 1 }))],
    ["DENY_NO_MATCH", judged(issue({ repo: "other/web", title: "x" }))],
    ["SYSTEM_FROZEN", judged(issue(), { freeze: { state: "frozen", node: policyHash(), reason: "stop" } })],
    ["TAINTED_HIGH_RISK", judged(issue(), { session: { ...factsOf(policy).session, tainted: true } })],
    ["RATE_LIMIT_EXCEEDED", judged(issue(), { rate: { toolLastMinute: 10, sessionLastSecond: 0 } })],
    [
      "DENY_DESTINATION",
      judged(issue(), { destination: { state: "known", host: "evil.example", port: 443 } }),
    ],
    [
      "DENY_DESTINATION",
      judged(callOf("net:a.evil.example:443", {}), {
        destination: { state: "known", host: "a.evil.example", port: 443 },
      }),
    ],
    ["DENY_MODEL", judged(callOf("model:openai/gpt-y", {}))],
  ];
  for (const [code, v] of cases) expect(codeOf(v)).toBe(code);
});
const policyHash = () => (policy.hash === "" ? expect.fail("no hash") : policy.hash);

test("a destination of the profile passes and the apex does not", () => {
  const net = (host: string) =>
    judged(callOf(`net:${host}:443`, {}), { destination: { state: "known", host, port: 443 } });
  expect(net("a.docs.example").verdict).toBe("ALLOW");
  expect(codeOf(net("docs.example"))).toBe("DENY_DESTINATION");
  expect(codeOf(net("evildocs.example"))).toBe("DENY_DESTINATION");
});
