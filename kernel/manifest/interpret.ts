// The schemas that speak of what other keywords have evaluated, or of the dynamic scope: judged by the letter of the
// specification, one keyword after the other. The compiler does not follow them from one item of an array to the next.

import { ContractError, at, isArray, isObject, stringFrom } from "../contracts/contracts.ts";
import type { JsonArray, JsonObject, JsonValue } from "../contracts/contracts.ts";
import { entriesOf, listOf, testsOf } from "./assertions.ts";
import type { Test } from "./exact.ts";
import { children, isKeyword } from "./keywords.ts";
import { linearPattern } from "./pattern.ts";
import type { LinearPattern } from "./pattern.ts";

/** Members and items of one value that some keyword has looked at. */
interface Seen {
  readonly names: Set<string>;
  readonly items: Set<number>;
}
/** An evaluation takes as long as so many of the compiler's. */
const STEP = 15;
const nothing = (): Seen => ({ names: new Set(), items: new Set() });

/** The resources entered on the way here, the outermost first. */
type Scope = readonly string[];

/** A schema as it was read when pinned. */
interface Read {
  readonly base: string;
  readonly tests: readonly Test[];
  readonly patterns: readonly (readonly [LinearPattern, JsonValue])[];
}

const ROOT = "atoll:/schema";

