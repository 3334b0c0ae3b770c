// The MCP gateway at /mcp and /mcp/<connector>: what the policy's servers offer, cut down to what the principal may call.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ContractError, LIMITS, isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import {
  HANDSHAKE,
  REVISIONS,
  RPC,
  deniedResult,
  isRevision,
  parseMessage,
  rpcError,
  rpcResult,
  splitName,
} from "../../kernel/mcp/mcp.ts";
import type { Message } from "../../kernel/mcp/mcp.ts";
import type { Caller } from "../govern/govern.ts";
import { bodyOf, goneSignal } from "./http.ts";
import { messageOf, stampHeaders } from "./replies.ts";
import type { Stamp } from "./replies.ts";
import { callTool, shownName, shownTools } from "./tools.ts";
import type { Surface } from "./surface.ts";

interface Answer {
  readonly status: number;
  readonly body?: JsonObject;
  readonly stamp?: Stamp | undefined;
}

export function mcpSurface(app: FastifyInstance, s: Surface): void {
  for (const path of ["/mcp", "/mcp/:connector"]) {
    app.post<{ Params: { connector?: string } }>(path, (request, reply) =>
      serve(s, request, reply, request.params.connector),
    );
    for (const method of ["GET", "DELETE"] as const)
      app.route({
        method,
        url: path,
        // Neither a stream of our own messages nor sessions of the protocol: calls are bound to the principal, not to a header.
        handler: (_request, reply) =>
          reply
            .status(405)
            .header("allow", "POST")
            .send(rpcError(null, RPC.request, "only POST is served")),
      });
  }
}

async function serve(
  s: Surface,
  request: FastifyRequest,
  reply: FastifyReply,
  connector: string | undefined,
): Promise<FastifyReply> {
  const answer = await answerTo(s, request, reply, connector);
  reply.status(answer.status).headers(stampHeaders(answer.stamp));
  return answer.body === undefined
    ? reply.send()
    : reply.header("content-type", "application/json").send(JSON.stringify(answer.body));
}

async function answerTo(
  s: Surface,
  request: FastifyRequest,
  reply: FastifyReply,
  connector: string | undefined,
): Promise<Answer> {
  const accept = request.headers.accept ?? "*/*";
  if (!/application\/json|\*\/\*|application\/\*/.test(accept))
    return { status: 406, body: rpcError(null, RPC.request, "the client must accept application/json") };
  if (!/^application\/json\b/i.test(request.headers["content-type"] ?? ""))
    return { status: 415, body: rpcError(null, RPC.request, "the body must be application/json") };
  if (connector !== undefined && s.governor.active.policy.connectors.get(connector)?.kind === undefined)
    return { status: 404, body: rpcError(null, RPC.request, "no such connector") };
  const body = bodyOf(request, LIMITS.chat);
  if ("fault" in body) return { status: 400, body: rpcError(null, RPC.parse, body.fault) };
  let message: Message;
  try {
    message = parseMessage(body.value);
  } catch (error) {
    if (error instanceof ContractError)
      return { status: 400, body: rpcError(null, RPC.request, error.message) };
    throw error;
  }
  if (message.kind !== "request") return { status: 202 };
  const revision = revisionOf(request, message.params);
  if (message.method !== "initialize" && revision !== undefined && !isRevision(revision))
    return {
      status: 400,
      body: rpcError(message.id, RPC.unsupportedRevision, "unsupported protocol version", {
        supported: [...REVISIONS],
        requested: revision,
      }),
    };
  const caller = s.callerOf(request);
  if (caller.state === "refused") {
    const told = await s.governor.refuse(caller.code, caller.detail, "mcp", caller, "tool:unknown/unnamed");
    const stamp = told.kind === "refused" ? told.refusal.stamp : told.stamp;
    return {
      status: 401,
      body: rpcError(message.id, RPC.request, messageOf({ code: caller.code, detail: caller.detail })),
      stamp,
    };
  }
  return await method(s, caller, message, connector, goneSignal(request, reply));
}

/** The revision of a request without a handshake stands in its `_meta`; elsewhere in the header. */
function revisionOf(request: FastifyRequest, params: JsonObject): string | undefined {
  const meta = params["_meta"];
  const own = isObject(meta) ? meta["io.modelcontextprotocol/protocolVersion"] : undefined;
  if (typeof own === "string") return own;
  const header = request.headers["mcp-protocol-version"];
  return typeof header === "string" ? header : undefined;
}

