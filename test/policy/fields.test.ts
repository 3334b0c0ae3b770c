// Each field of the policy document bites: the same call under the same facts is judged otherwise when the field is
// changed. What no gate judges (records, ceremonies, the sandbox, the wire) is held here to the compiled policy, and the
// tests of its part hold that part to it; test/long/fields.ts takes away each field and asks all of them.

import { describe, expect, test } from "vitest";
import { policyReference } from "../../cli/authoring/schema.ts";
import type { JsonObject, JsonValue, Policy } from "../../kernel/contracts/contracts.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { compilePolicy, completeFacts, parseCall } from "../../kernel/policy/policy.ts";

const base: JsonObject = {
  apiVersion: "atoll.dev/policy/v1",
  name: "fields",
  layer: "P1",
  connectors: {
    github: { kind: "mcp", url: "https://mcp.github.example/mcp" },
    openai: { kind: "openai", url: "https://api.openai.example/v1" },
    calc: { kind: "wasm" },
    web: { kind: "connect", destinations: ["*.docs.example:443"] },
  },
  tools: [
    {
      name: "tool:github/write",
      effect: "E2",
      sideEffect: "write_limited",
      sandbox: "isolated",
      input: { type: "object", properties: { repo: { type: "string" }, n: { type: "integer" } } },
      cost: { microUsd: 10 },
    },
  ],
  models: [{ name: "model:openai/gpt" }],
  toolsets: { all: ["tool:github/write"] },
  profiles: [
    {
      match: { serviceAccount: "bot" },
      toolsets: ["all"],
      models: ["model:openai/gpt"],
      maxSideEffect: "write_limited",
      destinations: { allow: ["*.docs.example:443"] },
    },
  ],
  rules: [{ id: "yes", tools: ["tool:github/*"], then: "allow" }],
  approvals: { one: { approvers: ["ed25519:0000000000000000"], quorum: 1 } },
};
const top: JsonObject = { apiVersion: "atoll.dev/policy/v1", name: "top", layer: "P0" };

type Path = readonly (string | number)[];
/** A copy of the value in which one place is set, or taken away. */
function put(value: JsonValue, path: Path, to: JsonValue | undefined): JsonValue {
  const [head, ...rest] = path;
  if (head === undefined) return to ?? null;
  if (Array.isArray(value)) {
    const copy = [...(value as readonly JsonValue[])];
    if (rest.length === 0 && to === undefined) copy.splice(Number(head), 1);
    else copy[Number(head)] = put(copy[Number(head)] ?? {}, rest, to);
    return copy;
  }
  const { [String(head)]: before, ...others } =
    typeof value === "object" && value !== null ? (value as JsonObject) : {};
  if (rest.length === 0 && to === undefined) return others;
  return { ...others, [String(head)]: put(before ?? {}, rest, to) };
}
const edit = (...changes: readonly (readonly [Path, JsonValue | undefined])[]): JsonValue =>
  changes.reduce<JsonValue>((doc, [path, to]) => put(doc, path, to), base);

const write: JsonObject = { tool: "tool:github/write", args: { repo: "acme/web", n: 1 } };
const model: JsonObject = { tool: "model:openai/gpt" };
const net: JsonObject = { tool: "net:a.docs.example:443" };
const bot: JsonObject = { principal: { serviceAccount: "bot" } };
const NIGHT = "2026-01-01T23:00:00.000Z";

interface Row {
  readonly call?: JsonObject;
  readonly facts?: JsonObject;
  readonly ceiling?: JsonObject;
  /** The document that the changed one is compared with, when it is not the base. */
  readonly before?: JsonValue;
  readonly was?: string;
}
type Case = readonly [field: string, after: JsonValue, then: string, row?: Row];

function judge(doc: JsonValue, row: Row): string {
  try {
    const policy = compilePolicy(doc, row.ceiling === undefined ? {} : { ceiling: row.ceiling });
    const call = parseCall(row.call ?? write);
    const verdict = decide(call, policy, completeFacts(policy, call, { ...bot, ...row.facts }));
    if (verdict.verdict === "ALLOW") return `ALLOW ${verdict.ruleId}`.trim();
    return verdict.verdict === "DENY" ? verdict.code : `ESCALATE ${verdict.ceremony.name}`;
  } catch (error) {
    return `refused: ${error instanceof Error ? error.message : String(error)}`;
  }
}

