// What an expression is given of a call: each name, what a schema makes of a number, and the bounds at their edges.

import { celList, celMap } from "@bufbuild/cel";
import { expect, test } from "vitest";
import type { Facts, JsonObject, JsonValue, Policy } from "../../kernel/contracts/contracts.ts";
import { bind, celOf, memberSchema } from "../../kernel/guardian/cel.ts";
import { compileExpression, createEngine } from "../../kernel/guardian/guardian.ts";
import type { Subject } from "../../kernel/guardian/question.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc } from "./sample.ts";

const policy = compilePolicy(sampleDoc);
const tool = policy.tools.get("tool:github/create_issue") ?? expect.fail("no tool");
const model = policy.models.get("model:openai/gpt-x") ?? expect.fail("no model");
const aTool: Subject = { kind: "tool", tool };
const now = Date.parse("2026-11-18T10:00:00.999Z");
interface Given {
  readonly subject?: Subject;
  readonly target?: string;
  readonly args?: JsonObject;
  readonly facts?: Partial<Facts>;
  readonly policy?: Policy;
}
const MARK = "\u0000bound";
/** What these names are bound to. */
function bound(names: readonly string[], given: Given = {}): Record<string, unknown> {
  const { [MARK]: marked, ...rest } = bind(names, {
    call: callOf(given.target ?? "tool:github/create_issue", given.args ?? {}),
    policy: given.policy ?? policy,
    facts: factsOf(policy, given.facts),
    now,
    subject: given.subject ?? aTool,
  });
  expect(marked).toBe(true);
  return rest;
}
const one = (name: string, given: Given = {}): unknown => bound([name], given)[name];

