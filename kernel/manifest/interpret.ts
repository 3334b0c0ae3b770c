// A schema judged by the letter of the specification, one keyword after the other. It is read once, when it is pinned:
// references, patterns and assertions; judging a small value then costs a few microseconds.

import { ContractError, at, isArray, isObject, present, stringFrom } from "../contracts/contracts.ts";
import type { JsonArray, JsonObject, JsonValue } from "../contracts/contracts.ts";
import { assertionsOf, entriesOf, listOf } from "./assertions.ts";
import type { Assertion } from "./assertions.ts";
import { children } from "./keywords.ts";
import { linearPattern } from "./pattern.ts";
import type { LinearPattern } from "./pattern.ts";

export interface SchemaFault {
  /** JSON Pointer of the value that does not fit. */
  readonly path: string;
  readonly message: string;
}

/** Members and items of one value that some keyword has looked at. */
interface Seen {
  readonly names: Set<string>;
  readonly items: Set<number>;
}
/** What one evaluation costs, in the units of `spend`. */
const STEP = 4;

/** The resources entered on the way here, the outermost first. */
type Scope = readonly string[];

/** A schema as it was read when pinned. */
interface Read {
  readonly base: string;
  readonly assertions: readonly Assertion[];
  readonly patterns: readonly (readonly [LinearPattern, JsonValue])[];
  /** Which of its keywords ask for a look: the others cost nothing. */
  readonly inPlace: boolean;
  readonly ofItems: boolean;
  readonly ofMembers: boolean;
}
const IN_PLACE = "$ref $dynamicRef allOf anyOf oneOf not if dependentSchemas".split(" ");
const OF_ITEMS = "prefixItems items contains unevaluatedItems".split(" ");
const OF_MEMBERS =
  "properties patternProperties additionalProperties propertyNames unevaluatedProperties".split(" ");
const UNEVALUATED = ["unevaluatedItems", "unevaluatedProperties"];

const ROOT = "atoll:/schema";

