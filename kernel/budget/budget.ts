// The door of the budget: reserve → settle → release in integers, by session and by calendar day.
//
// A reservation is made under the same decision that permits, so what is used plus what is reserved never passes
// the limit that was judged. It ends in exactly one way: settled on the real usage, released when nothing happened,
// or kept for good when the outcome is unknown.

import { ContractError } from "../contracts/contracts.ts";
import type { Amounts, SessionId } from "../contracts/contracts.ts";
import type { Reservations } from "../executor/executor.ts";
import { FIELDS, NOTHING, amountsOf } from "./amounts.ts";
import type { Sum } from "./amounts.ts";
import { createCalendar } from "./calendar.ts";
import type { Spent } from "./spent.ts";

export { amountsOf } from "./amounts.ts";
export { createCalendar } from "./calendar.ts";
export { createPool } from "./pool.ts";
export type { Lease, Pool } from "./pool.ts";
export { createSpent } from "./spent.ts";
export type { Spent } from "./spent.ts";

export interface Used {
  readonly session: Amounts;
  readonly daily: Amounts;
}
export interface Budget extends Reservations {
  /** Spent and reserved, of the session and of the day in which that moment lies. */
  used(session: SessionId, nowMs: number): Used;
  /** What the shared day grants this guardian; "own" where the day is not shared. */
  leased(nowMs: number): "own" | Amounts;
  /** Adds to what is granted for a day. */
  grant(day: string, amounts: Amounts): void;
  /** From now on a day without a grant has nothing. */
  share(): void;
  /** What the journal says was spent and is reserved, after a restart. */
  resume(spent: Spent): void;
  /** Reservations without an outcome yet. */
  readonly open: number;
  /** The day of a moment, in the stated zone. */
  day(nowMs: number): string;
}

interface Reservation {
  readonly session: SessionId;
  readonly day: string;
  readonly amounts: Amounts;
}
/** Days that can still be settled: an outcome may come after midnight. */
const KEPT_DAYS = 3;

export function createBudget(options: { readonly timezone: () => string }): Budget {
  const calendar = createCalendar();
  const open = new Map<string, Reservation>();
  const sessions = new Map<string, Sum>();
  const days = new Map<string, Sum>();
  const grants = new Map<string, Sum>();
  let shared = false;

  const day = (ms: number): string => calendar(ms, options.timezone());
  const sumOf = (map: Map<string, Sum>, key: string): Sum => {
    const found = map.get(key);
    if (found !== undefined) return found;
    const fresh = { ...NOTHING };
    map.set(key, fresh);
    return fresh;
  };
  function add(map: Map<string, Sum>, key: string, amounts: Amounts, sign: 1 | -1): void {
    const sum = sumOf(map, key);
    for (const f of FIELDS) {
      const next = sum[f] + sign * amounts[f];
      if (!Number.isSafeInteger(next) || next < 0) throw new RangeError(`${f} would become ${next}`);
    }
    for (const f of FIELDS) sum[f] += sign * amounts[f];
  }
  function hold(key: string, r: Reservation): void {
    if (open.has(key)) throw new ContractError(key, "is reserved already");
    for (const f of FIELDS)
      if (!Number.isSafeInteger(r.amounts[f]) || r.amounts[f] < 0)
        throw new ContractError(`${key}.${f}`, `${r.amounts[f]} is no amount`);
    add(sessions, r.session, r.amounts, 1);
    add(days, r.day, r.amounts, 1);
    open.set(key, r);
    for (const old of days.keys()) {
      if (days.size <= KEPT_DAYS) break;
      if (![...open.values()].some((o) => o.day === old)) days.delete(old);
      else break;
    }
  }
  function take(key: string, actual: Amounts): void {
    const r = open.get(key);
    // Ended already: an outcome counts once.
    if (r === undefined) return;
    open.delete(key);
    add(sessions, r.session, r.amounts, -1);
    add(sessions, r.session, actual, 1);
    add(days, r.day, r.amounts, -1);
    add(days, r.day, actual, 1);
  }

  return {
    reserve: (key, permit) =>
      hold(key, {
        session: permit.facts.session.id,
        day: day(Date.parse(permit.facts.now)),
        amounts: permit.reserves,
      }),
    settle: (key, usage) => take(key, amountsOf(usage)),
    release: (key) => take(key, NOTHING),
    used: (session, now) => ({
      session: { ...(sessions.get(session) ?? NOTHING) },
      daily: { ...(days.get(day(now)) ?? NOTHING) },
    }),
    leased: (now) => (shared ? { ...(grants.get(day(now)) ?? NOTHING) } : "own"),
    grant(of, amounts) {
      shared = true;
      add(grants, of, amounts, 1);
      for (const old of grants.keys()) {
        if (grants.size <= KEPT_DAYS) break;
        grants.delete(old);
      }
    },
    share() {
      shared = true;
    },
    resume(spent) {
      for (const [session, sum] of spent.sessions) add(sessions, session, sum, 1);
      for (const [at, sum] of spent.quarters) add(days, day(at), sum, 1);
      for (const [key, { session, atMs, amounts }] of spent.open)
        open.set(key, { session, day: day(atMs), amounts });
    },
    get open() {
      return open.size;
    },
    day,
  };
}