test("each name is bound to what it says", () => {
  const names = ["tool", "connector", "name", "effect", "sideEffect", "source"].map((n) => `call.${n}`);
  expect(bound([...names, "call.destination"])).toEqual({
    "call.tool": "tool:github/create_issue",
    "call.connector": "github",
    "call.name": "create_issue",
    "call.effect": "E2",
    "call.sideEffect": "write_limited",
    "call.source": "rest",
    "call.destination": "mcp.github.example:443",
  });
  expect(bound(names, { subject: { kind: "model", model }, target: "model:openai/gpt/x" })).toEqual({
    "call.tool": "model:openai/gpt/x",
    "call.connector": "openai",
    "call.name": "gpt/x",
    "call.effect": "E0",
    "call.sideEffect": "",
    "call.source": "rest",
  });
  const net: Subject = { kind: "net", host: "a.example", port: 443 };
  expect(bound(names, { subject: net, target: "net:a.example:443" })).toEqual({
    "call.tool": "net:a.example:443",
    "call.connector": "a.example",
    "call.name": "net:a.example:443",
    "call.effect": "E2",
    "call.sideEffect": "",
    "call.source": "rest",
  });
  expect(bound(["session.calls", "session.tainted", "session.ageSeconds", "pod.namespace"])).toEqual({
    "session.calls": 3n,
    "session.tainted": false,
    "session.ageSeconds": 600n,
    "pod.namespace": "acme",
  });
  expect(one("pod.labels")).toEqual(celMap(new Map([["app", "bot"]])));
  expect(one("now")).toMatchObject({ message: { seconds: 1_794_996_000n, nanos: 0 } });
  const fields = ["id", "serviceAccount", "namespace", "tenant", "delegator"].map((n) => `principal.${n}`);
  expect(bound([...fields, "principal.roles"])).toEqual({
    "principal.id": "serviceAccount:acme/triage-bot",
    "principal.serviceAccount": "triage-bot",
    "principal.namespace": "acme",
    "principal.tenant": "",
    "principal.delegator": "",
    "principal.roles": celList(["sre"]),
  });
});
test("what is not known is not bound", () => {
  const refused = { state: "refused", code: "AUTH_INVALID", detail: "" } as const;
  const names = ["id", "serviceAccount", "namespace", "roles", "tenant", "delegator"];
  expect(
    bound(
      names.map((n) => `principal.${n}`),
      { facts: { principal: refused } },
    ),
  ).toEqual({});
  expect(bound(["call.destination"], { facts: { destination: { state: "none" } } })).toEqual({});
  expect(bound(["now"], { facts: { now: "never" as never } })).toEqual({});
  for (const name of [
    "",
    "call",
    "call.argz",
    "budget",
    "budget.year.calls",
    "budget.session.gas",
    "principal.x",
  ])
    expect(bound([name]), name).toEqual({});
  for (const name of ["constructor", "__proto__", "x"])
    expect(bound([`call.args.${name}`]), name).toEqual({});
  const inherited: JsonObject = Object.create({ x: 1 });
  expect(bound(["call.args.x"], { args: inherited })).toEqual({});
});
test("a call that names no kind is not judged", () => {
  const call = { ...callOf("tool:github/create_issue", {}), target: "TOOL" as never };
  const facts = factsOf(policy);
  expect(() => bind(["call.connector"], { call, policy, facts, now, subject: aTool })).toThrow();
});
test("roles and labels are bound up to what the check at load has counted on", () => {
  const of = (n: number): string[] => Array.from({ length: n }, (_, i) => `r${i}`);
  const facts = factsOf(policy);
  const roles = (n: number): unknown =>
    one("principal.roles", {
      facts: { principal: { ...facts.principal, roles: of(n) } as Facts["principal"] },
    });
  const labels = (n: number): unknown =>
    one("pod.labels", {
      facts: { pod: { ...facts.pod, labels: Object.fromEntries(of(n).map((k) => [k, "v"])) } },
    });
  expect(roles(256)).toEqual(celList(of(256)));
  expect(labels(512)).toEqual(celMap(new Map(of(512).map((k) => [k, "v"]))));
  expect(() => roles(257)).toThrow("257 entries where 256 are allowed");
  expect(() => labels(513)).toThrow("513 entries where 512 are allowed");
});
test("what a ceiling leaves is counted from its limit, also from nought", () => {
  const used = { calls: 3, tokens: 4, costMicroUsd: 5 };
  const day = { calls: 6, tokens: 7, costMicroUsd: 8 };
  const facts = { budget: { ...factsOf(policy).budget, session: used, daily: day } };
  const limits = (calls: number, tokens: number, costMicroUsd: number) => ({ calls, tokens, costMicroUsd });
  const { budgets } = policy.ceiling;
  const of = (session: object, daily: object): Policy => ({
    ...policy,
    ceiling: {
      ...policy.ceiling,
      budgets: {
        ...budgets,
        session: { ...budgets.session, ...session },
        daily: { ...budgets.daily, ...daily },
      },
    },
  });
  const names = ["session", "daily"].flatMap((p) =>
    ["calls", "tokens", "costMicroUsd"].map((f) => `budget.${p}.${f}`),
  );
  const all = (over: Policy): unknown[] => Object.values(bound(names, { facts, policy: over }));
  expect(all(of(limits(10, 20, 30), limits(40, 50, 60)))).toEqual([7n, 16n, 25n, 34n, 43n, 52n]);
  expect(all(of(limits(0, 1, -1), limits(-1, 0, 1)))).toEqual([
    -3n,
    -3n,
    9_007_199_254_740_991n,
    9_007_199_254_740_991n,
    -7n,
    -7n,
  ]);
});

