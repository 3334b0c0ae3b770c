// Pinned schemas: JSON Schema 2020-12 with own-property semantics, compiled once when a policy is loaded.

import { Ajv2020 } from "ajv/dist/2020.js";
import { canonicalize } from "../canonicalize/canonicalize.ts";
import type { Hash, JsonObject, JsonValue } from "../contracts/contracts.ts";
import { hashJson, sha256 } from "../crypto/crypto.ts";

export interface SchemaFault {
  /** JSON Pointer of the value that does not fit. */
  readonly path: string;
  readonly message: string;
}
export interface Pinned {
  readonly hash: Hash;
  /** null when the value fits. */
  validate(value: JsonValue): SchemaFault | null;
}

export function pinSchema(schema: JsonValue): Pinned {
  if (typeof schema !== "boolean" && (typeof schema !== "object" || schema === null))
    throw new TypeError("a schema is an object, true or false");
  const ajv = new Ajv2020({
    strictSchema: true,
    strictNumbers: true,
    strictTypes: false,
    strictTuples: false,
    ownProperties: true,
    validateFormats: false,
  });
  const check = ajv.compile(schema);
  return {
    hash: hashJson(schema),
    validate(value) {
      if (check(value)) return null;
      const first = check.errors?.[0];
      return { path: first?.instancePath ?? "", message: first?.message ?? "does not fit" };
    },
  };
}

/** The arguments as they are judged and dispatched, and their hash, in one step. */
export function canonicalArgs(args: JsonObject): { readonly text: string; readonly hash: Hash } {
  const text = canonicalize(args);
  return { text, hash: sha256(text) };
}