const SERVER: JsonObject = { name: "atoll", version: "0.1.0" };

async function method(
  s: Surface,
  caller: Caller,
  message: Message & { readonly kind: "request" },
  connector: string | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const ok = (result: JsonValue, stamp?: Stamp): Answer => ({
    status: 200,
    body: rpcResult(message.id, result),
    stamp,
  });
  const { params } = message;
  switch (message.method) {
    case "initialize": {
      const asked = params["protocolVersion"];
      const served = REVISIONS.filter((r) => r <= HANDSHAKE);
      return ok({
        protocolVersion: served.find((r) => r === asked) ?? HANDSHAKE,
        capabilities: { tools: {} },
        serverInfo: SERVER,
      });
    }
    case "server/discover":
      return ok({ supportedVersions: [...REVISIONS], capabilities: { tools: {} }, serverInfo: SERVER });
    case "ping":
      return ok({});
    case "tools/list": {
      const tools = await shownTools(s, caller, connector);
      return ok({
        tools: tools.map(
          (t): JsonValue => ({ ...t.definition, name: shownName(t, connector === undefined) }),
        ),
      });
    }
    case "tools/call":
      return await toolsCall(s, caller, message, connector, signal);
    default:
      return await undeclared(s, caller, message, connector);
  }
}

async function toolsCall(
  s: Surface,
  caller: Caller,
  message: Message & { readonly kind: "request" },
  connector: string | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const { params } = message;
  const name = params["name"];
  const args = params["arguments"] ?? {};
  if (typeof name !== "string" || !isObject(args))
    return {
      status: 200,
      body: rpcError(message.id, RPC.params, "`name` is a string and `arguments` an object"),
    };
  const split = connector === undefined ? splitName(name) : { connector, name };
  const meta = params["_meta"];
  const key = isObject(meta) ? meta["dev.atoll/idempotency-key"] : undefined;
  const called = await callTool(s, caller, {
    connector: split?.connector ?? "unknown",
    name: split?.name ?? name,
    args,
    source: "mcp",
    idempotencyKey: typeof key === "string" ? key : "",
    signal,
  });
  const receipt = called.stamp?.receiptId ?? "";
  if (called.refusal !== undefined) {
    const r = called.refusal;
    const denied = deniedResult({
      code: r.code,
      text: `${messageOf(r)}. Receipt ${receipt}.${r.approval === undefined ? "" : ` Approval ${textIn(r.approval, "id")} is needed; once it is granted, the identical call passes once.`}`,
      receiptId: receipt,
      ...(r.approval === undefined ? {} : { approval: r.approval }),
    });
    return { status: 200, body: rpcResult(message.id, denied), stamp: called.stamp };
  }
  const result = called.result ?? { content: [] };
  const theirs = isObject(result["_meta"]) ? result["_meta"] : {};
  return {
    status: 200,
    body: rpcResult(message.id, { ...result, _meta: { ...theirs, "dev.atoll/receipt": receipt } }),
    stamp: called.stamp,
  };
}
const textIn = (o: JsonObject, key: string): string => (typeof o[key] === "string" ? o[key] : "");

const JUDGED: Readonly<Record<string, string>> = {
  "resources/list": "resources.list",
  "resources/templates/list": "resources.templates.list",
  "resources/read": "resources.read",
  "prompts/list": "prompts.list",
  "prompts/get": "prompts.get",
  "completion/complete": "completion.complete",
  "logging/setLevel": "logging.setLevel",
};

/** What else the protocol has is judged as a tool of its connector; what nobody declared is denied. */
async function undeclared(
  s: Surface,
  caller: Caller,
  message: Message & { readonly kind: "request" },
  connector: string | undefined,
): Promise<Answer> {
  const name = JUDGED[message.method];
  if (name === undefined)
    return {
      status: 200,
      body: rpcError(message.id, RPC.method, `no method \`${message.method.slice(0, 80)}\``),
    };
  const told = await s.governor.attest({
    target: `tool:${connector ?? "unknown"}/${name}`,
    source: "mcp",
    args: message.params,
    caller,
  });
  const stamp = told.kind === "refused" ? told.refusal.stamp : told.stamp;
  const why = told.kind === "refused" ? messageOf(told.refusal) : "not served";
  return {
    status: 200,
    body: rpcError(message.id, RPC.method, why, { receipt: stamp?.receiptId ?? "" }),
    stamp,
  };
}
