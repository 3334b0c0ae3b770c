// What is known of a value before it is there: of the names that an expression may read, and of what a schema describes.

import { describe, expect, test } from "vitest";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { LABELS, ROLES, policyNames } from "../../kernel/guardian/cel-names.ts";
import * as known from "../../kernel/guardian/cel-type.ts";

const { BOOL, DOUBLE, DYN, INT, NULL, TIMESTAMP, ExpressionError } = known;
const BYTES = 1_048_576;
const anything = { kind: "dyn", size: Number.POSITIVE_INFINITY, weight: BYTES };
const sized = (kind: string, size: number) => ({ kind, size, weight: size });

test("the scalars are as large as this", () => {
  expect([BOOL, INT, known.UINT, DOUBLE, NULL]).toEqual(
    ["bool", "int", "uint", "double", "null_type"].map((kind) => sized(kind, 1)),
  );
  expect([TIMESTAMP, known.DURATION, known.TYPE]).toEqual([
    sized("timestamp", 16),
    sized("duration", 16),
    sized("type", 32),
  ]);
  expect([DYN, known.text(), known.bytes(), known.text(3), known.bytes(4)]).toEqual([
    anything,
    sized("string", BYTES),
    sized("bytes", BYTES),
    sized("string", 3),
    sized("bytes", 4),
  ]);
  expect(known.list(INT, 3)).toEqual({ kind: "list", size: 3, weight: 4, of: INT });
  expect(known.map(known.text(5), 3)).toEqual({ kind: "map", size: 3, weight: 208, of: known.text(5) });
  expect(new ExpressionError("why")).toMatchObject({ name: "ExpressionError", message: "why" });
  expect(known.VALUES_LIMIT).toBe(20_000);
});

test("nothing taken without end is nothing", () => {
  const endless = Number.POSITIVE_INFINITY;
  expect([
    known.product(0, endless),
    known.product(endless, 0),
    known.product(2, 3),
    known.product(2, endless),
  ]).toEqual([0, 0, 6, endless]);
});

describe("one of two values", () => {
  test("is as large as the larger in each respect, and what both are", () => {
    expect(known.either({ ...BOOL, size: 2, weight: 9 }, { ...BOOL, size: 5, weight: 3 })).toEqual({
      kind: "bool",
      size: 5,
      weight: 9,
    });
    expect(known.either({ ...BOOL, weight: 7 }, { ...INT, size: 4 })).toEqual({
      kind: "dyn",
      size: 4,
      weight: 7,
    });
    const lists = known.either(known.list(INT, 3), known.list(known.text(5), 2));
    expect(lists).toEqual({ kind: "list", size: 3, weight: 11, of: sized("dyn", 5) });
    expect(known.either(known.map(INT, 1), known.map(INT, 2))).toEqual({
      kind: "map",
      size: 2,
      weight: 131,
      of: INT,
    });
  });
  test("that says nothing of its elements leaves a list a list and a map open", () => {
    const bare = (kind: "list" | "map") => ({ kind, size: 1, weight: 1 });
    for (const [a, b] of [
      [bare("list"), known.list(INT, 2)],
      [known.list(INT, 2), bare("list")],
      [bare("list"), bare("list")],
    ] as const)
      expect(known.either(a, b)).toEqual({
        kind: "list",
        size: Math.max(a.size, b.size),
        weight: Math.max(a.weight, b.weight),
      });
    expect(known.either(bare("map"), known.map(INT, 2))).toEqual({ kind: "dyn", size: 2, weight: 131 });
    expect(known.either(known.map(INT, 2), bare("map"))).toEqual({ kind: "dyn", size: 2, weight: 131 });
  });
});

