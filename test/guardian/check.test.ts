// What the check at load knows of a part of an expression: its type and size, its cost, the names that it reads.

import { parse } from "@bufbuild/cel";
import { expect, test } from "vitest";
import { COST_LIMIT, checkExpression, checkParts } from "../../kernel/guardian/cel-check.ts";
import type { Checked, Names } from "../../kernel/guardian/cel-check.ts";
import { createEngine } from "../../kernel/guardian/cel-engine.ts";
import {
  BOOL,
  DOUBLE,
  DYN,
  INT,
  NULL,
  TYPE,
  UINT,
  bytes,
  list,
  map,
  text,
} from "../../kernel/guardian/cel-type.ts";
import type { Known } from "../../kernel/guardian/cel-type.ts";

const dyn = (size: number, weight = size): Known => ({ kind: "dyn", size, weight });
const space = (name: string, members: Readonly<Record<string, Known>>): Known => ({
  ...DYN,
  space: name,
  members: new Map(Object.entries(members)),
});
const args: Known = { ...map(DYN, 9), members: new Map([["x", text(5)]]) };
const KNOWN: ReadonlyMap<string, Known> = new Map([
  ["call", space("call", { args, tool: text(9), other: map(INT, 2) })],
  ["other", space("other", { args: map(INT, 2) })],
  ["d", dyn(3, 9)],
  ["m", map(INT, 3)],
  ["l", list(text(4), 3)],
  ["i", INT],
  ["u", UINT],
  ["f", DOUBLE],
  ["b", BOOL],
  ["s", text(6)],
  ["closed", { ...map(INT, 1), members: new Map([["k", INT]]), closed: true }],
]);
const NAMES: Names = { of: (n) => KNOWN.get(n) ?? null, types: new Set(["int"]) };
const checked = (of: string, names = NAMES): Checked =>
  checkParts(parse(of).expr, names, createEngine().functions);
