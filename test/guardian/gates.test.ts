// Each gate at its edge: the last value that passes and the first that does not, and the sentence that says why.

import { describe, expect, test } from "vitest";
import { GATES, timestampFrom } from "../../kernel/contracts/contracts.ts";
import type { Facts, GateName, JsonObject, Policy, ToolCall } from "../../kernel/contracts/contracts.ts";
import { decide, isPermit } from "../../kernel/guardian/guardian.ts";
import type { GateTuple, Verdict } from "../../kernel/guardian/guardian.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc, someHash } from "./sample.ts";

const base = compilePolicy(sampleDoc);
const [tool, ...otherTools] = sampleDoc.tools;
const [profile] = sampleDoc.profiles;
const issue = callOf("tool:github/create_issue", { repo: "acme/web", title: "crash" });
const note = callOf("tool:agent/note", {});
const model = callOf("model:openai/gpt-x", {});
const net = callOf("net:a.docs.example:443", {});
const known = (host: string, port = 443): Partial<Facts> => ({ destination: { state: "known", host, port } });
const openai = known("api.openai.example");
const docs = known("a.docs.example");
const policyWith = (over: JsonObject, ceiling?: JsonObject): Policy =>
  compilePolicy(
    { ...sampleDoc, ...over },
    ceiling === undefined
      ? {}
      : { ceiling: { apiVersion: "atoll.dev/policy/v1", name: "p0", layer: "P0", ...ceiling } },
  );
const withProfile = (over: JsonObject): Policy => policyWith({ profiles: [{ ...profile, ...over }] });
const withTool = (over: JsonObject): Policy => policyWith({ tools: [{ ...tool, ...over }, ...otherTools] });
const facts = factsOf(base);
const at = (time: string): Partial<Facts> => ({ now: timestampFrom(time, "now") });
const context = (over: Partial<Facts["context"]>, policy = base): Partial<Facts> => ({
  context: { ...factsOf(policy).context, ...over },
});
const principal = (over: object): Partial<Facts> => ({
  principal: { ...facts.principal, ...over },
});
const said = (v: Verdict): string => (v.verdict === "ALLOW" ? "ALLOW" : `${v.code} ${v.detail}`);
/** The gate that ended it. */
const ended = (v: Verdict): string => (v.verdict === "ALLOW" ? "" : (v.gates.at(-1) ?? "before"));

type Row = readonly [what: string, expected: string, call: ToolCall, over: Partial<Facts>, policy?: Policy];
function check(gate: GateName, rows: readonly Row[]): void {
  describe(gate, () => {
    test.each(rows.map((row) => ({ what: row[0], row })))("$what", ({ row }) => {
      const [, expected, call, over, policy = base] = row;
      const v = decide(call, policy, factsOf(policy, over));
      expect(said(v)).toBe(expected);
      expect(ended(v)).toBe(expected === "ALLOW" ? "" : gate);
      expect(v.gates).toEqual(GATES.slice(0, v.verdict === "ALLOW" ? 13 : GATES.indexOf(gate) + 1));
    });
  });
}

