// The MCP servers behind the guardian: one session with each, their tools as they are now, calls with our credential.

import { LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { ConnectorPolicy, Hash, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import { HANDSHAKE, definitionOf, isRevision } from "../../kernel/mcp/mcp.ts";
import { SseParser } from "../../kernel/openai/openai.ts";
import { UpstreamError, upstreamError, wholeBody } from "../dispatch/dispatch.ts";
import type { UpstreamReply, Upstreams } from "../dispatch/dispatch.ts";

export interface RemoteTool {
  readonly name: string;
  readonly definition: JsonObject;
  readonly hash: Hash;
}
/** The upstream answered the call with a JSON-RPC error. */
export class RpcError extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.name = "RpcError";
    this.code = code;
  }
}

export interface Federation {
  /** The tools of one connector, read again when what is known is older than `maxAgeMs`. */
  tools(connector: ConnectorPolicy, maxAgeMs?: number): Promise<readonly RemoteTool[]>;
  call(
    connector: ConnectorPolicy,
    method: string,
    params: JsonObject,
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<JsonValue>;
}

interface Session {
  readonly id: string;
  readonly revision: string;
}
interface Known {
  readonly at: number;
  readonly tools: readonly RemoteTool[];
}

export function createFederation(upstreams: Upstreams): Federation {
  const sessions = new Map<string, Promise<Session>>();
  const known = new Map<string, Known>();
  const reading = new Map<string, Promise<readonly RemoteTool[]>>();
  let next = 0;

  async function post(
    connector: ConnectorPolicy,
    message: JsonObject,
    session: Session | undefined,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<UpstreamReply> {
    return await upstreams.send(connector, {
      method: "POST",
      path: "",
      headers: {
        accept: "application/json, text/event-stream",
        ...(session === undefined ? {} : { "mcp-protocol-version": session.revision }),
        ...(session === undefined || session.id === "" ? {} : { "mcp-session-id": session.id }),
      },
      body: JSON.stringify(message),
      timeoutMs,
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async function open(connector: ConnectorPolicy): Promise<Session> {
    const id = ++next;
    const reply = await post(
      connector,
      {
        jsonrpc: "2.0",
        id,
        method: "initialize",
        params: {
          protocolVersion: HANDSHAKE,
          capabilities: {},
          clientInfo: { name: "atoll", version: "0.1.0" },
        },
      },
      undefined,
      10_000,
    );
    if (reply.status !== 200) {
      await wholeBody(reply.body).catch(() => undefined);
      throw new UpstreamError("ERR_CONNECTOR_FAILED", `the MCP server answered ${reply.status}`, true);
    }
    const result = await resultOf(reply, id);
    const revision = isObject(result) ? result["protocolVersion"] : undefined;
    if (typeof revision !== "string" || !isRevision(revision))
      throw new UpstreamError("ERR_CONNECTOR_FAILED", "the MCP server speaks another revision", true);
    const session = { id: reply.headers["mcp-session-id"] ?? "", revision };
    const ack = await post(
      connector,
      { jsonrpc: "2.0", method: "notifications/initialized" },
      session,
      10_000,
    );
    await wholeBody(ack.body).catch(() => undefined);
    return session;
  }

  function sessionOf(connector: ConnectorPolicy): Promise<Session> {
    let session = sessions.get(connector.url);
    if (session === undefined) {
      session = open(connector);
      sessions.set(connector.url, session);
      session.catch(() => sessions.delete(connector.url));
    }
    return session;
  }

  async function call(
    connector: ConnectorPolicy,
    method: string,
    params: JsonObject,
    signal: AbortSignal | undefined,
    timeoutMs: number,
  ): Promise<JsonValue> {
    for (let attempt = 0; ; attempt++) {
      const session = await sessionOf(connector).catch((error: unknown) => {
        const e = upstreamError(error);
        // Nothing but the handshake has been sent.
        throw new UpstreamError(e.code, e.message, true);
      });
      const id = ++next;
      const reply = await post(connector, { jsonrpc: "2.0", id, method, params }, session, timeoutMs, signal);
      if (reply.status === 404 && session.id !== "" && attempt === 0) {
        // The server has forgotten our session and has therefore not read the call.
        await wholeBody(reply.body).catch(() => undefined);
        sessions.delete(connector.url);
        continue;
      }
      if (reply.status !== 200) {
        const text = new TextDecoder().decode(await wholeBody(reply.body).catch(() => new Uint8Array(0)));
        throw new UpstreamError(
          "ERR_CONNECTOR_FAILED",
          `the MCP server answered ${reply.status} ${upstreams.scrub(text).slice(0, 200)}`.trim(),
          false,
        );
      }
      return await resultOf(reply, id);
    }
  }

  async function read(connector: ConnectorPolicy): Promise<readonly RemoteTool[]> {
    const out: RemoteTool[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < 64; page++) {
      const result = await call(
        connector,
        "tools/list",
        cursor === undefined ? {} : { cursor },
        undefined,
        10_000,
      );
      const list = isObject(result) ? result["tools"] : undefined;
      if (!Array.isArray(list))
        throw new UpstreamError("ERR_CONNECTOR_FAILED", "the MCP server lists no tools", false);
      for (const tool of list)
        if (isObject(tool) && typeof tool["name"] === "string" && out.length < 10_000)
          out.push({ name: tool["name"], definition: tool, hash: hashJson(definitionOf(tool)) });
      const more: JsonValue | undefined = isObject(result) ? result["nextCursor"] : undefined;
      if (typeof more !== "string" || more === "") break;
      cursor = more;
    }
    known.set(connector.url, { at: performance.now(), tools: out });
    return out;
  }

  return {
    async tools(connector, maxAgeMs = 10_000) {
      const held = known.get(connector.url);
      if (held !== undefined && performance.now() - held.at < maxAgeMs) return held.tools;
      let under = reading.get(connector.url);
      if (under === undefined) {
        under = read(connector).finally(() => reading.delete(connector.url));
        reading.set(connector.url, under);
      }
      return await under;
    },
    call,
  };
}

/** The result of the request `id`, from a JSON body or from an event stream in which other messages may come first. */
async function resultOf(reply: UpstreamReply, id: number): Promise<JsonValue> {
  const type = reply.headers["content-type"] ?? "";
  if (!type.startsWith("text/event-stream"))
    return resultIn(parsed(await wholeBody(reply.body)), id) ?? missing();
  const parser = new SseParser();
  for await (const bytes of reply.body)
    for (const event of parser.feed(bytes)) {
      const result = resultIn(parsed(new TextEncoder().encode(event.data)), id);
      if (result !== undefined) return result;
    }
  for (const event of parser.end()) {
    const result = resultIn(parsed(new TextEncoder().encode(event.data)), id);
    if (result !== undefined) return result;
  }
  return missing();
}
function missing(): never {
  throw new UpstreamError("ERR_CONNECTOR_FAILED", "the MCP server's answer has no result", false);
}
function parsed(bytes: Uint8Array): JsonValue {
  if (bytes.length === 0) return null;
  try {
    return parseJson(bytes, LIMITS.chat);
  } catch (error) {
    throw new UpstreamError(
      "ERR_CONNECTOR_FAILED",
      `the MCP server's answer is no JSON: ${error instanceof Error ? error.message : ""}`,
      false,
    );
  }
}
function resultIn(value: JsonValue, id: number): JsonValue | undefined {
  if (!isObject(value) || value["id"] !== id) return undefined;
  const error = value["error"];
  if (isObject(error))
    throw new RpcError(
      typeof error["code"] === "number" ? error["code"] : 0,
      typeof error["message"] === "string" ? error["message"] : "error",
    );
  return value["result"];
}
