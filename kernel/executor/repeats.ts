// Idempotency per (session, tool): a repeat is answered from the record and never dispatched again.

import type { Facts, Hash, ToolCall } from "../contracts/contracts.ts";
import type { Verdict } from "../guardian/guardian.ts";
import type { Result } from "./executor.ts";

type Found =
  | { readonly state: "new"; readonly verdict: Verdict }
  | { readonly state: "other arguments"; readonly verdict: Verdict }
  | { readonly state: "known"; readonly result: Promise<Result> };

export interface Repeats {
  find(facts: Facts, call: ToolCall, verdict: Verdict): Found;
  remember(facts: Facts, call: ToolCall, result: Promise<Result>, now: number): void;
}

const KEPT_MS = 24 * 3_600_000;
const KEPT_BYTES = 1 << 20;
/** What even a repeat has to pass. */
const FIRST_GATES: ReadonlySet<string> = new Set(["freeze", "context", "identity"]);

export function createRepeats(): Repeats {
  const known = new Map<string, { readonly args: Hash; result: Promise<Result>; readonly at: number }>();
  const nameOf = (facts: Facts, call: ToolCall): string =>
    `${facts.session.id} ${call.target} ${facts.idempotencyKey}`;
  return {
    find(facts, call, verdict) {
      if (facts.idempotencyKey === "") return { state: "new", verdict };
      const before = known.get(nameOf(facts, call));
      if (before === undefined) return { state: "new", verdict };
      const last = verdict.gates.at(-1);
      if (verdict.verdict === "DENY" && (last === undefined || FIRST_GATES.has(last)))
        return { state: "new", verdict };
      if (before.args !== call.argsHash) return { state: "other arguments", verdict };
      return { state: "known", result: before.result };
    },
    remember(facts, call, result, now) {
      if (facts.idempotencyKey === "") return;
      for (const [name, entry] of known) {
        if (now - entry.at < KEPT_MS) break;
        known.delete(name);
      }
      const name = nameOf(facts, call);
      const entry = { args: call.argsHash, result, at: now };
      known.set(name, entry);
      void result.then((r) => {
        // What was refused before anything happened may be tried again under the same key.
        if (r.kind === "denied" || r.kind === "escalated") known.delete(name);
        else if (r.kind === "done" && JSON.stringify(r.output).length > KEPT_BYTES)
          entry.result = Promise.resolve({ ...r, output: null });
      });
    },
  };
}