/** The first thing that does not fit, or null. `spend` is told of every step and ends what goes on for ever. */
export function interpret(
  root: JsonObject,
  spend: (units: number) => void,
): (value: JsonValue) => SchemaFault | null {
  const read = new Map<JsonObject, Read>();
  const places = new Map<string, JsonValue>();
  const anchors = new Map<string, JsonObject>();
  const dynamic = new Map<string, JsonObject>();
  const refs: (readonly [schema: JsonObject, keyword: string, path: string])[] = [];
  const targets = new Map<string, Map<JsonObject, JsonValue>>([
    ["$ref", new Map()],
    ["$dynamicRef", new Map()],
  ]);

  /** What was looked at is noted only where a keyword asks for what was not. */
  let notes = false;
  const UNNOTED: Seen = { names: new Set(), items: new Set() };
  const nothing = (): Seen => (notes ? { names: new Set(), items: new Set() } : UNNOTED);

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
      if (typeof name === "string") {
        const key = `${base}#${name}`;
        if (anchors.get(key) !== undefined && anchors.get(key) !== schema)
          throw new ContractError(path, `\`#${name}\` is there twice`);
        anchors.set(key, schema);
      }
    if (typeof $dynamicAnchor === "string") dynamic.set(`${base}#${$dynamicAnchor}`, schema);
    const has = (names: readonly string[]): boolean => names.some((name) => Object.hasOwn(schema, name));
    notes ||= has(UNEVALUATED);
    read.set(schema, {
      base,
      assertions: assertionsOf(schema, linear, spend),
      patterns: entriesOf(schema["patternProperties"]).map(([pattern, of]) => [linear(pattern), of] as const),
      inPlace: has(IN_PLACE),
      ofItems: has(OF_ITEMS),
      ofMembers: has(OF_MEMBERS),
    });
    for (const [name, value] of Object.entries(schema)) {
      const here = at(path, name);
      if (name === "$ref" || name === "$dynamicRef") refs.push([schema, name, here]);
      for (const [key, child] of children(name, value, here)) index(child, key, base);
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
    const first = present(present(targets.get("$dynamicRef")).get(schema));
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
    if (!notes) return;
    spend(from.names.size + from.items.size);
    for (const name of from.names) into.names.add(name);
    for (const item of from.items) into.items.add(item);
  }

  /** The way from the whole value to the one that is looked at. */
  const trail: (string | number)[] = [];
  let fault: SchemaFault | undefined;
  const misfit = (message: string): boolean => {
    fault ??= { path: trail.map((step) => `/${pointed(String(step))}`).join(""), message };
    return false;
  };

  function evaluate(schema: JsonValue, value: JsonValue, outer: Scope, into: Seen): boolean {
    spend(STEP);
    if (!isObject(schema)) return schema === true || misfit("is not allowed here");
    const known = present(read.get(schema));
    for (const assertion of known.assertions) {
      const message = assertion(value);
      if (message !== "") return misfit(message);
    }
    const items = known.ofItems && isArray(value);
    const members = known.ofMembers && isObject(value);
    if (!known.inPlace && !items && !members) return true;
    const scope = outer.at(-1) === known.base ? outer : [...outer, known.base];
    const seen = nothing();
    if (known.inPlace && !inPlace(schema, value, scope, seen)) return false;
    if (items && !ofItems(schema, value, scope, seen)) return false;
    if (members && !ofMembers(schema, known, value, scope, seen)) return false;
    merge(seen, into);
    return true;
  }
  function within(step: string | number, schema: JsonValue, value: JsonValue, scope: Scope): boolean {
    trail.push(step);
    const fits = evaluate(schema, value, scope, nothing());
    trail.pop();
    return fits;
  }

  /** What applies to the same value; a part that does not fit has evaluated nothing. */
  function inPlace(s: JsonObject, value: JsonValue, scope: Scope, seen: Seen): boolean {
    const fits = (of: JsonValue): boolean => {
      const before = fault;
      if (!evaluate(of, value, scope, seen)) return false;
      fault = before;
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
    if (s["anyOf"] !== undefined && listOf(s["anyOf"]).filter(asks).length === 0)
      return misfit("must match a schema in anyOf");
    if (s["oneOf"] !== undefined && listOf(s["oneOf"]).filter(asks).length !== 1)
      return misfit("must match exactly one schema in oneOf");
    if (s["not"] !== undefined) {
      const before = fault;
      const held = evaluate(s["not"], value, scope, nothing());
      fault = before;
      if (held) return misfit("must not match");
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

  function ofItems(s: JsonObject, value: JsonArray, scope: Scope, seen: Seen): boolean {
    const item = (of: JsonValue, i: number): boolean => {
      if (notes) seen.items.add(i);
      return within(i, of, value[i] ?? null, scope);
    };
    const prefix = listOf(s["prefixItems"]);
    for (let i = 0; i < Math.min(prefix.length, value.length); i++)
      if (!item(present(prefix[i]), i)) return false;
    const rest = s["items"];
    if (rest !== undefined)
      for (let i = prefix.length; i < value.length; i++) if (!item(rest, i)) return false;
    const wanted = s["contains"];
    if (wanted !== undefined) {
      const before = fault;
      const matched = value.flatMap((v, i) => (evaluate(wanted, v, scope, nothing()) ? [i] : []));
      fault = before;
      if (notes) for (const i of matched) seen.items.add(i);
      const [least, most] = [s["minContains"] ?? 1, s["maxContains"] ?? value.length];
      if (matched.length < Number(least) || matched.length > Number(most))
        return misfit("must contain the items that are asked for");
    }
    const others = s["unevaluatedItems"];
    if (others !== undefined)
      for (let i = 0; i < value.length; i++) if (!seen.items.has(i) && !item(others, i)) return false;
    return true;
  }

  function ofMembers(s: JsonObject, known: Read, value: JsonObject, scope: Scope, seen: Seen): boolean {
    const member = (of: JsonValue, name: string): boolean => {
      if (notes) seen.names.add(name);
      return within(name, of, value[name] ?? null, scope);
    };
    const names = Object.keys(value);
    spend(names.length);
    const stated = isObject(s["properties"]) ? s["properties"] : {};
    const additional = s["additionalProperties"];
    for (const name of names) {
      const own = Object.hasOwn(stated, name) ? stated[name] : undefined;
      let plain = own === undefined;
      if (own !== undefined && !member(own, name)) return false;
      for (const [pattern, of] of known.patterns) {
        if (!pattern.test(name)) continue;
        plain = false;
        if (!member(of, name)) return false;
      }
      if (plain && additional !== undefined && !member(additional, name)) return false;
    }
    const naming = s["propertyNames"];
    if (naming !== undefined)
      for (const name of names) if (!evaluate(naming, name, scope, nothing())) return false;
    const others = s["unevaluatedProperties"];
    if (others !== undefined)
      for (const name of names) if (!seen.names.has(name) && !member(others, name)) return false;
    return true;
  }

  index(root, "", ROOT);
  for (const [schema, keyword, path] of refs) {
    const ref = stringFrom(schema[keyword], path);
    present(targets.get(keyword)).set(schema, lookUp(ref, present(read.get(schema)).base, path));
  }
  return (value) => {
    fault = undefined;
    trail.length = 0;
    return evaluate(root, value, [], nothing()) ? null : present<SchemaFault>(fault);
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