const yields = (of: string): unknown => {
  const { kind, size, weight } = checked(of).yields;
  return [kind, size, weight];
};
const fault = (of: string, names = NAMES): string => {
  try {
    checked(of, names);
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
};
const reads = (of: string): readonly string[] => checked(of).variables;

test("constants are what they are, and as large", () => {
  const of = (t: string): Known => checked(t).yields;
  expect([of("1"), of("1u"), of("1.5"), of("true"), of("null"), of("int")]).toEqual([
    INT,
    UINT,
    DOUBLE,
    BOOL,
    NULL,
    TYPE,
  ]);
  expect([of("'abc'"), of("b'abc'")]).toEqual([{ ...text(3), literal: "abc" }, bytes(3)]);
  expect(of("[]")).toEqual(list(dyn(0), 0));
  expect(of("{}")).toEqual(map(dyn(0), 0));
  expect(of("['a', 'abc']")).toEqual(list(text(3), 2));
  expect(of("{'a': 1, 'b': 2}")).toEqual(map(INT, 2));
  expect(of("{1u: 'ab'}")).toEqual(map({ ...text(2), literal: "ab" }, 1));
  expect(of("{true: [1]}")).toEqual(map(list(INT, 1), 1));
});
test("members and elements are what the whole says of them", () => {
  expect(["m.k", "m['k']", "m[i]", "m[u]", "m[b]", "m[f]", "m[d]"].map((t) => yields(t))).toEqual(
    Array.from({ length: 7 }, () => ["int", 1, 1]),
  );
  expect(["l[i]", "l[u]", "l[f]", "l[d]"].map((t) => yields(t))).toEqual(
    Array.from({ length: 4 }, () => ["string", 4, 4]),
  );
  expect(["d.k", "d[0]", "d['k']", "d[f]"].map((t) => yields(t))).toEqual(
    Array.from({ length: 4 }, () => ["dyn", 3, 9]),
  );
  expect([yields("call.args.x"), yields("call.args['x']"), yields("call.args.y")]).toEqual([
    ["string", 5, 5],
    ["string", 5, 5],
    ["dyn", Number.POSITIVE_INFINITY, 1 << 20],
  ]);
  expect([yields("closed.k"), yields("closed['k']"), yields("closed[s]")]).toEqual([
    ["int", 1, 1],
    ["int", 1, 1],
    ["int", 1, 1],
  ]);
  for (const [of, why] of [
    ["closed.j", "the input schema has no `j`"],
    ["closed['j']", "the input schema has no `j`"],
    ["has(closed.j)", "the input schema has no `j`"],
    ["l['a']", "`[]` of a list(string) with a string"],
    ["l[b]", "`[]` of a list(string) with a bool"],
    ["m[null]", "`[]` of a map(int) with a null_type"],
    ["s[0]", "`[]` of a string with a int"],
    ["s.k", "`.k` of a string"],
    ["l.k", "`.k` of a list(string)"],
    ["{1.5: 1}", "a double is no key"],
    ["{null: 1}", "a null_type is no key"],
    ["{d: 1}", "a dyn is no key"],
    ["{'a': 1, 1: 1}", "keys of different types"],
    ["{1: 1, 1u: 1}", "keys of different types"],
    ["{'a': 1, 'b': 1, 1: 1}", "keys of different types"],
    ["call", "`call` is not a value; name one of its members"],
    ["[call]", "`call` is not a value; name one of its members"],
    ["call.x", "unknown identifier `call.x`"],
    ["has(call.tool)", "`call.tool` is always there; `has` is for members of a value"],
    ["x", "unknown identifier `x`"],
    ["x.y.f()", "function `x.y.f` is not supported"],
    ["x.f()", "function `x.f` is not supported"],
    ["has(x.y).f()", "unknown identifier `x`"],
    ["x().y.f()", "function `x` is not supported"],
    ["s ? 1 : 2", "`_?_:_` does not take string"],
    ["b && i", "`_&&_` does not take int"],
    ["s || b", "`_||_` does not take string"],
    ["s.all(x, true)", "a comprehension over a string"],
    ["l.all(m, true)", "`m` would hide a name of the policy"],
    ["l.all(x, s)", "`_&&_` does not take string"],
  ] as const)
    expect(fault(of), of).toBe(why);
});
test("what is one or the other is as large as either", () => {
  expect([yields("b ? 'abc' : 'a'"), yields("b ? 'a' : 'abc'"), yields("d ? 1 : 'ab'")]).toEqual([
    ["string", 3, 3],
    ["string", 3, 3],
    ["dyn", 2, 2],
  ]);
  expect([yields("b && d"), yields("d || b")]).toEqual([
    ["bool", 1, 1],
    ["bool", 1, 1],
  ]);
});
test("a name is read where it is read, and members of the arguments one by one", () => {
  expect(reads("call.args.x == call.tool")).toEqual(["call.args.x", "call.tool"]);
  expect(reads("call.args['x'] == 'a'")).toEqual(["call.args"]);
  expect(reads("has(call.args.x)")).toEqual(["call.args"]);
  expect(reads("has(call.args.x) && call.args.x == 'a'")).toEqual(["call.args.x", "call.args"]);
  expect(reads("call.args.x == 'a' && has(call.args.x)")).toEqual(["call.args.x", "call.args"]);
  expect(reads("call.args.x.startsWith('a')")).toEqual(["call.args.x"]);
  expect(reads("call.other.x == 1 && other.args.x == 1")).toEqual(["call.other", "other.args"]);
  expect(reads("d.args.x == 1 && d.call.args.x == 1")).toEqual(["d"]);
  expect(reads("l.exists(x, x == 'a') && type(i) == int")).toEqual(["l", "i"]);
  const none: Names = { of: () => null, types: new Set() };
  expect(checked("[{'args': {'x': 1}}].all(call, call.args.x == 1)", none).variables).toEqual([]);
});
test("a local name has members and functions of its own", () => {
  expect(fault("[{'k': 'a'}].all(xy, xy.k.size() == 1 && xy.size() == 1)")).toBe("");
  expect(fault("[{'k': 'a'}].all(xy, x.k.size() == 1)")).toBe("function `x.k.size` is not supported");
});
test("what is gone through costs as often as it has elements, whatever it is known to be", () => {
  const cost = (of: string): number => checked(of).cost;
  const turn = cost("d.all(x, true)");
  expect([cost("l.all(x, true)"), cost("m.all(x, true)")]).toEqual([turn, turn]);
  // One element more: itself, its place, and a turn of seven nodes.
  expect(cost("[1, 1].all(x, true)") - cost("[1].all(x, true)")).toBe(20 + 70);
  expect(cost("d.all(x, x == x)") - turn).toBe(3 * (20 + 30 + 9 * 8));
  expect(cost("l.all(x, x == x)") - turn).toBe(3 * (20 + 30 + 4 * 8));
  expect(fault("m.all(x, x == x)")).toContain(
    `can cost ${10 + 10 + 10 + 20 + 3 * (90 + 30 + (1 << 20) * 8)}`,
  );
  expect([yields("l.map(x, x)"), yields("l.filter(x, true)"), yields("l.map(x, 1)")]).toEqual([
    ["list", 3, 13],
    ["list", 3, 13],
    ["list", 3, 4],
  ]);
  expect([yields("l.exists_one(x, true)"), yields("l.exists(x, true)"), yields("m.map(k, m[k])")]).toEqual([
    ["bool", 1, 1],
    ["bool", 1, 1],
    ["list", 3, 4],
  ]);
});
test("a cost at the limit is admitted, above it refused, and counted in whole units", () => {
  const of = (cost: number): string => {
    try {
      const found = checkParts(parse("f()").expr, NAMES, () => ({ yields: BOOL, cost }));
      return String(found.cost);
    } catch (error) {
      return error instanceof Error ? error.message : "";
    }
  };
  expect(COST_LIMIT).toBe(1_000_000);
  expect([of(0), of(0.5), of(999_990)]).toEqual(["10", "11", "1000000"]);
  const allowed = "1000000 units are allowed; bound the inputs in the schema";
  expect(of(999_990.5)).toBe(`can cost 1000001, ${allowed}`);
  expect(of(Number.POSITIVE_INFINITY)).toBe(`can cost without bound, ${allowed}`);
  expect(of(Number.NaN)).toBe(`can cost without bound, ${allowed}`);
});
test("an expression yields a boolean, or what may be one", () => {
  const whole = (of: string): string => {
    try {
      return checkExpression(parse(of).expr, NAMES, createEngine().functions).yields.kind;
    } catch (error) {
      return error instanceof Error ? error.message : "";
    }
  };
  expect(["b", "d", "i", "l"].map(whole)).toEqual([
    "bool",
    "dyn",
    "yields int and not a boolean",
    "yields list(string) and not a boolean",
  ]);
});
test("each part costs what it costs", () => {
  const cost = (of: string): number => checked(of).cost;
  expect(
    [
      "1",
      "i",
      "m.k",
      "m['k']",
      "call.tool",
      "has(m.k)",
      "[]",
      "[1, 2]",
      "{}",
      "{'a': 1}",
      "{1: 1, 2: 2}",
    ].map(cost),
  ).toEqual([10, 10, 30, 50, 30, 30, 10, 50, 10, 50, 90]);
  expect(["b && b", "b || b || b", "b ? i : i", "!b", "i + i"].map(cost)).toEqual([30, 50, 40, 50, 60]);
});
