// Random policies, narrower ones, calls and facts: what the properties of a judgement are tried on.

import * as fc from "fast-check";
import { ContractError, timestampFrom } from "../../kernel/contracts/contracts.ts";
import type { Facts, JsonObject, JsonValue, Policy } from "../../kernel/contracts/contracts.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc, someHash } from "./sample.ts";

const [tool, ...otherTools] = sampleDoc.tools;
const [profile] = sampleDoc.profiles;
const github = ["tool:github/*"];
const TARGETS = [
  "tool:github/create_issue",
  "tool:github/create_release",
  "tool:agent/note",
  "tool:calc/sum",
  "tool:github/delete_repo",
  "model:openai/gpt-x",
  "model:openai/gpt-y",
  "net:a.docs.example:443",
  "net:a.internal:443",
];
const allow = (id: string, when: string, requires?: JsonValue): JsonObject => ({
  id,
  when,
  tools: github,
  then: "allow",
  ...(requires === undefined ? {} : { requires }),
});
const WHENS = [
  'call.args.repo.startsWith("acme/")',
  "session.tainted",
  'principal.roles.exists(r, r == "sre")',
  "budget.session.calls < 100",
  "now.getHours() >= 10",
  '"app" in pod.labels',
  "call.args.title == call.args.repo",
  'call.destination.endsWith(":443")',
  "session.ageSeconds < 900",
];
const BASES: readonly JsonObject[] = [
  { ...sampleDoc },
  { ...sampleDoc, rules: [...sampleDoc.rules, allow("second", WHENS[2] ?? "")] },
  {
    ...sampleDoc,
    rules: [
      allow("first", WHENS[8] ?? "", { receipt: { tool: "tool:github/create_issue", status: "SUCCEEDED" } }),
    ],
  },
  {
    ...sampleDoc,
    rules: [
      allow("first", "true", {
        any: [{ cel: WHENS[3] ?? "" }, { artifact: { type: "sbom", signer: `ed25519:${"b".repeat(16)}` } }],
      }),
    ],
  },
  { ...sampleDoc, tools: [{ ...tool, definition: someHash }, ...otherTools] },
  {
    ...sampleDoc,
    identity: {
      mode: "serviceAccount",
      relations: ["repo:acme/web#writer@serviceAccount:acme/triage-bot"],
      check: [{ tools: github, relation: "writer", object: "repo:{call.args.repo}" }],
    },
  },
  {
    ...sampleDoc,
    profiles: [{ ...profile, budgets: { session: { calls: 5 }, daily: { calls: 9, scope: "sidecar" } } }],
  },
  { ...sampleDoc, perimeter: { maxConcurrent: 2, dataClasses: { deny: ["restricted"] } } },
  {
    ...sampleDoc,
    profiles: [
      { ...profile, match: { role: "sre", namespaceLabels: { team: "core" } } },
      { ...profile, match: { serviceAccount: "acme/triage-bot" }, toolsets: [] },
    ],
  },
];

interface Narrowing {
  readonly name: string;
  readonly doc?: (doc: JsonObject) => JsonObject;
  readonly ceiling?: JsonObject;
}
const rulesOf = (doc: JsonObject): readonly JsonValue[] => (Array.isArray(doc["rules"]) ? doc["rules"] : []);
const profilesOf = (doc: JsonObject, change: JsonObject): JsonObject => ({
  ...doc,
  profiles: (Array.isArray(doc["profiles"]) ? doc["profiles"] : []).map((p) => ({ ...Object(p), ...change })),
});
const NARROWINGS: readonly Narrowing[] = [
  ...WHENS.map((when, i) => ({
    name: `a deny rule: ${when}`,
    doc: (doc: JsonObject): JsonObject => ({
      ...doc,
      rules: [...rulesOf(doc), { id: `deny-${i}`, when, tools: ["tool:*", "net:*"], then: "deny" }],
    }),
  })),
  {
    name: "an escalation",
    doc: (doc) => ({
      ...doc,
      rules: [...rulesOf(doc), { id: "esc", tools: github, then: "escalate", approval: "one" }],
    }),
  },
  { name: "fewer tools", doc: (doc) => ({ ...doc, toolsets: { triage: ["tool:calc/sum"] } }) },
  { name: "smaller effects", doc: (doc) => profilesOf(doc, { maxSideEffect: "read_only" }) },
  {
    name: "a denied destination",
    doc: (doc) =>
      profilesOf(doc, {
        destinations: { allow: ["*.docs.example:443"], deny: ["*.internal:*", "*.example:*"] },
      }),
  },
  {
    name: "an earlier threat",
    doc: (doc) => ({ ...doc, threat: { denyAt: "LOW", taintedMaxEffect: "E0" } }),
  },
  {
    name: "a perimeter",
    doc: (doc) => ({
      ...doc,
      perimeter: { maxConcurrent: 1, dataClasses: { deny: ["restricted", "internal"] } },
    }),
  },
  { name: "a forbidden effect", ceiling: { forbidden: [{ tools: ["tool:github/create_*"], reason: "no" }] } },
  { name: "a lower ceiling", ceiling: { maxEffect: "E3" } },
  {
    name: "a smaller budget above",
    ceiling: { budgets: { session: { calls: 4, costMicroUsd: 5_000_000, tokens: 500_000 } } },
  },
];

