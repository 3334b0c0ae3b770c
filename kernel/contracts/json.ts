// Strict JSON: the only way from bytes to values. The platform's parser does the work; one guard pass beside it
// sees what it lets through: depth, lone surrogates, numbers that lose their value, and, by counting, duplicates.

import { present } from "./ids.ts";
import { locate } from "./refusal.ts";

export type JsonValue = null | boolean | number | string | JsonArray | JsonObject;
export type JsonArray = readonly JsonValue[];
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

export interface JsonLimits {
  readonly bytes: number;
  /** Members of all objects together. */
  readonly keys: number;
  readonly depth: number;
}

export const LIMITS = {
  args: { bytes: 1 << 20, keys: 10_000, depth: 64 },
  chat: { bytes: 32 << 20, keys: 200_000, depth: 64 },
  policy: { bytes: 16 << 20, keys: 1_000_000, depth: 64 },
  node: { bytes: 256 << 10, keys: 100_000, depth: 64 },
} as const satisfies Record<string, JsonLimits>;

/** Why bytes are not acceptable JSON, and at which byte offset. */
export class JsonError extends Error {
  readonly offset: number;
  constructor(reason: string, offset: number) {
    super(`${reason} at byte ${offset}`);
    this.name = "JsonError";
    this.offset = offset;
  }
}

export const isObject = (v: JsonValue | undefined): v is JsonObject =>
  typeof v === "object" && v !== null && !Array.isArray(v);

const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const ENCODER = new TextEncoder();

/** The value of strict JSON with its text, for who compares the text with a form of the value. */
export function parseText(
  bytes: Uint8Array,
  limits: JsonLimits,
): { readonly value: JsonValue; readonly text: string } {
  if (bytes.byteLength > limits.bytes) throw new JsonError(`more than ${limits.bytes} bytes`, limits.bytes);
  const members = guard(bytes, limits);
  if (members < 0) throw refusal(bytes, limits, "not strict JSON");
  let text: string;
  let value: JsonValue;
  try {
    text = DECODER.decode(bytes);
    value = JSON.parse(text);
  } catch {
    throw refusal(bytes, limits, "not JSON");
  }
  if (countMembers(value) !== members) throw refusal(bytes, limits, "a duplicate key");
  return { value, text };
}

/** The value of strict JSON: bytes, or text of which the offsets in errors count the UTF-8 bytes. */
export function parseJson(input: Uint8Array | string, limits: JsonLimits): JsonValue {
  const length = typeof input === "string" ? input.length : input.byteLength;
  if (length > limits.bytes) throw new JsonError(`more than ${limits.bytes} bytes`, limits.bytes);
  const bytes = typeof input === "string" ? ENCODER.encode(input) : input;
  if (typeof input === "string" && !input.isWellFormed()) throw refusal(bytes, limits, "a lone surrogate");
  return parseText(bytes, limits).value;
}

// The slow road, taken once, on the way to an error.
function refusal(bytes: Uint8Array, limits: JsonLimits, otherwise: string): JsonError {
  const found = locate(bytes, limits);
  return found === null ? new JsonError(otherwise, 0) : new JsonError(found.reason, found.offset);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Number of `:` outside strings, which in valid JSON is the number of members; -1 for what is refused anyway. */
function guard(bytes: Uint8Array, limits: JsonLimits): number {
  const end = bytes.length;
  let depth = 0;
  let colons = 0;
  for (let i = 0; i < end; i++) {
    const c = bytes[i];
    if (c === QUOTE) {
      for (i++; i < end; i++) {
        const s = bytes[i];
        if (s === QUOTE) break;
        if (s !== BACKSLASH) continue;
        i++;
        if (bytes[i] !== 0x75) continue;
        const unit = hex4(bytes, i + 1);
        if (unit >= 0xd800 && unit <= 0xdfff) {
          if (unit > 0xdbff || bytes[i + 5] !== BACKSLASH || bytes[i + 6] !== 0x75) return -1;
          const low = hex4(bytes, i + 7);
          if (low < 0xdc00 || low > 0xdfff) return -1;
          i += 6;
        }
        i += 4;
      }
    } else if (c === 0x3a) {
      if (++colons > limits.keys) return -1;
    } else if (c === 0x7b || c === 0x5b) {
      if (++depth > limits.depth) return -1;
    } else if (c === 0x7d || c === 0x5d) depth--;
    else if (c !== undefined && c >= 0x30 && c <= 0x39) {
      const start = i;
      let plain = true;
      for (i++; i < end; i++) {
        const d = present(bytes[i]);
        if (d >= 0x30 && d <= 0x39) continue;
        if (d !== 0x2e && d !== 0x65 && d !== 0x45 && d !== 0x2b && d !== 0x2d) break;
        plain = false;
      }
      // Fifteen digits are always exact, and no number without an exponent of three digits is infinite.
      if (i - start > (plain ? 15 : 4) && !isExact(bytes, start, i, plain)) return -1;
      i--;
    }
  }
  return colons;
}

function isExact(bytes: Uint8Array, start: number, end: number, plain: boolean): boolean {
  if (plain && end - start > 16) return false;
  const n = Number(DECODER.decode(bytes.subarray(start, end)));
  return plain ? Number.isSafeInteger(n) : Number.isFinite(n);
}

function hex4(bytes: Uint8Array, start: number): number {
  let n = 0;
  for (let i = start; i < start + 4; i++) {
    const c = bytes[i] ?? 0;
    const digit =
      c >= 0x30 && c <= 0x39 ? c - 0x30 : (c | 0x20) >= 0x61 && (c | 0x20) <= 0x66 ? (c | 0x20) - 0x57 : -1;
    if (digit < 0) return -1;
    n = n * 16 + digit;
  }
  return n;
}

function countMembers(value: JsonValue): number {
  if (typeof value !== "object" || value === null) return 0;
  let n = 0;
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item === "object") n += countMembers(item);
    return n;
  }
  const members = Object.values(value);
  n = members.length;
  for (const member of members) if (typeof member === "object") n += countMembers(member);
  return n;
}