/** The path of the first thing that does not fit, or null. `spend` is told of every step and ends what goes on for ever. */
export function interpret(
  root: JsonObject,
  spend: (units: number) => void,
): (value: JsonValue) => string | null {
  const read = new Map<JsonObject, Read>();
  const places = new Map<string, JsonValue>();
  const anchors = new Map<string, JsonObject>();
  const dynamic = new Map<string, JsonObject>();
  const refs: (readonly [schema: JsonObject, keyword: string, path: string])[] = [];
  const targets = new Map<string, Map<JsonObject, JsonValue>>([
    ["$ref", new Map()],
    ["$dynamicRef", new Map()],
  ]);

  const linear = (pattern: string): LinearPattern => {
    const compiled = linearPattern(pattern);
    return {
      size: compiled.size,
      test(text) {
        spend(text.length * (4 + compiled.size / 4));
        return compiled.test(text);
      },
    };
  };

  function index(schema: JsonValue, path: string, outer: string): void {
    if (!isObject(schema)) return;
    const { $id, $anchor, $dynamicAnchor } = schema;
    const base = typeof $id === "string" ? resolved($id, outer, at(path, "$id")) : outer;
    if (base !== outer || path === "") {
      if (places.has(base)) throw new ContractError(at(path, "$id"), "is there twice");
      places.set(base, schema);
    }
    for (const name of [$anchor, $dynamicAnchor])
      if (typeof name === "string") anchors.set(`${base}#${name}`, schema);
    if (typeof $dynamicAnchor === "string") dynamic.set(`${base}#${$dynamicAnchor}`, schema);
    const patterns = isObject(schema["patternProperties"]) ? Object.entries(schema["patternProperties"]) : [];
    read.set(schema, {
      base,
      tests: testsOf(schema, linear, spend),
      patterns: patterns.map(([pattern, of]) => [linear(pattern), of] as const),
    });
    for (const [name, value] of Object.entries(schema)) {
      const here = at(path, name);
      if (name === "$ref" || name === "$dynamicRef") refs.push([schema, name, here]);
      if (isKeyword(name)) for (const [key, child] of children(name, value, here)) index(child, key, base);
    }
  }

  /** What a reference names, if it is a schema of this document. */
  function lookUp(ref: string, base: string, path: string): JsonValue {
    const [url = "", fragment = ""] = resolved(ref, base, path).split("#");
    let found =
      fragment === "" || fragment.startsWith("/") ? places.get(url) : anchors.get(`${url}#${fragment}`);
    for (const token of fragment.startsWith("/") ? fragment.slice(1).split("/") : []) {
      const name = decodeURIComponent(token).replaceAll("~1", "/").replaceAll("~0", "~");
      if (isArray(found)) found = found[Number(name)];
      else found = isObject(found) && Object.hasOwn(found, name) ? found[name] : undefined;
    }
    if (typeof found === "boolean" || (isObject(found) && read.has(found))) return found;
    throw new ContractError(path, `\`${ref}\` names no schema of this document`);
  }

  function dynamicTarget(schema: JsonObject, scope: Scope): JsonValue {
    const first = targets.get("$dynamicRef")?.get(schema) ?? false;
    if (!isObject(first)) return first;
    const name = stringFrom(schema["$dynamicRef"], "$dynamicRef").split("#")[1] ?? "";
    if (first["$dynamicAnchor"] !== name) return first;
    for (const base of scope) {
      const outer = dynamic.get(`${base}#${name}`);
      if (outer !== undefined) return outer;
    }
    return first;
  }

  function merge(from: Seen, into: Seen): void {
    spend(from.names.size + from.items.size);
    for (const name of from.names) into.names.add(name);
    for (const item of from.items) into.items.add(item);
  }

  function evaluate(schema: JsonValue, value: JsonValue, path: string, outer: Scope, into: Seen): boolean {
    spend(STEP);
    if (!isObject(schema)) return schema === true || misfit(path);
    const known = read.get(schema);
    if (known === undefined) return misfit(path);
    const scope = outer.at(-1) === known.base ? outer : [...outer, known.base];
    const seen = nothing();
    for (const test of known.tests) if (!test(value)) return misfit(path);
    if (!inPlace(schema, value, path, scope, seen)) return false;
    if (isArray(value) && !ofItems(schema, value, path, scope, seen)) return false;
    if (isObject(value) && !ofMembers(schema, known, value, path, scope, seen)) return false;
    merge(seen, into);
    return true;
  }
  let fault: string | null = null;
  const misfit = (path: string): boolean => {
    fault ??= path;
    return false;
  };

  /** What applies to the same value; a part that does not fit has evaluated nothing. */
  function inPlace(s: JsonObject, value: JsonValue, path: string, scope: Scope, seen: Seen): boolean {
    const fits = (of: JsonValue): boolean => {
      const own = nothing();
      const before = fault;
      if (!evaluate(of, value, path, scope, own)) return false;
      fault = before;
      merge(own, seen);
      return true;
    };
    /** Whether it does is no fault by itself. */
    const asks = (of: JsonValue): boolean => {
      const before = fault;
      const answer = fits(of);
      fault = before;
      return answer;
    };
    const target = targets.get("$ref")?.get(s);
    if (target !== undefined && !fits(target)) return false;
    if (s["$dynamicRef"] !== undefined && !fits(dynamicTarget(s, scope))) return false;
    for (const of of listOf(s["allOf"])) if (!fits(of)) return false;
    if (s["anyOf"] !== undefined && listOf(s["anyOf"]).filter(asks).length === 0) return misfit(path);
    if (s["oneOf"] !== undefined && listOf(s["oneOf"]).filter(asks).length !== 1) return misfit(path);
    if (s["not"] !== undefined) {
      const before = fault;
      const held = evaluate(s["not"], value, path, scope, nothing());
      fault = before;
      if (held) return misfit(path);
    }
    if (s["if"] !== undefined) {
      const then = asks(s["if"]) ? s["then"] : s["else"];
      if (then !== undefined && !fits(then)) return false;
    }
    if (isObject(value))
      for (const [name, of] of entriesOf(s["dependentSchemas"]))
        if (Object.hasOwn(value, name) && !fits(of)) return false;
    return true;
  }

  function ofItems(s: JsonObject, value: JsonArray, path: string, scope: Scope, seen: Seen): boolean {
    const item = (of: JsonValue, i: number): boolean => {
      seen.items.add(i);
      return evaluate(of, value[i] ?? null, `${path}/${i}`, scope, nothing());
    };
    const prefix = listOf(s["prefixItems"]);
    for (let i = 0; i < Math.min(prefix.length, value.length); i++)
      if (!item(prefix[i] ?? false, i)) return false;
    const rest = s["items"];
    if (rest !== undefined)
      for (let i = prefix.length; i < value.length; i++) if (!item(rest, i)) return false;
    const wanted = s["contains"];
    if (wanted !== undefined) {
      const before = fault;
      const matched = value.flatMap((v, i) => (evaluate(wanted, v, path, scope, nothing()) ? [i] : []));
      fault = before;
      for (const i of matched) seen.items.add(i);
      const [least, most] = [s["minContains"] ?? 1, s["maxContains"] ?? value.length];
      if (matched.length < Number(least) || matched.length > Number(most)) return misfit(path);
    }
    const others = s["unevaluatedItems"];
    if (others !== undefined)
      for (let i = 0; i < value.length; i++) if (!seen.items.has(i) && !item(others, i)) return false;
    return true;
  }

  function ofMembers(
    s: JsonObject,
    known: Read,
    value: JsonObject,
    path: string,
    scope: Scope,
    seen: Seen,
  ): boolean {
    const member = (of: JsonValue, name: string): boolean => {
      seen.names.add(name);
      return evaluate(of, value[name] ?? null, `${path}/${pointed(name)}`, scope, nothing());
    };
    const names = Object.keys(value);
    spend(names.length);
    const stated = isObject(s["properties"]) ? s["properties"] : {};
    const plain = new Set<string>();
    for (const name of names) {
      const fitting = known.patterns.filter(([pattern]) => pattern.test(name)).map(([, of]) => of);
      const own = Object.hasOwn(stated, name) ? stated[name] : undefined;
      if (own === undefined && fitting.length === 0) plain.add(name);
      for (const of of own === undefined ? fitting : [own, ...fitting]) if (!member(of, name)) return false;
    }
    const additional = s["additionalProperties"];
    if (additional !== undefined) for (const name of plain) if (!member(additional, name)) return false;
    const naming = s["propertyNames"];
    if (naming !== undefined)
      for (const name of names) if (!evaluate(naming, name, path, scope, nothing())) return false;
    const others = s["unevaluatedProperties"];
    if (others !== undefined)
      for (const name of names) if (!seen.names.has(name) && !member(others, name)) return false;
    return true;
  }

  index(root, "", ROOT);
  for (const [schema, keyword, path] of refs) {
    const ref = schema[keyword];
    if (typeof ref !== "string") throw new ContractError(path, "expected a text");
    targets.get(keyword)?.set(schema, lookUp(ref, read.get(schema)?.base ?? ROOT, path));
  }
  return (value) => {
    fault = null;
    return evaluate(root, value, "", [], nothing()) ? null : (fault ?? "");
  };
}

const pointed = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");

function resolved(ref: string, base: string, path: string): string {
  try {
    return new URL(ref, base).href.replace(/#$/, "");
  } catch {
    throw new ContractError(path, `\`${ref}\` is no reference`);
  }
}
