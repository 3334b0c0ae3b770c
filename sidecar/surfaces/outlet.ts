// A response that is being streamed.

import type { FastifyReply } from "fastify";

const BEAT_MS = 5_000;

export class Outlet {
  readonly #reply: FastifyReply;
  #timer: NodeJS.Timeout | undefined;
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
    this.#reply.raw.flushHeaders();
  }
  write(text: string): void {
    if (this.opened && !this.#reply.raw.destroyed) this.#reply.raw.write(text);
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
    if (this.opened) this.#reply.raw.end();
  }
}