describe("a schema says of a value", () => {
  const text5 = { type: "string", maxLength: 5 };
  const endless = Number.POSITIVE_INFINITY;
  const openMap = { kind: "map", size: endless, weight: BYTES, of: DYN, members: new Map(), closed: false };
  test.each<[JsonValue, unknown]>([
    [true, anything],
    [{}, anything],
    [{ type: ["string", "null"] }, anything],
    [{ type: "thing" }, anything],
    [{ type: "string" }, sized("string", BYTES)],
    [text5, sized("string", 5)],
    [{ type: "string", maxLength: BYTES + 1 }, sized("string", BYTES)],
    [{ type: "string", maxLength: "5" }, sized("string", BYTES)],
    [{ type: "integer" }, INT],
    [{ type: "number" }, DOUBLE],
    [{ type: "boolean" }, BOOL],
    [{ type: "null" }, NULL],
    [{ const: "abc" }, sized("string", 3)],
    [{ const: 1 }, anything],
    [{ const: "abc", enum: ["a"] }, sized("string", 3)],
    [{ enum: ["a", "abcd", "ab"] }, sized("string", 4)],
    [{ enum: [] }, sized("string", 0)],
    [{ enum: ["a", 1] }, anything],
    [{ enum: "a", type: "integer" }, INT],
    [{ type: "array" }, { kind: "list", size: endless, weight: endless, of: DYN }],
    [
      { type: "array", maxItems: 2 },
      { kind: "list", size: 2, weight: 1 + 2 * BYTES, of: DYN },
    ],
    [
      { type: "array", maxItems: 2, items: text5 },
      { kind: "list", size: 2, weight: 11, of: sized("string", 5) },
    ],
    [
      { type: "array", maxItems: 2, items: text5, prefixItems: [{ type: "integer" }] },
      { kind: "list", size: 2, weight: 1 + 2 * BYTES, of: DYN },
    ],
    [{ type: "object" }, openMap],
    [
      { type: "object", maxProperties: 0 },
      { ...openMap, size: 0, weight: 0 },
    ],
    [
      { type: "object", maxProperties: 4 },
      { ...openMap, size: 4 },
    ],
    [{ type: "object", properties: [] }, openMap],
    [
      { type: "object", properties: { a: text5, b: { type: "integer" } }, additionalProperties: false },
      {
        kind: "map",
        size: 2,
        weight: 1 + 64 * 2 + 5 + 1,
        of: { kind: "dyn", size: 5, weight: 5 },
        members: new Map([
          ["a", sized("string", 5)],
          ["b", INT],
        ]),
        closed: true,
      },
    ],
    [
      { type: "object", additionalProperties: false },
      { kind: "map", size: 0, weight: 1, of: DYN, members: new Map(), closed: true },
    ],
    [
      {
        type: "object",
        additionalProperties: false,
        properties: { a: text5 },
        patternProperties: { b: true },
      },
      { ...openMap, members: new Map([["a", sized("string", 5)]]) },
    ],
    [
      { type: "object", additionalProperties: true, properties: { a: text5 }, maxProperties: 3 },
      { ...openMap, size: 3, members: new Map([["a", sized("string", 5)]]) },
    ],
  ])("%j", (schema, expected) => expect(known.knownOf(schema)).toEqual(expected));
  test("nothing below thirty-two levels", () => {
    const nested = (levels: number): JsonValue =>
      levels === 0 ? { type: "integer" } : { type: "array", maxItems: 1, items: nested(levels - 1) };
    const deep = (k: known.Known): known.Known => (k.of === undefined ? k : deep(k.of));
    expect([deep(known.knownOf(nested(32))), deep(known.knownOf(nested(33)))]).toEqual([INT, DYN]);
    const objects = (levels: number): JsonValue =>
      levels === 0
        ? { type: "integer" }
        : { type: "object", additionalProperties: false, properties: { a: objects(levels - 1) } };
    expect([deep(known.knownOf(objects(32))), deep(known.knownOf(objects(33)))]).toEqual([INT, DYN]);
  });
  test("in words", () => {
    const words = [INT, known.list(known.map(INT, 1), 2), { kind: "map", size: 1, weight: 1 } as const];
    expect(words.map(known.nameOf)).toEqual(["int", "list(map(int))", "map(dyn)"]);
  });
});

test("the names of a policy, with their types and sizes", () => {
  const { of, types } = policyNames(INT);
  const members = (name: string): unknown => Object.fromEntries(of(name)?.members ?? []);
  const short = sized("string", 256);
  const amounts = new Map(["calls", "tokens", "costMicroUsd"].map((n) => [n, INT]));
  const space = (name: string) => ({ ...anything, space: name });
  expect([ROLES, LABELS]).toEqual([256, 512]);
  expect(members("principal")).toEqual({
    id: sized("string", 512),
    serviceAccount: short,
    namespace: short,
    roles: { kind: "list", size: 256, weight: 1 + 256 * 256, of: short },
    tenant: short,
    delegator: sized("string", 512),
  });
  expect(members("session")).toEqual({ calls: INT, tainted: BOOL, ageSeconds: INT });
  expect(members("budget")).toEqual({
    session: { ...space("budget.session"), members: amounts },
    daily: { ...space("budget.daily"), members: amounts },
  });
  expect(members("pod")).toEqual({
    labels: { kind: "map", size: 512, weight: 1 + 512 * 320, of: short },
    namespace: short,
  });
  expect(members("call")).toEqual({
    tool: sized("string", 320),
    connector: short,
    name: sized("string", 320),
    effect: sized("string", 2),
    sideEffect: sized("string", 16),
    source: sized("string", 16),
    destination: sized("string", 320),
    args: INT,
  });
  for (const name of ["principal", "session", "budget", "pod", "call"])
    expect(of(name)).toMatchObject(space(name));
  expect([of("now"), of("then"), of("constructor")]).toEqual([TIMESTAMP, null, null]);
  expect([...types]).toEqual([
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
  ]);
});
