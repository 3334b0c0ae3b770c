// Idempotency per (session, tool): a repeat is answered from the record and never dispatched again.

import type { Facts, Hash, ToolCall } from "../contracts/contracts.ts";
import type { Verdict } from "../guardian/guardian.ts";
import { refusal } from "./request.ts";
import type { Result } from "./request.ts";

type Found =
  | { readonly state: "new" }
  | { readonly state: "other arguments" }
  | { readonly state: "known"; readonly result: Promise<Result> };

export interface Repeats {
  find(facts: Facts, call: ToolCall, verdict: Verdict): Found;
  /** False when no further key can be remembered: then nothing may be done under it. */
  room(facts: Facts, now: number): boolean;
  remember(facts: Facts, call: ToolCall, result: Promise<Result>, now: number): void;
}

const KEPT_MS = 24 * 3_600_000;
const KEPT_KEYS = 100_000;
/** Outputs that are held for repeats, in characters, and their number. */
const KEPT_TEXT = 16 << 20;
const KEPT_RESULTS = 1_000;
/** What even a repeat has to pass. */
const FIRST_GATES: ReadonlySet<string> = new Set(["freeze", "context", "identity"]);

interface Made {
  readonly args: Hash;
  readonly at: number;
  result: Promise<Result>;
  size: number;
}

export function createRepeats(): Repeats {
  const made = new Map<string, Made>();
  const full = new Set<Made>();
  let held = 0;
  const nameOf = (facts: Facts, call: ToolCall): string =>
    `${facts.session.id} ${call.target} ${facts.idempotencyKey}`;

  function keep(m: Made, result: Result): void {
    m.size = result.kind === "done" ? JSON.stringify(result.output).length : 0;
    full.add(m);
    held += m.size;
    for (const oldest of full) {
      if (held <= KEPT_TEXT && full.size <= KEPT_RESULTS) break;
      forget(oldest);
      oldest.result = Promise.resolve(
        refusal("REPLAY_DETECTED", "the call was made; its answer is not kept any more"),
      );
    }
  }
  function forget(m: Made): void {
    if (full.delete(m)) held -= m.size;
  }

  return {
    find(facts, call, verdict) {
      if (facts.idempotencyKey === "") return { state: "new" };
      const before = made.get(nameOf(facts, call));
      if (before === undefined) return { state: "new" };
      const last = verdict.gates.at(-1);
      if (verdict.verdict === "DENY" && (last === undefined || FIRST_GATES.has(last)))
        return { state: "new" };
      if (before.args !== call.argsHash) return { state: "other arguments" };
      return { state: "known", result: before.result };
    },
    room(facts, now) {
      if (facts.idempotencyKey === "") return true;
      for (const [name, m] of made) {
        if (now - m.at < KEPT_MS) break;
        made.delete(name);
        forget(m);
      }
      return made.size < KEPT_KEYS;
    },
    remember(facts, call, result, now) {
      if (facts.idempotencyKey === "") return;
      const name = nameOf(facts, call);
      const m: Made = { args: call.argsHash, result, at: now, size: 0 };
      made.set(name, m);
      void result.then((r) => {
        // What was refused before anything happened may be tried again under the same key.
        const undone = r.kind === "failed" && r.code === "POLICY_EPOCH_CHANGED";
        if (r.kind === "denied" || r.kind === "escalated" || undone) made.delete(name);
        else keep(m, r);
      });
    },
  };
}
