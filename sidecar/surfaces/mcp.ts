// The MCP gateway at /mcp and /mcp/<connector>: what the policy's servers offer, cut down to what the principal may call.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ContractError, LIMITS, isObject } from "../../kernel/contracts/contracts.ts";
import {
  META,
  MODERN,
  REVISIONS,
  RPC,
  isModern,
  isRevision,
  modernFault,
  parseMessage,
  rpcError,
  statusOfRpc,
} from "../../kernel/mcp/mcp.ts";
import type { Message } from "../../kernel/mcp/mcp.ts";
import type { Caller } from "../govern/govern.ts";
import { bodyOf, goneSignal } from "./http.ts";
import { McpClients, McpReply } from "./mcp-clients.ts";
import { metaOf, method, ownSession } from "./mcp-methods.ts";
import type { Answer } from "./mcp-methods.ts";
import { modernMethod } from "./mcp-modern.ts";
import { messageOf, stampHeaders } from "./replies.ts";
import type { Surface } from "./surface.ts";

type Verified = Caller & { readonly state: "verified" };
interface Gateway {
  readonly s: Surface;
  readonly clients: McpClients;
  /** Requests under way, by principal, session and id, so that a client can take one back. */
  readonly underWay: Map<string, Set<AbortController>>;
}

export function mcpSurface(app: FastifyInstance, s: Surface): void {
  const gateway: Gateway = { s, clients: new McpClients(), underWay: new Map() };
  for (const path of ["/mcp", "/mcp/:connector"]) {
    app.post<{ Params: { connector?: string } }>(path, (request, reply) =>
      serve(gateway, request, reply, request.params.connector),
    );
    app.delete(path, (request, reply) => {
      const session = headerOf(request, "mcp-session-id");
      if (session === undefined || gateway.clients.of(session) === undefined)
        return reply.status(404).send(rpcError(null, RPC.request, "no such session"));
      gateway.clients.close(session);
      const caller = s.callerOf(request);
      if (caller.state === "verified") s.federation.leave(ownSession(session, caller.id));
      return reply.status(204).send();
    });
    // There is no stream of messages of our own: what a server says comes with the call it belongs to.
    app.get(path, (_request, reply) =>
      reply
        .status(405)
        .header("allow", "POST, DELETE")
        .send(rpcError(null, RPC.request, "only POST and DELETE are served")),
    );
  }
}

const headerOf = (request: FastifyRequest, name: string): string | undefined => {
  const value = request.headers[name];
  return typeof value === "string" ? value : undefined;
};

async function serve(
  gateway: Gateway,
  request: FastifyRequest,
  reply: FastifyReply,
  connector: string | undefined,
): Promise<FastifyReply> {
  const stream = new McpReply(reply, /text\/event-stream|\*\/\*/.test(request.headers.accept ?? ""));
  const answer = await answerTo(gateway, request, reply, connector, stream);
  if (stream.opened) {
    stream.end(answer.body);
    return reply;
  }
  reply.status(answer.status).headers({ ...stampHeaders(answer.stamp), ...answer.headers });
  return answer.body === undefined
    ? reply.send()
    : reply.header("content-type", "application/json").send(JSON.stringify(answer.body));
}

async function answerTo(
  gateway: Gateway,
  request: FastifyRequest,
  reply: FastifyReply,
  path: string | undefined,
  stream: McpReply,
): Promise<Answer> {
  const { s, clients } = gateway;
  const no = (status: number, code: number, text: string): Answer => ({
    status,
    body: rpcError(null, code, text),
  });
  const accept = request.headers.accept ?? "*/*";
  if (!/application\/json|\*\/\*|application\/\*/.test(accept))
    return no(406, RPC.request, "the client must accept application/json");
  if (!/^application\/json\b/i.test(request.headers["content-type"] ?? ""))
    return no(415, RPC.request, "the body must be application/json");
  const connector = path === undefined ? undefined : s.governor.active.policy.connectors.get(path);
  if (path !== undefined && connector === undefined) return no(404, RPC.request, "no such connector");
  const body = bodyOf(request, LIMITS.chat);
  if ("fault" in body) return no(400, RPC.parse, body.fault);
  let message: Message;
  try {
    message = parseMessage(body.value);
  } catch (error) {
    if (error instanceof ContractError) return no(400, RPC.request, error.message);
    throw error;
  }
  const caller = s.callerOf(request);
  if (caller.state === "refused") {
    const told = await s.governor.refuse(caller.code, caller.detail, "mcp", caller, "tool:unknown/unnamed");
    const stamp = told.kind === "refused" ? told.refusal.stamp : told.stamp;
    const id = message.kind === "request" ? message.id : null;
    return {
      status: 401,
      body: rpcError(id, RPC.request, messageOf({ code: caller.code, detail: caller.detail })),
      stamp,
    };
  }
  const session = headerOf(request, "mcp-session-id");
  const client = clients.of(session);
  if (client === undefined) return no(404, RPC.request, "the session was ended");
  if (message.kind === "response") {
    const answer =
      message.error === undefined
        ? { result: message.result ?? null }
        : { error: isObject(message.error) ? message.error : {} };
    clients.answered(caller.id, message.id, answer);
    return { status: 202 };
  }
  if (message.kind === "notification") {
    if (message.method === "notifications/cancelled")
      cancel(gateway, keyOf(caller, session, message.params["requestId"]));
    return { status: 202 };
  }
  const known = (revision: string): boolean => isRevision(revision) || revision === ASSUMED;
  const modern =
    isModern(request.headers, message.params, known) &&
    (message.method !== "initialize" || headerOf(request, "mcp-protocol-version") === MODERN);
  const fault = modern ? modernFault(request.headers, message.method, message.params, REVISIONS) : undefined;
  if (fault !== undefined)
    return {
      status: statusOfRpc(fault.code),
      body: rpcError(message.id, fault.code, fault.message, fault.data),
    };
  const taken = new AbortController();
  const key = keyOf(caller, session, message.id);
  const same = gateway.underWay.get(key) ?? new Set();
  gateway.underWay.set(key, same.add(taken));
  try {
    const own = metaOf(message.params)[META.capabilities];
    return await (modern ? modernMethod : method)({
      s,
      clients,
      client: modern ? { session: "", capabilities: isObject(own) ? own : {} } : client,
      headers: modern ? request.headers : undefined,
      caller,
      message,
      connector,
      reply: stream,
      signal: AbortSignal.any([goneSignal(request, reply), taken.signal]),
    });
  } finally {
    same.delete(taken);
    if (same.size === 0) gateway.underWay.delete(key);
  }
}

const keyOf = (caller: Verified, session: string | undefined, id: unknown): string =>
  JSON.stringify([caller.id, session ?? "", id]);

/** Takes a request back where it is plain which one is meant: without sessions two clients may use one id. */
function cancel(gateway: Gateway, key: string): void {
  const [one, ...others] = gateway.underWay.get(key) ?? [];
  if (others.length === 0) one?.abort();
}

/** The revision that the protocol assumes where none is named. */
const ASSUMED = "2025-03-26";