const strictTime = policyWith({ freshness: { maxStaleSeconds: 10 } });
check("freeze", [
  ["frozen", "SYSTEM_FROZEN stop", issue, { freeze: { state: "frozen", node: someHash, reason: "stop" } }],
]);
check("context", [
  [
    "another policy",
    "CONTEXT_MISMATCH the call was gathered under another policy",
    issue,
    context({ policyHash: someHash }),
  ],
  ["another pod", "CONTEXT_MISMATCH the call comes from another pod", issue, context({ podUid: "other" })],
  [
    "no pod at all",
    "CONTEXT_MISMATCH the call comes from another pod",
    issue,
    context({ podUid: "", guardianPodUid: "" }),
  ],
  ["a heartbeat just in time", "ALLOW", issue, context({ heartbeatAgeMs: 10_000 }, strictTime), strictTime],
  [
    "a heartbeat too late",
    "POLICY_STALE last heartbeat 10001 ms ago, 10000 allowed",
    issue,
    context({ heartbeatAgeMs: 10_001 }, strictTime),
    strictTime,
  ],
  [
    "no heartbeat yet",
    "POLICY_STALE last heartbeat never ms ago, 600000 allowed",
    issue,
    context({ heartbeatAgeMs: "never" }),
  ],
  ["no stream exists", "ALLOW", issue, context({ heartbeatAgeMs: "unbound" })],
  [
    "before its expiry",
    "ALLOW",
    issue,
    context({ policyExpiresAt: timestampFrom("2026-11-18T10:00:00.001Z", "t") }),
  ],
  [
    "at its expiry",
    "POLICY_STALE the policy expired at 2026-11-18T10:00:00.000Z",
    issue,
    context({ policyExpiresAt: timestampFrom("2026-11-18T10:00:00.000Z", "t") }),
  ],
  ["without TLS", "PERIMETER_VIOLATION the call would leave without TLS", issue, context({ tls: false })],
]);
const hours = policyWith({
  perimeter: {
    hours: { days: ["Wed"], from: "10:00", to: "10:01", timezone: "UTC" },
    maxConcurrent: 2,
    requireTls: false,
    dataClasses: { deny: ["restricted"] },
  },
});
check("context", [
  ["within the hours, plain", "ALLOW", issue, context({ tls: false }, hours), hours],
  [
    "outside the hours",
    "PERIMETER_VIOLATION outside the allowed hours at 2026-11-18T10:01:00.000Z",
    issue,
    { ...at("2026-11-18T10:01:00.000Z") },
    hours,
  ],
  ["one place left", "ALLOW", issue, context({ concurrent: 1 }, hours), hours],
  [
    "no place left",
    "PERIMETER_VIOLATION 2 calls are under way already",
    issue,
    context({ concurrent: 2 }, hours),
    hours,
  ],
  ["many at once without a limit", "ALLOW", issue, context({ concurrent: 999 })],
  [
    "another class of data",
    "ALLOW",
    issue,
    { scan: { level: "NONE", findings: [], dataClasses: ["public"] } },
    hours,
  ],
  [
    "a class that may not leave",
    "PERIMETER_VIOLATION data of class `restricted` may not leave",
    issue,
    { scan: { level: "NONE", findings: [], dataClasses: ["public", "restricted"] } },
    hours,
  ],
]);
const related = policyWith({
  identity: {
    mode: "serviceAccount",
    relations: ["repo:acme/web#writer@serviceAccount:acme/triage-bot"],
    check: [{ tools: ["tool:github/*"], relation: "writer", object: "repo:{call.args.repo}" }],
  },
});
const repo = (value: JsonObject[string]): ToolCall =>
  callOf("tool:github/create_issue", { repo: value, title: "x" });
