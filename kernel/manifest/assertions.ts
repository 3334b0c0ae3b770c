// The assertions of a schema that look at a value alone, for the judge that goes by the letter.

import { isArray, isObject, stringFrom } from "../contracts/contracts.ts";
import type { JsonArray, JsonObject, JsonValue } from "../contracts/contracts.ts";
import { distinct, equals, multipleOf, oneOfValues } from "./exact.ts";
import type { Test } from "./exact.ts";
import type { LinearPattern } from "./pattern.ts";

export const listOf = (v: JsonValue | undefined): JsonArray => (isArray(v) ? v : []);
export const entriesOf = (v: JsonValue | undefined) => (isObject(v) ? Object.entries(v) : []);

const TYPES: Readonly<Record<string, Test>> = {
  null: (v) => v === null,
  boolean: (v) => typeof v === "boolean",
  string: (v) => typeof v === "string",
  number: (v) => typeof v === "number",
  integer: (v) => typeof v === "number" && Number.isInteger(v),
  array: (v) => isArray(v),
  object: (v) => isObject(v),
};

/** The assertions of one schema that look at the value alone. The specification's own schema has judged their forms. */
export function testsOf(
  s: JsonObject,
  linear: (pattern: string) => LinearPattern,
  spend: (units: number) => void,
): readonly Test[] {
  const length = (v: string): number => {
    spend(v.length / 8);
    return Array.from(v).length;
  };
  const number = (fits: (v: number, bound: number) => boolean, bound: JsonValue): Test => {
    const b = Number(bound);
    return (v) => typeof v !== "number" || fits(v, b);
  };
  const size = (
    of: (v: JsonValue) => number | null,
    fits: (n: number, bound: number) => boolean,
    bound: JsonValue,
  ): Test => {
    const b = Number(bound);
    return (v) => {
      const n = of(v);
      return n === null || fits(n, b);
    };
  };
  const [more, less] = [(n: number, b: number) => n >= b, (n: number, b: number) => n <= b];
  const ofText = (v: JsonValue) => (typeof v === "string" ? length(v) : null);
  const ofArray = (v: JsonValue) => (isArray(v) ? v.length : null);
  const ofObject = (v: JsonValue) => (isObject(v) ? Object.keys(v).length : null);
  const has = (v: JsonObject, names: JsonValue): boolean =>
    listOf(names).every((n) => typeof n === "string" && Object.hasOwn(v, n));
  const make: Readonly<Record<string, (bound: JsonValue) => Test>> = {
    type(names) {
      const tests = (isArray(names) ? names : [names]).map(
        (n) => TYPES[stringFrom(n, "type")] ?? (() => false),
      );
      return (v) => tests.some((t) => t(v));
    },
    const: equals,
    enum: oneOfValues,
    multipleOf,
    maximum: (b) => number(less, b),
    minimum: (b) => number(more, b),
    exclusiveMaximum: (b) => number((n, bound) => n < bound, b),
    exclusiveMinimum: (b) => number((n, bound) => n > bound, b),
    maxLength: (b) => size(ofText, less, b),
    minLength: (b) => size(ofText, more, b),
    maxItems: (b) => size(ofArray, less, b),
    minItems: (b) => size(ofArray, more, b),
    maxProperties: (b) => size(ofObject, less, b),
    minProperties: (b) => size(ofObject, more, b),
    pattern(text) {
      const pattern = linear(stringFrom(text, "pattern"));
      return (v) => typeof v !== "string" || pattern.test(v);
    },
    uniqueItems: (on) => (on === true ? distinct(spend) : () => true),
    required: (names) => (v) => !isObject(v) || has(v, names),
    dependentRequired: (map) => (v) =>
      !isObject(v) || entriesOf(map).every(([name, names]) => !Object.hasOwn(v, name) || has(v, names)),
  };
  return Object.entries(s).flatMap(([name, bound]) => {
    const test = Object.hasOwn(make, name) ? make[name] : undefined;
    return test === undefined ? [] : [test(bound)];
  });
}
