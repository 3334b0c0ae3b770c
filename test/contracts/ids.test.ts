import { expect, test } from "vitest";
import {
  CODES,
  ContractError,
  isCode,
  isTarget,
  isTimestamp,
  makeId,
  hashFrom,
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
