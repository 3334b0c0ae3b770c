// What the parser of today never makes, and values that an expression has to do without.

import { parse } from "@bufbuild/cel";
import { expect, test } from "vitest";
import type { Facts, JsonObject, Policy } from "../../kernel/contracts/contracts.ts";
import { checkExpression } from "../../kernel/guardian/cel-check.ts";
import { createEngine, epochOf, ownPresence } from "../../kernel/guardian/cel-engine.ts";
import type { Known } from "../../kernel/guardian/cel-type.ts";
import { policyNames } from "../../kernel/guardian/cel-names.ts";
import { DYN, INT, elements, knownOf, nameOf } from "../../kernel/guardian/cel-type.ts";
import { bind, memberSchema } from "../../kernel/guardian/cel.ts";
import { budget } from "../../kernel/guardian/judgement.ts";
import { compileExpression, decide } from "../../kernel/guardian/guardian.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc } from "./sample.ts";

const { functions } = createEngine();
type Parsed = ReturnType<typeof parse>["expr"];
/** The expression with one part of its tree made into what no text gives. */
function odd(text: string, change: (kind: Parsed["exprKind"], expr: Parsed) => void): string {
  const { expr } = parse(text);
  change(expr.exprKind, expr);
  return fault(() => checkExpression(expr, policyNames(knownOf(true)), functions));
}
function fault(run: () => unknown): string {
  try {
    run();
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
const NOTHING = { case: undefined } as const;

test("a tree that no text gives is refused by what is odd in it", () => {
  expect(odd("1 == 1", () => undefined)).toBe("");
  expect(odd("true", (_, e) => (e.exprKind = NOTHING))).toBe("an empty expression");
  expect(
    odd("has(call.args.x)", (k) => {
      if (k.case === "selectExpr") delete k.value.operand;
    }),
  ).toBe("an empty expression");
  expect(
    odd("[1] == [1]", (k) => {
      const [list] = k.case === "callExpr" ? k.value.args : [];
      if (list?.exprKind.case === "listExpr") list.exprKind.value.optionalIndices.push(0);
    }),
  ).toBe("optional elements are not supported");
  const entry = (change: (e: { optionalEntry: boolean; keyKind: object }) => void): string =>
    odd("{'a': 1} == {'a': 1}", (k) => {
      const [map] = k.case === "callExpr" ? k.value.args : [];
      const first = map?.exprKind.case === "structExpr" ? map.exprKind.value.entries[0] : undefined;
      if (first !== undefined) change(first);
    });
  expect(entry((e) => (e.optionalEntry = true))).toBe("optional entries are not supported");
  expect(entry((e) => (e.keyKind = NOTHING))).toBe("an entry without a key");
  expect(
    odd("[1].all(x, true)", (k) => {
      if (k.case === "comprehensionExpr") k.value.iterVar2 = "y";
    }),
  ).toBe("comprehensions over two variables are not supported");
  for (const kind of [{ case: "durationValue", value: {} }, { case: "timestampValue", value: {} }, NOTHING])
    expect(
      odd("true", (k) => {
        if (k.case === "constExpr") Object.assign(k.value, { constantKind: kind });
      }),
    ).toBe("a constant that has no form");
  expect(
    odd("call.args.x.size() == 1", (k) => {
      const [size] = k.case === "callExpr" ? k.value.args : [];
      const target = size?.exprKind.case === "callExpr" ? size.exprKind.value.target : undefined;
      if (target?.exprKind.case === "selectExpr") delete target.exprKind.value.operand;
    }),
  ).toBe("an empty expression");
});
test("presence is rewritten in every part of a tree, also where there is none", () => {
  const { expr } = parse("{has(call.args.a): [has(call.args.b)]} == {true: [true]}");
  const first = expr.exprKind.case === "callExpr" ? expr.exprKind.value.args[0] : undefined;
  const entries = first?.exprKind.case === "structExpr" ? first.exprKind.value.entries : [];
  expect(fault(() => ownPresence(expr))).toBe("");
  expect(entries[0]?.keyKind.case === "mapKey" && entries[0].keyKind.value.exprKind.case).toBe("callExpr");
  Object.assign(entries[0] ?? {}, { keyKind: NOTHING });
  expect(fault(() => ownPresence(expr))).toBe("");
  expect(fault(() => ownPresence(undefined))).toBe("");
  const { expr: bare } = parse("has(x.y)");
  if (bare.exprKind.case === "selectExpr") delete bare.exprKind.value.operand;
  ownPresence(bare);
  expect(bare.exprKind.case).toBe("selectExpr");
});
test("functions are told apart by their form and their arguments", () => {
  expect(
    fault(() => functions("startsWith", false, [knownOf({ type: "string" }), knownOf({ type: "string" })])),
  ).toBe("`startsWith` is called on a value");
  expect(fault(() => functions("int", true, [INT]))).toBe("`int` is no method");
  expect(fault(() => functions("int", false, []))).toBe("`int` does not take nothing");
  expect(nameOf({ kind: "list", size: 1, weight: 1 })).toBe("list(dyn)");
  expect(nameOf({ kind: "map", size: 1, weight: 1, of: INT })).toBe("map(int)");
  expect(functions("_+_", false, [DYN, DYN]).yields.kind).toBe("dyn");
});

const schema: JsonObject = {
  type: "object",
  additionalProperties: false,
  properties: { a: { type: "integer" }, m: { type: "object" }, any: true },
};
const rule = (when: string, target: string): Policy =>
  compilePolicy({
    ...sampleDoc,
    tools: [
      { name: "tool:agent/x", effect: "E1", sideEffect: "read_only", sandbox: "native", input: schema },
    ],
    toolsets: { triage: ["tool:agent/x"] },
    rules: [{ id: "r", when, tools: [target], then: "allow" }],
  });
const verdict = (when: string, target: string, over: Partial<Facts> = {}, args: JsonObject = {}): string => {
  const policy = rule(when, target);
  const v = decide(
    callOf(target, args),
    policy,
    factsOf(policy, { destination: { state: "none" }, ...over }),
  );
  return v.verdict === "ALLOW" ? "ALLOW" : v.code;
};
const openai: Partial<Facts> = { destination: { state: "known", host: "api.openai.example", port: 443 } };
const docs: Partial<Facts> = { destination: { state: "known", host: "a.docs.example", port: 443 } };

test("a call has the same names whatever it is", () => {
  const model = "model:openai/gpt-x";
  const net = "net:a.docs.example:443";
  expect(verdict('call.effect == "E0" && call.sideEffect == ""', model, openai)).toBe("ALLOW");
  expect(verdict('call.connector == "openai" && call.name == "gpt-x"', model, openai)).toBe("ALLOW");
  expect(verdict('call.effect == "E2" && call.destination == "a.docs.example:443"', net, docs)).toBe("ALLOW");
  expect(verdict('call.args.x == "y"', model, openai, { x: "y" })).toBe("ALLOW");
  expect(verdict('call.destination == ""', "tool:agent/x")).toBe("POLICY_EVALUATION_ERROR");
});
test("what is left of a budget without a ceiling is beyond counting, and with one it is counted", () => {
  expect(verdict("budget.session.calls == 9007199254740991", "tool:agent/x")).toBe("ALLOW");
  const when = "budget.session.calls == 4 && budget.daily.tokens > 4";
  const doc = {
    ...sampleDoc,
    tools: [{ name: "tool:agent/x", effect: "E1", sideEffect: "read_only", sandbox: "native", input: true }],
    toolsets: { triage: ["tool:agent/x"] },
    profiles: [{ match: { serviceAccount: "triage-bot" }, toolsets: ["triage"] }],
    rules: [{ id: "r", when, tools: ["tool:agent/x"], then: "allow" }],
  };
  const ceiling = {
    apiVersion: "atoll.dev/policy/v1",
    name: "top",
    layer: "P0",
    ceiling: { budgets: { session: { calls: 7 } } },
  };
  const policy = compilePolicy(doc, { ceiling });
  expect(
    decide(callOf("tool:agent/x", {}), policy, factsOf(policy, { destination: { state: "none" } })).verdict,
  ).toBe("ALLOW");
});
test("more roles or labels than the check at load has counted on deny", () => {
  const roles = Array.from({ length: 257 }, (_, i) => `r${i}`);
  const principal = { ...factsOf(rule("true", "tool:agent/x")).principal, roles } as Facts["principal"];
  expect(verdict('"r1" in principal.roles', "tool:agent/x", { principal })).toBe("POLICY_EVALUATION_ERROR");
  expect(verdict("true", "tool:agent/x", { principal })).toBe("ALLOW");
});
test("names that nothing is known of stay unbound", () => {
  const policy = rule("true", "tool:agent/x");
  const tool = policy.tools.get("tool:agent/x");
  if (tool === undefined) throw new Error("no tool");
  const bound = (facts: Facts) =>
    Object.keys(
      bind(["principal.id", "principal.none", "nothing", "budget.year.calls", "budget.session.gas", "now"], {
        call: callOf("tool:agent/x", {}),
        policy,
        facts,
        now: 0,
        subject: { kind: "tool", tool },
      }),
    ).slice(1);
  expect(bound(factsOf(policy))).toEqual(["principal.id", "now"]);
  const refused = { state: "refused", code: "AUTH_INVALID", detail: "" } as const;
  expect(bound(factsOf(policy, { principal: refused, now: "never" as never }))).toEqual([]);
  expect(() => compileExpression("true", { input: null, engine: createEngine() }).test({})).toThrow(
    "not bindings",
  );
});
test("the schema of a member is what the schema says of it", () => {
  expect(memberSchema({ additionalProperties: { type: "integer" } }, "x")).toEqual({ type: "integer" });
  expect(memberSchema({}, "x")).toBeUndefined();
  expect(memberSchema(true, "x")).toBeUndefined();
  expect(
    verdict(
      "call.args.m.x == 3 && call.args.any.y == 2.5",
      "tool:agent/x",
      {},
      { m: { x: 3 }, any: { y: 2.5 } },
    ),
  ).toBe("ALLOW");
});

test("a list or a map of which nobody says what it holds may hold anything", () => {
  const bare = (kind: "list" | "map"): Known => ({ kind, size: 2, weight: 2 });
  expect([elements(bare("list")), elements(bare("map")), elements({ ...bare("list"), of: INT })]).toEqual([
    DYN,
    DYN,
    INT,
  ]);
});
test("what is bounded and of no known type is gone through", () => {
  const input: JsonObject = { type: "object", properties: { l: { type: "array", maxItems: 3 } } };
  const scope = { input, engine: createEngine() };
  expect(compileExpression("dyn(call.args.l).all(x, x == 1)", scope).variables).toEqual(["call.args.l"]);
  expect(fault(() => compileExpression("dyn(call.args.m).all(x, x == 1)", scope))).toContain("unbounded");
});
test("what is no timestamp has no parts", () => {
  const message = (message: unknown): unknown => ({ message });
  for (const odd of [
    undefined,
    null,
    1n,
    {},
    message(null),
    message(1),
    message({}),
    message({ seconds: 1n }),
    message({ nanos: 1 }),
    message({ seconds: 1, nanos: 1 }),
    message({ seconds: 1n, nanos: 1n }),
  ])
    expect(fault(() => epochOf(odd))).toBe("not a timestamp");
  expect(epochOf(message({ seconds: 2n, nanos: 345_999_999 }))).toBe(2345);
});
test("who has no profile has no budget", () => {
  const policy = rule("true", "tool:agent/x");
  const q = { policy, profile: null, subject: { kind: "unknown" }, facts: factsOf(policy) } as const;
  expect(budget.judge({ ...q } as never)).toEqual({
    code: "BUDGET_ERROR",
    detail: "no profile says what may be spent",
  });
});