check("identity", [
  [
    "a refused token",
    "AUTH_INVALID expired",
    issue,
    { principal: { state: "refused", code: "AUTH_INVALID", detail: "expired" } },
  ],
  [
    "no principal's name",
    "IDENTITY_ISOLATION_VIOLATION the session belongs to ``",
    issue,
    { ...principal({ id: "" }), session: { ...facts.session, principal: "" } },
  ],
  [
    "another's session",
    "IDENTITY_ISOLATION_VIOLATION the session belongs to `serviceAccount:acme/other`",
    issue,
    { session: { ...facts.session, principal: "serviceAccount:acme/other" } },
  ],
  ["in relation", "ALLOW", issue, {}, related],
  [
    "not in relation",
    "AUTHZ_DENIED `serviceAccount:acme/triage-bot` is not `writer` of `repo:acme/x`",
    repo("acme/x"),
    {},
    related,
  ],
  [
    "a name with other characters",
    "AUTHZ_DENIED an argument that names an object has a value outside the allowed set",
    repo("acme/web#writer@x"),
    {},
    related,
  ],
  [
    "an empty name",
    "AUTHZ_DENIED an argument that names an object has a value outside the allowed set",
    repo(""),
    {},
    related,
  ],
  [
    "a name that is too long",
    "AUTHZ_DENIED an argument that names an object has a value outside the allowed set",
    repo("a".repeat(256)),
    {},
    related,
  ],
  [
    "a name that is a number",
    "AUTHZ_DENIED an argument that names an object has a value outside the allowed set",
    repo(7),
    {},
    related,
  ],
  [
    "a name that is missing",
    "AUTHZ_DENIED an argument that names an object has a value outside the allowed set",
    callOf("tool:github/create_issue", { title: "x" }),
    {},
    related,
  ],
  ["a tool that no check names", "ALLOW", note, { destination: { state: "none" } }, related],
]);
check("egress", [
  [
    "data that may not leave",
    "DATA_EGRESS_BLOCKED a key",
    issue,
    {
      scan: {
        level: "NONE",
        findings: [
          { code: "UNICODE_OBFUSCATION_DETECTED", detail: "no" },
          { code: "DATA_EGRESS_BLOCKED", detail: "a key" },
        ],
        dataClasses: [],
      },
    },
  ],
  [
    "a port that is no port",
    "DENY_DESTINATION the destination is not whole",
    issue,
    known("mcp.github.example", 0),
  ],
  [
    "the lowest port",
    "DENY_DESTINATION connector `github` may not reach `mcp.github.example:1`",
    issue,
    known("mcp.github.example", 1),
  ],
  [
    "another host than named",
    "DENY_DESTINATION the destination is not the one that was named",
    net,
    known("b.docs.example"),
  ],
  [
    "another port than named",
    "DENY_DESTINATION the destination is not the one that was named",
    net,
    known("a.docs.example", 80),
  ],
  [
    "no destination for a connection",
    "DENY_DESTINATION the destination is not the one that was named",
    net,
    { destination: { state: "none" } },
  ],
  ["a host of the profile", "ALLOW", net, docs],
  [
    "a host that no connector serves",
    "DENY_DESTINATION `a.other.example:443` is not allowed",
    callOf("net:a.other.example:443", {}),
    known("a.other.example"),
    withProfile({ destinations: { allow: ["*.other.example:443"] } }),
  ],
  [
    "a host that no connector serves for connections",
    "DENY_DESTINATION `mcp.github.example:443` is not allowed",
    callOf("net:mcp.github.example:443", {}),
    known("mcp.github.example"),
    withProfile({ destinations: { allow: ["*.github.example:443"] } }),
  ],
  [
    "a host that the profile does not list",
    "DENY_DESTINATION `a.docs.example:443` is not allowed",
    net,
    docs,
    withProfile({ destinations: { allow: ["*.other.example:443"] } }),
  ],
  [
    "a connection for nobody",
    "DENY_DESTINATION `a.docs.example:443` is not allowed",
    net,
    docs,
    withProfile({ match: { serviceAccount: "other" } }),
  ],
  [
    "a denied host of a connector",
    "DENY_DESTINATION `mcp.github.example:443` is denied",
    issue,
    {},
    withProfile({ destinations: { deny: ["mcp.github.example:443"] } }),
  ],
  [
    "a host that is not the connector's",
    "DENY_DESTINATION connector `github` may not reach `evil.example:443`",
    issue,
    known("evil.example"),
  ],
  ["a model's own host", "ALLOW", model, openai],
  [
    "a model elsewhere",
    "DENY_DESTINATION connector `openai` may not reach `evil.example:443`",
    model,
    known("evil.example"),
  ],
  [
    "a connector whose destination is not known",
    "DENY_DESTINATION the destination of the call is not known",
    issue,
    { destination: { state: "none" } },
  ],
  ["a tool of the agent's own", "ALLOW", note, { destination: { state: "none" } }],
]);
const scan = (level: Facts["scan"]["level"], findings: Facts["scan"]["findings"] = []): Partial<Facts> => ({
  scan: { level, findings, dataClasses: [] },
});
const taintOf = (policy: Policy): Partial<Facts> => ({
  session: { ...factsOf(policy).session, tainted: true },
});
const lenient = policyWith({ threat: { denyAt: "CRITICAL", taintedMaxEffect: "E2" } });
const untainted = policyWith({ threat: { taintedMaxEffect: "E0" } });
check("threat", [
  ["below the level", "ALLOW", issue, scan("MEDIUM")],
  ["at the level, without a finding", "PROMPT_INJECTION_DETECTED threat HIGH", issue, scan("HIGH")],
  [
    "above the level, with one",
    "UNICODE_OBFUSCATION_DETECTED a mark",
    issue,
    scan("CRITICAL", [{ code: "UNICODE_OBFUSCATION_DETECTED", detail: "a mark" }]),
  ],
  ["at a level of its own", "ALLOW", issue, scan("HIGH"), lenient],
  [
    "tainted, and too much",
    "TAINTED_HIGH_RISK effect E2 in a session that read untrusted content",
    issue,
    taintOf(base),
  ],
  ["tainted, and little", "ALLOW", note, { ...taintOf(base), destination: { state: "none" } }],
  ["tainted, and as much as the policy bears", "ALLOW", issue, taintOf(lenient), lenient],
  ["tainted: a model only answers", "ALLOW", model, { ...taintOf(untainted), ...openai }, untainted],
  [
    "tainted: a connection counts as a write",
    "TAINTED_HIGH_RISK effect E2 in a session that read untrusted content",
    net,
    { ...taintOf(untainted), ...docs },
    untainted,
  ],
]);
check("delegation", [
  [
    "in another's name",
    "POLICY_EVALUATION_ERROR the claim to act for another cannot be checked",
    issue,
    principal({ delegator: "someone" }),
  ],
]);
const p0 = policyWith(
  {},
  {
    ceiling: {
      maxEffect: "E3",
      forbidden: [{ tools: ["tool:github/create_release", "model:*", "net:*"], reason: "not by agents" }],
    },
  },
);
const release = callOf("tool:github/create_release", { repo: "acme/web", title: "v1" });
check("ceiling", [
  ["a forbidden tool", "FORBIDDEN_EFFECT not by agents", release, {}, p0],
  ["a forbidden model", "FORBIDDEN_EFFECT not by agents", model, openai, p0],
  ["a forbidden connection", "FORBIDDEN_EFFECT not by agents", net, docs, p0],
  ["a tool below", "ALLOW", issue, {}, p0],
  [
    "a connection above",
    "DENY_CEILING effect E2 is above E1",
    net,
    docs,
    policyWith(
      { tools: [], rules: [], toolsets: {}, profiles: [{ ...profile, toolsets: [] }] },
      { ceiling: { maxEffect: "E1" } },
    ),
  ],
]);
const nobody = withProfile({ match: { serviceAccount: "other" } });
const broken = withTool({ definition: someHash });
check("surface", [
  [
    "a tool nobody declared",
    "DENY_TOOL_NOT_FOUND `tool:github/delete_repo` is not declared",
    callOf("tool:github/delete_repo", {}),
    {},
  ],
  [
    "a model nobody declared",
    "DENY_MODEL `model:openai/gpt-y` is not declared",
    callOf("model:openai/gpt-y", {}),
    openai,
  ],
  [
    "a connection to no port",
    "DENY_TOOL_NOT_FOUND `net:a.docs.example:0` is not declared",
    callOf("net:a.docs.example:0", {}),
    docs,
  ],
  [
    "a connection to a port beyond",
    "DENY_TOOL_NOT_FOUND `net:a.docs.example:65536` is not declared",
    callOf("net:a.docs.example:65536", {}),
    docs,
  ],
  ["a tool without a profile", "DENY_TOOL_NOT_FOUND no profile matches the principal", issue, {}, nobody],
  ["a model without a profile", "DENY_MODEL no profile matches the principal", model, openai, nobody],
  [
    "a tool in no toolset",
    "DENY_TOOL_NOT_FOUND `tool:github/create_issue` is in no toolset of the profile",
    issue,
    {},
    withProfile({ toolsets: [] }),
  ],
  [
    "a model that the profile does not list",
    "DENY_MODEL `model:openai/gpt-x` is not in the profile",
    model,
    openai,
    withProfile({ models: [] }),
  ],
  [
    "a model of a connector of another kind",
    "DENY_CONNECTOR no connector serves `model:github/m`",
    callOf("model:github/m", {}),
    {},
    policyWith({
      models: [{ name: "model:github/m" }],
      profiles: [{ ...profile, models: ["model:github/m"] }],
    }),
  ],
  [
    "a model of no connector",
    "DENY_CONNECTOR no connector serves `model:gone/m`",
    callOf("model:gone/m", {}),
    {},
    policyWith({ models: [{ name: "model:gone/m" }], profiles: [{ ...profile, models: ["model:gone/m"] }] }),
  ],
  [
    "a model of Anthropic",
    "ALLOW",
    callOf("model:claude/m", {}),
    known("api.anthropic.example"),
    policyWith({
      connectors: {
        ...sampleDoc.connectors,
        claude: { kind: "anthropic", url: "https://api.anthropic.example/v1" },
      },
      models: [{ name: "model:claude/m" }],
      profiles: [{ ...profile, models: ["model:claude/m"] }],
    }),
  ],
  [
    "too large a side effect",
    "DENY_SIDE_EFFECT `write_limited` is above `read_only`",
    issue,
    {},
    withProfile({ maxSideEffect: "read_only" }),
  ],
  ["the largest side effect", "ALLOW", issue, {}, withProfile({ maxSideEffect: "write_limited" })],
  [
    "a pin that was not seen",
    "DENY_TOOL_DRIFT the upstream's definition has not been seen",
    issue,
    {},
    broken,
  ],
  [
    "a pin that differs",
    `DENY_TOOL_DRIFT pinned ${someHash}, found ${base.hash}`,
    issue,
    { definition: { state: "observed", hash: base.hash === "" ? someHash : base.hash } },
    broken,
  ],
  ["a pin that holds", "ALLOW", issue, { definition: { state: "observed", hash: someHash } }, broken],
]);
check("schema", [
  [
    "arguments of another kind",
    "DENY_SCHEMA_MISMATCH /title: must be string",
    callOf("tool:github/create_issue", { repo: "acme/web", title: 1 }),
    {},
  ],
]);
check("rules", [
  [
    "a rule that cannot be evaluated",
    "POLICY_EVALUATION_ERROR rule `hour`: field not found: nothing",
    issue,
    {},
    policyWith({
      rules: [
        ...sampleDoc.rules,
        { id: "hour", when: 'pod.labels["nothing"] == "x"', tools: ["tool:github/*"], then: "allow" },
      ],
    }),
  ],
  ["no rule", "DENY_NO_MATCH no rule allows the call", repo("other/x"), {}],
  [
    "a rule that denies",
    "DENY_RULE rule `no-secrets` denies",
    callOf("tool:github/create_issue", { repo: "acme/web", title: "secret" }),
    {},
  ],
]);
const amounts = (calls: number, tokens = 0, costMicroUsd = 0) => ({ calls, tokens, costMicroUsd });
const budget = (over: Partial<Facts["budget"]>): Partial<Facts> => ({ budget: { ...facts.budget, ...over } });
const daily = withProfile({ budgets: { daily: { calls: 10, tokens: 100 } } });
const shared = withProfile({ budgets: { daily: { calls: 10, scope: "sidecar" } } });
const above = policyWith(
  {},
  {
    ceiling: {
      budgets: { session: { calls: 250, tokens: 500_000, costMicroUsd: 5_000_000, durationSeconds: 3_600 } },
    },
  },
);
const capped = policyWith(
  { profiles: [{ ...profile, budgets: {} }] },
  { ceiling: { budgets: { session: { calls: 5 } } } },
);
check("budget", [
  ["the last call of the minute", "ALLOW", issue, { rate: { toolLastMinute: 9, sessionLastSecond: 0 } }],
  [
    "one call more in the minute",
    "RATE_LIMIT_EXCEEDED 10 calls a minute are allowed",
    issue,
    { rate: { toolLastMinute: 10, sessionLastSecond: 0 } },
  ],
  [
    "many calls of a tool without a rate",
    "ALLOW",
    note,
    { rate: { toolLastMinute: 999, sessionLastSecond: 49 }, destination: { state: "none" } },
  ],
  [
    "one call more in the second",
    "RATE_LIMIT_EXCEEDED 50 calls a second are allowed",
    issue,
    { rate: { toolLastMinute: 0, sessionLastSecond: 50 } },
  ],
  [
    "the session's last second",
    "ALLOW",
    issue,
    { session: { ...facts.session, openedAt: timestampFrom("2026-11-18T09:00:00.001Z", "t") } },
  ],
  [
    "the session's time is over",
    "DENY_BUDGET_EXCEEDED the session's time: the profile's limit is 3600",
    issue,
    { session: { ...facts.session, openedAt: timestampFrom("2026-11-18T09:00:00.000Z", "t") } },
  ],
  ["the last call of the session", "ALLOW", issue, budget({ session: amounts(199) })],
  [
    "one call more",
    "DENY_BUDGET_EXCEEDED session calls: the profile's limit is 200",
    issue,
    budget({ session: amounts(200) }),
  ],
  ["the last tokens", "ALLOW", issue, budget({ session: amounts(1, 499_990), estimate: amounts(1, 10) })],
  [
    "one token more",
    "DENY_BUDGET_EXCEEDED session tokens: the profile's limit is 500000",
    issue,
    budget({ session: amounts(1, 499_991), estimate: amounts(1, 10) }),
  ],
  [
    "the last of the money",
    "ALLOW",
    issue,
    budget({ session: amounts(1, 0, 4_999_900), estimate: amounts(1) }),
  ],
  [
    "what the tool costs is not there",
    "DENY_BUDGET_EXCEEDED session costMicroUsd: the profile's limit is 5000000",
    issue,
    budget({ session: amounts(1, 0, 4_999_901), estimate: amounts(1) }),
  ],
  ["the day's last call", "ALLOW", issue, budget({ daily: amounts(9) }), daily],
  [
    "one call more in the day",
    "DENY_BUDGET_EXCEEDED daily calls: the profile's limit is 10",
    issue,
    budget({ daily: amounts(10) }),
    daily,
  ],
  [
    "one token more in the day",
    "DENY_BUDGET_EXCEEDED daily tokens: the profile's limit is 100",
    issue,
    budget({ daily: amounts(1, 100), estimate: amounts(1, 1) }),
    daily,
  ],
  [
    "a lease that is used up",
    "DENY_BUDGET_EXCEEDED daily calls: the profile's limit is 4",
    issue,
    budget({ daily: amounts(4), leased: amounts(4) }),
    shared,
  ],
  ["a lease that is not", "ALLOW", issue, budget({ daily: amounts(3), leased: amounts(4) }), shared],
  [
    "a lease above the limit",
    "DENY_BUDGET_EXCEEDED daily calls: the profile's limit is 10",
    issue,
    budget({ daily: amounts(10), leased: amounts(99) }),
    shared,
  ],
  [
    "a lease says nothing of the session",
    "ALLOW",
    issue,
    budget({ session: amounts(9), leased: amounts(4) }),
  ],
  [
    "what was used is no number",
    "BUDGET_ERROR session calls cannot be counted",
    issue,
    budget({ session: amounts(0.5) }),
  ],
  [
    "the estimate is no number",
    "BUDGET_ERROR session calls cannot be counted",
    issue,
    budget({ estimate: amounts(Number.NaN) }),
  ],
  [
    "the estimate is negative",
    "BUDGET_ERROR session tokens cannot be counted",
    issue,
    budget({ estimate: amounts(1, -1) }),
  ],
  [
    "the ceiling is wider",
    "DENY_BUDGET_EXCEEDED session calls: the profile's limit is 200",
    issue,
    budget({ session: amounts(200) }),
    above,
  ],
  [
    "only the ceiling limits",
    "DENY_BUDGET_EXCEEDED session calls: the ceiling's limit is 5",
    issue,
    budget({ session: amounts(5) }),
    capped,
  ],
  ["and lets the last one pass", "ALLOW", issue, budget({ session: amounts(4) }), capped],
]);
const destructive = withTool({ sideEffect: "destructive" });
check("approval", [
  ["a ceremony", "DENY_APPROVAL_REQUIRED ceremony `one`", release, {}],
  [
    "a ceremony under way",
    "DENY_APPROVAL_REQUIRED ceremony `one`",
    release,
    { approval: { state: "pending", id: `apr_${"1".repeat(32)}` as never } },
  ],
  [
    "a refusal of its own kind",
    `APPROVAL_REJECTED approval apr_${"1".repeat(32)}`,
    release,
    { approval: { state: "refused", id: `apr_${"1".repeat(32)}` as never, code: "APPROVAL_REJECTED" } },
  ],
  [
    "a refusal of no known kind",
    `APPROVAL_INVALID approval apr_${"1".repeat(32)}`,
    release,
    { approval: { state: "refused", id: `apr_${"1".repeat(32)}` as never, code: "SYSTEM_FROZEN" as never } },
  ],
  [
    "nothing to approve",
    "ALLOW",
    issue,
    { approval: { state: "pending", id: `apr_${"1".repeat(32)}` as never } },
  ],
  [
    "a destructive tool without one",
    "DENY_APPROVAL_REQUIRED the tool is destructive and no rule names a ceremony for it",
    issue,
    {},
    policyWith({
      tools: [{ ...tool, sideEffect: "destructive" }, ...otherTools],
      profiles: [{ ...profile, maxSideEffect: "destructive" }],
    }),
  ],
]);
check("surface", [
  ["destructive is above full", "DENY_SIDE_EFFECT `destructive` is above `full`", issue, {}, destructive],
]);