const used = (calls: number, tokens: number, costMicroUsd: number): JsonObject => ({
  calls,
  tokens,
  costMicroUsd,
});
const spent: JsonObject = { budget: { session: used(9, 0, 0), daily: used(9, 0, 0) } };
const dear: JsonObject = {
  budget: { session: used(0, 90, 95), daily: used(0, 90, 95), estimate: used(1, 20, 0) },
};
const late: JsonObject = { session: { openedAt: "2026-01-01T11:00:00.000Z" } };
const P = ["profiles", 0] as const;
const T = ["tools", 0] as const;
const hours = (over: JsonObject): JsonObject => ({
  days: ["Thu"],
  from: "08:00",
  to: "18:00",
  timezone: "UTC",
  ...over,
});
const budget = (period: string, field: string, limit: number, facts: JsonObject): Case[] => [
  [
    `profiles[].budgets.${period}.${field}`,
    edit([[...P, "budgets", period, field], limit]),
    "DENY_BUDGET_EXCEEDED",
    { facts },
  ],
];
const above = (doc: JsonObject, facts: JsonObject, was = "ALLOW yes"): Row => ({
  ceiling: { ...top, ...doc },
  facts,
  was,
});
const under = (period: string, field: string, limit: number, facts: JsonObject): Case => [
  `ceiling.budgets.${period}.${field}`,
  base,
  "DENY_BUDGET_EXCEEDED",
  above({ ceiling: { budgets: { [period]: { [field]: limit } } } }, facts),
];
const check = { tools: ["tool:github/*"], relation: "writer", object: "repo:{call.args.repo}" };
const related = (object: JsonValue, ...relations: string[]): JsonValue =>
  edit([["identity"], { mode: "serviceAccount", relations, check: [object] }]);
const known = "repo:acme/web#writer@serviceAccount:default/bot";

const jwt = {
  issuer: "https://issuer.example",
  audience: "atoll",
  jwks: {
    keys: [{ kty: "OKP", crv: "Ed25519", kid: "a", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }],
  },
};

