// The engine's own functions, one by one.

import { celEnv, isCelError, parse, plan } from "@bufbuild/cel";
import type { CelInput } from "@bufbuild/cel";
import { expect, test } from "vitest";
import { createEngine, ownPresence } from "../../kernel/guardian/cel-engine.ts";

/** What an expression comes to, or `error`, without any check at load. */
function value(text: string, names: Readonly<Record<string, CelInput>> = {}): unknown {
  const parsed = parse(text);
  ownPresence(parsed.expr);
  const result = plan(createEngine().environment, parsed)({ ...names });
  return isCelError(result) ? "error" : result;
}

test("these functions are ours, and nothing else is", () => {
  const theirs = new Set([...celEnv().funcs].map((f) => f.id));
  const from = new Set(celEnv().funcs);
  const ours = [...createEngine().environment.funcs].filter((f) => !from.has(f));
  const getters = ["FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear"];
  getters.push("Hours", "Minutes", "Seconds", "Milliseconds");
  const timestamp = "google.protobuf.Timestamp";
  expect(ours.map((f) => `${f.id} ${f.result.name}`).sort()).toEqual(
    [
      "_+_(list,list) list",
      "size(string) int",
      "string.size() int",
      "@has(map,string) bool",
      ...["string", "int", "uint", "double", "bool"].map((k) => `@in(${k},map) bool`),
      "int(string) int",
      "double(string) double",
      "matches(string,string) bool",
      "string.matches(string) bool",
      ...getters.map((g) => `${timestamp}.get${g}() int`),
      ...getters.map((g) => `${timestamp}.get${g}(string) int`),
    ].sort(),
  );
  // Each but two takes the place of one that the engine brings.
  expect(ours.map((f) => f.id).filter((id) => !theirs.has(id))).toEqual([
    "matches(string,string)",
    "@has(map,string)",
  ]);
});

test("a text is as long as it has characters, at every edge of what two units make", () => {
  for (const [text, length] of [
    ["", 0n],
    ["ab", 2n],
    ["\u{10000}", 1n],
    ["\u{103FF}\u{10FFFF}", 2n],
    ["\uD7FF\uE000\uFFFF", 3n],
    ["a\u{1F600}b", 3n],
  ] as const) {
    expect(value("size(x)", { x: text }), text).toBe(length);
    expect(value("x.size()", { x: text }), text).toBe(length);
  }
});
test("what is there is there, also when it is null", () => {
  for (const key of ["'a'", "1", "1u", "true"]) {
    expect(value(`${key} in {${key}: null}`), key).toBe(true);
    expect(value(`${key} in {${key}: 0}`), key).toBe(true);
  }
  expect(
    ["1.0 in {1: null}", "2.0 in {1: null}", "'b' in {'a': 1}", "2 in {1: 1}"].map((t) => value(t)),
  ).toEqual([true, false, false, false]);
  expect(["false in {true: 1}", "2u in {1u: 1}"].map((t) => value(t))).toEqual([false, false]);
  expect(
    ["has({'a': null}.a)", "has({'a': 1}.b)", "has({'a': {'b': null}}.a.b)"].map((t) => value(t)),
  ).toEqual([true, false, true]);
});
test("lists become one list, however many they are", () => {
  expect(value("[1, 2] + [3] == [1, 2, 3]")).toBe(true);
  expect(value("[1] + [2] == [2, 1]")).toBe(false);
  const many = Array.from({ length: 3000 }, (_, i) => BigInt(i));
  expect(value("l.map(x, x + 1)[2999]", { l: many })).toBe(3000n);
});
test("integers and numbers are read whole or not at all", () => {
  for (const [text, n] of [
    ["0", 0n],
    ["-0", 0n],
    ["007", 7n],
    ["9223372036854775807", 2n ** 63n - 1n],
    ["-9223372036854775808", -(2n ** 63n)],
    ["00000000000000000012", 12n],
    ["9223372036854775808", "error"],
    ["-9223372036854775809", "error"],
    ["000000000000000000012", "error"],
    ["", "error"],
    ["-", "error"],
    ["+1", "error"],
    [" 1", "error"],
    ["1 ", "error"],
    ["1\n", "error"],
    ["0x1", "error"],
    ["1.0", "error"],
  ] as const)
    expect(value("int(x)", { x: text }), text).toBe(n);
  for (const [text, n] of [
    ["1", 1],
    ["-1.", -1],
    ["+.5", 0.5],
    ["1.25e+2", 125],
    ["1E-2", 0.01],
    ["NaN", Number.NaN],
    ["Infinity", Number.POSITIVE_INFINITY],
    ["+Infinity", Number.POSITIVE_INFINITY],
    ["-Infinity", Number.NEGATIVE_INFINITY],
    ["infinity", "error"],
    ["-NaN", "error"],
    [".", "error"],
    ["", "error"],
    ["e1", "error"],
    ["1e", "error"],
    [" 1", "error"],
    ["1f", "error"],
  ] as const)
    expect(value("double(x)", { x: text }), text).toBe(n);
  expect(value("double('-0')")).toBe(-0);
});
test("a pattern is found anywhere in the text, by the function and by the method", () => {
  for (const form of ["matches(x, 'b+')", "x.matches('b+')"])
    expect([value(form, { x: "abbc" }), value(form, { x: "ac" }), value(form, { x: 1n })]).toEqual([
      true,
      false,
      "error",
    ]);
});

