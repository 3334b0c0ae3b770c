// CONNECT: judged, then resolved, then dialled, and only then answered; what the client says first must be a hello to
// the very name that was judged. One record for each connection, with its bytes.

import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Outcome } from "../../kernel/executor/executor.ts";
import { errorReply, stampHeaders } from "../surfaces/surfaces.ts";
import type { Refusal, Stamp } from "../surfaces/surfaces.ts";
import { authorityOf } from "./authority.ts";
import type { Authority } from "./authority.ts";
import { openTo } from "./dial.ts";
import { readHello } from "./hello.ts";
import { faultOf, netTarget } from "./parts.ts";
import type { ProxyParts } from "./parts.ts";

export async function tunnel(
  p: ProxyParts,
  request: IncomingMessage,
  client: Socket,
  head: Buffer,
  closing: AbortSignal,
): Promise<void> {
  client.on("error", () => client.destroy());
  const caller = p.callerOf(request);
  const to = authorityOf(request.url ?? "");
  const early = new Early(client, head);
  const fault =
    faultOf(request) ??
    (to === undefined ? "CONNECT needs `host:port`" : early.any ? "data came before the answer" : undefined);
  if (fault !== undefined || to === undefined) {
    const target = to === undefined ? "net:unknown:1" : netTarget(to);
    const told = await p.governor.refuse("DENY_MALFORMED_CALL", fault ?? "", "connect", caller, target);
    if (told.kind === "refused") answer(client, told.refusal);
    return;
  }
  let answered = false;
  const told = await p.governor.ask({
    target: netTarget(to),
    source: "connect",
    args: { host: to.host, port: to.port },
    caller,
    dispatch: async (signal, stamp) => {
      const ends = AbortSignal.any([signal, closing]);
      const opened = await openTo(to, p.governor.active.policy.privateAddresses, p.resolver(), p.dial, ends);
      if (opened.state === "refused") return failed("DENY_DESTINATION", opened.why);
      if (opened.state === "failed")
        return failed(opened.late ? "ERR_CONNECTOR_TIMEOUT" : "ERR_CONNECTOR_FAILED", opened.why);
      const upstream = opened.socket;
      try {
        if (early.any) return failed("DENY_MALFORMED_CALL", "data came before the answer");
        if (client.destroyed) return failed("ERR_CONNECTOR_FAILED", "the client went away");
        client.write(established(stamp));
        answered = true;
        const fault = await greeting(p, to, early);
        if (fault !== undefined) return failed("DENY_DESTINATION", fault);
        return await carry(client, upstream, early, p.idleMs, ends);
      } finally {
        upstream.destroy();
        if (answered) client.destroy();
      }
    },
  });
  if (told.kind === "refused" && !answered) answer(client, told.refusal);
  else client.destroy();
}

const failed = (
  code: "DENY_DESTINATION" | "DENY_MALFORMED_CALL" | "ERR_CONNECTOR_FAILED" | "ERR_CONNECTOR_TIMEOUT",
  detail: string,
): Outcome => ({
  status: "failed",
  code,
  detail,
});

function established(stamp: Stamp): string {
  const headers = Object.entries(stampHeaders(stamp)).map(([k, v]) => `${k}: ${v}\r\n`);
  return `HTTP/1.1 200 Connection Established\r\n${headers.join("")}\r\n`;
}

export function answer(client: Socket, refusal: Refusal): void {
  if (client.destroyed) return;
  const e = errorReply(refusal);
  const body = JSON.stringify(e.body);
  const headers = Object.entries({
    ...e.headers,
    "content-type": "application/json; charset=utf-8",
    "content-length": String(Buffer.byteLength(body)),
    connection: "close",
  });
  client.end(
    `HTTP/1.1 ${e.status} Refused\r\n${headers.map(([k, v]) => `${k}: ${v}\r\n`).join("")}\r\n${body}`,
  );
  // A client that does not read its answer is not waited for.
  setTimeout(() => client.destroy(), 2_000).unref();
}

/** What a client has sent and nobody has carried yet; never more than a hello's worth. */
class Early {
  readonly #client: Socket;
  #bytes: Buffer;
  #wake: () => void = () => {};
  #ended = false;
  readonly #take = (chunk: Buffer): void => {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    this.#client.pause();
    this.#wake();
  };
  readonly #end = (): void => {
    this.#ended = true;
    this.#wake();
  };
  constructor(client: Socket, head: Buffer) {
    this.#client = client;
    this.#bytes = Buffer.from(head);
    client.on("data", this.#take);
    client.once("end", this.#end);
    client.once("close", this.#end);
  }
  get any(): boolean {
    return this.#bytes.length > 0;
  }
  get bytes(): Buffer {
    return this.#bytes;
  }
  /** Resolves when more has come; false when nothing will. */
  more(ms: number): Promise<boolean> {
    if (this.#ended) return Promise.resolve(false);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = () => {};
        resolve(!this.#ended);
      };
      this.#client.resume();
    });
  }
  /** From here on somebody else listens. */
  release(): Buffer {
    this.#client.pause();
    this.#client.off("data", this.#take);
    this.#client.off("end", this.#end);
    this.#client.off("close", this.#end);
    return this.#bytes;
  }
}

/** Why what the client says first is not a hello to that name. */
async function greeting(p: ProxyParts, to: Authority, early: Early): Promise<string | undefined> {
  const until = performance.now() + p.helloMs;
  for (;;) {
    const hello = early.any ? readHello(early.bytes) : { state: "more" as const };
    switch (hello.state) {
      case "refused":
        return hello.why;
      case "not TLS":
        return p.governor.active.policy.perimeter.requireTls ? "the client does not speak TLS" : undefined;
      case "hello":
        if (to.literal) return hello.name === "" ? undefined : `the client asks for \`${hello.name}\``;
        if (hello.name === "") return "the client names no server";
        return hello.name.toLowerCase() === to.host ? undefined : `the client asks for \`${hello.name}\``;
      case "more":
        if (!(await early.more(Math.max(0, until - performance.now())))) return "no whole hello came in time";
    }
  }
}

/** Carries both ways until both sides have ended, one has failed, or nothing has moved for long. */
function carry(
  client: Socket,
  upstream: Socket,
  early: Early,
  idleMs: number,
  ends: AbortSignal,
): Promise<Outcome> {
  return new Promise((resolve) => {
    let over = false;
    const usage = () => ({ calls: 1, bytes_out: upstream.bytesWritten, bytes_in: upstream.bytesRead });
    const finish = (outcome: (u: ReturnType<typeof usage>) => Outcome): void => {
      if (over) return;
      over = true;
      ends.removeEventListener("abort", stopped);
      const counted = usage();
      client.destroy();
      upstream.destroy();
      resolve(outcome(counted));
    };
    const done = (): void => finish((u) => ({ status: "succeeded", output: null, usage: u }));
    const stopped = (): void => done();
    let halves = 0;
    const half = (): void => {
      if (++halves === 2) done();
    };
    upstream.on("error", (error) =>
      finish((u) => ({ status: "failed", code: "ERR_CONNECTOR_FAILED", detail: error.message, usage: u })),
    );
    upstream.once("end", half);
    client.once("end", half);
    upstream.once("close", done);
    client.once("close", done);
    upstream.setTimeout(idleMs, done);
    ends.addEventListener("abort", stopped, { once: true });
    upstream.write(early.release());
    client.pipe(upstream);
    upstream.pipe(client);
    if (ends.aborted || client.destroyed) done();
  });
}
