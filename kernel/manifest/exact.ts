// Keywords that we compute ourselves, because equality and divisibility have to be exact: values are equal when
// their canonical forms are, and numbers are the decimals that JSON writes.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import { isArray } from "../contracts/contracts.ts";
import type { JsonArray, JsonValue } from "../contracts/contracts.ts";

export type Test = (value: JsonValue) => boolean;

const isScalar = (v: JsonValue): boolean => typeof v !== "object" || v === null;

export function equals(constant: JsonValue): Test {
  if (isScalar(constant)) return (v) => v === constant;
  const text = canonicalize(constant);
  return (v) => !isScalar(v) && canonicalize(v) === text;
}

export function oneOfValues(values: JsonArray): Test {
  const scalars = new Set<JsonValue>(values.filter(isScalar));
  const texts = new Set(values.filter((v) => !isScalar(v)).map((v) => canonicalize(v)));
  return (v) => (isScalar(v) ? scalars.has(v) : texts.size > 0 && texts.has(canonicalize(v)));
}

/** Linear in the text of the array; `spend` is told how much text that was. */
export function distinct(spend: (units: number) => void): Test {
  return (array) => {
    if (!isArray(array)) return true;
    const seen = new Set<JsonValue>();
    for (const item of array) {
      // Text in brackets or braces cannot be mistaken for a string, which keeps its quotes.
      const key = typeof item === "number" || typeof item === "boolean" ? item : canonicalize(item);
      spend(typeof key === "string" ? 1 + key.length / 8 : 1);
      if (seen.has(key)) return false;
      seen.add(key);
    }
    return true;
  };
}

export function multipleOf(divisor: number): Test {
  const d = decimal(divisor);
  return (v) => {
    if (typeof v !== "number" || v === 0) return true;
    if (Number.isSafeInteger(v) && Number.isSafeInteger(divisor)) return v % divisor === 0;
    const n = decimal(v);
    const shift = BigInt(n.exponent - d.exponent);
    return shift >= 0n
      ? (n.digits * 10n ** shift) % d.digits === 0n
      : n.digits % (d.digits * 10n ** -shift) === 0n;
  };
}

/** `n` = digits × 10^exponent, as JSON writes it. */
function decimal(n: number): { readonly digits: bigint; readonly exponent: number } {
  const [mantissa = "", power = "0"] = String(n).split("e");
  const [whole = "", fraction = ""] = mantissa.split(".");
  return { digits: BigInt(whole + fraction), exponent: Number(power) - fraction.length };
}
