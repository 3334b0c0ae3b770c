// A response that is being streamed.

import type { FastifyReply } from "fastify";

const BEAT_MS = 5_000;

export class Outlet {
  readonly #reply: FastifyReply;
  #timer: NodeJS.Timeout | undefined;
  #text = "";
  #begun = false;
  opened = false;
  constructor(reply: FastifyReply) {
    this.#reply = reply;
  }
  open(headers: Record<string, string>): void {
    this.opened = true;
    this.#reply.hijack();
    this.#reply.raw.on("error", () => {});
    this.#reply.raw.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
      ...headers,
    });
    // With the first text where it is there already, and by themselves where it is not.
    setImmediate(() => {
      if (!this.#begun && !this.#reply.raw.destroyed) this.#reply.raw.flushHeaders();
    });
  }
  /** Goes out with what follows in the same turn, at the next `write`. */
  put(text: string): void {
    this.#text += text;
  }
  write(text = ""): void {
    const all = this.#text + text;
    this.#text = "";
    if (all === "" || !this.opened || this.#reply.raw.destroyed) return;
    this.#begun = true;
    this.#reply.raw.write(all);
  }
  /** Comments keep a stream alive while a person is asked. */
  hold(): void {
    this.quiet();
    this.#timer = setInterval(() => this.write(": waiting\n\n"), BEAT_MS);
  }
  quiet(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
  /** Waits for a slow reader, so that what it does not take is not read for it either. */
  async drained(signal: AbortSignal): Promise<void> {
    const raw = this.#reply.raw;
    if (!raw.writableNeedDrain || raw.destroyed) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        raw.off("drain", go);
        raw.off("close", go);
        signal.removeEventListener("abort", go);
        resolve();
      };
      raw.once("drain", go);
      raw.once("close", go);
      signal.addEventListener("abort", go, { once: true });
    });
  }
  end(): void {
    this.quiet();
    this.write();
    this.#begun = true;
    if (this.opened) this.#reply.raw.end();
  }
}
