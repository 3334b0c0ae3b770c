// Reads a schema before the compiler does: every keyword is known and implemented exactly, or the schema is refused
// by name. Where the compiler's reading differs from the specification, the schema is rewritten to an equal one.

import { ContractError, at, isArray, isObject, stringFrom } from "../contracts/contracts.ts";
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

const isKeyword = (name: string): name is keyof typeof KEYWORDS => Object.hasOwn(KEYWORDS, name);
const DIALECT = "https://json-schema.org/draft/2020-12/schema";

/** Keyword of our own that counts one evaluation, so that no schema can multiply work without bound. */
export const WORK = "atoll-work";

const MAX_PREPARED = 1 << 20;

export interface Prepared {
  readonly schema: JsonObject | boolean;
  /** The compiler looks evaluated names up in a plain object and takes inherited ones for evaluated. */
  readonly distrustInherited: boolean;
}

interface Survey {
  readonly keywords: Set<string>;
  readonly dynamicAnchors: string[];
  readonly dynamicRefs: string[];
  /** Whether a keyword over items stands where the compiler does not see what it evaluated. */
  looseItems: boolean;
}

export function prepare(schema: JsonValue): Prepared {
  const found: Survey = { keywords: new Set(), dynamicAnchors: [], dynamicRefs: [], looseItems: false };
  survey(schema, "", found, false);
  for (const ref of found.dynamicRefs) {
    const name = ref.split("#")[1] ?? "";
    if (found.dynamicAnchors.filter((a) => a === name).length > 1)
      throw new ContractError("", `\`$dynamicRef\` with several anchors \`${name}\` is not supported`);
  }
  if (found.keywords.has("unevaluatedItems") && found.looseItems)
    throw new ContractError(
      "",
      "`unevaluatedItems` with `items`, `prefixItems` or `contains` under a condition is not supported",
    );
  const unevaluated = found.keywords.has("unevaluatedItems") || found.keywords.has("unevaluatedProperties");
  const prepared = rewrite(schema, unevaluated);
  // An `if` within an `if` is written twice each time.
  if (JSON.stringify(prepared).length > MAX_PREPARED)
    throw new ContractError("", "is too large to judge exactly");
  return { schema: prepared, distrustInherited: found.keywords.has("unevaluatedProperties") };
}

const refuse = (path: string, why: string): never => {
  throw new ContractError(path, why);
};

/** Refuses what is not implemented exactly, and notes what the whole schema makes use of. */
function survey(schema: JsonValue, path: string, found: Survey, within: boolean): void {
  if (typeof schema === "boolean") return;
  if (!isObject(schema)) return refuse(path, "expected a schema: an object, true or false");
  // Whatever applies here applies whenever the `unevaluatedItems` of this object does.
  const covered = within || Object.hasOwn(schema, "unevaluatedItems");
  for (const [name, value] of Object.entries(schema)) {
    const here = at(path, name);
    if (!isKeyword(name)) return refuse(here, "is no keyword that is supported");
    found.keywords.add(name);
    if (name === "$schema" && value !== DIALECT) refuse(here, `only ${DIALECT} is supported`);
    if (name === "$dynamicAnchor") found.dynamicAnchors.push(stringFrom(value, here));
    if (name === "$dynamicRef") found.dynamicRefs.push(stringFrom(value, here));
    if ((name === "items" || name === "prefixItems" || name === "contains") && !covered)
      found.looseItems = true;
    if (isObject(value) && Object.hasOwn(value, "__proto__") && !ALLOWS_PROTO.has(name))
      refuse(at(here, "__proto__"), "is not supported as a name");
    for (const [key, child] of children(name, value, here))
      survey(child, key, found, covered && name === "allOf");
  }
}
const ALLOWS_PROTO: ReadonlySet<string> = new Set([
  "properties",
  "const",
  "default",
  "contentSchema",
  "examples",
]);

function* children(
  name: keyof typeof KEYWORDS,
  value: JsonValue,
  path: string,
): Iterable<[string, JsonValue]> {
  switch (KEYWORDS[name]) {
    case "schema":
      yield [path, value];
      return;
    case "list":
      if (!isArray(value)) return refuse(path, "expected an array of schemas");
      for (const [i, child] of value.entries()) yield [at(path, i), child];
      return;
    case "map":
      if (!isObject(value)) return refuse(path, "expected an object of schemas");
      for (const [key, child] of Object.entries(value)) yield [at(path, key), child];
      return;
    case "value":
    case "note":
  }
}