describe("profiles", () => {
  const matched = (match: JsonObject, over: Partial<Facts> = {}): boolean => {
    const policy = withProfile({ match });
    return decide(issue, policy, factsOf(policy, over)).profile !== null;
  };
  test.each([
    [{ serviceAccount: "triage-bot" }, true],
    [{ serviceAccount: "acme/triage-bot" }, true],
    [{ serviceAccount: "other/triage-bot" }, false],
    [{ serviceAccount: "triage" }, false],
    [{ principal: "serviceAccount:acme/*" }, true],
    [{ principal: "serviceAccount:acme/triage-bot" }, true],
    [{ principal: "serviceAccount:other/*" }, false],
    [{ role: "sre" }, true],
    [{ role: "dev" }, false],
    [{ namespaceLabels: { team: "core" } }, true],
    [{ namespaceLabels: { team: "edge" } }, false],
    [{ namespaceLabels: { team: "core", tier: "1" } }, false],
    [{ namespaceLabels: { constructor: "core" } }, false],
    [{ serviceAccount: "triage-bot", role: "dev" }, false],
  ])("%j is %s", (match, expected) => expect(matched(match)).toBe(expected));
  test("the first that matches counts, and none for who is not verified", () => {
    const policy = policyWith({
      profiles: [{ ...profile, match: { role: "dev" } }, profile, { ...profile, toolsets: [] }],
    });
    expect(decide(issue, policy, factsOf(policy)).profile?.index).toBe(1);
    const refused: Partial<Facts> = { principal: { state: "refused", code: "AUTH_INVALID", detail: "" } };
    expect(decide(issue, policy, factsOf(policy, refused)).profile).toBeNull();
  });
});

