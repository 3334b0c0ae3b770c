// Whether a policy would load, asked of the compiler itself; its answer with file, line and column.

import { ContractError, isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, Policy, PolicyDoc } from "../../kernel/contracts/contracts.ts";
import { compilePolicy, parsePolicy } from "../../kernel/policy/policy.ts";
import { SourceError } from "./read.ts";
import type { Source } from "./read.ts";

/** A P1 that asks for nothing: what a P0 is compiled with when it is looked at alone. */
const NOTHING: JsonObject = { apiVersion: "atoll.dev/policy/v1", name: "nothing", layer: "P1" };

/** The compiled policy, or a SourceError. A P0 alone is compiled as the ceiling of a policy that asks for nothing. */
export function load(source: Source, ceiling?: Source): Policy {
  if (ceiling !== undefined) placed(ceiling, () => parsePolicy(ceiling.value));
  const isCeiling = isObject(source.value) && source.value["layer"] === "P0";
  return placed(source, () => {
    if (!isCeiling)
      return compilePolicy(source.value, ceiling === undefined ? {} : { ceiling: ceiling.value });
    parsePolicy(source.value);
    return compilePolicy(NOTHING, { ceiling: source.value });
  });
}

/** The document with every field of the shape that the kernel reads, or a SourceError. */
export const shaped = (source: Source): PolicyDoc => placed(source, () => parsePolicy(source.value));

function placed<T>(source: Source, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof ContractError)) throw error;
    const { path } = error;
    const said = path === "" ? error.message : error.message.slice(path.length + 2);
    const [message = said, ...hint] = said.split("; ");
    throw new SourceError([{ place: source.place(path), path, message, hint: hint.join("; ") }]);
  }
}
