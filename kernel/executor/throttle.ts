// More than 50 denials a second from one session: one record a second says how many there were.

import type { SessionId } from "../contracts/contracts.ts";

const PER_SECOND = 50;

export type Turn =
  | { readonly state: "record" }
  | { readonly state: "silent" }
  /** The first past a flooded second: its record counts those that left none. */
  | { readonly state: "summary"; readonly calls: number };

export interface Throttle {
  refusal(session: SessionId, now: number): Turn;
}

export function createThrottle(): Throttle {
  const sessions = new Map<SessionId, { second: number; count: number; silent: number }>();
  return {
    refusal(session, now) {
      const second = Math.floor(now / 1000);
      const s = sessions.get(session) ?? { second, count: 0, silent: 0 };
      sessions.set(session, s);
      if (s.second !== second) {
        const flooded = s.count > PER_SECOND;
        s.second = second;
        s.count = 0;
        if (flooded && s.silent > 0) {
          s.count = 1;
          const calls = s.silent + 1;
          s.silent = 0;
          return { state: "summary", calls };
        }
      }
      s.count++;
      if (s.count <= PER_SECOND) return { state: "record" };
      if (s.count === PER_SECOND + 1 && s.silent === 0) {
        s.silent = 0;
      }
      s.silent++;
      return { state: "silent" };
    },
  };
}