const NAMES = [
  "FullYear",
  "Month",
  "Date",
  "DayOfMonth",
  "DayOfWeek",
  "DayOfYear",
  "Hours",
  "Minutes",
  "Seconds",
];
const parts = (at: string, zone: string): string =>
  [...NAMES, "Milliseconds"].map((n) => String(value(`timestamp("${at}").get${n}(${zone})`))).join(" ");
test.each([
  ["2026-11-18T10:20:30.456Z", "", "2026 10 18 17 3 321 10 20 30 456"],
  ["2024-12-31T23:59:59.999999999Z", "", "2024 11 31 30 2 365 23 59 59 999"],
  ["1969-12-31T23:59:58.25Z", "", "1969 11 31 30 3 364 23 59 58 250"],
  ["0001-01-01T00:00:00Z", "", "1 0 1 0 1 0 0 0 0 0"],
  ["0099-03-01T00:00:00Z", "", "99 2 1 0 0 59 0 0 0 0"],
  ["2026-11-18T10:20:30.456Z", "'UTC'", "2026 10 18 17 3 321 10 20 30 456"],
  ["2026-11-18T10:20:30.456Z", "'+13:45'", "2026 10 19 18 4 322 0 5 30 456"],
  ["2026-11-18T10:20:30.456Z", "'13:45'", "2026 10 19 18 4 322 0 5 30 456"],
  ["2026-01-01T01:10:00.007Z", "'-01:30'", "2025 11 31 30 3 364 23 40 0 7"],
  ["2026-07-01T22:15:00.007Z", "'Asia/Kathmandu'", "2026 6 2 1 4 182 4 0 0 7"],
  ["2026-07-01T12:00:00Z", "'America/St_Johns'", "2026 6 1 0 3 181 9 30 0 0"],
  ["1969-12-31T23:59:58.25Z", "'Europe/Berlin'", "1970 0 1 0 4 0 0 59 58 250"],
  ["0099-03-01T12:00:00.5Z", "'Asia/Tokyo'", "99 2 1 0 0 59 21 18 59 500"],
  ["2026-03-29T22:00:00Z", "'Europe/Berlin'", "2026 2 30 29 1 88 0 0 0 0"],
])("%s has in the zone %s the parts %s", (at, zone, expected) => expect(parts(at, zone)).toBe(expected));
test("a zone that nobody knows has no parts", () => {
  for (const zone of ["nowhere", "+1:00", "++01:00", "01:000"])
    expect(value(`timestamp("2026-11-18T10:20:30Z").getHours("${zone}")`), zone).toBe("error");
});
test("presence is our own in every part of an expression", () => {
  const x = { x: { n: null } };
  for (const text of [
    "has(x.n)",
    "!(!has(x.n))",
    "[has(x.n)][0]",
    "{'a': has(x.n)}['a']",
    "{has(x.n): 1}[true] == 1",
    "[1].all(y, has(x.n))",
    "[1].exists(y, has(x.n))",
    "[has(x.n)].all(y, y)",
    "[1].filter(y, has(x.n)).size() == 1",
    "[x].map(y, has(y.n), has(y.n))[0]",
    "{'a': x}.all(k, has({'a': x}[k].n))",
    "has({'n': has(x.n) ? null : 1}.n) && [has(x.n)].size() == 1",
    "has([x][0].n)",
    "[x].exists_one(y, has(y.n))",
    "{'m': [has(x.n)]}.m[0]",
    "size([has(x.n)].filter(y, y)) == 1",
    "[has(x.n)].filter(y, y).size() == 1",
    "(has(x.n) ? [1] : []).size() == 1",
    "(has(x.n) ? x : {'n': 1}).n == null",
  ])
    expect(value(text, x), text).toBe(true);
  expect(value("has(x.m)", x)).toBe(false);
});
