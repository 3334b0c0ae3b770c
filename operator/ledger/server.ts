// The ledger over HTTPS: a guardian ships its own records and asks how far they have come. The token says which pod
// it is; that the records are that pod's, their signatures say.

import { createServer } from "node:https";
import { createServer as createPlain } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Ledger } from "./ledger.ts";

export interface ServeOptions {
  readonly ledger: Ledger;
  /** The pod whose token this is, undefined for none. */
  readonly podOf: (token: string) => Promise<string | undefined>;
  readonly host?: string;
  readonly port: number;
  /** Absent only where nobody but this machine listens. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** How often the ledger commits to what it holds. */
  readonly checkpointMs?: number;
  readonly log?: (line: string) => void;
}
export interface LedgerServer {
  readonly port: number;
  stop(): Promise<void>;
}

const MOST = 16 << 20;
/** Bytes of requests that are held at once, of all guardians together: after an outage all of them have much to say. */
const HELD = 48 << 20;

/** What of a ledger's requests is being read or judged. */
interface Desk {
  held: number;
  readonly pods: Map<string, Taken>;
}
interface Taken {
  readonly request: IncomingMessage;
  /** Its body is not whole yet. */
  reading: boolean;
}
const desks = new WeakMap<Ledger, Desk>();
function deskOf(ledger: Ledger): Desk {
  const desk = desks.get(ledger) ?? { held: 0, pods: new Map<string, Taken>() };
  desks.set(ledger, desk);
  return desk;
}

export async function serveLedger(options: ServeOptions): Promise<LedgerServer> {
  const { ledger } = options;
  const handler = (request: IncomingMessage, response: ServerResponse): void => {
    handle(request, response).catch((error: unknown) => {
      options.log?.(error instanceof Error ? error.message : String(error));
      if (response.headersSent) response.destroy();
      else answer(response, 503, { error: "the ledger cannot answer now" });
    });
  };
  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1];
    const pod = token === undefined ? undefined : await options.podOf(token);
    if (pod === undefined) return answer(response, 401, { error: "a guardian's token is needed" });
    return answerGuardian(ledger, pod, request, response);
  }
  const server =
    options.tls === undefined
      ? createPlain(handler)
      : createServer({ ...options.tls, minVersion: "TLSv1.3" }, handler);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });
  let checkpointing = Promise.resolve();
  const timer = setInterval(() => {
    checkpointing = checkpointing
      .then(() => ledger.checkpoint())
      .then(() => undefined)
      .catch((error: unknown) => options.log?.(error instanceof Error ? error.message : String(error)));
  }, options.checkpointMs ?? 10_000);
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : options.port,
    async stop() {
      clearInterval(timer);
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
      await checkpointing;
    },
  };
}

/** One request of the guardian of a pod, which has shown that it is that. */
export async function answerGuardian(
  ledger: Ledger,
  pod: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? "/", "https://ledger");
  if (url.pathname !== "/v1/ledger") return answer(response, 404, { error: "no such path" });
  if (request.method === "GET") return answer(response, 200, { ...(await ledger.status(pod)) });
  const from = Number(url.searchParams.get("from") ?? "");
  if (request.method !== "POST" || !Number.isSafeInteger(from) || from < 0)
    return answer(response, 400, { error: "POST with `from`, the number of the first record" });
  const length = Number(request.headers["content-length"] ?? MOST);
  if (!Number.isSafeInteger(length) || length < 0 || length > MOST)
    return answer(response, 413, { error: `more than ${MOST} bytes` });
  const desk = deskOf(ledger);
  const before = desk.pods.get(pod);
  // One guardian ships one thing after the other: a half request of its is one that it has given up.
  if (before?.reading === true) before.request.destroy();
  else if (before !== undefined || desk.held + length > HELD)
    return answer(response, 503, { error: "the ledger is busy" });
  const mine = { request, reading: true };
  desk.pods.set(pod, mine);
  desk.held += length;
  try {
    await take(ledger, pod, from, mine, response);
  } finally {
    if (desk.pods.get(pod) === mine) desk.pods.delete(pod);
    desk.held -= length;
  }
}

async function take(
  ledger: Ledger,
  pod: string,
  from: number,
  taken: Taken,
  response: ServerResponse,
): Promise<void> {
  const body = await bodyOf(taken.request);
  taken.reading = false;
  if (body === undefined) return answer(response, 413, { error: `more than ${MOST} bytes` });
  const lines = body.split("\n");
  if (lines.pop() !== "") return answer(response, 400, { error: "the last record does not end" });
  const accepted = await ledger.accept(pod, from, lines);
  if (accepted.ok) return answer(response, 200, { count: accepted.count });
  const { ok: _, ...why } = accepted;
  return answer(response, accepted.problem === "refused" ? 422 : 409, why);
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(JSON.stringify(body));
}

/** The whole body as text; nothing of a body that broke off is taken. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.byteLength;
    if (size > MOST) return undefined;
    parts.push(part);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts));
}
