// What a change of policy does: the fields that differ, and the recorded calls whose verdict would.

import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonValue, Policy } from "../../kernel/contracts/contracts.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import type { RecordedCall } from "../../kernel/replay/replay.ts";

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

export interface Turned {
  readonly receipt_id: string;
  readonly session_id: string;
  readonly lamport: number;
  readonly tool: string;
  readonly before: string;
  readonly after: string;
}
export interface Comparison {
  readonly turned: readonly Turned[];
  readonly judged: number;
  /** Recorded without what it takes to judge them again. */
  readonly redacted: number;
}

/** The recorded calls whose verdict or code differs between two policies, each judged by the facts it was judged by. */
export function compare(before: Policy, after: Policy, calls: Iterable<RecordedCall>): Comparison {
  const turned: Turned[] = [];
  let known = 0;
  let redacted = 0;
  for (const { receipt, session_id, lamport, judged } of calls) {
    if (judged === undefined) {
      redacted++;
      continue;
    }
    known++;
    const [a, b] = [verdictOf(before, judged), verdictOf(after, judged)];
    if (a !== b)
      turned.push({
        receipt_id: receipt.receipt_id,
        session_id,
        lamport,
        tool: receipt.tool,
        before: a,
        after: b,
      });
  }
  return { turned, judged: known, redacted };
}

function verdictOf(policy: Policy, { call, facts }: NonNullable<RecordedCall["judged"]>): string {
  const verdict = decide(call, policy, {
    ...facts,
    context: { ...facts.context, policyHash: policy.hash },
    // An approval is for a call under one policy; under another it would be asked for again.
    approval: { state: "none" },
  });
  if (verdict.verdict === "ALLOW") return "ALLOW";
  return verdict.verdict === "DENY" ? `DENY ${verdict.code}` : `ESCALATE ${verdict.ceremony.name}`;
}
