// Absolute-form requests (`GET http://host/…`): judged as a connection without TLS, one record for each request.
// The body has ended cleanly before anything is judged; nothing is followed, cached or kept.

import { request as httpRequest } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Outcome } from "../../kernel/executor/executor.ts";
import { LIMITS } from "../../kernel/contracts/contracts.ts";
import { scanTexts } from "../../kernel/threat/threat.ts";
import { errorReply, stampHeaders } from "../surfaces/surfaces.ts";
import type { Refusal, Stamp } from "../surfaces/surfaces.ts";
import { authorityOf } from "./authority.ts";
import type { Authority } from "./authority.ts";
import { openTo } from "./dial.ts";
import { faultOf, netTarget } from "./parts.ts";
import type { ProxyParts } from "./parts.ts";

const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
const URL_FORM = /^http:\/\/([^/?#@\\]+)((?:\/[\x21-\x7e]*|\?[\x21-\x7e]*)?)$/i;
/** What belongs to one connection and not to the message (RFC 9110 7.6.1), and what is said to a proxy alone. */
const HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
  "host",
  "content-length",
]);

interface Wanted {
  readonly to: Authority;
  readonly path: string;
}
function wantedOf(request: IncomingMessage): Wanted | string {
  const [, authority = "", rest = ""] = URL_FORM.exec(request.url ?? "") ?? [];
  if (authority === "") return "a forward proxy takes CONNECT and `http://host/…`";
  if (!METHODS.has(request.method ?? "")) return `method \`${request.method ?? ""}\``;
  const to = authorityOf(authority, 80);
  if (to === undefined) return "the address names no host";
  const host = authorityOf(request.headers.host ?? "", 80);
  if (host === undefined || host.host !== to.host || host.port !== to.port)
    return "the Host header names another host than the address";
  if (request.headers.upgrade !== undefined) return "an upgrade is not carried";
  return { to, path: rest.startsWith("/") ? rest : `/${rest}` };
}

export async function plainRequest(
  p: ProxyParts,
  request: IncomingMessage,
  response: ServerResponse,
  closing: AbortSignal,
): Promise<void> {
  const caller = p.callerOf(request);
  const wanted = wantedOf(request);
  const body = await bodyOf(request);
  const fault =
    faultOf(request) ??
    (typeof wanted === "string" ? wanted : body === undefined ? "the body is too large" : undefined);
  if (fault !== undefined || typeof wanted === "string" || body === undefined) {
    const target = typeof wanted === "string" ? "net:unknown:1" : netTarget(wanted.to);
    const told = await p.governor.refuse("DENY_MALFORMED_CALL", fault ?? "", "connect", caller, target);
    if (told.kind === "refused") refuse(response, told.refusal);
    return;
  }
  const { to, path } = wanted;
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const told = await p.governor.ask({
    target: netTarget(to),
    source: "connect",
    args: { host: to.host, port: to.port },
    caller,
    tls: false,
    scan: scanTexts([path, ...textsIn(body)]),
    dispatch: async (signal, stamp) => {
      const ends = AbortSignal.any([signal, closing, gone.signal]);
      const opened = await openTo(to, p.governor.active.policy.privateAddresses, p.resolver(), p.dial, ends);
      if (opened.state === "refused")
        return { status: "failed", code: "DENY_DESTINATION", detail: opened.why };
      if (opened.state === "failed")
        return {
          status: "failed",
          code: opened.late ? "ERR_CONNECTOR_TIMEOUT" : "ERR_CONNECTOR_FAILED",
          detail: opened.why,
        };
      return await forward(p, request, response, { to, path, body, stamp, socket: opened.socket, ends });
    },
  });
  if (told.kind === "refused") {
    if (response.headersSent) response.destroy();
    else refuse(response, told.refusal);
  }
}

interface Forward extends Wanted {
  readonly body: Buffer;
  readonly stamp: Stamp;
  readonly socket: Socket;
  readonly ends: AbortSignal;
}

function forward(
  p: ProxyParts,
  request: IncomingMessage,
  response: ServerResponse,
  f: Forward,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const { socket } = f;
    const usage = () => ({ calls: 1, bytes_out: socket.bytesWritten, bytes_in: socket.bytesRead });
    const finish = (outcome: Outcome): void => {
      socket.destroy();
      resolve(outcome);
    };
    const lost = (detail: string): void =>
      finish({ status: "failed", code: "ERR_CONNECTOR_FAILED", detail, usage: usage() });
    const named = f.to.host.includes(":") ? `[${f.to.host}]` : f.to.host;
    const headers: string[] = ["host", f.to.port === 80 ? named : `${named}:${f.to.port}`];
    headers.push(...endToEnd(request), "connection", "close");
    if (f.body.length > 0 || !["GET", "HEAD", "OPTIONS", "DELETE"].includes(request.method ?? ""))
      headers.push("content-length", String(f.body.length));
    const up = httpRequest({
      createConnection: () => socket,
      method: request.method ?? "GET",
      path: f.path,
      headers,
      setHost: false,
      signal: f.ends,
      maxHeaderSize: 32 << 10,
    });
    socket.setTimeout(p.idleMs, () => up.destroy(new Error("nothing moved")));
    up.once("error", (error) => lost(error.message));
    up.once("response", (answer) => {
      answer.once("error", (error) => lost(error.message));
      response.writeHead(answer.statusCode ?? 502, [
        ...endToEnd(answer),
        ...(answer.headers["content-length"] === undefined
          ? []
          : ["content-length", answer.headers["content-length"]]),
        ...Object.entries(stampHeaders(f.stamp)).flat(),
      ]);
      answer.pipe(response);
      response.once("finish", () => finish({ status: "succeeded", output: null, usage: usage() }));
      response.once("close", () => lost("the client went away"));
    });
    up.end(f.body);
  });
}

/** The headers that belong to the message, as they came; our own names are never the upstream's to set. */
function endToEnd(message: IncomingMessage): string[] {
  const named = new Set((message.headers.connection ?? "").toLowerCase().split(/[\s,]+/));
  const out: string[] = [];
  for (let i = 0; i < message.rawHeaders.length; i += 2) {
    const name = message.rawHeaders[i] ?? "";
    const lower = name.toLowerCase();
    if (HOP.has(lower) || named.has(lower) || lower.startsWith("x-atoll-")) continue;
    out.push(name, message.rawHeaders[i + 1] ?? "");
  }
  return out;
}

async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request) {
    const bytes = Buffer.from(part);
    size += bytes.length;
    if (size > LIMITS.chat.bytes) return undefined;
    parts.push(bytes);
  }
  return Buffer.concat(parts);
}

function textsIn(body: Buffer): string[] {
  if (body.length === 0 || body.length > LIMITS.args.bytes) return [];
  try {
    return [new TextDecoder("utf-8", { fatal: true }).decode(body)];
  } catch {
    return [];
  }
}

function refuse(response: ServerResponse, refusal: Refusal): void {
  if (response.destroyed || response.headersSent) return;
  const e = errorReply(refusal);
  const body = JSON.stringify(e.body);
  response.writeHead(e.status, {
    ...e.headers,
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    connection: "close",
  });
  response.end(body);
}