const NUMBER = { type: "number" };
test("numbers are what the schema says of them, at every depth", () => {
  const cases: readonly (readonly [JsonValue, JsonValue | undefined, unknown])[] = [
    [1, undefined, 1n],
    [1, true, 1n],
    [1, {}, 1n],
    [1, { type: "integer" }, 1n],
    [1, NUMBER, 1],
    [1.5, undefined, 1.5],
    [1.5, { type: "integer" }, 1.5],
    [9_007_199_254_740_991, undefined, 9_007_199_254_740_991n],
    [9_007_199_254_740_992, undefined, 9_007_199_254_740_992],
    ["1", NUMBER, "1"],
    [null, NUMBER, null],
    [true, NUMBER, true],
    [[1, 2], undefined, celList([1n, 2n])],
    [[1, 2], { type: "array" }, celList([1n, 2n])],
    [[1, 2], { items: NUMBER }, celList([1, 2])],
    [[[1]], { items: { items: NUMBER } }, celList([celList([1])])],
    [
      { a: 1, b: 2 },
      undefined,
      celMap(
        new Map([
          ["a", 1n],
          ["b", 2n],
        ]),
      ),
    ],
    [
      { a: 1, b: 2 },
      { properties: { a: NUMBER } },
      celMap(
        new Map<string, number | bigint>([
          ["a", 1],
          ["b", 2n],
        ]),
      ),
    ],
    [
      { a: 1, b: 2 },
      { properties: { a: true }, additionalProperties: NUMBER },
      celMap(
        new Map<string, number | bigint>([
          ["a", 1n],
          ["b", 2],
        ]),
      ),
    ],
    [{ a: [1] }, { properties: { a: { items: NUMBER } } }, celMap(new Map([["a", celList([1])]]))],
    [{ constructor: 1 }, { properties: {} }, celMap(new Map([["constructor", 1n]]))],
  ];
  for (const [value, schema, expected] of cases)
    expect(celOf(value, schema), JSON.stringify([value, schema])).toEqual(expected);
});
test("a member's schema is its own, or that of the others, or none", () => {
  expect(memberSchema({ properties: { x: false }, additionalProperties: NUMBER }, "x")).toBe(false);
  expect(memberSchema({ properties: { x: false }, additionalProperties: NUMBER }, "y")).toBe(NUMBER);
  expect(memberSchema({ properties: [NUMBER], additionalProperties: NUMBER }, "0")).toBe(NUMBER);
  expect(memberSchema({ properties: {} }, "constructor")).toBeUndefined();
  expect(memberSchema(undefined, "x")).toBeUndefined();
});
test("a call's arguments are read by the tool's schema, and by none where there is no tool", () => {
  const numbers: Subject = { kind: "tool", tool: { ...tool, inputSchema: { properties: { n: NUMBER } } } };
  const args = { n: 1 };
  expect(bound(["call.args.n", "call.args"], { subject: numbers, args })).toEqual({
    "call.args.n": 1,
    "call.args": celMap(new Map([["n", 1]])),
  });
  expect(bound(["call.args.n", "call.args"], { subject: { kind: "model", model }, args })).toEqual({
    "call.args.n": 1n,
    "call.args": celMap(new Map([["n", 1n]])),
  });
});
test("as many values are read as a rule may read, and not one more", () => {
  const of = (n: number): number[] => Array.from({ length: n }, () => 1);
  expect(celOf(of(19_999), undefined)).toMatchObject({ size: 19_999 });
  expect(() => celOf(of(20_000), undefined)).toThrow("more than 20000 values");
});

const compiled = (text: string, input: JsonObject | null = null): unknown => {
  try {
    return compileExpression(text, { input, engine: createEngine() });
  } catch (error) {
    return error instanceof Error ? error.message : error;
  }
};
test("a text is as long and as deep as it may be, and no more", () => {
  const long = (n: number): string => `'${"x".repeat(n - 8)}' != ''`.slice(0, n);
  expect(long(8192)).toHaveLength(8192);
  expect(compiled(long(8192))).toMatchObject({ text: long(8192) });
  expect(compiled(long(8193))).toBe("is longer than 8192 characters");
  const deep = (n: number, open: string, close: string): string => `${open.repeat(n)}1${close.repeat(n)}`;
  for (const [open, close] of [
    ["[", "]"],
    ["(", ")"],
    ["[{1:", "}]"],
    ["(1+", ")"],
  ] as const) {
    const half = open.includes("{") ? 2 : 1;
    const fits = deep(32 / half, open, close);
    expect(compiled(`${fits} == ${fits}`), open).toMatchObject({ variables: [] });
    expect(compiled(`${deep(32 / half + 1, open, close)} == 1`), open).toBe("is nested deeper than 32");
  }
  expect(compiled("1 +")).toMatch(/^does not parse: ./);
});
test("an expression is its text, its cost and its names, and yields a boolean or nothing", () => {
  const program = compileExpression("call.args.x", { input: null, engine: createEngine() });
  expect(program).toMatchObject({ text: "call.args.x", cost: 50, variables: ["call.args.x"] });
  const test = (x: JsonValue): unknown =>
    program.test(
      bind(program.variables, {
        call: callOf("tool:github/create_issue", { x }),
        policy,
        facts: factsOf(policy),
        now,
        subject: aTool,
      }),
    );
  expect([test(true), test(false)]).toEqual([true, false]);
  for (const odd of [1, "true", null, [true], {}])
    expect(() => test(odd)).toThrow("does not yield a boolean");
  expect(() => program.test({})).toThrow("not bindings");
  expect(() => program.test({ [MARK]: true })).toThrow("unresolved attribute");
  expect(compiled("call.args.x == 1", { type: "object", additionalProperties: false })).toBe(
    "the input schema has no `x`",
  );
});