test("a shadow rule says what it would have done and changes nothing", () => {
  const shadow = (id: string, when: string, then: string): JsonObject => ({
    id,
    when,
    tools: ["tool:github/*"],
    then,
    shadow: true,
    ...(then === "escalate" ? { approval: "one" } : {}),
  });
  const policy = policyWith({
    rules: [
      ...sampleDoc.rules,
      shadow("a", "true", "deny"),
      shadow("b", "false", "deny"),
      shadow("c", 'pod.labels["nothing"] == "x"', "deny"),
      shadow("d", "true", "escalate"),
      shadow("e", "true", "allow"),
    ],
  });
  const v = decide(issue, policy, factsOf(policy));
  expect(v.verdict).toBe("ALLOW");
  expect(v.shadows).toEqual([
    { ruleId: "a", would: "deny" },
    { ruleId: "c", would: "err" },
    { ruleId: "d", would: "escalate" },
    { ruleId: "e", would: "allow" },
  ]);
  const other = callOf("tool:github/create_issue", { repo: "other/x", title: "t" });
  expect(said(decide(other, policy, factsOf(policy)))).toBe("DENY_NO_MATCH no rule allows the call");
});

test("the rule that decided is named, whatever it decided", () => {
  const policy = policyWith({
    rules: [
      ...sampleDoc.rules,
      { id: "err", when: 'pod.labels["nothing"] == "x"', tools: ["tool:agent/note"], then: "deny" },
      {
        id: "needs",
        tools: ["tool:calc/sum"],
        then: "allow",
        requires: { receipt: { tool: "tool:github/create_issue", status: "SUCCEEDED" } },
      },
      { id: "models", tools: ["model:*"], then: "deny", when: "session.tainted" },
    ],
  });
  const rule = (call: ToolCall, over: Partial<Facts> = {}): string =>
    decide(call, policy, factsOf(policy, over)).ruleId;
  expect(rule(issue)).toBe("own-repos-only");
  expect(rule(release)).toBe("releases-need-two");
  expect(rule(callOf("tool:github/create_issue", { repo: "acme/web", title: "secret" }))).toBe("no-secrets");
  expect(rule(note, { destination: { state: "none" } })).toBe("err");
  expect(rule(callOf("tool:calc/sum", {}, "wasm"), { destination: { state: "none" } })).toBe("needs");
  expect(rule(repo("other/x"))).toBe("");
  expect(said(decide(model, policy, factsOf(policy, openai)))).toBe("ALLOW");
  expect(rule(model, { ...openai, session: { ...facts.session, tainted: true } })).toBe("models");
});

