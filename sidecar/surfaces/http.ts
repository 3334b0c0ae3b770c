// The HTTP ground of the guardian's surfaces: what a request must look like before any surface reads it.

import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import fastify from "fastify";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { JsonError, LIMITS, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonLimits, JsonValue } from "../../kernel/contracts/contracts.ts";
import { errorReply } from "./replies.ts";
import type { Refusal } from "./replies.ts";

const ONCE: ReadonlySet<string> = new Set([
  "host",
  "content-length",
  "transfer-encoding",
  "authorization",
  "content-type",
  "origin",
]);
const LOOPBACK = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i;
const LOOPBACK_ORIGIN = /^https?:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i;

/** Why a request is not served, before anything is read of it. */
export function refusedRequest(
  request: IncomingMessage,
): { readonly status: number; readonly why: string } | undefined {
  const seen = new Set<string>();
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    const name = (request.rawHeaders[i] ?? "").toLowerCase();
    if (!ONCE.has(name)) continue;
    if (seen.has(name)) return { status: 400, why: `header \`${name}\` is given twice` };
    seen.add(name);
  }
  // An address in place of a path names a host of its own, and two readers may follow either.
  if (request.url?.startsWith("/") !== true)
    return { status: 400, why: "the target is no path; this is no proxy" };
  if (!LOOPBACK.test(request.headers.host ?? ""))
    return { status: 403, why: "the Host header names another machine" };
  const origin = request.headers.origin;
  if (origin !== undefined && !LOOPBACK_ORIGIN.test(origin))
    return { status: 403, why: "the Origin is another one" };
  if (seen.has("transfer-encoding") && seen.has("content-length"))
    return { status: 400, why: "both Content-Length and Transfer-Encoding" };
  return undefined;
}

/** No route of ours has a schema of fastify's: what is asked for is judged by the policy's. */
const noSchemas = (): never => {
  throw new Error("no route has a schema of its own");
};

export function createApp(): FastifyInstance {
  const app = fastify({
    schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
    bodyLimit: LIMITS.chat.bytes,
    logger: false,
    exposeHeadRoutes: false,
    forceCloseConnections: "idle",
    routerOptions: { maxParamLength: 300 },
  });
  app.removeAllContentTypeParsers();
  // The whole body is there, and ended cleanly, before a handler runs: nothing takes effect on half a request.
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.addHook("onRequest", async (request, reply) => {
    const refused = refusedRequest(request.raw);
    if (refused === undefined) return;
    reply.header("connection", "close");
    await send(reply, {
      code: "DENY_MALFORMED_CALL",
      detail: refused.why,
      stamp: undefined,
      begun: false,
      status: refused.status,
    });
  });
  app.setNotFoundHandler((request, reply) =>
    send(reply, {
      code: "DENY_MALFORMED_CALL",
      detail: `no endpoint \`${request.method} ${request.url.split("?", 1)[0] ?? ""}\``,
      stamp: undefined,
      begun: false,
      status: 404,
    }),
  );
  app.setErrorHandler((error: unknown, _request, reply) => {
    const status =
      error instanceof Error && "statusCode" in error && typeof error.statusCode === "number"
        ? error.statusCode
        : 500;
    const mine = status >= 400 && status < 500;
    return send(reply, {
      code: mine ? "DENY_MALFORMED_CALL" : "ERR_OUTCOME_UNKNOWN",
      detail: mine && error instanceof Error ? error.message : "",
      stamp: undefined,
      begun: !mine,
      status,
    });
  });
  return app;
}

/** A server of the app's with every wait bounded. Several may serve one app. */
export function serverOf(app: FastifyInstance): Server {
  const server = createServer(
    {
      maxHeaderSize: 32 << 10,
      headersTimeout: 10_000,
      requestTimeout: 30_000,
      keepAliveTimeout: 65_000,
      connectionsCheckingInterval: 2_000,
      requireHostHeader: true,
      insecureHTTPParser: false,
    },
    (request: IncomingMessage, response: ServerResponse) => app.routing(request, response),
  );
  server.maxConnections = 2_048;
  server.maxHeadersCount = 128;
  server.on("upgrade", (_request, socket) => socket.destroy());
  server.on("connect", (_request, socket) => socket.destroy());
  server.on("clientError", (_error, socket) => {
    if (socket.writable)
      socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    else socket.destroy();
  });
  return server;
}

export async function send(
  reply: FastifyReply,
  refusal: Refusal,
  shape: "openai" | "anthropic" = "openai",
): Promise<FastifyReply> {
  const e = errorReply(refusal, shape);
  return await reply.status(e.status).headers(e.headers).send(e.body);
}

/** The body as a value, or why it is none. */
export function bodyOf(
  request: FastifyRequest,
  limits: JsonLimits,
): { readonly value: JsonValue } | { readonly fault: string } {
  const bytes = request.body;
  if (!Buffer.isBuffer(bytes)) return { fault: "a JSON body is expected" };
  try {
    return { value: parseJson(bytes, limits) };
  } catch (error) {
    if (error instanceof JsonError || error instanceof SyntaxError || error instanceof TypeError)
      return { fault: error.message };
    throw error;
  }
}

/** Aborted when the client has gone away before it was answered. */
export function goneSignal(request: FastifyRequest, reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableEnded) controller.abort();
  });
  request.raw.once("error", () => controller.abort());
  return controller.signal;
}
