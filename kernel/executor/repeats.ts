// Idempotency per (session, tool): a repeat is answered from the record and never dispatched again, also after a restart.
//
// The name of a key lies in the journal beside its INTENT, in one append with it. What restart does, by where a stop falls:
//   before the INTENT is durable     nothing has happened; the key is free
//   after it, before the EFFECT      the key is taken and answered as unknown
//   after the EFFECT                 the key is answered with that receipt; the output itself is not kept

import {
  ContractError,
  LIMITS,
  arrayFrom,
  at,
  closed,
  epochOf,
  hashFrom,
  idFrom,
  integerFrom,
  isObject,
  oneOf,
  stringFrom,
} from "../contracts/contracts.ts";
import type {
  EffectId,
  Facts,
  Hash,
  Input,
  JsonObject,
  JsonValue,
  ReceiptId,
  SealedNode,
  ToolCall,
} from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";
import type { Verdict } from "../guardian/guardian.ts";
import { parseReceipt, readNode } from "../receipts/receipts.ts";
import { refusal } from "./request.ts";
import type { Result } from "./request.ts";

type Found =
  | { readonly state: "new" }
  | { readonly state: "other arguments" }
  | { readonly state: "known"; readonly result: Promise<Result> };

/** A key that is taken; without a key all of it does nothing. */
interface Taken {
  /** What goes into the journal with the INTENT, so that a restart knows the key. */
  readonly inputs: readonly Input[];
  answer(result: Promise<Result>): void;
}

export interface Repeats {
  find(facts: Facts, call: ToolCall, verdict: Verdict): Found;
  /** False when no further key can be remembered: then nothing may be done under it. */
  room(facts: Facts, now: number): boolean;
  /** Takes the key before its INTENT is sealed, so that a copy of the state never lacks what the journal has. */
  take(facts: Facts, call: ToolCall, ids: Ids, now: number): Taken;
  /** An input and a node of the journal, in its order, after a restart. */
  restoreInput(value: JsonValue | null): void;
  restore(sealed: SealedNode): void;
  /** All that a restart needs, as plain data; with it, only what the journal holds after it is restored. */
  export(): JsonObject;
  load(state: JsonValue): void;
}
interface Ids {
  readonly effectId: EffectId;
  readonly receiptId: ReceiptId;
}

const KEPT_MS = 24 * 3_600_000;
const KEPT_KEYS = 100_000;
/** Outputs that are held for repeats, in characters: of one, of all; and the number of whole answers. */
const KEPT_OUTPUT = 1 << 20;
const KEPT_TEXT = 16 << 20;
const KEPT_RESULTS = 1_000;
/** What even a repeat has to pass. */
const FIRST_GATES: ReadonlySet<string> = new Set(["freeze", "context", "identity"]);
const KEY = "atoll.dev/idempotency/v1";
const STATE = "atoll.dev/repeats/v1";

interface Made {
  readonly name: Hash;
  readonly args: Hash;
  readonly effect: EffectId;
  /** Of the INTENT. */
  readonly receipt: ReceiptId;
  at: number;
  /** Null when no more than the key is kept. */
  result: Promise<Result> | null;
  /** "open" before the EFFECT, then its text, or "gone". */
  end: string;
  /** Of the output, in characters. */
  size: number;
}

