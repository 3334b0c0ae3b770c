// One session for each verified principal, and the counts that the gates read. It survives restarts through the journal.

import type { SessionId } from "../../kernel/contracts/contracts.ts";

export interface Session {
  readonly id: SessionId;
  readonly principal: string;
  readonly openedAtMs: number;
  calls: number;
  tainted: boolean;
}
export interface RestoredSession {
  readonly id: SessionId;
  readonly principal: string;
  readonly openedAtMs: number;
  readonly calls: number;
  readonly tainted: boolean;
}

/** How often something happened within a window, exact to the event and bounded in memory. */
export class Recent {
  readonly #windowMs: number;
  #times: number[] = [];
  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }
  add(now: number): void {
    this.#times.push(now);
    if (this.#times.length > 100_000) this.#times = this.#times.slice(-50_000);
  }
  count(now: number): number {
    const since = now - this.#windowMs;
    let first = 0;
    while (first < this.#times.length && (this.#times[first] ?? 0) <= since) first++;
    if (first > 0) this.#times = this.#times.slice(first);
    return this.#times.length;
  }
  /** Milliseconds until the oldest event leaves the window. */
  freeIn(now: number): number {
    return Math.max(0, (this.#times[0] ?? now) + this.#windowMs - now);
  }
}

export class Sessions {
  readonly #byPrincipal = new Map<string, Session>();
  readonly #rates = new Map<string, Recent>();
  readonly #makeId: () => SessionId;
  constructor(makeId: () => SessionId, restored: readonly RestoredSession[] = []) {
    this.#makeId = makeId;
    for (const s of restored) this.#byPrincipal.set(s.principal, { ...s });
  }
  of(principal: string, now: number): Session {
    let session = this.#byPrincipal.get(principal);
    if (session === undefined) {
      session = { id: this.#makeId(), principal, openedAtMs: now, calls: 0, tainted: false };
      this.#byPrincipal.set(principal, session);
    }
    return session;
  }
  /** Ends the principal's session; the next call opens another. */
  renew(principal: string): void {
    this.#byPrincipal.delete(principal);
  }
  all(): readonly Session[] {
    return [...this.#byPrincipal.values()];
  }
  rate(key: string, windowMs: number): Recent {
    let recent = this.#rates.get(key);
    if (recent === undefined) this.#rates.set(key, (recent = new Recent(windowMs)));
    return recent;
  }
}
