// The clock that people set is watched with one that nobody can: a jump is recorded, since every time in a record after
// it means something else than before. Order never comes from the clock.

import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Journal, SessionId } from "../../kernel/contracts/contracts.ts";

export interface ClockOptions {
  readonly journal: Journal;
  readonly session: SessionId;
  /** Milliseconds since 1970, as this machine believes. */
  readonly wall: () => number;
  /** Milliseconds of a clock that only ever goes on. */
  readonly monotonic: () => number;
}

/** Further from the steady clock than any correction by NTP goes at once. */
const JUMP_MS = 2_000;

/** Looks when it is called; `every` second is often enough. */
export function watchClock(options: ClockOptions): () => void {
  let wall = options.wall();
  let steady = options.monotonic();
  return () => {
    const [now, at] = [options.wall(), options.monotonic()];
    const jumped = Math.round(now - wall - (at - steady));
    const before = wall + Math.round(at - steady);
    wall = now;
    steady = at;
    if (Math.abs(jumped) < JUMP_MS) return;
    options.journal.append(
      [
        {
          kind: "TRUST_EVENT",
          session_id: options.session,
          parents: [],
          issued_at: timestampOf(now),
          body: {
            type: "atoll.dev/trust-event/v1",
            event: "CLOCK_JUMP",
            expected: timestampOf(before),
            found: timestampOf(now),
            milliseconds: jumped,
          },
        },
      ],
      [],
    );
  };
}
