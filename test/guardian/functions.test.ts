// Each function and operator: what it takes, what it yields, what it costs.

import { expect, test } from "vitest";
import { functionsOf, isZone } from "../../kernel/guardian/cel-functions.ts";
import {
  BOOL,
  DOUBLE,
  DURATION,
  DYN,
  INT,
  NULL,
  TIMESTAMP,
  TYPE,
  UINT,
  bytes,
  list,
  map,
  text,
} from "../../kernel/guardian/cel-type.ts";
import type { Known } from "../../kernel/guardian/cel-type.ts";

const literal = (value: string): Known => ({ ...text(value.length), literal: value });
const dyn = (size: number, weight = size): Known => ({ kind: "dyn", size, weight });
const call = (name: string, ...args: readonly Known[]) => functionsOf((p) => p.length)(name, false, args);
const method = (name: string, ...args: readonly Known[]) => functionsOf((p) => p.length)(name, true, args);
const fault = (run: () => unknown): string => {
  try {
    run();
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
};
const KINDS = [
  BOOL,
  INT,
  UINT,
  DOUBLE,
  text(2),
  bytes(2),
  NULL,
  TIMESTAMP,
  DURATION,
  TYPE,
  list(INT, 2),
  map(INT, 2),
];
/** Of which kinds the operands may be, as `a b`. */
const taken = (name: string): string =>
  KINDS.flatMap((a) =>
    KINDS.filter((b) => fault(() => call(name, a, b)) === "").map((b) => `${a.kind} ${b.kind}`),
  )
    .sort()
    .join(", ");
const same = (...kinds: readonly string[]): string[] => kinds.map((k) => `${k} ${k}`);
const sorted = (pairs: readonly string[]): string => pairs.toSorted().join(", ");

test("operators take these pairs and no others", () => {
  const numbers = ["int", "uint", "double"];
  const order = sorted([
    ...same("bool", "string", "bytes", "timestamp", "duration"),
    ...numbers.flatMap((a) => numbers.map((b) => `${a} ${b}`)),
  ]);
  expect(["_<_", "_<=_", "_>_", "_>=_"].map(taken)).toEqual([order, order, order, order]);
  const moments = ["timestamp duration"];
  expect(taken("_+_")).toBe(
    sorted([...same(...numbers, "duration", "string", "bytes", "list"), ...moments, "duration timestamp"]),
  );
  expect(taken("_-_")).toBe(sorted([...same(...numbers, "duration", "timestamp"), ...moments]));
  expect([taken("_*_"), taken("_/_"), taken("_%_")]).toEqual([
    sorted(same(...numbers)),
    sorted(same(...numbers)),
    sorted(same("int", "uint")),
  ]);
  const all = sorted(KINDS.flatMap((a) => KINDS.map((b) => `${a.kind} ${b.kind}`)));
  expect([taken("_==_"), taken("_!=_")]).toEqual([all, all]);
  expect(taken("@in")).toBe(sorted(KINDS.flatMap((a) => [`${a.kind} list`, `${a.kind} map`])));
});
test("functions of one value take these and no others", () => {
  const one = (name: string): string =>
    KINDS.filter((k) => fault(() => call(name, k)) === "")
      .map((k) => k.kind)
      .join(" ");
  expect(
    ["int", "uint", "double", "bool", "bytes", "string", "timestamp", "duration", "size"].map(one),
  ).toEqual([
    "int uint double string timestamp duration",
    "int uint double string",
    "int uint double string",
    "bool string",
    "string bytes",
    "bool int uint double string bytes timestamp duration",
    "string timestamp",
    "string duration",
    "string bytes list map",
  ]);
  const all = KINDS.map((k) => k.kind).join(" ");
  expect([one("type"), one("dyn"), one("!_"), one("-_")]).toEqual([all, all, "bool", "int double"]);
});
test("each yields what it yields", () => {
  const of = (name: string, ...args: readonly Known[]): Known => call(name, ...args).yields;
  expect([
    of("_+_", INT, INT),
    of("_-_", UINT, UINT),
    of("_*_", DOUBLE, DOUBLE),
    of("_%_", INT, INT),
  ]).toEqual([INT, UINT, DOUBLE, INT]);
  expect([
    of("_+_", TIMESTAMP, DURATION),
    of("_+_", DURATION, TIMESTAMP),
    of("_-_", TIMESTAMP, DURATION),
  ]).toEqual([TIMESTAMP, TIMESTAMP, TIMESTAMP]);
  expect([of("_-_", TIMESTAMP, TIMESTAMP), of("_+_", DURATION, DURATION)]).toEqual([DURATION, DURATION]);
  expect([of("_+_", text(2), text(3)), of("_+_", bytes(2), bytes(3))]).toEqual([text(5), bytes(5)]);
  expect(of("_+_", list(text(3), 2), list(text(5), 1))).toEqual(list(text(5), 3));
  expect(of("_+_", list(INT, 2), list(text(5), 1))).toEqual(list(dyn(5), 3));
  expect([
    of("_<_", INT, DOUBLE),
    of("_==_", INT, NULL),
    of("@in", INT, map(INT, 1)),
    of("!_", BOOL),
  ]).toEqual([BOOL, BOOL, BOOL, BOOL]);
  expect([of("-_", INT), of("-_", DOUBLE), of("type", INT), of("size", text(2))]).toEqual([
    INT,
    DOUBLE,
    TYPE,
    INT,
  ]);
  expect(["int", "uint", "double", "bool", "timestamp", "duration"].map((n) => of(n, text(2)))).toEqual([
    INT,
    UINT,
    DOUBLE,
    BOOL,
    TIMESTAMP,
    DURATION,
  ]);
  expect([
    of("bytes", text(3)),
    of("bytes", bytes(3)),
    of("string", bytes(3)),
    of("string", text(3)),
  ]).toEqual([bytes(9), bytes(3), text(3), text(3)]);
  for (const k of [BOOL, INT, UINT, DOUBLE, TIMESTAMP, DURATION])
    expect(of("string", k), k.kind).toEqual(text(64));
  expect(of("dyn", list(INT, 3))).toEqual({ ...list(INT, 3), kind: "dyn" });
  expect(of("_+_", DYN, INT)).toEqual(DYN);
  expect(of("_-_", TIMESTAMP, DYN)).toEqual(dyn(16));
});
test("each costs what it costs", () => {
  const cost = (name: string, ...args: readonly Known[]): number => call(name, ...args).cost;
  const mib = 1 << 20;
  expect([
    cost("!_", BOOL),
    cost("-_", INT),
    cost("_*_", INT, INT),
    cost("type", text(9)),
    cost("dyn", INT),
  ]).toEqual([30, 30, 30, 30, 30]);
  expect([cost("_<_", text(40), text(80)), cost("_>=_", text(80), text(40)), cost("_<=_", INT, INT)]).toEqual(
    [32, 32, 30.05],
  );
  expect([cost("_==_", text(40), text(80)), cost("_!=_", list(INT, 9), list(INT, 4))]).toEqual([350, 70]);
  expect([cost("_+_", INT, INT), cost("_+_", text(1), text(1)), cost("_+_", text(2), text(1))]).toEqual([
    30, 30, 33,
  ]);
  expect([cost("_+_", text(1), text(2)), cost("_+_", list(INT, 2), list(INT, 3))]).toEqual([33, 60]);
  expect([cost("_+_", dyn(4), dyn(5)), cost("_+_", dyn(1), text(4)), cost("_+_", text(1), dyn(4))]).toEqual([
    84, 60, 35,
  ]);
  expect([
    cost("@in", INT, map(INT, 900)),
    cost("@in", INT, list(INT, 4)),
    cost("@in", text(20), list(text(40), 2)),
  ]).toEqual([70, 30 + 4 * 10.05, 30 + 2 * 11]);
  expect(cost("@in", text(40), list(text(20), 2))).toBe(30 + 2 * 11);
  expect(cost("@in", INT, list(INT, 30_000))).toBe(30 + 20_000 * 10.05);
  expect(cost("@in", INT, DYN)).toBe(30 + 20_000 * 10);
  expect([
    cost("size", text(8)),
    cost("size", bytes(8)),
    cost("size", list(INT, 8)),
    cost("size", dyn(8)),
  ]).toEqual([32, 31, 31, 32]);
  // What is known is as large as it is known to be, and what is not no larger than arguments are.
  expect([cost("size", text(3 * mib)), cost("size", DYN)]).toEqual([30 + (3 * mib) / 4, 30 + mib / 4]);
  expect([cost("int", INT), cost("int", text(8)), cost("int", dyn(8)), cost("int", TIMESTAMP)]).toEqual([
    50, 48, 48, 50,
  ]);
  expect([cost("timestamp", text(8)), cost("duration", text(8)), cost("timestamp", TIMESTAMP)]).toEqual([
    520, 520, 50,
  ]);
  expect([cost("bytes", text(8)), cost("bytes", bytes(8))]).toEqual([38, 38]);
  expect([
    cost("string", bytes(8)),
    cost("string", dyn(8)),
    cost("string", text(8)),
    cost("string", INT),
  ]).toEqual([38, 38, 230, 230]);
  expect(cost("matches", text(8), literal("ab+"))).toBe(30 + 100 + 8 * 12);
  const on = (name: string, ...args: readonly Known[]): number => method(name, ...args).cost;
  expect([
    on("startsWith", text(8), text(40)),
    on("endsWith", text(8), text(40)),
    on("contains", text(8), text(40)),
  ]).toEqual([32, 32, 46]);
  expect([
    on("getHours", TIMESTAMP),
    on("getHours", DURATION),
    on("getHours", TIMESTAMP, literal("UTC")),
  ]).toEqual([90, 90, 1530]);
});
test("functions are called as they are written, with as many values as they take", () => {
  const methods = ["startsWith", "endsWith", "contains"];
  for (const name of methods) {
    expect(fault(() => method(name, text(2), text(2)))).toBe("");
    expect(fault(() => call(name, text(2), text(2)))).toBe(`\`${name}\` is called on a value`);
  }
  const getters = ["FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear"];
  const times = ["Hours", "Minutes", "Seconds", "Milliseconds"];
  for (const part of [...getters, ...times]) {
    const name = `get${part}`;
    expect(method(name, TIMESTAMP).yields).toEqual(INT);
    expect(method(name, TIMESTAMP, literal("Asia/Tokyo")).yields).toEqual(INT);
    expect(fault(() => call(name, TIMESTAMP))).toBe(`\`${name}\` is called on a value`);
    expect(fault(() => method(name, DURATION)) === "").toBe(times.includes(part));
    expect(fault(() => method(name, DURATION, literal("UTC")))).toBe(
      `\`${name}\` does not take duration, string`,
    );
    expect(fault(() => method(name, TIMESTAMP, text(3)))).toBe(`\`${name}\` takes only a literal text here`);
    expect(fault(() => method(name, TIMESTAMP, literal("Mars")))).toBe("`Mars` is no time zone");
  }
  for (const form of [call, method]) {
    expect(form("size", text(2)).yields).toEqual(INT);
    expect(form("matches", text(2), literal("a")).yields).toEqual(BOOL);
    expect(fault(() => form("matches", text(2), text(2)))).toBe("`matches` takes only a literal text here");
  }
  for (const name of [
    "int",
    "bytes",
    "string",
    "type",
    "dyn",
    "_==_",
    "_<_",
    "_+_",
    "_-_",
    "@in",
    "!_",
    "bool",
  ])
    expect(
      fault(() => method(name, BOOL, BOOL)),
      name,
    ).toBe(`\`${name.replace("@", "")}\` is no method`);
  expect(fault(() => call("size", text(2), INT))).toBe("`size` does not take string, int");
  expect(fault(() => call("@in", INT))).toBe("`in` does not take int");
  expect(fault(() => call("_+_", INT, INT, INT))).toBe("`_+_` does not take int, int, int");
  expect(fault(() => call("type"))).toBe("`type` does not take nothing");
  expect(fault(() => call("constructor", INT))).toBe("function `constructor` is not supported");
  expect(fault(() => call("@x", INT))).toBe("function `x` is not supported");
});
test("zones are names and distances from UTC", () => {
  const zones = ["UTC", "Europe/Berlin", "+01:00", "-01:00", "01:00", "", "x", "1:00", "+01:000", "++01:00"];
  expect(zones.filter(isZone)).toEqual(["UTC", "Europe/Berlin", "+01:00", "-01:00", "01:00"]);
});
