// Pinned schemas: JSON Schema 2020-12 with own-property semantics, read once when a policy is loaded. A schema
// that we would not judge exactly is refused then; one that costs too much to judge is a fault of the value. The code
// that judges is made of a schema when the first value comes: a policy has many tools and an agent calls few.

import { _ } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import { canonicalize } from "../canonicalize/canonicalize.ts";
import { arrayFrom, isObject, present } from "../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue } from "../contracts/contracts.ts";
import { hashJson, sha256 } from "../crypto/crypto.ts";
import { distinct, equals, multipleOf, oneOfValues } from "./exact.ts";
import type { Test } from "./exact.ts";
import { interpret } from "./interpret.ts";
import type { SchemaFault } from "./interpret.ts";
import { WORK, prepare } from "./keywords.ts";
import { linearPattern } from "./pattern.ts";

export type { SchemaFault } from "./interpret.ts";

export interface Pinned {
  readonly hash: Hash;
  /** null when the value fits. */
  validate(value: JsonValue): SchemaFault | null;
}

/** A unit is one evaluation of a subschema or as much again: some 20 ns. */
const MAX_WORK = 1_000_000;

class TooCostly extends Error {}

export function pinSchema(schema: JsonValue): Pinned {
  const prepared = prepare(schema);
  let left = Infinity;
  const spend = (units: number): void => {
    left -= units;
    if (left < 0) throw new TooCostly();
  };
  // Its references and patterns are read now, whoever judges later.
  const literal = isObject(schema) ? interpret(schema, spend) : null;
  let check: ((value: JsonValue) => SchemaFault | null) | null = prepared.byLetter ? literal : null;
  return {
    hash: hashJson(schema),
    validate(value) {
      left = MAX_WORK;
      try {
        check ??= compile(prepared.schema, spend);
        return check(value);
      } catch (e) {
        // Also a recursion without end: the schema refers to itself without descending into the value.
        const cause = e instanceof TooCostly ? "costs too much to judge" : "cannot be judged";
        return { path: "", message: cause };
      }
    },
  };
}

function compile(
  schema: JsonObject | boolean,
  spend: (units: number) => void,
): (value: JsonValue) => SchemaFault | null {
  const regExp = (pattern: string) => {
    const linear = linearPattern(pattern);
    return {
      // The compiler takes two patterns for one when their texts are equal.
      toString: () => pattern,
      test(text: string): boolean {
        spend(text.length * (4 + linear.size / 4));
        return linear.test(text);
      },
    };
  };
  const ajv = new Ajv2020({
    strict: false,
    strictNumbers: true,
    ownProperties: true,
    validateFormats: false,
    logger: false,
    validateSchema: false,
    meta: JSON.stringify(schema).includes("json-schema.org/"),
    code: { regExp: Object.assign(regExp, { code: "linearPattern" }) },
  });
  const define = (keyword: string, make: (value: JsonValue) => Test, type?: "array" | "number"): void => {
    ajv.removeKeyword(keyword);
    ajv.addKeyword({ keyword, compile: make, ...(type === undefined ? {} : { type }) });
  };
  define("const", equals);
  define("enum", (values) => oneOfValues(arrayFrom(values, "enum")));
  define("multipleOf", (divisor) => multipleOf(Number(divisor)), "number");
  define("uniqueItems", (on) => (on === true ? distinct(spend) : () => true), "array");
  ajv.addKeyword({
    keyword: WORK,
    code({ gen }) {
      gen.code(_`${gen.scopeValue("func", { ref: spend })}(1)`);
    },
  });
  const check = ajv.compile(schema);
  return (value) => {
    if (check(value)) return null;
    const first = present(check.errors?.[0]);
    return { path: first.instancePath, message: present(first.message) };
  };
}

/** The arguments as they are judged and dispatched, and their hash, in one step. */
export function canonicalArgs(args: JsonObject): { readonly text: string; readonly hash: Hash } {
  const text = canonicalize(args);
  return { text, hash: sha256(text) };
}
