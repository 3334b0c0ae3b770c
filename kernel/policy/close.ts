// Closing of input schemas: what a tool's author did not name, an agent cannot send.

import { ContractError, isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";

const APPLICATORS = [
  "allOf",
  "anyOf",
  "oneOf",
  "not",
  "if",
  "then",
  "else",
  "dependentSchemas",
  "patternProperties",
  "propertyNames",
  "unevaluatedProperties",
  "$ref",
  "$dynamicRef",
];
/** Where subschemas are: in a map, in a list, or the value itself. */
const MAPS = ["properties", "$defs", "patternProperties", "dependentSchemas"];
const LISTS = ["prefixItems", "allOf", "anyOf", "oneOf"];
const SINGLES = [
  "items",
  "additionalProperties",
  "contains",
  "not",
  "if",
  "then",
  "else",
  "propertyNames",
  "unevaluatedItems",
  "unevaluatedProperties",
];

/** Objects with `properties`, without applicators and without `additionalProperties` take nothing else. */
export function closeSchema(schema: JsonValue, path: string): JsonObject | boolean {
  const closed = close(schema);
  if (typeof closed === "boolean" || isObject(closed)) return closed;
  throw new ContractError(path, "expected a JSON Schema");
}

function close(schema: JsonValue): JsonValue {
  if (!isObject(schema)) return schema;
  const out: Record<string, JsonValue> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (MAPS.includes(key) && isObject(value))
      out[key] = Object.fromEntries(Object.entries(value).map(([k, v]) => [k, close(v)]));
    else if (LISTS.includes(key) && Array.isArray(value)) out[key] = value.map((v: JsonValue) => close(v));
    else if (SINGLES.includes(key)) out[key] = close(value);
    else out[key] = value;
  }
  const open = Object.hasOwn(schema, "properties") && !Object.hasOwn(schema, "additionalProperties");
  if (open && !APPLICATORS.some((a) => Object.hasOwn(schema, a))) out["additionalProperties"] = false;
  return out;
}
