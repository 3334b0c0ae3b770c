// Closed shapes: an object has exactly the members that its contract lists, and each is read once, by path.

import { ContractError, isId, must } from "./ids.ts";
import type { IdKind, IdOf } from "./ids.ts";
import { isObject } from "./json.ts";
import type { JsonArray, JsonObject, JsonValue } from "./json.ts";

export const at = (path: string, name: string | number): string =>
  typeof name === "number" ? `${path}[${name}]` : path === "" ? name : `${path}.${name}`;

export function objectFrom(v: JsonValue | undefined, path: string): JsonObject {
  if (isObject(v)) return v;
  throw new ContractError(path, `expected an object, found ${kindOf(v)}`);
}

/** The object, if it has all `required` members and none beside them and `optional`. */
export function closed(
  v: JsonValue | undefined,
  path: string,
  required: readonly string[],
  optional: readonly string[] = [],
): JsonObject {
  const object = objectFrom(v, path);
  for (const name of required)
    if (!Object.hasOwn(object, name)) throw new ContractError(at(path, name), "is missing");
  const names = Object.keys(object);
  if (names.length !== required.length)
    for (const name of names)
      if (!required.includes(name) && !optional.includes(name))
        throw new ContractError(at(path, name), "is not a known member");
  return object;
}

export function arrayFrom(v: JsonValue | undefined, path: string): JsonArray {
  if (isArray(v)) return v;
  throw new ContractError(path, `expected an array, found ${kindOf(v)}`);
}
export const isArray = (v: JsonValue | undefined): v is JsonArray => Array.isArray(v);

export function stringFrom(v: JsonValue | undefined, path: string, max = 65_536): string {
  if (typeof v !== "string") throw new ContractError(path, `expected a string, found ${kindOf(v)}`);
  if (v.length > max) throw new ContractError(path, `longer than ${max} characters`);
  return v;
}

/** A whole number from `min` to `max`, 0 to 2^53 − 1 when nothing is said. */
export function integerFrom(
  v: JsonValue | undefined,
  path: string,
  min = 0,
  max = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof v === "number" && Number.isSafeInteger(v) && v >= min && v <= max && !Object.is(v, -0)) return v;
  throw new ContractError(
    path,
    `expected an integer from ${min} to ${max}, found ${typeof v === "number" ? String(v) : kindOf(v)}`,
  );
}

export function booleanFrom(v: JsonValue | undefined, path: string): boolean {
  if (typeof v === "boolean") return v;
  throw new ContractError(path, `expected true or false, found ${kindOf(v)}`);
}

export function oneOf<T extends string>(v: JsonValue | undefined, path: string, values: readonly T[]): T {
  for (const value of values) if (value === v) return value;
  const found = typeof v === "string" ? `\`${v.slice(0, 80)}\`` : kindOf(v);
  throw new ContractError(path, `expected one of ${values.join(", ")}, found ${found}`);
}

export const idFrom = <K extends IdKind>(kind: K, v: JsonValue | undefined, path: string): IdOf<K> =>
  must(v, (s): s is IdOf<K> => isId(kind, s), path, `\`${kind}_\` and 32 lower-case hex`);

/** "" where the member does not apply, else what `read` makes of it. */
export const orEmpty = <T>(
  read: (v: JsonValue | undefined, path: string) => T,
  v: JsonValue | undefined,
  path: string,
): T | "" => (v === "" ? "" : read(v, path));

const kindOf = (v: JsonValue | undefined): string =>
  v === undefined ? "nothing" : v === null ? "null" : Array.isArray(v) ? "an array" : typeof v;