const BY_PATTERN = "^__proto__$";

function rewrite(schema: JsonValue, unevaluated: boolean): JsonObject | boolean {
  if (!isObject(schema)) return schema === true;
  const out = new Map<string, JsonValue>();
  for (const [name, value] of Object.entries(schema)) {
    if (!isKeyword(name)) continue;
    switch (KEYWORDS[name]) {
      case "schema":
        out.set(name, rewrite(value, unevaluated));
        break;
      case "list":
        out.set(name, isArray(value) ? value.map((v) => rewrite(v, unevaluated)) : value);
        break;
      case "map":
        out.set(name, rewriteMap(value, unevaluated));
        break;
      case "value":
        out.set(name, value);
        break;
      case "note":
    }
  }
  // With one anchor of a name there is one place to which a dynamic reference can lead.
  rename(out, "$dynamicRef", "$ref");
  rename(out, "$dynamicAnchor", "$anchor");
  if (unevaluated) evaluatedExactly(out, schema);
  const properties = out.get("properties");
  if (isObject(properties) && Object.hasOwn(properties, "__proto__")) {
    const patterns = out.get("patternProperties") ?? {};
    if (!isObject(patterns) || Object.hasOwn(patterns, BY_PATTERN))
      return refuse("properties.__proto__", "is not supported beside this pattern");
    out.set("patternProperties", { ...patterns, [BY_PATTERN]: properties["__proto__"] ?? true });
    out.set("properties", Object.fromEntries(Object.entries(properties).filter(([k]) => k !== "__proto__")));
  }
  out.set(WORK, true);
  return Object.fromEntries(out);
}

// The compiler counts the properties of a failed `if` and every item beside a `contains` as evaluated. Both are
// put into other words, in which it has nothing to get wrong.
function evaluatedExactly(out: Map<string, JsonValue>, schema: JsonObject): void {
  const also: JsonValue[] = [];
  const test = out.get("if");
  if (test !== undefined) {
    const yes = { allOf: [test, out.get("then") ?? true] };
    const no = { allOf: [{ not: test }, out.get("else") ?? true] };
    also.push({ anyOf: [yes, no] });
  }
  for (const name of ["if", "then", "else"]) out.delete(name);
  // What `contains` has matched is evaluated, here and in what applies together with it.
  const rest = out.get("unevaluatedItems");
  const matched = containsOf(schema).map((c) => rewrite(c, true));
  if (rest !== undefined && matched.length > 0) out.set("unevaluatedItems", { anyOf: [...matched, rest] });
  const one = out.get("contains");
  if (one !== undefined) {
    if (out.has("maxContains") || ![undefined, 0, 1].some((n) => n === out.get("minContains")))
      return refuse("contains", "is not supported with these bounds beside `unevaluatedItems`");
    out.delete("contains");
    if (out.get("minContains") !== 0)
      also.push({ anyOf: [{ not: { type: "array" } }, { not: { items: { not: one } } }] });
  }
  out.delete("minContains");
  const all = out.get("allOf");
  if (also.length > 0) out.set("allOf", [...(isArray(all) ? all : []), ...also]);
}

/** The `contains` of a schema and of what stands in its `allOf`. */
function containsOf(schema: JsonValue): readonly JsonValue[] {
  if (!isObject(schema)) return [];
  const own = schema["contains"];
  const all = schema["allOf"];
  return [...(own === undefined ? [] : [own]), ...(isArray(all) ? all.flatMap(containsOf) : [])];
}

const rewriteMap = (value: JsonValue, unevaluated: boolean): JsonValue =>
  isObject(value)
    ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, rewrite(v, unevaluated)]))
    : value;

function rename(out: Map<string, JsonValue>, from: string, to: string): void {
  const value = out.get(from);
  if (value === undefined) return;
  if (out.has(to)) return refuse(from, `is not supported beside \`${to}\``);
  out.delete(from);
  out.set(to, value);
}