test("what throws in a gate denies, with its sentence", () => {
  const bomb = (at: string, thrown: unknown): Facts =>
    new Proxy(facts, {
      get(target, name, receiver): unknown {
        if (name === at) throw thrown;
        return Reflect.get(target, name, receiver);
      },
    });
  for (const fact of [
    "freeze",
    "context",
    "session",
    "destination",
    "scan",
    "rate",
    "budget",
    "pod",
    "principal",
  ]) {
    const v = decide(issue, base, bomb(fact, new Error(`no ${fact}`)));
    if (fact === "pod") continue;
    expect(said(v)).toBe(`POLICY_EVALUATION_ERROR no ${fact}`);
  }
  expect(said(decide(issue, base, bomb("freeze", "thrown")))).toBe("POLICY_EVALUATION_ERROR thrown");
  expect(said(decide(issue, base, { ...facts, now: "yesterday" as never }))).toBe(
    "POLICY_EVALUATION_ERROR `now` is not a time",
  );
  expect(decide(issue, base, { ...facts, now: "yesterday" as never }).gates).toEqual([]);
  expect(said(decide(issue, base, factsOf(base, scan("WILD" as never))))).toMatch(
    /^POLICY_EVALUATION_ERROR `WILD` is not one of NONE, LOW/,
  );
});

