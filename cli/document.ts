// Values and policy documents in files, whatever they are wrapped in.

import { readFileSync, statSync } from "node:fs";
import { ContractError, JsonError, LIMITS, isObject, parseJson } from "../kernel/contracts/contracts.ts";
import type { JsonLimits, JsonValue } from "../kernel/contracts/contracts.ts";
import { parseBundle } from "../kernel/policy/policy.ts";
import { readPolicySource, readYaml } from "./authoring/authoring.ts";

export function valueAt(path: string, limits: JsonLimits): JsonValue {
  const bytes = readFileSync(path);
  if (/\.ya?ml$/.test(path))
    return readYaml(new TextDecoder("utf-8", { fatal: true }).decode(bytes), path).value;
  try {
    return parseJson(bytes, limits);
  } catch (error) {
    if (error instanceof JsonError || error instanceof ContractError) throw error;
    throw new ContractError(path, error instanceof Error ? error.message : String(error));
  }
}

/** The policy document in a file or folder, out of its PolicyBundle where it is in one. */
export function documentAt(path: string): JsonValue {
  const value =
    statSync(path).isDirectory() || /\.ya?ml$/.test(path)
      ? readPolicySource(path).value
      : valueAt(path, LIMITS.policy);
  if (!isObject(value) || value["kind"] !== "PolicyBundle") return value;
  const { content } = parseBundle(value);
  if (content === undefined) throw new ContractError(path, "the bundle's content lies elsewhere");
  return content;
}
