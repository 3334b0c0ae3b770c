// What a schema may say: every keyword is known, has the form that the specification gives it and is implemented
// exactly, or the schema is refused by name. Where the compiler's reading differs from the specification, the schema is
// rewritten to an equal one.

import {
  ContractError,
  arrayFrom,
  at,
  isArray,
  isObject,
  objectFrom,
  present,
} from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";

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

/** Keyword of our own that counts one evaluation, so that no schema can multiply work without bound. */
export const WORK = "atoll-work";

export interface Prepared {
  readonly schema: JsonObject | boolean;
  /** Whether it has to be read by the letter, because the compiler does not follow it. */
  readonly byLetter: boolean;
}

const BY_LETTER = ["unevaluatedItems", "unevaluatedProperties", "$dynamicRef"];

export function prepare(schema: JsonValue): Prepared {
  const found = new Set<string>();
  survey(schema, "", found);
  const byLetter = BY_LETTER.some((name) => found.has(name));
  return { schema: byLetter && isObject(schema) ? schema : rewrite(schema), byLetter };
}

const refuse = (path: string, why: string): never => {
  throw new ContractError(path, why);
};

/** Refuses what is not implemented exactly, and notes the keywords that are made use of. */
function survey(schema: JsonValue, path: string, found: Set<string>): void {
  if (typeof schema === "boolean") return;
  if (!isObject(schema)) return refuse(path, "expected a schema: an object, true or false");
  for (const [name, value] of Object.entries(schema)) {
    const here = at(path, name);
    if (!KINDS.has(name)) return refuse(here, "is no keyword that is supported");
    found.add(name);
    const form = FORMS.get(name);
    if (form !== undefined && !form[1](value)) refuse(here, `schema is invalid: expected ${form[0]}`);
    if (name === "$schema" && value !== DIALECT) refuse(here, `only ${DIALECT} is supported`);
    if (isObject(value) && Object.hasOwn(value, "__proto__") && !ALLOWS_PROTO.has(name))
      refuse(at(here, "__proto__"), "is not supported as a name");
    for (const [key, child] of children(name, value, here)) survey(child, key, found);
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

const BY_PATTERN = "^__proto__$";

function rewrite(schema: JsonValue): JsonObject | boolean {
  if (!isObject(schema)) return schema === true;
  const out = new Map<string, JsonValue>();
  for (const [name, value] of Object.entries(schema)) {
    switch (KINDS.get(name)) {
      case "schema":
        out.set(name, rewrite(value));
        break;
      case "list":
        out.set(
          name,
          arrayFrom(value, name).map((v) => rewrite(v)),
        );
        break;
      case "map":
        out.set(name, rewriteMap(value));
        break;
      case "value":
        out.set(name, value);
        break;
      case "note":
      case undefined:
    }
  }
  // Without a dynamic reference it is an anchor like any other.
  const anchor = out.get("$dynamicAnchor");
  if (anchor !== undefined && out.has("$anchor"))
    return refuse("$dynamicAnchor", "is not supported beside `$anchor`");
  if (anchor !== undefined) out.set("$anchor", anchor);
  out.delete("$dynamicAnchor");
  const properties = out.get("properties");
  if (isObject(properties) && Object.hasOwn(properties, "__proto__")) {
    const patterns = out.get("patternProperties") ?? {};
    if (!isObject(patterns) || Object.hasOwn(patterns, BY_PATTERN))
      return refuse("properties.__proto__", "is not supported beside this pattern");
    out.set("patternProperties", { ...patterns, [BY_PATTERN]: present(properties["__proto__"]) });
    out.set("properties", Object.fromEntries(Object.entries(properties).filter(([k]) => k !== "__proto__")));
  }
  out.set(WORK, true);
  return Object.fromEntries(out);
}

const rewriteMap = (value: JsonValue): JsonValue =>
  Object.fromEntries(Object.entries(objectFrom(value, "")).map(([k, v]) => [k, rewrite(v)]));
