// Refusals of schemas that no suite has, and judgements that end.

import { expect, test } from "vitest";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { distinct } from "../../kernel/manifest/exact.ts";
import { pinSchema } from "../../kernel/manifest/manifest.ts";

const refusal = (schema: JsonValue): string => {
  try {
    pinSchema(schema);
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};
const fault = (schema: JsonObject, value: JsonValue): string =>
  pinSchema(schema).validate(value)?.message ?? "";

test("a name that stands twice is refused", () => {
  const twice = (a: JsonObject, b: JsonObject): JsonObject => ({ $defs: { a, b } });
  expect(refusal(twice({ $id: "x" }, { $id: "y" }))).toBe("");
  expect(refusal(twice({ $id: "x" }, { $id: "x" }))).toContain("is there twice");
  expect(refusal(twice({ $anchor: "x" }, { $anchor: "y" }))).toBe("");
  expect(refusal(twice({ $anchor: "x" }, { $anchor: "x" }))).toContain("`#x` is there twice");
  expect(refusal({ $anchor: "x", $dynamicAnchor: "x" })).toContain("is not supported beside");
});
test("a dynamic reference without a fragment is a reference", () => {
  const schema: JsonObject = { $dynamicRef: "x", $defs: { a: { $id: "x", type: "integer" } } };
  expect([fault(schema, 1), fault(schema, "1")]).toEqual(["", "must be integer"]);
});
test("uniqueItems looks at arrays alone", () => {
  expect([fault({ uniqueItems: true }, "aa"), fault({ uniqueItems: true }, [1, 1])]).toEqual([
    "",
    'must pass "uniqueItems" keyword validation',
  ]);
});
test("a judgement that costs too much, or never ends, is a fault of the value", () => {
  const many = Array.from({ length: 1_100_000 }, () => 1);
  expect(fault({ items: { type: "integer" } }, many)).toBe("costs too much to judge");
  expect(fault({ items: { type: "integer" } }, many.slice(0, 1000))).toBe("");
  const deep = { allOf: [{ $ref: "#" }] };
  expect(fault(deep, 1)).toMatch(/^(cannot be judged|costs too much to judge)$/);
});
test("a pattern that cannot be matched exactly in linear time is refused", () => {
  const large = "abcdef"
    .split("")
    .map((c) => `${c}{0,1000}`)
    .join("");
  for (const [pattern, message] of [
    [large, "is too large"],
    ["\\ud800", "`\\ud800`"],
    ["\\u{dfff}", "`\\u{dfff}`"],
    ["\\p{Emoji}", "`\\p{Emoji}`"],
    ["[\\S]", "`[\\S]`"],
    ["[]", "`[]`"],
    ["[^]", "`[^]`"],
    ["(?<a>x)\\k<a>", "`(?<a`"],
    ["(", "is not an ECMA-262 pattern"],
  ] as const)
    expect(refusal({ pattern }), pattern).toContain(message);
  for (const pattern of ["\\p{Letter}+", "[\\s]", "\\S", "[^a]", "\\cA", "\\/", "\\u{1F600}", "a{0,1000}"])
    expect(refusal({ pattern }), pattern).toBe("");
});

test("a name that the compiler passes over stands beside other patterns and not beside its own", () => {
  const schema = (patterns: JsonObject): JsonObject => ({
    properties: JSON.parse('{"__proto__": {"type": "integer"}}'),
    patternProperties: patterns,
  });
  const value = (text: string): JsonValue => JSON.parse(`{"__proto__": ${text}}`);
  expect(fault(schema({ "^x": true }), value("1"))).toBe("");
  expect(fault(schema({ "^x": true }), value('"1"'))).toBe("must be integer");
  expect(refusal(schema({ "^__proto__$": true }))).toContain("is not supported beside this pattern");
});
test("what is no array has nothing twice", () => {
  expect(distinct(() => undefined)("aa")).toBe(true);
});
