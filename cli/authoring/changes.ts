// What a change of policy does: the fields that differ, and the recorded calls whose verdict would.

import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonValue, Policy, ToolCall } from "../../kernel/contracts/contracts.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { parseFacts } from "../../kernel/policy/policy.ts";

export interface Change {
  readonly path: string;
  readonly before: JsonValue | undefined;
  readonly after: JsonValue | undefined;
}

/** Lists of named things (tools, models, rules) are compared by name, so that an insertion is one line. */
export function changes(
  before: JsonValue | undefined,
  after: JsonValue | undefined,
  path = "",
): readonly Change[] {
  if (before !== undefined && after !== undefined) {
    if (canonicalize(before) === canonicalize(after)) return [];
    const a = named(before) ?? (isObject(before) ? before : undefined);
    const b = named(after) ?? (isObject(after) ? after : undefined);
    if (a !== undefined && b !== undefined) {
      const list = Array.isArray(before);
      const names = [...new Set([...Object.keys(a), ...Object.keys(b)])];
      const inner = names.flatMap((n) =>
        changes(
          Object.hasOwn(a, n) ? a[n] : undefined,
          Object.hasOwn(b, n) ? b[n] : undefined,
          list ? `${path}[${n}]` : path === "" ? n : `${path}.${n}`,
        ),
      );
      // Only the order differs: it has a meaning for profiles (the first that matches wins), so it is shown.
      return inner.length > 0
        ? inner
        : [{ path: `${path} (order)`, before: Object.keys(a), after: Object.keys(b) }];
    }
  }
  return [{ path, before, after }];
}

function named(v: JsonValue): { readonly [k: string]: JsonValue } | undefined {
  if (!Array.isArray(v)) return undefined;
  const entries: [string, JsonValue][] = [];
  for (const item of v as readonly JsonValue[]) {
    const name = isObject(item) ? (item["id"] ?? item["name"]) : undefined;
    if (typeof name !== "string") return undefined;
    entries.push([name, item]);
  }
  return new Set(entries.map(([n]) => n)).size === entries.length ? Object.fromEntries(entries) : undefined;
}

export interface Recorded {
  readonly receipt: string;
  readonly call: ToolCall;
  readonly facts: JsonValue;
}
export interface Turned {
  readonly receipt: string;
  readonly tool: string;
  readonly before: string;
  readonly after: string;
}

/** The recorded calls whose verdict or code differs between two policies, each judged by the facts it was judged by. */
export function turned(before: Policy, after: Policy, calls: readonly Recorded[]): readonly Turned[] {
  const found: Turned[] = [];
  for (const { receipt, call, facts } of calls) {
    const [a, b] = [before, after].map((policy) => {
      const known = parseFacts(facts);
      const verdict = decide(call, policy, {
        ...known,
        context: { ...known.context, policyHash: policy.hash },
      });
      return verdict.verdict === "ALLOW" ? "ALLOW" : `${verdict.verdict} ${verdict.code}`;
    });
    if (a !== undefined && b !== undefined && a !== b)
      found.push({ receipt, tool: call.target, before: a, after: b });
  }
  return found;
}
