// What the fuzzing of policies and expressions starts from, and the words it puts in.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { readYaml } from "../../cli/authoring/authoring.ts";
import { isArray, isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";

const root = join(import.meta.dirname, "../..");
export const POLICIES = readdirSync(join(root, "examples/policies"))
  .sort()
  .flatMap((name) =>
    readdirSync(join(root, "examples/policies", name))
      .sort()
      .map((file) => readFileSync(join(root, "examples/policies", name, file), "utf8")),
  );
export const DOCUMENTS = POLICIES.map((text) => readYaml(text, "seed").value)
  .filter(isObject)
  .filter((doc) => doc["layer"] === "P1");

/** Schemas cost a hundred times what the rest does; most documents do without them. */
const withoutSchemas = (doc: JsonObject): JsonObject => ({
  ...doc,
  ...(isArray(doc["tools"])
    ? { tools: doc["tools"].map((t) => (isObject(t) ? { ...t, input: true, output: true } : t)) }
    : {}),
});
export const EVERYTHING: JsonObject = {
  apiVersion: "atoll.dev/policy/v1",
  name: "all",
  layer: "P1",
  connectors: {
    github: { kind: "mcp", url: "https://mcp.example/mcp", credential: "T", destinations: ["a.example:443"] },
    local: { kind: "mcp", command: ["run", "me"] },
    openai: { kind: "openai", url: "http://api.example:8080" },
    calc: { kind: "wasm" },
    web: { kind: "connect", destinations: ["*.docs.example:443", "*:80", "[::1]:443"] },
  },
  tools: [
    { name: "tool:github/a", effect: "E2", sideEffect: "full", sandbox: "isolated", input: true },
    {
      name: "tool:calc/b",
      effect: "E0",
      sideEffect: "read_only",
      sandbox: "restricted",
      module: `sha256:${"1".repeat(64)}`,
      limits: { gas: 5, memoryBytes: 65536, outputBytes: 10, timeMs: 2 },
      input: true,
      rate: { perMinute: 1 },
      cost: { microUsd: 2 },
    },
  ],
  models: [{ name: "model:openai/m", price: { inputMicroUsdPerMTok: 1, outputMicroUsdPerMTok: 2 } }],
  toolsets: { all: ["tool:*"] },
  profiles: [
    {
      match: { principal: "*", namespaceLabels: { a: "b" } },
      toolsets: ["all"],
      models: ["model:*"],
      maxSideEffect: "full",
      budgets: { session: { calls: 9, tokens: 9 }, daily: { costMicroUsd: 3, scope: "sidecar" } },
      destinations: { allow: ["*.docs.example:443"], deny: ["*.internal:*"] },
    },
  ],
  rules: [
    { id: "a", tools: ["tool:github/*"], then: "allow", when: "call.args.x == 1", shadow: true },
    { id: "b", tools: ["tool:*", "net:*:*"], then: "escalate", approval: "two" },
    {
      id: "c",
      tools: ["*"],
      then: "allow",
      requires: {
        all: [
          { any: [{ cel: "session.calls < 3" }, { not: { cel: "session.tainted" } }] },
          { receipt: { tool: "tool:calc/b", status: "SUCCEEDED", withinSeconds: 9, sameArgs: ["x"] } },
          { artifact: { type: "sbom", signer: "ed25519:0000000000000000" } },
          { approval: "two" },
        ],
      },
    },
  ],
  approvals: { two: { approvers: ["ed25519:0000000000000000", "ed25519:0000000000000001"], quorum: 2 } },
  perimeter: {
    hours: { days: ["Mon"], from: "07:00", to: "20:00", timezone: "UTC" },
    dataClasses: { deny: ["restricted"] },
    redact: ["(?i)api[_-]?key\\s*[:=]\\s*\\S+"],
    maxConcurrent: 3,
    requireTls: true,
  },
  threat: { denyAt: "LOW", taintedMaxEffect: "E1" },
  identity: {
    mode: "serviceAccount",
    relations: [
      "repo:acme/web#writer@serviceAccount:default/bot",
      "repo#reader = this | writer & a->b - (c)",
    ],
    check: [{ tools: ["tool:github/*"], relation: "writer", object: "repo:{call.args.x}" }],
  },
  freshness: { maxStaleSeconds: 5 },
  decision: { lifetimeMs: 5 },
  privateAddresses: { allow: ["10.0.0.0/8"] },
  capabilityTypes: { db: ["tool:db/*"] },
  retention: { lowTierDays: 1, inputs: "full" },
  limits: { concurrentCalls: 1, requestsPerSecond: 1 },
  timezone: "UTC",
};
const TOKENS: JsonObject = {
  ...EVERYTHING,
  identity: {
    mode: "jwt",
    jwt: {
      issuer: "https://i.example",
      audience: "atoll",
      jwks: {
        keys: [{ kty: "OKP", crv: "Ed25519", kid: "a", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }],
      },
    },
  },
};
export const CEILING: JsonObject = {
  apiVersion: "atoll.dev/policy/v1",
  name: "top",
  layer: "P0",
  ceiling: {
    maxEffect: "E3",
    forbidden: [{ tools: ["tool:*/delete_*"], reason: "never" }],
    budgets: { session: { calls: 10 }, daily: { costMicroUsd: 10 } },
  },
  perimeter: { redact: ["secret"], requireTls: true },
  threat: { denyAt: "MEDIUM" },
};
export const LIGHT = [EVERYTHING, EVERYTHING, EVERYTHING, TOKENS, ...DOCUMENTS.map(withoutSchemas)];

/** Small pieces of policies as text, in block and flow form, and what YAML has traps for. */
export const PIECES: readonly string[] = (() => {
  const pieces: string[] = [];
  const visit = (v: JsonValue): void => {
    for (const [key, inner] of isObject(v) ? Object.entries(v) : []) {
      const piece = { [key]: inner };
      for (const text of [stringify(piece), stringify(piece, { collectionStyle: "flow" })])
        if (text.length < 70) pieces.push(text);
      visit(inner);
    }
    if (isArray(v)) v.forEach((x: JsonValue) => visit(x));
  };
  DOCUMENTS.forEach(visit);
  return [...new Set(pieces)];
})();
/** The words of a text, which stand between spaces or what else is named. */
const words = (text: string, by = " "): readonly string[] => text.split(by);
export const TRAPS = [
  ...words("a: &x 1\nb: *x\n|<<: {a: 1}|a: !!str 5|%YAML 1.1\n---\na: 1|a: 1\n---\nb: 2|a: |-\n  x\n", "|"),
  ...words(
    "a: >+\n\n x|? [a]\n: 1|- |? |: |\n|  |---\n|...\n|\t|\r\n|\r|\u0085|\u2028|\uFEFF|\uD83D|\0|\u0007",
    "|",
  ),
  ...words('no on ~ 017 0x1F .inf 1_000 9007199254740993 -0 1e999 2026-11-20 1:30 \\uD800 "\\uD800" 😀'),
  ...words("__proto__ constructor &a *a !t !<x> # | > ' \" { } [ ] , null true 1e5"),
];
export const NAMES = [
  ...words("call principal session budget pod now call.args call.args.s call.args.i call.args.d call.args.l"),
  ...words("call.args.m call.args.any call.args.ints call.args.m.k call.tool call.effect call.destination"),
  ...words("principal.id principal.roles pod.labels session.calls session.tainted budget.session.calls x y"),
];
export const LITERALS = [
  ...words("0 1 -1 9223372036854775807 -9223372036854775808 18446744073709551615u 1.5 1e308 true false"),
  ...words("null '' \"x\" b'x' r'\\' '''a''' '\\u0041' '\\xff' \"(a|b)*c\" [] {} int string"),
  ...words("'UTC' 'Europe/Berlin' '+01:00' '2026-01-01T00:00:00Z' '1h'"),
];
const CALLS = [
  ...words("size startsWith endsWith contains matches int uint double bool bytes string timestamp duration"),
  ...words("type dyn getFullYear getHours getDayOfWeek getMilliseconds lowerAscii math.greatest has"),
];
const OPERATORS = "&& || == != < <= > >= + - * / % in".split(" ");
export const SYMBOLS = [
  ...NAMES,
  ...LITERALS,
  ...CALLS,
  ...words("all exists exists_one map filter"),
  ...OPERATORS,
  ..."( ) [ ] { } . , : ? ! - ; ` @ $ \\ // \" ' ''' \0 😀 \uD800 __proto__ constructor".split(" "),
];
/** Expressions that the tests hold to their cost and outcome. */
export const EXPRESSIONS = [
  ...new Set(
    readFileSync(join(root, "test/golden/expressions.txt"), "utf8")
      .split("\n")
      .map((line) => line.split("\t", 1)[0] ?? ""),
  ),
].filter((line) => line !== "");

export const ODD: readonly JsonValue[] = JSON.parse(String.raw`[
  null, true, false, 0, 1, -1, -0, 0.5, 1e308, 9007199254740992, "", "x", "*", "é", "\u0000", [], {}, [[]],
  "tool:*", "tool:a/b", "model:a/b", "net:*:*", "https://[", "https://a:99999", "http://%", "*.a:1", "[::]:1",
  "E0", "E4", "P0", "P1", "allow", "escalate", "destructive", "jwt", "sha256:", "Europe/Berlin", "24:00", "(", "a*",
  "(a|b)*c{1000}{1000}", "999.0.0.0/99", "repo#r = (", "repo:{call.args.}", "{", "1 +", "true", "call.args.x.y",
  { "all": [] }, { "cel": "true" }, { "not": { "approval": "two" } }, { "a": { "b": { "c": { "d": 1 } } } },
  { "type": "object", "properties": { "a": {} } }, { "$ref": "#" }, { "pattern": "^(a+)+$" }, { "enum": [] },
  { "type": ["string", 3] }, { "kty": "OKP", "crv": "Ed25519" }, { "$id": "x", "$schema": "y" }, { "multipleOf": 0 },
  { "anyOf": [{ "$ref": "#/$defs/a" }], "$defs": { "a": { "not": {} } } }, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
]`);
export const FIELDS = [
  ...words(
    "apiVersion name layer connectors tools models toolsets profiles rules approvals ceiling perimeter",
  ),
  ...words("identity match input output module requires all any not cel keys __proto__ constructor toString"),
];

/** What the policies have under each name: what most likely fits there. */
export const BY_NAME: ReadonlyMap<string, readonly JsonValue[]> = (() => {
  const found = new Map<string, JsonValue[]>();
  const visit = (v: JsonValue): void => {
    if (isArray(v)) v.forEach((x: JsonValue) => visit(x));
    if (!isObject(v)) return;
    for (const [name, inner] of Object.entries(v)) {
      found.set(name, [...(found.get(name) ?? []), inner]);
      visit(inner);
    }
  };
  [...LIGHT, CEILING].forEach(visit);
  return found;
})();

/** What yields each kind, with the kinds that stand in it. */
export const FORMS: Readonly<Record<string, readonly string[]>> = {
  bool: [
    ...words(
      "B && B|B || B|!B|B ? B : B|I == I|I < I|S == S|S != S|D >= D|T < T|U == U|L == L|A == A|S in L|I in M",
      "|",
    ),
    ...words(
      "S.startsWith(S)|S.contains(S)|S.endsWith(S)|S.matches(P)|has(N.s)|has(N.any)|N.all(x, B)|L.exists(x, B)",
      "|",
    ),
    ...words(
      "L.exists_one(x, B)|call.args.ints.all(x, I > x)|true|false|session.tainted|bool(S)|call.args.any|type(A) == int",
      "|",
    ),
  ],
  int: [
    ...words(
      "I + I|I - I|I * I|I / I|I % I|-I|size(S)|size(L)|L.size()|int(S)|int(D)|int(T)|now.getHours(Z)",
      "|",
    ),
    ...words(
      "now.getDayOfWeek()|call.args.i|call.args.m.k|session.calls|budget.session.calls|I ? I : I|[I, I][I]",
      "|",
    ),
    ...words(
      "0|1|-1|9223372036854775807|-9223372036854775808|call.args.ints[I]|duration(S).getSeconds()|dyn(A)",
      "|",
    ),
  ],
  text: [
    ...words(
      `S + S|B ? S : S|string(I)|string(T)|call.args.s|call.tool|principal.id|pod.labels[S]|call.args.l[I]|L[0]`,
      "|",
    ),
    ...words(
      `""|"x"|'é😀'|'\\u0041'|r'\\'|"UTC"|"1h"|"2026-01-01T00:00:00Z"|string(b'x')|{S: S}[S]|call.args.any.x`,
      "|",
    ),
  ],
  list: words(
    "call.args.l|principal.roles|[S, S]|L + L|L.map(x, x)|L.filter(x, B)|[]|L.map(x, B, S)|B ? L : L",
    "|",
  ),
  double: words("call.args.d|D + D|D / D|double(I)|double(S)|1.5|1e308|-D|call.args.any.d", "|"),
  time: words("now|timestamp(S)|T + duration(S)|T - duration(S)|B ? T : T", "|"),
  uint: words("1u|uint(I)|U + U|U * U|uint(S)|18446744073709551615u", "|"),
  map: words("call.args.m|pod.labels|{S: I}|{I: I}|{B: A, S: A}|call.args.any", "|"),
  any: words("B|I|S|L|D|T|U|M|null|int|call.args.any|call.args|A.x|A[A]|b'z'|type(A)|{}|[A]", "|"),
  pattern: words("'(a|b)*c'|'a{1,9}'|'['|'^x$'|'(?i)é'|'\\\\d+'|S", "|"),
  zone: words("'UTC'|'Europe/Berlin'|'+01:00'|'25:99'|'utc'|'nowhere'|S", "|"),
  name: words("call.args|call.args.m|call.args.any|pod.labels|principal.roles|call|A", "|"),
};
export const KINDS: Readonly<Record<string, string>> = {
  B: "bool",
  I: "int",
  S: "text",
  L: "list",
  D: "double",
  T: "time",
  U: "uint",
  M: "map",
  A: "any",
  P: "pattern",
  Z: "zone",
  N: "name",
};
