// Pinned schemas: JSON Schema 2020-12 with own-property semantics, read once when a policy is loaded. A schema
// that we would not judge exactly is refused then; one that costs too much to judge is a fault of the value.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import { isObject } from "../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue } from "../contracts/contracts.ts";
import { hashJson, sha256 } from "../crypto/crypto.ts";
import { interpret } from "./interpret.ts";
import type { SchemaFault } from "./interpret.ts";
import { refuseUnknown } from "./keywords.ts";

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
  refuseUnknown(schema);
  let left = Infinity;
  const spend = (units: number): void => {
    left -= units;
    if (left < 0) throw new TooCostly();
  };
  const check = isObject(schema)
    ? interpret(schema, spend)
    : () => (schema === true ? null : { path: "", message: "is not allowed here" });
  return {
    hash: hashJson(schema),
    validate(value) {
      left = MAX_WORK;
      try {
        return check(value);
      } catch (e) {
        // Also a recursion without end: the schema refers to itself without descending into the value.
        const cause = e instanceof TooCostly ? "costs too much to judge" : "cannot be judged";
        return { path: "", message: cause };
      }
    },
  };
}

/** The arguments as they are judged and dispatched, and their hash, in one step. */
export function canonicalArgs(args: JsonObject): { readonly text: string; readonly hash: Hash } {
  const text = canonicalize(args);
  return { text, hash: sha256(text) };
}
