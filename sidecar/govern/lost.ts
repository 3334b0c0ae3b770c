// Requests to models whose client was gone before it had the answer: what an SDK then repeats by itself is known by this,
// and is not paid for twice.

const KEPT = 10_000;
/** Longer than any SDK goes on repeating. */
const KEPT_MS = 600_000;

export class LostAnswers {
  readonly #at = new Map<string, number>();
  add(session: string, target: string, argsHash: string, atMs: number): void {
    const key = keyOf(session, target, argsHash);
    this.#at.delete(key);
    this.#at.set(key, atMs);
    if (this.#at.size > KEPT)
      for (const old of [...this.#at.keys()].slice(0, KEPT / 10)) this.#at.delete(old);
  }
  has(session: string, target: string, argsHash: string, nowMs: number): boolean {
    const at = this.#at.get(keyOf(session, target, argsHash));
    return at !== undefined && nowMs - at < KEPT_MS;
  }
}
const keyOf = (session: string, target: string, argsHash: string): string =>
  `${session} ${target} ${argsHash}`;
