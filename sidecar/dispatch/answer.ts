// An answer of an upstream on its way: read from undici's own calls, without a stream between. What has arrived by the
// time that somebody reads is handed over in one piece; what nobody reads holds the connection back.

import type { Dispatcher } from "undici";
import { UpstreamError, upstreamError } from "./failure.ts";

const MOST = 32 << 20;
/** Bytes that wait for a reader before the connection is held back. */
const HELD_MOST = 64 << 10;

export class Answer implements Dispatcher.DispatchHandler, AsyncIterableIterator<Uint8Array> {
  readonly #started = Promise.withResolvers<void>();
  readonly #signals: readonly AbortSignal[];
  #controller: Dispatcher.DispatchController | undefined;
  #parts: Buffer[] = [];
  #waiting = 0;
  #size = 0;
  #whole = false;
  #ended = false;
  #failure: UpstreamError | undefined;
  #wake: (() => void) | undefined;
  status = 0;
  headers: Readonly<Record<string, string>> = {};

  constructor(signals: readonly AbortSignal[]) {
    this.#signals = signals;
    this.#started.promise.catch(() => undefined);
    for (const signal of signals) signal.addEventListener("abort", this);
  }
  /** Resolves when status and headers are known. */
  get started(): Promise<void> {
    return this.#started.promise;
  }
  /** Ends it, whoever waits: `error` is what they are told. */
  fail(error: unknown): void {
    if (this.#ended || this.#failure !== undefined) return;
    this.#failure = upstreamError(error);
    this.#settle();
    this.#controller?.abort(this.#failure);
    this.#started.reject(this.#failure);
  }
  /** One of the signals. */
  handleEvent(event: Event): void {
    const { currentTarget } = event;
    this.fail(currentTarget instanceof AbortSignal ? currentTarget.reason : undefined);
  }
  #settle(): void {
    for (const signal of this.#signals) signal.removeEventListener("abort", this);
    this.#wake?.();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#failure !== undefined) controller.abort(this.#failure);
  }
  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    // What comes before the answer, as 103 does.
    if (status < 200) return;
    const flat: Record<string, string> = {};
    for (const [name, value] of Object.entries(headers))
      if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(", ") : value;
    this.status = status;
    this.headers = flat;
    this.#started.resolve();
  }
  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#failure !== undefined) return;
    this.#size += chunk.byteLength;
    if (this.#size > MOST) {
      this.fail(new UpstreamError("ERR_CONNECTOR_FAILED", "the upstream's answer is too large", false));
      return;
    }
    this.#parts.push(chunk);
    this.#waiting += chunk.byteLength;
    if (this.#waiting > HELD_MOST && !this.#whole) controller.pause();
    if (!this.#whole) this.#wake?.();
  }
  onResponseEnd(): void {
    this.#ended = true;
    this.#settle();
  }
  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(error);
  }

  #taken(): Buffer {
    const [first] = this.#parts;
    const bytes = this.#parts.length === 1 && first !== undefined ? first : Buffer.concat(this.#parts);
    this.#parts = [];
    const held = this.#waiting > HELD_MOST;
    this.#waiting = 0;
    if (held && !this.#ended) this.#controller?.resume();
    return bytes;
  }
  async #more(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
  }
  /** All of it. */
  async whole(): Promise<Buffer> {
    this.#whole = true;
    if (this.#waiting > HELD_MOST) this.#controller?.resume();
    while (!this.#ended && this.#failure === undefined) await this.#more();
    if (this.#failure !== undefined) throw this.#failure;
    return this.#taken();
  }
  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    while (this.#parts.length === 0 && !this.#ended && this.#failure === undefined) await this.#more();
    if (this.#parts.length > 0) return { done: false, value: this.#taken() };
    if (this.#failure !== undefined) throw this.#failure;
    return { done: true, value: undefined };
  }
  /** Whoever stops reading before the end wants no more of it. */
  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.fail(new UpstreamError("ERR_CONNECTOR_FAILED", "nobody reads the answer any more", false));
    return { done: true, value: undefined };
  }
  [Symbol.asyncIterator](): this {
    return this;
  }
}