const compiled = new Map<string, Policy | null>();
/** Null where the narrower layer does not load above this policy: then nothing is allowed at all. */
export function policyOf(base: number, narrowing: number): Policy | null {
  const key = `${base} ${narrowing}`;
  const known = compiled.get(key);
  if (known !== undefined) return known;
  const n = NARROWINGS[narrowing];
  const doc = BASES[base] ?? {};
  let policy: Policy | null = null;
  try {
    policy = compilePolicy(n?.doc?.(doc) ?? doc, {
      ceiling: { apiVersion: "atoll.dev/policy/v1", name: "p0", layer: "P0", ceiling: n?.ceiling ?? {} },
    });
  } catch (e) {
    if (!(e instanceof ContractError)) throw e;
  }
  compiled.set(key, policy);
  return policy;
}

const few = <T>(usual: T, ...rare: readonly T[]): fc.Arbitrary<T> =>
  fc.oneof(
    { weight: 30, arbitrary: fc.constant(usual) },
    { weight: rare.length, arbitrary: fc.constantFrom(...rare) },
  );
const amounts = fc.record({
  calls: fc.nat({ max: 8 }),
  tokens: fc.nat({ max: 9 }),
  costMicroUsd: fc.nat({ max: 400 }),
});
export const world = fc.record({
  base: fc.nat({ max: BASES.length - 1 }),
  narrowing: fc.nat({ max: NARROWINGS.length - 1 }),
  target: few("tool:github/create_issue", ...TARGETS),
  args: few<JsonObject>(
    { repo: "acme/web", title: "crash" },
    { repo: "acme/web", title: "acme/web" },
    { repo: "other/x", title: "a secret" },
    { repo: "acme/web" },
    { n: [1] },
    {},
  ),
  now: few(
    "2026-11-18T10:00:00.000Z",
    "2026-11-18T09:59:00.000Z",
    "2026-11-18T10:49:59.000Z",
    "2026-11-18T10:50:00.000Z",
  ),
  frozen: few(false, true),
  heartbeat: few<number | "never" | "unbound">(1000, "never", "unbound", 700_000),
  tls: few(true, false),
  concurrent: fc.nat({ max: 3 }),
  tainted: few(false, true),
  principal: few("serviceAccount:acme/triage-bot", "serviceAccount:acme/other", ""),
  delegator: few("", "someone"),
  roles: few<readonly string[]>(["sre"], [], ["dev"]),
  host: few("mcp.github.example", "evil.example", "a.docs.example", "a.internal", "api.openai.example"),
  port: few(443, 80),
  level: few<Facts["scan"]["level"]>("NONE", "LOW", "HIGH", "CRITICAL"),
  finding: few<Facts["scan"]["findings"]>(
    [],
    [{ code: "DATA_EGRESS_BLOCKED", detail: "x" }],
    [{ code: "UNICODE_OBFUSCATION_DETECTED", detail: "x" }],
  ),
  classes: few<readonly string[]>([], ["restricted"], ["internal"]),
  seen: few(false, true),
  minute: fc.nat({ max: 11 }),
  second: few(0, 49, 50),
  session: amounts,
  daily: amounts,
  leased: few<"own" | "much" | "little">("own", "much", "little"),
  evidence: few(false, true),
});
export type World = typeof world extends fc.Arbitrary<infer T> ? T : never;

export function factsIn(w: World, policy: Policy): Facts {
  const base = factsOf(policy);
  const now = timestampFrom(w.now, "now");
  return {
    ...base,
    now,
    freeze: w.frozen ? { state: "frozen", node: someHash, reason: "stop" } : { state: "clear" },
    context: { ...base.context, heartbeatAgeMs: w.heartbeat, tls: w.tls, concurrent: w.concurrent },
    session: { ...base.session, tainted: w.tainted },
    principal: {
      state: "verified",
      id: w.principal,
      serviceAccount: w.principal.split("/")[1] ?? "",
      namespace: "acme",
      roles: w.roles,
      tenant: "",
      delegator: w.delegator,
    },
    destination: { state: "known", host: w.host, port: w.port },
    scan: { level: w.level, findings: w.finding, dataClasses: w.classes },
    definition: w.seen ? { state: "observed", hash: someHash } : { state: "unobserved" },
    rate: { toolLastMinute: w.minute, sessionLastSecond: w.second },
    budget: {
      session: w.session,
      daily: w.daily,
      estimate: { calls: 1, tokens: 0, costMicroUsd: 100 },
      leased:
        w.leased === "own"
          ? "own"
          : w.leased === "much"
            ? { calls: 9, tokens: 99, costMicroUsd: 999 }
            : { calls: 2, tokens: 2, costMicroUsd: 2 },
    },
    evidence: w.evidence
      ? [
          {
            kind: "receipt",
            node: someHash,
            tool: callOf("tool:github/create_issue", {}).target,
            status: "SUCCEEDED",
            at: timestampFrom("2026-11-18T09:50:00.000Z", "at"),
            source: "mcp",
            args: {},
          },
        ]
      : [],
  };
}
