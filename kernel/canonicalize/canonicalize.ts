// RFC 8785 (JCS): the one text form of a JSON value, what is hashed, signed, judged and dispatched.

import type { JsonValue } from "../contracts/contracts.ts";

/**
 * What has its members in order already, as almost everything of our own has, the language writes itself: several times
 * as fast, and without a piece of text for each member. All else, and every fault, is for the writer below.
 */
export const canonicalize = (value: JsonValue): string =>
  isOrdered(value) ? JSON.stringify(value) : written(value);

function isOrdered(value: JsonValue | undefined): boolean {
  if (typeof value === "string") return value.isWellFormed();
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object") return typeof value === "boolean";
  if (value === null) return true;
  if (isArray(value)) {
    for (let i = 0; i < value.length; i++) if (!isOrdered(value[i])) return false;
    return true;
  }
  let before: string | undefined;
  for (const key in value) {
    // By UTF-16 code unit, as the language compares.
    if (before !== undefined && key <= before) return false;
    before = key;
    if (!key.isWellFormed() || !isOrdered(value[key])) return false;
  }
  return true;
}

function written(value: JsonValue): string {
  switch (typeof value) {
    case "string":
      if (!value.isWellFormed()) throw new RangeError("a lone surrogate has no canonical form");
      return JSON.stringify(value);
    case "number":
      if (!Number.isFinite(value)) throw new RangeError("a number that is not finite has no canonical form");
      return `${value}`;
    case "boolean":
      return value ? "true" : "false";
    case "object":
      break;
    case "undefined":
    case "bigint":
    case "function":
    case "symbol":
      throw new TypeError(`a ${typeof value} has no canonical form`);
  }
  if (value === null) return "null";
  let text = "";
  if (isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const item = value[i];
      if (item === undefined) throw new RangeError(`item ${i} is undefined`);
      text += i === 0 ? written(item) : `,${written(item)}`;
    }
    return `[${text}]`;
  }
  for (const key of Object.keys(value).sort()) {
    const member = value[key];
    if (member === undefined) throw new RangeError(`member \`${key}\` is undefined`);
    text += `${text === "" ? "" : ","}${written(key)}:${written(member)}`;
  }
  return `{${text}}`;
}

const isArray = (v: JsonValue): v is readonly JsonValue[] => Array.isArray(v);
