// One session for each verified principal, and the counts that the gates read. It survives restarts through the journal.

import { createHmac } from "node:crypto";
import { idFrom } from "../../kernel/contracts/contracts.ts";
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
  #first = 0;
  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }
  add(now: number): void {
    this.#times.push(now);
    if (this.#times.length - this.#first > 100_000) this.#first = this.#times.length - 50_000;
    // What has left the window is dropped when it is half of what is held, so that an event costs the same at any rate.
    if (this.#first > 1_024 && this.#first * 2 > this.#times.length) {
      this.#times = this.#times.slice(this.#first);
      this.#first = 0;
    }
  }
  count(now: number): number {
    const since = now - this.#windowMs;
    while (this.#first < this.#times.length && (this.#times[this.#first] ?? 0) <= since) this.#first++;
    return this.#times.length - this.#first;
  }
}

export class Sessions {
  readonly #byPrincipal = new Map<string, Session>();
  readonly #byId = new Map<SessionId, Session>();
  readonly #rates = new Map<string, Recent>();
  readonly #makeId: () => SessionId;
  readonly #own: SessionId;
  constructor(makeId: () => SessionId, own: SessionId, restored: readonly RestoredSession[] = []) {
    this.#makeId = makeId;
    this.#own = own;
    for (const s of restored) {
      const session = { ...s };
      this.#byId.set(s.id, session);
      this.#byPrincipal.set(s.principal, session);
    }
  }
  /** `sid`: the session that a token names, so that one principal may have several. */
  of(principal: string, now: number, sid?: string): Session {
    const found =
      sid === undefined ? this.#byPrincipal.get(principal) : this.#byId.get(this.#named(principal, sid));
    if (found !== undefined) return found;
    const id = sid === undefined ? this.#makeId() : this.#named(principal, sid);
    const session = { id, principal, openedAtMs: now, calls: 0, tainted: false };
    this.#byId.set(id, session);
    if (sid === undefined) this.#byPrincipal.set(principal, session);
    return session;
  }
  /** A restart finds the session of a token again although no node says `sid`: the id follows from it. */
  #named(principal: string, sid: string): SessionId {
    const text = JSON.stringify([principal, sid]);
    const hex = createHmac("sha256", this.#own).update(text).digest("hex").slice(0, 32);
    return idFrom("ses", `ses_${hex}`, "session");
  }
  /** Ends the principal's session; the next call opens another. */
  renew(principal: string): void {
    this.#byPrincipal.delete(principal);
  }
  all(): readonly Session[] {
    return [...this.#byId.values()];
  }
  rate(key: string, windowMs: number): Recent {
    let recent = this.#rates.get(key);
    if (recent === undefined) this.#rates.set(key, (recent = new Recent(windowMs)));
    return recent;
  }
}