export function createRepeats(): Repeats {
  const made = new Map<Hash, Made>();
  const open = new Map<JsonValue | undefined, Made>();
  const full = new Set<Made>();
  /** Names by the receipt of the INTENT that has to follow. */
  const announced = new Map<JsonValue | undefined, Hash>();
  let held = 0;
  let latest = 0;
  const nameOf = (facts: Facts, call: ToolCall): Hash =>
    hashJson([facts.session.id, call.target, facts.idempotencyKey]);

  function put(m: Made): void {
    const before = made.get(m.name);
    if (before !== undefined) drop(before);
    made.set(m.name, m);
    open.set(m.effect, m);
  }
  function drop(m: Made): void {
    open.delete(m.effect);
    forget(m);
    if (made.get(m.name) === m) made.delete(m.name);
  }
  function forget(m: Made): void {
    if (full.delete(m)) held -= m.size;
  }
  function expire(now: number): void {
    // A clock that was set back would keep for years what it wrote before.
    if (now < latest) for (const m of made.values()) m.at = Math.min(m.at, now);
    latest = now;
    for (const m of made.values()) {
      if (now - m.at < KEPT_MS) break;
      drop(m);
    }
  }
  /** The end of a call: kept with its answer as long as there is place. */
  function settle(m: Made, result: Result): void {
    open.delete(m.effect);
    // What was refused before anything happened may be tried again under the same key.
    const undone = result.kind === "failed" && result.code === "POLICY_EPOCH_CHANGED";
    if (result.kind === "denied" || result.kind === "escalated" || undone) return drop(m);
    if (made.get(m.name) !== m) return;
    const size = result.kind === "done" ? JSON.stringify(result.output).length : 0;
    const kept = result.kind !== "done" || size <= KEPT_OUTPUT;
    m.result = Promise.resolve(kept ? result : { ...result, output: null, forgotten: true });
    m.end = result.node?.text ?? "open";
    m.size = kept ? size : 0;
    full.add(m);
    held += m.size;
    for (const oldest of full) {
      if (held <= KEPT_TEXT && full.size <= KEPT_RESULTS) break;
      forget(oldest);
      oldest.end = "gone";
      oldest.result = null;
    }
  }
  const gone = (m: Made): Result =>
    refusal("REPLAY_DETECTED", `the call was made, receipt ${m.receipt}; its answer is not kept any more`);
  const unknown = (m: Pick<Made, "receipt">, sealed: SealedNode | null): Result => ({
    kind: "failed",
    code: "ERR_OUTCOME_UNKNOWN",
    detail: "the call was under way when the guardian stopped",
    intent: m.receipt,
    receipt: sealed === null ? null : parseReceipt(sealed.node.body),
    node: sealed,
  });
  /** An answer as the record has it. */
  function recorded(m: Made, node: SealedNode): Result {
    const receipt = parseReceipt(node.node.body);
    const { reason_code: code, status } = receipt;
    const all = { receipt, node, intent: m.receipt };
    return status === "SUCCEEDED"
      ? { kind: "done", ...all, output: null, forgotten: true }
      : { kind: "failed", ...all, code: code === "" ? "ERR_OUTCOME_UNKNOWN" : code, detail: "" };
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
      return { state: "known", result: before.result ?? Promise.resolve(gone(before)) };
    },
    room(facts, now) {
      if (facts.idempotencyKey === "") return true;
      expire(now);
      return made.size < KEPT_KEYS;
    },
    take(facts, call, { effectId: effect, receiptId: receipt }, now) {
      if (facts.idempotencyKey === "") return { inputs: [], answer: () => undefined };
      const name = nameOf(facts, call);
      const value: JsonObject = { type: KEY, name, receipt_id: receipt };
      const result = Promise.resolve(unknown({ receipt }, null));
      const m: Made = { name, args: call.argsHash, effect, receipt, at: now, result, end: "open", size: 0 };
      put(m);
      return {
        inputs: [{ hash: hashJson(value), redacted: false, value }],
        answer(answer) {
          m.result = answer;
          answer.then(
            (r) => settle(m, r),
            () => drop(m),
          );
        },
      };
    },
    restoreInput(value) {
      if (value === null || !isObject(value) || value["type"] !== KEY) return;
      const { name, receipt_id } = closed(value, "", ["type", "name", "receipt_id"]);
      announced.set(idFrom("rcp", receipt_id, "receipt_id"), hashFrom(name, "name"));
    },
    restore(sealed) {
      const { kind, body, issued_at } = sealed.node;
      if (kind === "INTENT") {
        const name = announced.get(body["receipt_id"]);
        // An INTENT that was never written leaves its announcement behind.
        announced.clear();
        if (name === undefined) return;
        const { receipt_id: receipt, effect_id: effect, args_hash: args } = parseReceipt(body);
        if (effect === "" || args === "") throw new ContractError("INTENT", "has a key and no effect");
        const at = epochOf(issued_at);
        expire(at);
        const result = Promise.resolve(unknown({ receipt }, sealed));
        put({ name, args, effect, receipt, at, result, end: "open", size: 0 });
      }
      const m = kind === "EFFECT" ? open.get(body["effect_id"]) : undefined;
      if (m !== undefined) settle(m, recorded(m, sealed));
    },
    export: () => ({
      type: STATE,
      keys: [...made.values()].map((m) => [m.name, m.args, m.at, m.effect, m.receipt, m.end]),
    }),
    load(state) {
      const { type, keys } = closed(state, "", ["type", "keys"]);
      oneOf(type, "type", [STATE]);
      for (const [i, key] of arrayFrom(keys, "keys").entries()) {
        const path = at("keys", i);
        const [name, args, time, effectId, receiptId, end] = arrayFrom(key, path);
        const receipt = idFrom("rcp", receiptId, path);
        const m: Made = {
          name: hashFrom(name, path),
          args: hashFrom(args, path),
          effect: idFrom("eff", effectId, path),
          receipt,
          at: integerFrom(time, path),
          result: Promise.resolve(unknown({ receipt }, null)),
          end: stringFrom(end, path, LIMITS.node.bytes),
          size: 0,
        };
        put(m);
        if (m.end === "open") continue;
        open.delete(m.effect);
        if (m.end === "gone") m.result = null;
        else settle(m, recorded(m, readNode(m.end)));
      }
    },
  };
}