const cases: readonly Case[] = [
  ["apiVersion", edit([["apiVersion"], "atoll.dev/policy/v2"]), "refused: apiVersion"],
  ["layer", edit([["layer"], "P0"]), "refused: layer"],
  ["layer", base, "refused: layer: the ceiling's layer is not P0", above({ layer: "P1" }, {})],
  ["name", edit([["name"], undefined]), "refused: name"],
  ["connectors.*.kind", edit([["connectors", "github", "kind"], "connect"]), "DENY_CONNECTOR"],
  [
    "connectors.*.kind",
    edit([["connectors", "openai", "kind"], "mcp"]),
    "DENY_CONNECTOR",
    { call: model, was: "ALLOW" },
  ],
  ...["https://[", "https://mcp.example:99999", "https://mcp.example:8o8o"].map(
    (url): Case => [
      "connectors.*.url",
      edit([["connectors", "github", "url"], url]),
      "refused: connectors.github.url: expected an http or https URL",
    ],
  ),
  ["connectors.*.url", edit([["connectors", "github", "url"], undefined]), "refused: connectors.github"],
  [
    "connectors.*.destinations",
    edit([["connectors", "github", "destinations"], ["other.example:443"]]),
    "DENY_DESTINATION",
  ],
  [
    "tools[].name",
    edit([[...T, "name"], "tool:github/other"], [["toolsets", "all"], ["tool:github/*"]]),
    "DENY_TOOL_NOT_FOUND",
  ],
  [
    "tools[].effect",
    edit([[...T, "effect"], "E3"]),
    "refused: tools[0].effect",
    above({ ceiling: { maxEffect: "E2" } }, {}),
  ],
  ["tools[].sideEffect", edit([[...T, "sideEffect"], "full"]), "DENY_SIDE_EFFECT"],
  ["tools[].sandbox", edit([[...T, "sandbox"], "restricted"]), "DENY_SANDBOX_PROFILE"],
  ["tools[].input", edit([[...T, "input", "properties", "n", "maximum"], 0]), "DENY_SCHEMA_MISMATCH"],
  [
    "tools[].definition",
    edit([[...T, "definition"], `sha256:${"1".repeat(64)}`]),
    "DENY_TOOL_DRIFT",
    { facts: { definition: { state: "observed", hash: `sha256:${"2".repeat(64)}` } } },
  ],
  [
    "tools[].rate.perMinute",
    edit([[...T, "rate"], { perMinute: 3 }]),
    "RATE_LIMIT_EXCEEDED",
    { facts: { rate: { toolLastMinute: 3 } } },
  ],
  [
    "tools[].cost.microUsd",
    edit([[...T, "cost"], { microUsd: 11 }], [[...P, "budgets"], { session: { costMicroUsd: 10 } }]),
    "DENY_BUDGET_EXCEEDED",
    { before: edit([[...P, "budgets"], { session: { costMicroUsd: 10 } }]) },
  ],
  [
    "tools[].module",
    edit([
      ["tools", 1],
      { name: "tool:calc/sum", effect: "E0", sideEffect: "read_only", sandbox: "restricted", input: true },
    ]),
    "refused: tools[1].module",
  ],
  [
    "models[].name",
    edit([["models", 0, "name"], "model:openai/other"], [[...P, "models"], ["model:openai/*"]]),
    "DENY_MODEL",
    { call: model, was: "ALLOW" },
  ],
  ["toolsets", edit([["toolsets", "all"], []]), "DENY_TOOL_NOT_FOUND"],
  [
    "profiles[].match.serviceAccount",
    edit([[...P, "match", "serviceAccount"], "other"]),
    "DENY_TOOL_NOT_FOUND",
  ],
  [
    "profiles[].match.principal",
    edit([[...P, "match", "principal"], "serviceAccount:other/*"]),
    "DENY_TOOL_NOT_FOUND",
  ],
  ["profiles[].match.role", edit([[...P, "match", "role"], "sre"]), "DENY_TOOL_NOT_FOUND"],
  [
    "profiles[].match.namespaceLabels",
    edit([[...P, "match", "namespaceLabels"], { team: "core" }]),
    "DENY_TOOL_NOT_FOUND",
  ],
  ["profiles[].toolsets", edit([[...P, "toolsets"], []]), "DENY_TOOL_NOT_FOUND"],
  ["profiles[].models", edit([[...P, "models"], []]), "DENY_MODEL", { call: model, was: "ALLOW" }],
  ["profiles[].maxSideEffect", edit([[...P, "maxSideEffect"], undefined]), "DENY_SIDE_EFFECT"],
  ...budget("session", "calls", 9, spent),
  ...budget("session", "tokens", 100, dear),
  ...budget("session", "costMicroUsd", 100, dear),
  ...budget("session", "durationSeconds", 3600, late),
  ...budget("daily", "calls", 9, spent),
  ...budget("daily", "tokens", 100, dear),
  ...budget("daily", "costMicroUsd", 100, dear),
  [
    "profiles[].destinations.allow",
    edit([[...P, "destinations", "allow"], []]),
    "DENY_DESTINATION",
    { call: net, was: "ALLOW" },
  ],
  [
    "profiles[].destinations.deny",
    edit([[...P, "destinations", "deny"], ["a.docs.example:*"]]),
    "DENY_DESTINATION",
    { call: net, was: "ALLOW" },
  ],
  ["rules[].id", edit([["rules", 0, "id"], "other"]), "ALLOW other"],
  ["rules[].when", edit([["rules", 0, "when"], "call.args.n > 1"]), "DENY_NO_MATCH"],
  ["rules[].tools", edit([["rules", 0, "tools"], ["tool:calc/*"]]), "DENY_NO_MATCH"],
  ["rules[].then", edit([["rules", 0, "then"], "deny"]), "DENY_RULE"],
  [
    "rules[].approval",
    edit([["rules", 0], { id: "yes", tools: ["tool:github/*"], then: "escalate", approval: "one" }]),
    "ESCALATE one",
  ],
  ["rules[].shadow", edit([["rules", 0, "shadow"], true]), "DENY_NO_MATCH"],
  [
    "rules[].requires",
    edit([["rules", 0, "requires"], { receipt: { tool: "tool:github/plan", status: "SUCCEEDED" } }]),
    "MISSING_REQUIREMENT",
  ],
  ["approvals.*.approvers", edit([["approvals", "one", "approvers"], []]), "refused: approvals.one"],
  ["approvals.*.quorum", edit([["approvals", "one", "quorum"], 2]), "refused: approvals.one.quorum"],
  ["ceiling.maxEffect", base, "refused: tools[0].effect", above({ ceiling: { maxEffect: "E1" } }, {})],
  [
    "ceiling.forbidden[].tools",
    base,
    "FORBIDDEN_EFFECT",
    above({ ceiling: { forbidden: [{ tools: ["tool:*/write"], reason: "no" }] } }, {}),
  ],
  under("session", "calls", 9, spent),
  under("session", "tokens", 100, dear),
  under("session", "costMicroUsd", 100, dear),
  under("session", "durationSeconds", 3600, late),
  under("daily", "calls", 9, spent),
  under("daily", "tokens", 100, dear),
  under("daily", "costMicroUsd", 100, dear),
  ["perimeter.hours.days", edit([["perimeter"], { hours: hours({ days: ["Fri"] }) }]), "PERIMETER_VIOLATION"],
  ["perimeter.hours.from", edit([["perimeter"], { hours: hours({ from: "12:01" }) }]), "PERIMETER_VIOLATION"],
  ["perimeter.hours.to", edit([["perimeter"], { hours: hours({ to: "12:00" }) }]), "PERIMETER_VIOLATION"],
  [
    "perimeter.hours.timezone",
    edit([["perimeter"], { hours: hours({ timezone: "Asia/Tokyo" }) }]),
    "PERIMETER_VIOLATION",
    { before: edit([["perimeter"], { hours: hours({}) }]) },
  ],
  [
    "perimeter.hours",
    edit([["perimeter"], { hours: hours({}) }]),
    "PERIMETER_VIOLATION",
    { facts: { now: NIGHT } },
  ],
  [
    "perimeter.dataClasses.deny",
    edit([["perimeter"], { dataClasses: { deny: ["restricted"] } }]),
    "PERIMETER_VIOLATION",
    { facts: { scan: { dataClasses: ["restricted"] } } },
  ],
  [
    "perimeter.maxConcurrent",
    edit([["perimeter"], { maxConcurrent: 2 }]),
    "PERIMETER_VIOLATION",
    { facts: { context: { concurrent: 2 } } },
  ],
  [
    "perimeter.requireTls",
    edit([["perimeter"], { requireTls: false }]),
    "ALLOW yes",
    { facts: { context: { tls: false } }, was: "PERIMETER_VIOLATION" },
  ],
  [
    "threat.denyAt",
    edit([["threat"], { denyAt: "LOW" }]),
    "PROMPT_INJECTION_DETECTED",
    { facts: { scan: { level: "LOW" } } },
  ],
  [
    "threat.taintedMaxEffect",
    edit([["threat"], { taintedMaxEffect: "E2" }]),
    "ALLOW yes",
    { facts: { session: { tainted: true } }, was: "TAINTED_HIGH_RISK" },
  ],
  ["identity.check[].tools", related(check), "AUTHZ_DENIED"],
  ["identity.relations", related(check, known), "ALLOW yes", { before: related(check), was: "AUTHZ_DENIED" }],
  [
    "identity.check[].relation",
    related({ ...check, relation: "owner" }, known),
    "AUTHZ_DENIED",
    { before: related(check, known) },
  ],
  [
    "identity.check[].object",
    related({ ...check, object: "repo:other/{call.args.repo}" }, known),
    "AUTHZ_DENIED",
    { before: related(check, known) },
  ],
  [
    "freshness.maxStaleSeconds",
    edit([["freshness"], { maxStaleSeconds: 5 }]),
    "POLICY_STALE",
    { facts: { context: { heartbeatAgeMs: 6000 } } },
  ],
  [
    "limits.requestsPerSecond",
    edit([["limits"], { requestsPerSecond: 3 }]),
    "RATE_LIMIT_EXCEEDED",
    { facts: { rate: { sessionLastSecond: 3 } } },
  ],
];

