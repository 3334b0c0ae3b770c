// RFC 8785 (JCS): the one text form of a JSON value, what is hashed, signed, judged and dispatched.

import type { JsonValue } from "../contracts/contracts.ts";

export function canonicalize(value: JsonValue): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new RangeError("a number that is not finite has no canonical form");
    return JSON.stringify(value);
  }
  if (typeof value === "string") return quote(value);
  if (isArray(value)) return `[${value.map(canonicalize).join(",")}]`;
  const keys = Object.keys(value).sort();
  let text = "{";
  for (const key of keys) {
    const member = value[key];
    if (member === undefined) throw new RangeError(`member \`${key}\` is undefined`);
    text += `${text.length > 1 ? "," : ""}${quote(key)}:${canonicalize(member)}`;
  }
  return `${text}}`;
}

const isArray = (v: JsonValue): v is readonly JsonValue[] => Array.isArray(v);

function quote(text: string): string {
  if (!text.isWellFormed()) throw new RangeError("a lone surrogate has no canonical form");
  return JSON.stringify(text);
}
