// What a schema may say: every keyword is known, has the form that the specification gives it and is implemented
// exactly, or the schema is refused by name.

import { ContractError, at, isArray, isObject } from "../contracts/contracts.ts";
import type { JsonValue } from "../contracts/contracts.ts";

type Kind = "schema" | "list" | "map" | "value" | "note";
const KEYWORDS = {
  $id: "value",
  $schema: "value",
  $ref: "value",
  $anchor: "value",
  $dynamicRef: "value",
  $dynamicAnchor: "value",
  $defs: "map",
  definitions: "map",
  $comment: "note",
  title: "note",
  description: "note",
  default: "note",
  examples: "note",
  deprecated: "note",
  readOnly: "note",
  writeOnly: "note",
  format: "note",
  contentEncoding: "note",
  contentMediaType: "note",
  contentSchema: "note",
  type: "value",
  const: "value",
  enum: "value",
  multipleOf: "value",
  maximum: "value",
  exclusiveMaximum: "value",
  minimum: "value",
  exclusiveMinimum: "value",
  maxLength: "value",
  minLength: "value",
  pattern: "value",
  maxItems: "value",
  minItems: "value",
  uniqueItems: "value",
  maxContains: "value",
  minContains: "value",
  maxProperties: "value",
  minProperties: "value",
  required: "value",
  dependentRequired: "value",
  allOf: "list",
  anyOf: "list",
  oneOf: "list",
  prefixItems: "list",
  not: "schema",
  if: "schema",
  then: "schema",
  else: "schema",
  items: "schema",
  contains: "schema",
  additionalProperties: "schema",
  propertyNames: "schema",
  unevaluatedItems: "schema",
  unevaluatedProperties: "schema",
  properties: "map",
  patternProperties: "map",
  dependentSchemas: "map",
} as const satisfies Record<string, Kind>;

const KINDS: ReadonlyMap<string, Kind> = new Map(Object.entries(KEYWORDS));
const DIALECT = "https://json-schema.org/draft/2020-12/schema";

type Form = readonly [what: string, is: (v: JsonValue) => boolean];
const TYPES: ReadonlySet<JsonValue> = new Set([
  "array",
  "boolean",
  "integer",
  "null",
  "number",
  "object",
  "string",
]);
const isText = (v: JsonValue): v is string => typeof v === "string";
const distinctTexts = (v: JsonValue): boolean =>
  isArray(v) && v.every(isText) && new Set(v).size === v.length;
const NUMBER: Form = ["a number", (v) => typeof v === "number"];
const COUNT: Form = ["an integer, 0 or more", (v) => typeof v === "number" && Number.isInteger(v) && v >= 0];
const TEXT: Form = ["a text", isText];
const ANCHOR: Form = ["a plain name", (v) => isText(v) && /^[A-Za-z_][-A-Za-z0-9._]*$/.test(v)];

/** The forms of values, as the specification's own schema states them. */
const FORMS: ReadonlyMap<string, Form> = new Map<string, Form>([
  ["$id", ["a reference without a fragment", (v) => isText(v) && /^[^#]*#?$/.test(v)]],
  ["$ref", TEXT],
  ["$dynamicRef", TEXT],
  ["$anchor", ANCHOR],
  ["$dynamicAnchor", ANCHOR],
  [
    "type",
    [
      "a type or several",
      (v) => TYPES.has(v) || (distinctTexts(v) && isArray(v) && v.length > 0 && v.every((t) => TYPES.has(t))),
    ],
  ],
  ["enum", ["an array", (v) => isArray(v)]],
  ["multipleOf", ["a number above 0", (v) => typeof v === "number" && v > 0]],
  ["maximum", NUMBER],
  ["exclusiveMaximum", NUMBER],
  ["minimum", NUMBER],
  ["exclusiveMinimum", NUMBER],
  ["maxLength", COUNT],
  ["minLength", COUNT],
  ["pattern", TEXT],
  ["maxItems", COUNT],
  ["minItems", COUNT],
  ["uniqueItems", ["true or false", (v) => typeof v === "boolean"]],
  ["maxContains", COUNT],
  ["minContains", COUNT],
  ["maxProperties", COUNT],
  ["minProperties", COUNT],
  ["required", ["an array of names", distinctTexts]],
  ["dependentRequired", ["arrays of names", (v) => isObject(v) && Object.values(v).every(distinctTexts)]],
]);

/** Refuses a schema of which one keyword is unknown, misformed or not implemented exactly. */
export function refuseUnknown(schema: JsonValue): void {
  survey(schema, "");
}

const refuse = (path: string, why: string): never => {
  throw new ContractError(path, why);
};

function survey(schema: JsonValue, path: string): void {
  if (typeof schema === "boolean") return;
  if (!isObject(schema)) return refuse(path, "expected a schema: an object, true or false");
  for (const [name, value] of Object.entries(schema)) {
    const here = at(path, name);
    if (!KINDS.has(name)) return refuse(here, "is no keyword that is supported");
    const form = FORMS.get(name);
    if (form !== undefined && !form[1](value)) refuse(here, `schema is invalid: expected ${form[0]}`);
    if (name === "$schema" && value !== DIALECT) refuse(here, `only ${DIALECT} is supported`);
    if (isObject(value) && Object.hasOwn(value, "__proto__") && !ALLOWS_PROTO.has(name))
      refuse(at(here, "__proto__"), "is not supported as a name");
    for (const [key, child] of children(name, value, here)) survey(child, key);
  }
}
const ALLOWS_PROTO: ReadonlySet<string> = new Set([
  "properties",
  "const",
  "default",
  "contentSchema",
  "examples",
]);

export function* children(name: string, value: JsonValue, path: string): Iterable<[string, JsonValue]> {
  switch (KINDS.get(name)) {
    case "schema":
      yield [path, value];
      return;
    case "list":
      if (!isArray(value) || value.length === 0) return refuse(path, "expected an array of schemas");
      for (const [i, child] of value.entries()) yield [at(path, i), child];
      return;
    case "map":
      if (!isObject(value)) return refuse(path, "expected an object of schemas");
      for (const [key, child] of Object.entries(value)) yield [at(path, key), child];
      return;
    case "value":
    case "note":
    case undefined:
  }
}
