import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import oracle from "canonicalize";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { LIMITS, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { vectorsFolder } from "../vectors.ts";

test("the RFC 8785 vectors: 6 of 6, byte for byte", () => {
  const folder = vectorsFolder();
  if (folder === undefined) return;
  const root = join(folder, "rfc8785");
  const names = readdirSync(join(root, "input")).filter((n) => existsSync(join(root, "output", n)));
  expect(names.length).toBe(6);
  for (const name of names) {
    const value = parseJson(readFileSync(join(root, "input", name)), LIMITS.policy);
    const wanted = readFileSync(join(root, "output", name), "utf8");
    expect([name, canonicalize(value)]).toEqual([name, wanted.replace(/\n$/, "")]);
  }
});

test("numbers are written as ECMAScript writes them", () => {
  const bits: readonly (readonly [string, string])[] = [
    ["0000000000000000", "0"],
    ["8000000000000000", "0"],
    ["0000000000000001", "5e-324"],
    ["7fefffffffffffff", "1.7976931348623157e+308"],
    ["4340000000000000", "9007199254740992"],
    ["44b52d02c7e14af5", "9.999999999999997e+22"],
    ["44b52d02c7e14af6", "1e+23"],
    ["444b1ae4d6e2ef4f", "999999999999999900000"],
    ["444b1ae4d6e2ef50", "1e+21"],
    ["3eb0c6f7a0b5ed8c", "9.999999999999997e-7"],
    ["3eb0c6f7a0b5ed8d", "0.000001"],
    ["41b3de4355555553", "333333333.3333332"],
    ["becbf647612f3696", "-0.0000033333333333333333"],
    ["43143ff3c1cb0959", "1424953923781206.2"],
  ];
  for (const [hex, text] of bits)
    expect([hex, canonicalize(Buffer.from(hex, "hex").readDoubleBE(0))]).toEqual([hex, text]);
});

test("what has no canonical form is refused and not repaired", () => {
  const refused: readonly unknown[] = [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    "\ud800",
    "a".repeat(300) + "\udc00",
    { "\udfff": 1 },
    [undefined],
    { a: undefined },
    { a: () => 1 },
    1n,
    undefined,
    Symbol("x"),
  ];
  // Alone, and where all around it stands in order already.
  for (const [i, value] of refused.entries())
    for (const place of [value, [1, value], { a: 1, b: { c: value } }, { b: value, a: 1 }])
      expect(() => canonicalize(asJson(place)), `${i}`).toThrow();
  expect(canonicalize(JSON.parse('{"__proto__":{"b":1,"a":2},"10":1,"9":2,"":3}'))).toBe(
    '{"":3,"10":1,"9":2,"__proto__":{"a":2,"b":1}}',
  );
});
/** As a caller without types would hand it over. */
function asJson(value: unknown): JsonValue {
  const box: { value: JsonValue } = { value: null };
  Reflect.set(box, "value", value);
  return box.value;
}

const json: fc.Arbitrary<JsonValue> = fc.letrec<{ value: JsonValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom<JsonValue>(null, true, false, -0, 0.1, 1e21, 1e-7, 5e-324),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer(),
    fc.string({ unit: "grapheme" }),
    fc.string({
      unit: fc.constantFrom('"', "\\", "\u0000", "\u001f", "\u007f", "\u2028", "é", "😀", "a", "/"),
    }),
    fc.array(tie("value"), { maxLength: 5 }),
    fc
      .array(
        fc.tuple(
          fc.oneof(
            fc.string({ unit: "grapheme" }),
            fc.constantFrom("__proto__", "constructor", "10", "9", "", "a", "b", "€", "\r", "😀", "ﬁ"),
          ),
          tie("value"),
        ),
        { maxLength: 40 },
      )
      .map((entries) => entriesOf(entries)),
  ),
})).value;
/** An object with these own members, `__proto__` among them. */
function entriesOf(entries: readonly (readonly [string, JsonValue])[]): JsonValue {
  return Object.fromEntries(entries);
}
const shuffled = (value: JsonValue, turn: number): JsonValue => {
  if (Array.isArray(value)) return value.map((v: JsonValue) => shuffled(v, turn));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([k, v]): [string, JsonValue] => [k, shuffled(v, turn + 1)]);
  const cut = entries.length === 0 ? 0 : turn % entries.length;
  return entriesOf([...entries.slice(cut), ...entries.slice(0, cut)].reverse());
};

test("the canonical form is its own, is blind to order, and is the oracle's", () => {
  fc.assert(
    fc.property(json, fc.nat({ max: 50 }), (value, turn) => {
      const text = canonicalize(value);
      expect(canonicalize(JSON.parse(text))).toBe(text);
      expect(canonicalize(shuffled(value, turn))).toBe(text);
      expect(oracle(value)).toBe(text);
    }),
    { numRuns: 10_000 },
  );
});

test("many members are put in order as few are", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string(), { maxLength: 80 }), (keys) => {
      const text = canonicalize(Object.fromEntries(keys.map((k) => [k, 1])));
      expect(Object.keys(Object(JSON.parse(text))).length).toBe(keys.length);
      expect(text).toBe(oracle(Object.fromEntries(keys.map((k) => [k, 1]))));
    }),
    { numRuns: 2_000 },
  );
});
