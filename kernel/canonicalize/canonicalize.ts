// RFC 8785 (JCS): the one text form of a JSON value, what is hashed, signed, judged and dispatched.

import { present } from "../contracts/contracts.ts";
import type { JsonValue } from "../contracts/contracts.ts";

/**
 * What has its members in order already, as almost everything of our own has, the language writes itself: several times
 * as fast, and without a piece of text for each member. All else, and every fault, is for the writer below.
 */
export const canonicalize = (value: JsonValue): string =>
  isOrdered(value) ? JSON.stringify(value) : written(value);

function isOrdered(value: JsonValue | undefined): boolean {
  switch (typeof value) {
    case "string":
      return value.isWellFormed();
    case "number":
      return Number.isFinite(value);
    case "boolean":
      return true;
    case "object":
      break;
    case "undefined":
    case "bigint":
    case "function":
    case "symbol":
      return false;
  }
  if (value === null) return true;
  if (isArray(value)) {
    for (let i = 0; i < value.length; i++) if (!isOrdered(value[i])) return false;
    return true;
  }
  let before: string | undefined;
  for (const key in value) {
    if (before !== undefined && key <= before) return false;
    before = key;
    if (!key.isWellFormed() || !isOrdered(value[key])) return false;
  }
  return true;
}

function written(value: JsonValue): string {
  switch (typeof value) {
    case "string":
      return quote(value);
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
  for (const key of sorted(Object.keys(value))) {
    const member = value[key];
    if (member === undefined) throw new RangeError(`member \`${key}\` is undefined`);
    text += (text === "" ? "" : ",") + named(key) + written(member);
  }
  return `{${text}}`;
}

const isArray = (v: JsonValue): v is readonly JsonValue[] => Array.isArray(v);

/** By UTF-16 code unit, as the language compares. Few keys are put in place faster by hand. */
function sorted(keys: string[]): string[] {
  if (keys.length > 32) return keys.sort();
  for (let i = 1; i < keys.length; i++) {
    const key = present(keys[i]);
    let place = i;
    for (; place > 0; place--) {
      const before = present(keys[place - 1]);
      if (before <= key) break;
      keys[place] = before;
    }
    keys[place] = key;
  }
  return keys;
}

/** Names of members come again and again: the first thousand are kept in their quotes. */
const NAMES = new Map<string, string>();
function named(key: string): string {
  const known = NAMES.get(key);
  if (known !== undefined) return known;
  const text = `${quote(key)}:`;
  if (NAMES.size < 1000 && key.length < 64) NAMES.set(key, text);
  return text;
}

function quote(text: string): string {
  if (text.length < 40 && isPlain(text)) return `"${text}"`;
  if (!text.isWellFormed()) throw new RangeError("a lone surrogate has no canonical form");
  return JSON.stringify(text);
}

/** Printable ASCII without quote and backslash stands for itself. */
function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x20 || unit === 0x22 || unit === 0x5c || unit > 0x7e) return false;
  }
  return true;
}