test("a permit holds what was judged and reserved, and cannot be made otherwise", () => {
  const v = decide(issue, base, factsOf(base, budget({ estimate: amounts(1, 7, 5) })));
  if (v.verdict !== "ALLOW") return expect.fail(said(v));
  const { permit } = v;
  expect([permit.tool?.name, permit.model, permit.reserves]).toEqual([
    "tool:github/create_issue",
    null,
    amounts(1, 7, 100),
  ]);
  expect(permit.expiresAtMs).toBe(Date.parse(facts.now) + 30_000);
  expect([permit.call, permit.policy]).toEqual([issue, base]);
  expect([
    v.effect,
    isPermit(permit),
    isPermit(null),
    isPermit("x"),
    isPermit(Object.assign({}, permit)),
  ]).toEqual(["E2", true, false, false, false]);
  const forged: unknown = Reflect.construct(permit.constructor, [
    { call: issue, policy: base, facts, subject: { kind: "unknown" }, now: 0 },
    Symbol("mint"),
  ]);
  expect(isPermit(forged)).toBe(false);
  const asked = decide(model, base, factsOf(base, { ...openai, ...budget({ estimate: amounts(1, 9, 9) }) }));
  expect(
    asked.verdict === "ALLOW" && [asked.permit.model?.name, asked.permit.tool, asked.permit.reserves],
  ).toEqual(["model:openai/gpt-x", null, amounts(1, 9, 9)]);
  expect(asked.effect).toBe("E0");
  expect(decide(net, base, factsOf(base, docs)).effect).toBe("E2");
  expect(decide(callOf("tool:no/where", {}), base, facts).effect).toBe("");
});

test("a tuple with a gate missing, swapped or optional does not compile", () => {
  const gate = <N extends string>(name: N) => ({ name, judge: () => null });
  const [f, c, i, e] = [gate("freeze"), gate("context"), gate("identity"), gate("egress")] as const;
  const rest = [
    gate("threat"),
    gate("delegation"),
    gate("ceiling"),
    gate("surface"),
    gate("schema"),
    gate("rules"),
    gate("requirements"),
    gate("budget"),
    gate("approval"),
  ] as const;
  const whole: GateTuple = [f, c, i, e, ...rest];
  // @ts-expect-error a gate is missing
  const missing: GateTuple = [f, c, i, ...rest];
  // @ts-expect-error two gates are swapped, the first
  const swapped: [GateTuple[0], GateTuple[1]] = [c, f];
  const maybe: GateTuple[0] | undefined = whole.length === 13 ? f : undefined;
  // @ts-expect-error a gate may be absent
  const optional: GateTuple[0] = maybe;
  expect([whole.length, missing.length, swapped.length, optional]).toEqual([13, 12, 2, f]);
});
