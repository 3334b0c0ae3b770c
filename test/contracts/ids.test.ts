import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  CODES,
  ContractError,
  isCode,
  isTarget,
  isTimestamp,
  makeId,
  hashFrom,
  timestampOf,
} from "../../kernel/contracts/contracts.ts";

test("every code has a sentence without a full stop", () => {
  for (const [code, sentence] of Object.entries(CODES)) {
    expect(isCode(code)).toBe(true);
    expect(sentence).toMatch(/^[a-z].*[^.]$/);
  }
  expect(isCode("DENY_BECAUSE")).toBe(false);
});
test("an id is made from the bytes it is given", () => {
  expect(makeId("ses", new Uint8Array(16).fill(10))).toBe(`ses_${"0a".repeat(16)}`);
  expect(() => makeId("ses", new Uint8Array(15))).toThrow(ContractError);
});
test("names, times and hashes have one form", () => {
  expect(isTarget("tool:github/create_issue")).toBe(true);
  expect(isTarget("tool:git hub")).toBe(false);
  expect(isTimestamp("2026-11-20T08:17:06.123Z")).toBe(true);
  expect(isTimestamp("2026-02-30T08:17:06.123Z")).toBe(false);
  expect(() => hashFrom(`sha256:${"A".repeat(64)}`, "contentHash")).toThrow(
    "contentHash: expected `sha256:`",
  );
});

test("a moment is written as the language writes it, and only what has four digits for its year", () => {
  const least = Date.parse("0000-01-01T00:00:00.000Z");
  const most = Date.parse("9999-12-31T23:59:59.999Z");
  const near = fc.tuple(fc.integer({ min: least, max: most }), fc.integer({ min: -90_000, max: 90_000 }));
  fc.assert(
    fc.property(near, fc.double({ min: -0.999, max: 0.999, noNaN: true }), ([at, beside], part) => {
      for (const ms of [at, at + beside, at + part]) {
        if (ms < least || ms > most) continue;
        expect(timestampOf(ms)).toBe(new Date(ms).toISOString());
      }
    }),
    { numRuns: 5_000 },
  );
  for (const ms of [least - 1, most + 1, Number.NaN, Number.POSITIVE_INFINITY])
    expect(() => timestampOf(ms)).toThrow();
});
