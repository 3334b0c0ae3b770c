// What the journal's nodes have spent and hold reserved, as plain data that depends on no time zone: a budget goes on
// from it after a restart, whatever zone its policy has by then.

import {
  ContractError,
  arrayFrom,
  at as pathAt,
  closed,
  epochOf,
  idFrom,
  integerFrom,
} from "../contracts/contracts.ts";
import type {
  Amounts,
  EffectId,
  JsonObject,
  JsonValue,
  Node,
  Receipt,
  SessionId,
} from "../contracts/contracts.ts";
import { parseReceipt } from "../receipts/receipts.ts";
import { FIELDS, NOTHING, amountsOf } from "./amounts.ts";
import type { Sum } from "./amounts.ts";

export interface Held {
  readonly effect: EffectId;
  readonly session: SessionId;
  readonly atMs: number;
  readonly amounts: Amounts;
}
export interface Spent {
  /** Counts a node, in the order of the journal; `receipt` is its body, for who has read it already. */
  note(node: Node, receipt?: Receipt): void;
  /** With what is reserved, as the sums of a budget have it. */
  readonly sessions: ReadonlyMap<SessionId, Amounts>;
  /** The same by quarters of an hour: every zone's day begins with one. */
  readonly quarters: ReadonlyMap<number, Amounts>;
  readonly open: ReadonlyMap<EffectId, Held>;
  state(): JsonObject;
}

const QUARTER = 900_000;
const DAY = 86_400_000;
/**
 * Three days of any zone lie in six of this one, and no budget looks further back. Kept are the last to be spent in,
 * not the latest: a clock that was set for a moment must not make today forgotten.
 */
const KEPT_DAYS = 6;

/** From the beginning, or from what `state` said; throws when it is no such thing. */
export function createSpent(state?: JsonValue): Spent {
  const sessions = new Map<SessionId, Sum>();
  const quarters = new Map<number, Sum>();
  const open = new Map<EffectId, Held>();
  const days = new Set<number>();

  function add<K>(map: Map<K, Sum>, key: K, amounts: Amounts, sign: 1 | -1): void {
    const sum = map.get(key) ?? { ...NOTHING };
    for (const f of FIELDS) {
      const next = sum[f] + sign * amounts[f];
      if (!Number.isSafeInteger(next) || next < 0) throw new RangeError(`${f} would become ${next}`);
      sum[f] = next;
    }
    map.set(key, sum);
  }
  const quarterOf = (ms: number): number => ms - (ms % QUARTER);
  const dayOf = (ms: number): number => ms - (ms % DAY);
  function spend(session: SessionId, atMs: number, amounts: Amounts, sign: 1 | -1): void {
    add(sessions, session, amounts, sign);
    add(quarters, quarterOf(atMs), amounts, sign);
  }
  function forget(): void {
    for (const day of days) {
      if (days.size <= KEPT_DAYS) return;
      if ([...open.values()].some((h) => dayOf(h.atMs) === day)) continue;
      days.delete(day);
      for (const quarter of quarters.keys()) if (dayOf(quarter) === day) quarters.delete(quarter);
    }
  }
  function hold(held: Held): void {
    if (open.has(held.effect)) throw new ContractError(held.effect, "is reserved already");
    spend(held.session, held.atMs, held.amounts, 1);
    open.set(held.effect, held);
    days.add(dayOf(held.atMs));
    forget();
  }
  function end(effect: EffectId, actual: Amounts): void {
    const held = open.get(effect);
    if (held === undefined) return;
    open.delete(effect);
    spend(held.session, held.atMs, held.amounts, -1);
    spend(held.session, held.atMs, actual, 1);
  }

  if (state !== undefined) {
    const o = closed(state, "spent", ["sessions", "quarters", "open"]);
    const each = (name: "sessions" | "quarters" | "open", more: readonly string[]) =>
      arrayFrom(o[name], name).map((v, i) => closed(v, pathAt(name, i), [...more, ...FIELDS]));
    for (const s of each("sessions", ["id"]))
      add(sessions, idFrom("ses", s["id"], "spent.sessions.id"), amountsFrom(s), 1);
    for (const q of each("quarters", ["at"])) {
      const at = integerFrom(q["at"], "spent.quarters.at");
      add(quarters, at, amountsFrom(q), 1);
      days.add(dayOf(at));
    }
    for (const h of each("open", ["effect", "session", "at"])) {
      const effect = idFrom("eff", h["effect"], "spent.open.effect");
      open.set(effect, {
        effect,
        session: idFrom("ses", h["session"], "spent.open.session"),
        atMs: integerFrom(h["at"], "spent.open.at"),
        amounts: amountsFrom(h),
      });
    }
  }

  return {
    sessions,
    quarters,
    open,
    note(node, receipt) {
      if (node.kind !== "INTENT" && node.kind !== "EFFECT") return;
      const { effect_id: effect, status, usage } = receipt ?? parseReceipt(node.body);
      if (effect === "") return;
      const amounts = amountsOf(usage);
      if (node.kind === "INTENT")
        hold({ effect, session: node.session_id, atMs: epochOf(node.issued_at), amounts });
      // What nobody knows stays spent for good.
      else if (status === "UNKNOWN") open.delete(effect);
      // A failure that counts no call is one in which nothing happened.
      else end(effect, status === "FAILED" && usage.calls === 0 ? NOTHING : amounts);
    },
    state: () => ({
      sessions: [...sessions].map(([id, sum]) => ({ id, ...sum })),
      quarters: [...quarters].map(([at, sum]) => ({ at, ...sum })),
      open: [...open.values()].map((h) => ({
        effect: h.effect,
        session: h.session,
        at: h.atMs,
        ...h.amounts,
      })),
    }),
  };
}

const amountsFrom = (o: JsonObject): Amounts => ({
  calls: integerFrom(o["calls"], "calls"),
  tokens: integerFrom(o["tokens"], "tokens"),
  costMicroUsd: integerFrom(o["costMicroUsd"], "costMicroUsd"),
});
