// More than 50 denials a second from one session: no gate is asked any more in that second, and one record says
// afterwards how many calls were turned away.

import type { SessionId } from "../contracts/contracts.ts";

const PER_SECOND = 50;

export interface Throttle {
  /** Whether the session's calls are turned away unheard; each such call is counted. */
  floods(session: SessionId, now: number): boolean;
  /** Counts a denial; the answer is how many calls it stands for, 1 where nothing was turned away before it. */
  refusal(session: SessionId, now: number): number;
}

interface Second {
  readonly second: number;
  readonly refused: number;
  /** Turned away since the last record. */
  readonly silent: number;
}

export function createThrottle(): Throttle {
  const sessions = new Map<SessionId, Second>();
  const at = (session: SessionId, now: number): Second => {
    const second = Math.floor(now / 1000);
    const s = sessions.get(session);
    return s?.second === second ? s : { second, refused: 0, silent: s?.silent ?? 0 };
  };
  return {
    floods(session, now) {
      const s = at(session, now);
      if (s.refused < PER_SECOND) return false;
      sessions.set(session, { ...s, silent: s.silent + 1 });
      return true;
    },
    refusal(session, now) {
      const s = at(session, now);
      sessions.set(session, { ...s, refused: s.refused + 1, silent: 0 });
      return s.silent + 1;
    },
  };
}