describe("a field changes what is judged", () => {
  for (const [i, [field, after, then, row = {}]] of cases.entries())
    test(`${field} (${i + 1})`, () => {
      const { ceiling, ...rest } = row;
      const before = row.before ?? base;
      // A ceiling that is itself the change is left out of the first judgement.
      expect(judge(before, after === base ? rest : row)).toBe(row.was ?? "ALLOW yes");
      expect(judge(after, ceiling === undefined ? rest : row)).toSatisfy(
        (found: string) => found.startsWith(then),
        then,
      );
    });
});

/** Fields that are enforced outside the gates: what the compiled policy says of them, first set and then absent. */
const compiled: readonly (readonly [
  field: string,
  doc: JsonValue,
  read: (p: Policy) => unknown,
  set: unknown,
  absent: unknown,
])[] = [
  ["name", edit([["name"], "other"]), (p) => p.name, "other", "fields"],
  [
    "connectors.*.command",
    edit([["connectors", "x"], { kind: "mcp", command: ["a", "b"] }]),
    (p) => p.connectors.get("x")?.command,
    ["a", "b"],
    undefined,
  ],
  [
    "connectors.*.credential",
    edit([["connectors", "github", "credential"], "TOKEN"]),
    (p) => p.connectors.get("github")?.credential,
    "TOKEN",
    "",
  ],
  [
    "tools[].description",
    edit([[...T, "description"], "writes"]),
    (p) => p.tools.get("tool:github/write")?.description,
    "writes",
    "",
  ],
  [
    "tools[].timeoutMs",
    edit([[...T, "timeoutMs"], 5]),
    (p) => p.tools.get("tool:github/write")?.timeoutMs,
    5,
    10_000,
  ],
  [
    "tools[].idempotency",
    edit([[...T, "idempotency"], "key"]),
    (p) => p.tools.get("tool:github/write")?.idempotency,
    "key",
    "none",
  ],
  [
    "tools[].output",
    edit([[...T, "output"], { type: "array" }]),
    (p) => p.tools.get("tool:github/write")?.output?.validate({})?.path,
    "",
    undefined,
  ],
  [
    "tools[].trust",
    edit([[...T, "trust"], "trusted"]),
    (p) => p.tools.get("tool:github/write")?.trusted,
    true,
    false,
  ],
  [
    "tools[].limits.gas",
    edit([[...T, "limits"], { gas: 7 }]),
    (p) => p.tools.get("tool:github/write")?.limits.gas,
    7,
    50_000_000,
  ],
  [
    "tools[].limits.memoryBytes",
    edit([[...T, "limits"], { memoryBytes: 65_536 }]),
    (p) => p.tools.get("tool:github/write")?.limits.memoryBytes,
    65_536,
    16_777_216,
  ],
  [
    "tools[].limits.outputBytes",
    edit([[...T, "limits"], { outputBytes: 7 }]),
    (p) => p.tools.get("tool:github/write")?.limits.outputBytes,
    7,
    65_536,
  ],
  [
    "tools[].limits.timeMs",
    edit([[...T, "limits"], { timeMs: 7 }]),
    (p) => p.tools.get("tool:github/write")?.limits.timeMs,
    7,
    200,
  ],
  [
    "models[].price.inputMicroUsdPerMTok",
    edit([["models", 0, "price"], { inputMicroUsdPerMTok: 1, outputMicroUsdPerMTok: 2 }]),
    (p) => p.models.get("model:openai/gpt")?.price?.inputMicroUsdPerMTok,
    1,
    undefined,
  ],
  [
    "models[].price.outputMicroUsdPerMTok",
    edit([["models", 0, "price"], { inputMicroUsdPerMTok: 1, outputMicroUsdPerMTok: 2 }]),
    (p) => p.models.get("model:openai/gpt")?.price?.outputMicroUsdPerMTok,
    2,
    undefined,
  ],
  [
    "profiles[].budgets.daily.scope",
    edit([[...P, "budgets"], { daily: { calls: 1, scope: "sidecar" } }]),
    (p) => p.profiles[0]?.budgets.dailyScope,
    "sidecar",
    "pod",
  ],
  [
    "ceiling.budgets.daily.scope",
    { ...top, ceiling: { budgets: { daily: { calls: 1, scope: "sidecar" } } } },
    (p) => p.ceiling.budgets.dailyScope,
    "sidecar",
    "pod",
  ],
  [
    "ceiling.forbidden[].reason",
    { ...top, ceiling: { forbidden: [{ tools: ["tool:x/y"], reason: "never" }] } },
    (p) => p.ceiling.forbids("tool:x/y"),
    "never",
    "",
  ],
  ...(
    [
      ["timelockSeconds", 5, 0],
      ["holdSeconds", 5, 0],
      ["expiresSeconds", 60, 900],
      ["waitSeconds", 5, 0],
      ["challenge", false, true],
      ["maxPerHour", 5, 60],
    ] as const
  ).map(
    ([name, set, absent]) =>
      [
        `approvals.*.${name}`,
        edit([["approvals", "one", name], set]),
        (p: Policy) => p.ceremonies.get("one")?.[name],
        set,
        absent,
      ] as const,
  ),
  [
    "perimeter.redact",
    edit([["perimeter"], { redact: ["se[ck]ret"] }]),
    (p) => p.recording.blot({ a: "my secret" }),
    { a: "my [redacted]" },
    { a: "my secret" },
  ],
  ["identity.mode", edit([["identity"], { mode: "jwt" }]), (p) => p.identity.mode, "jwt", "serviceAccount"],
  [
    "retention.inputs",
    edit([["retention"], { inputs: "hashes" }]),
    (p) => p.recording.inputs,
    "hashes",
    "redacted",
  ],
  ["retention.lowTierDays", edit([["retention"], { lowTierDays: 1 }]), (p) => p.lowTierDays, 1, 7],
  ["decision.lifetimeMs", edit([["decision"], { lifetimeMs: 5 }]), (p) => p.lifetimeMs, 5, 30_000],
  [
    "privateAddresses.allow",
    edit([["privateAddresses"], { allow: ["10.0.0.0/8"] }]),
    (p) => p.privateAddresses,
    ["10.0.0.0/8"],
    [],
  ],
  [
    "capabilityTypes",
    edit([["capabilityTypes"], { db: ["tool:github/write"] }]),
    (p) => p.capabilityTypes.get("db"),
    ["tool:github/write"],
    undefined,
  ],
  ["limits.concurrentCalls", edit([["limits"], { concurrentCalls: 3 }]), (p) => p.concurrentCalls, 3, 16],
  ["timezone", edit([["timezone"], "Asia/Tokyo"]), (p) => p.timezone, "Asia/Tokyo", "UTC"],
  ...(["issuer", "audience", "jwks"] as const).map(
    (name) =>
      [
        `identity.jwt.${name}`,
        edit([["identity"], { mode: "jwt", jwt }]),
        (p: Policy) => p.identity.jwt?.[name],
        jwt[name],
        undefined,
      ] as const,
  ),
];

describe("a field reaches the compiled policy", () => {
  for (const [field, doc, read, set, absent] of compiled)
    test(field, () => {
      const isCeiling = (doc as JsonObject)["layer"] === "P0";
      const compile = (d: JsonValue): Policy =>
        isCeiling ? compilePolicy(base, { ceiling: d }) : compilePolicy(d);
      expect(read(compile(doc))).toEqual(set);
      expect(read(compile(isCeiling ? top : base))).toEqual(absent);
    });
});

test("every field of the reference is in one of the tables, and nothing else is", () => {
  const listed = new Set([...cases.map(([f]) => f), ...compiled.map(([f]) => f)]);
  const fields = [...policyReference().matchAll(/^\| `([^`]+)`/gm)].flatMap(([, f]) => f ?? []);
  expect(fields.length).toBeGreaterThan(100);
  const covered = (field: string): boolean =>
    listed.has(field) || [...listed].some((l) => l.startsWith(`${field}.`) || l.startsWith(`${field}[`));
  expect(fields.filter((f) => !covered(f))).toEqual([]);
  expect([...listed].filter((l) => !fields.includes(l))).toEqual([]);
});
