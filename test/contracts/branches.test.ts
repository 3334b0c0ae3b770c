// The refusals that no vector reaches.

import { expect, test } from "vitest";
import {
  JsonError,
  LIMITS,
  messageOf,
  parseJson,
  present,
  stringFrom,
} from "../../kernel/contracts/contracts.ts";
import { booleanFrom, integerFrom } from "../../kernel/contracts/contracts.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";

const limits = { bytes: 100, keys: 100, depth: 8 };
const refused = (input: Uint8Array | string, more: Partial<typeof limits> = {}): string => {
  try {
    parseJson(input, { ...limits, ...more });
    return "";
  } catch (error) {
    if (error instanceof JsonError) return error.message;
    throw error;
  }
};
const bytes = (...parts: readonly (string | number)[]): Uint8Array =>
  Buffer.concat(parts.map((p) => (typeof p === "string" ? Buffer.from(p) : Uint8Array.of(p))));

test("a text is measured in bytes", () => {
  expect(refused(`"${"é".repeat(40)}"`, { bytes: 82 })).toBe("");
  expect(refused(`"${"é".repeat(41)}"`, { bytes: 82 })).toBe("more than 82 bytes at byte 82");
});
test("an escape that the text ends in is refused at its end", () => {
  expect(refused('"\\u12')).toBe("the text ends too early at byte 5");
  expect(refused(bytes('"\\u1'))).toBe("the text ends too early at byte 4");
  expect(refused('"\\u12g4"')).toBe("four hex digits were expected at byte 5");
});
test("a high surrogate takes a low one and nothing above", () => {
  expect(refused('"\\ud83d\\ude00"')).toBe("");
  expect(refused('"\\ud83d\\ue000"')).toBe("a lone surrogate at byte 1");
  expect(refused('"\\ud83d\\u0041"')).toBe("a lone surrogate at byte 1");
});
test("a duplicate is found among many keys", () => {
  const keys = Array.from({ length: 20 }, (_, i) => `"k${i}":0`);
  expect(refused(`{${keys.join(",")}}`, { bytes: 1000 })).toBe("");
  expect(refused(`{${[...keys, '"k19":0'].join(",")}}`, { bytes: 1000 })).toContain("a duplicate key");
  expect(refused(`{${[...keys, '"k3":0'].join(",")}}`, { bytes: 1000 })).toContain("a duplicate key");
});
test("bytes that are not UTF-8 are refused where they are", () => {
  expect(refused(bytes('["😀","', 0xe2, 0x82, 'x"]'))).toBe("bytes that are not UTF-8 at byte 9");
  expect(refused(bytes('"', 0xe2, 0x82, 0xc0, '"'))).toBe("bytes that are not UTF-8 at byte 1");
  expect(refused(bytes('["', 0xe0, 0xa0, 0x80, '",'))).toBe("the text ends too early at byte 7");
  expect(refused(bytes('["', 0xe0, 0x9f, 0x80, '",'))).toBe("bytes that are not UTF-8 at byte 2");
  expect(refused(bytes('"', 0xf0, 0x80, 0x80, 0x80, '"'))).toBe("bytes that are not UTF-8 at byte 1");
  expect(refused(bytes('"', 0xf0, 0x9f, 0x98, 0x80, '",'))).toContain("something follows the value");
});
test("a fault of the reader itself is no refusal of the text", () => {
  let asked = 0;
  const faulty = {
    ...LIMITS.args,
    get depth(): number {
      if (++asked > 1) throw new Error("no depth");
      return 8;
    },
  };
  expect(() => parseJson("[1,]", faulty)).toThrow("no depth");
});
test("what is missing where it was put ends the matter", () => {
  expect(present(0)).toBe(0);
  expect(() => present(undefined)).toThrow("missing");
  expect([messageOf(new Error("why")), messageOf("so")]).toEqual(["why", "so"]);
});
test("texts, truths and numbers are what they say", () => {
  expect(stringFrom("abc", "p", 3)).toBe("abc");
  expect(() => stringFrom("abcd", "p", 3)).toThrow("p: longer than 3 characters");
  expect([booleanFrom(true, "p"), booleanFrom(false, "p")]).toEqual([true, false]);
  expect(() => booleanFrom("true", "p")).toThrow("p: expected true or false");
  expect(integerFrom(3, "p", 1, 3)).toBe(3);
  for (const wrong of [0, 4, 1.5, -0])
    expect(() => integerFrom(wrong, "p", 0.5, 3)).toThrow("p: expected an integer");
});
test("many keys are sorted like few", () => {
  const of = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${(i * 7) % n}`, i]));
  for (const n of [5, 32, 33, 100])
    expect(Object.keys(JSON.parse(canonicalize(of(n))))).toEqual(Object.keys(of(n)).sort());
});
