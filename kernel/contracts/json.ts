// Strict JSON: the only way from bytes to values. The platform's parser does the work; one guard pass beside it
// refuses what it lets through: duplicate keys, lone surrogates, depth, unsafe integers, a byte order mark.

export type JsonValue = null | boolean | number | string | JsonArray | JsonObject;
export type JsonArray = readonly JsonValue[];
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

export interface JsonLimits {
  readonly bytes: number;
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

export function parseJson(bytes: Uint8Array, limits: JsonLimits): JsonValue {
  if (bytes.byteLength > limits.bytes) throw new JsonError(`more than ${limits.bytes} bytes`, limits.bytes);
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  const value: JsonValue = JSON.parse(text);
  return value;
}
