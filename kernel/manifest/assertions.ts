// The assertions of a schema that look at a value alone.

import { isArray, isObject, present, stringFrom } from "../contracts/contracts.ts";
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

/** What is wrong with a value; "" when nothing is. */
export type Assertion = (value: JsonValue) => string;

/** The assertions of one schema that look at the value alone. Their forms were judged before. */
export function assertionsOf(
  s: JsonObject,
  linear: (pattern: string) => LinearPattern,
  spend: (units: number) => void,
): readonly Assertion[] {
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
  const missing = (v: JsonObject, names: JsonValue): string => {
    for (const n of listOf(names))
      if (typeof n === "string" && !Object.hasOwn(v, n)) return `must have required property '${n}'`;
    return "";
  };
  const tests: Readonly<Record<string, (bound: JsonValue) => Test>> = {
    const: equals,
    enum: (values) => oneOfValues(listOf(values)),
    multipleOf: (b) => multipleOf(Number(b)),
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
  };
  const make: Readonly<Record<string, (bound: JsonValue) => Assertion>> = {
    type(names) {
      const wanted = (isArray(names) ? names : [names]).map((n) => stringFrom(n, "type"));
      const kinds = wanted.map((n) => present(TYPES[n]));
      const message = `must be ${wanted.join(" or ")}`;
      return (v) => (kinds.some((is) => is(v)) ? "" : message);
    },
    required: (names) => (v) => (isObject(v) ? missing(v, names) : ""),
    dependentRequired: (map) => (v) => {
      if (!isObject(v)) return "";
      for (const [name, names] of entriesOf(map))
        if (Object.hasOwn(v, name) && missing(v, names) !== "") return missing(v, names);
      return "";
    },
  };
  return Object.entries(s).flatMap(([name, bound]): readonly Assertion[] => {
    if (Object.hasOwn(make, name)) return [present(make[name])(bound)];
    if (!Object.hasOwn(tests, name)) return [];
    const test = present(tests[name])(bound);
    return [(v) => (test(v) ? "" : `breaks \`${name}\``)];
  });
}
