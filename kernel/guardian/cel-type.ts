// Types of expressions, and how large their values can be: the ground of the check and of the cost bound.

import { isArray, isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";

/** Why an expression does not load. */
export class ExpressionError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ExpressionError";
  }
}

export type Scalar =
  | "bool"
  | "int"
  | "uint"
  | "double"
  | "string"
  | "bytes"
  | "null_type"
  | "timestamp"
  | "duration"
  | "type"
  | "dyn";
export type Kind = Scalar | "list" | "map";

/**
 * A value as far as it is known at load. `size`: characters, bytes, elements or entries at most. `weight`: what
 * comparing the whole of it can touch at most. Infinity: no bound is stated.
 */
export interface Known {
  readonly kind: Kind;
  readonly size: number;
  readonly weight: number;
  /** Elements of a list, values of a map. */
  readonly of?: Known;
  /** Members of a map whose names are stated. */
  readonly members?: ReadonlyMap<string, Known>;
  /** A map that has no other members. */
  readonly closed?: boolean;
  /** A literal's value, where a function wants one. */
  readonly literal?: string;
  /** A namespace of variables, which is no value itself. */
  readonly space?: string;
}

const BYTES = 1 << 20;
/** More values than this are not turned into the engine's for one name: the rule errs, and the call is denied. */
export const VALUES_LIMIT = 20_000;

export const scalar = (kind: Scalar, size = 1): Known => ({ kind, size, weight: size });
export const BOOL = scalar("bool");
export const INT = scalar("int");
export const UINT = scalar("uint");
export const DOUBLE = scalar("double");
export const NULL = scalar("null_type");
export const TIMESTAMP = scalar("timestamp", 16);
export const DURATION = scalar("duration", 16);
export const TYPE = scalar("type", 32);
/** Nothing is known; no part of a call's arguments has more than their bytes. */
export const DYN: Known = { kind: "dyn", size: Number.POSITIVE_INFINITY, weight: BYTES };
export const text = (size = BYTES): Known => scalar("string", size);
export const bytes = (size = BYTES): Known => scalar("bytes", size);
export const list = (of: Known, size: number): Known => ({
  kind: "list",
  size,
  weight: 1 + product(size, of.weight),
  of,
});
export const map = (of: Known, size: number): Known => ({
  kind: "map",
  size,
  weight: 1 + product(size, of.weight + 64),
  of,
});
/** What an element of a list, or the value of a map's member, is at most. */
export const elements = (k: Known): Known => k.of ?? DYN;
/** 0 × ∞ is 0 here: nothing is done however large it would be. */
export const product = (a: number, b: number): number => (a === 0 || b === 0 ? 0 : a * b);

/** The larger of two in every respect: a value that is one or the other. */
export function either(a: Known, b: Known): Known {
  const size = Math.max(a.size, b.size);
  const weight = Math.max(a.weight, b.weight);
  if (a.kind !== b.kind) return { kind: "dyn", size, weight };
  if (a.of === undefined || b.of === undefined)
    return { kind: a.kind === "map" ? "dyn" : a.kind, size, weight };
  return { kind: a.kind, size, weight, of: either(a.of, b.of) };
}

/** What a pinned schema says of a value. Where it says nothing the value is `dyn`. */
export function knownOf(schema: JsonValue, depth = 0): Known {
  if (!isObject(schema) || depth > 32) return DYN;
  const constant = literals(schema);
  if (constant !== null) return constant;
  const { type } = schema;
  switch (typeof type === "string" ? type : "") {
    case "string":
      return text(bound(schema, "maxLength", BYTES));
    case "integer":
      return INT;
    case "number":
      return DOUBLE;
    case "boolean":
      return BOOL;
    case "null":
      return NULL;
    case "array":
      return list(
        schema["items"] === undefined || schema["prefixItems"] !== undefined
          ? DYN
          : knownOf(schema["items"], depth + 1),
        bound(schema, "maxItems", Number.POSITIVE_INFINITY),
      );
    case "object":
      return objectOf(schema, depth);
    default:
      return DYN;
  }
}

const bound = (schema: JsonObject, name: string, otherwise: number): number => {
  const stated = schema[name];
  return typeof stated === "number" ? Math.min(stated, otherwise) : otherwise;
};

function literals(schema: JsonObject): Known | null {
  const one = schema["const"];
  const values = one === undefined ? schema["enum"] : [one];
  if (!isArray(values)) return null;
  if (!values.every((v) => typeof v === "string")) return null;
  return text(Math.max(0, ...values.map((v) => v.length)));
}

function objectOf(schema: JsonObject, depth: number): Known {
  const properties = isObject(schema["properties"]) ? schema["properties"] : {};
  const members = new Map(Object.entries(properties).map(([k, v]) => [k, knownOf(v, depth + 1)]));
  const others = schema["additionalProperties"];
  const closed = others === false && schema["patternProperties"] === undefined;
  const size = closed ? members.size : bound(schema, "maxProperties", Number.POSITIVE_INFINITY);
  const stated = [...members.values()];
  const of = closed && stated.length > 0 ? stated.reduce(either) : DYN;
  const weight = closed
    ? stated.reduce((sum, m) => sum + m.weight, 1 + 64 * members.size)
    : Math.min(BYTES, product(size, DYN.weight));
  return { kind: "map", size, weight, of, members, closed };
}

export const nameOf = (k: Known): string =>
  k.kind === "list" || k.kind === "map" ? `${k.kind}(${k.of === undefined ? "dyn" : nameOf(k.of)})` : k.kind;
