// What of a call is written down, and shown to approvers: all of it, all but what the policy blots out, or its hash
// alone. What is judged and dispatched is never touched by it.

import { RE2JS } from "re2js";
import { ContractError, at, isObject } from "../contracts/contracts.ts";
import type { Input, JsonValue, Policy } from "../contracts/contracts.ts";
import { apart, isModelCall } from "../evidence/evidence.ts";

type Recording = Policy["recording"];

const BLOT = "[redacted]";
const PATTERN_LENGTH = 1000;

export function compileRecording(
  inputs: Recording["inputs"],
  patterns: readonly string[],
  path: string,
): Recording {
  const compiled = patterns.map((p, i) => compile(p, at(path, i)));
  const blot = (value: JsonValue): JsonValue => (compiled.length === 0 ? value : blotted(value, compiled));
  const record = (hash: Input["hash"], value: JsonValue, text: string, kept: JsonValue): Input =>
    kept === value ? { hash, redacted: false, value, text } : { hash, redacted: true, value: kept };
  return {
    inputs,
    blot,
    args(call) {
      const { argsHash, args, argsText } = call;
      if (inputs === "hashes") return [record(argsHash, args, argsText, null)];
      const keep = inputs === "full" ? (value: JsonValue) => value : blot;
      const parts = isModelCall(call.target) ? apart(args) : undefined;
      if (parts === undefined) return [record(argsHash, args, argsText, keep(args))];
      const messages = parts.messages.map((m) => record(m.hash, m.value, m.text, keep(m.value)));
      const { [parts.list]: _, ...others } = args;
      const kept = keep(others);
      const whole = kept === others || !isObject(kept);
      // No pattern touches a reference, nor the name of the member that they are in.
      const value = { ...(whole ? others : kept), [parts.list]: parts.references };
      return [...messages, { hash: argsHash, redacted: !whole, value, text: parts.textOf(value) }];
    },
    // Facts hold the arguments of earlier calls as evidence, and nothing else that a caller wrote.
    facts: (hash, value, text) =>
      record(
        hash,
        value,
        text,
        inputs === "full" ? value : inputs === "hashes" ? withoutArgs(value) : blot(value),
      ),
  };
}

function compile(pattern: string, path: string): RE2JS {
  if (pattern.length > PATTERN_LENGTH)
    throw new ContractError(path, `longer than ${PATTERN_LENGTH} characters`);
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(pattern);
  } catch (error) {
    throw new ContractError(
      path,
      `\`${pattern}\`: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  if (compiled.test(""))
    throw new ContractError(path, `\`${pattern}\` also matches nothing at all, and would blot everywhere`);
  return compiled;
}

/** The same value where nothing matches, so that a record knows whether it was changed. */
function blotted(value: JsonValue, patterns: readonly RE2JS[]): JsonValue {
  if (typeof value === "string") return patterns.reduce((text, p) => p.matcher(text).replaceAll(BLOT), value);
  if (Array.isArray(value)) {
    const items: readonly JsonValue[] = value;
    const changed = items.map((item) => blotted(item, patterns));
    return changed.every((item, i) => item === items[i]) ? value : changed;
  }
  if (typeof value !== "object" || value === null) return value;
  const before = Object.entries(value);
  const after = before.map(([k, v]): [string, JsonValue] => [
    patterns.reduce((text, p) => p.matcher(text).replaceAll(BLOT), k),
    blotted(v, patterns),
  ]);
  if (after.every(([k, v], i) => k === before[i]?.[0] && v === before[i][1])) return value;
  // Two blotted names must not hide one another.
  const seen = new Map<string, number>();
  return Object.fromEntries(
    after.map(([k, v]) => {
      const n = (seen.get(k) ?? 0) + 1;
      seen.set(k, n);
      return [n === 1 ? k : `${k} ${n}`, v];
    }),
  );
}

function withoutArgs(value: JsonValue): JsonValue {
  if (typeof value !== "object" || value === null || !("evidence" in value)) return value;
  const { evidence } = value;
  if (!Array.isArray(evidence) || evidence.length === 0) return value;
  const items: readonly JsonValue[] = evidence;
  return {
    ...value,
    evidence: items.map((item) =>
      typeof item === "object" && item !== null && "args" in item ? { ...item, args: null } : item,
    ),
  };
}
