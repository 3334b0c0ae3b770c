// A tool's call as a request to the sandbox. Everything in it follows from the policy and the arguments, so that the
// guardian and whoever computes a receipt again ask for the same.

import { canonicalize } from "../../canonicalize/canonicalize.ts";
import { LIMITS, parseJson } from "../../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue, ToolPolicy } from "../../contracts/contracts.ts";
import { sha256 } from "../../crypto/crypto.ts";
import type { ComputeRequest } from "./sandbox.ts";

export function toolRequest(
  module: Hash,
  limits: ToolPolicy["limits"],
  args: JsonObject,
): ComputeRequest & { readonly module: Hash } {
  const stdin = canonicalize(args);
  const { gas, memoryBytes, outputBytes, timeMs } = limits;
  return {
    module,
    stdin: new TextEncoder().encode(stdin),
    limits: { gas, memoryBytes, outputBytes, timeMs },
    // Neither the clock nor chance is the host's: the same call gives the same answer on every machine.
    seed: sha256(`${module} ${stdin}`),
    clock: 0,
  };
}

/** What a tool wrote, one JSON value; undefined where it is none. */
export function toolOutput(stdout: Uint8Array): { readonly value: JsonValue } | undefined {
  try {
    return { value: parseJson(stdout, LIMITS.args) };
  } catch {
    return undefined;
  }
}
