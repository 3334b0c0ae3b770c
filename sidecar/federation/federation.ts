// The MCP servers behind the guardian: one session with each, their tools as they are now, calls with our credential.

import { isObject } from "../../kernel/contracts/contracts.ts";
import type { ConnectorPolicy, Hash, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import {
  HANDSHAKE,
  META,
  MODERN,
  RPC,
  asHeader,
  definitionOf,
  isRevision,
  paramHeaders,
} from "../../kernel/mcp/mcp.ts";
import type { SseEvent } from "../../kernel/openai/openai.ts";
import { SseParser } from "../../kernel/openai/openai.ts";
import { RpcError, missing, parsed, resultIn } from "./answers.ts";
import { UpstreamError, upstreamError } from "../dispatch/dispatch.ts";
import type { UpstreamReply, Upstreams } from "../dispatch/dispatch.ts";

export interface RemoteTool {
  readonly name: string;
  readonly definition: JsonObject;
  readonly hash: Hash;
}
/** What may happen between a call and its result: messages of the server on the way. */
export interface Talk {
  /** A session of its own with the server, "" for the one that all share. */
  readonly session: string;
  /** What the client can be asked for in that session. */
  readonly capabilities: JsonObject;
  /** The client speaks the revision without a handshake, and so shall a server that can. */
  readonly stateless?: boolean;
  readonly logLevel?: string;
  notify(method: string, params: JsonObject): void;
  ask(
    method: string,
    params: JsonObject,
  ): Promise<{ readonly result: JsonValue } | { readonly error: JsonObject }>;
}
const SILENT: Talk = {
  session: "",
  capabilities: {},
  notify: () => {},
  ask: async () => ({ error: { code: RPC.method, message: "the client cannot be asked" } }),
};

export { RpcError };

export interface Federation {
  /** The tools of one connector, read again when what is known is older than `maxAgeMs`. */
  tools(connector: ConnectorPolicy, maxAgeMs?: number): Promise<readonly RemoteTool[]>;
  call(
    connector: ConnectorPolicy,
    method: string,
    params: JsonObject,
    signals: readonly AbortSignal[],
    timeoutMs: number,
    talk?: Talk,
  ): Promise<JsonValue>;
  /** Forgets the sessions that a client had of its own. */
  leave(session: string): void;
}

/** Sessions that clients have of their own, all together. */
const OWN_SESSIONS = 256;
/** How long to wait before a stream is asked for again. */
const RESUME_MS = 100;

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
  const owners = new Map<string, ConnectorPolicy>();
  const known = new Map<string, Known>();
  /** Whether a server speaks the revision without a handshake, and which speak no other. */
  const eras = new Map<string, Promise<boolean>>();
  const only = new Set<string>();
  const reading = new Map<string, Promise<readonly RemoteTool[]>>();
  let next = 0;

  async function post(
    connector: ConnectorPolicy,
    message: JsonObject,
    session: Session | undefined,
    timeoutMs: number,
    signals: readonly AbortSignal[] = [],
  ): Promise<UpstreamReply> {
    return await upstreams.send(connector, {
      method: "POST",
      path: "",
      headers: {
        accept: "application/json, text/event-stream",
        ...(session === undefined ? {} : headersOf(session)),
      },
      body: JSON.stringify(message),
      timeoutMs,
      signals,
    });
  }

  async function open(connector: ConnectorPolicy, capabilities: JsonObject): Promise<Session> {
    const id = ++next;
    const reply = await post(
      connector,
      {
        jsonrpc: "2.0",
        id,
        method: "initialize",
        params: {
          protocolVersion: HANDSHAKE,
          capabilities,
          clientInfo: { name: "atoll", version: "0.1.0" },
        },
      },
      undefined,
      10_000,
    );
    if (reply.status !== 200) {
      await reply.whole().catch(() => undefined);
      throw new UpstreamError("ERR_CONNECTOR_FAILED", `the MCP server answered ${reply.status}`, true);
    }
    const result = await read(connector, { id: "", revision: HANDSHAKE }, reply, id, SILENT, 10_000, []);
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
    await ack.whole().catch(() => undefined);
    return session;
  }

  const keyOf = (connector: ConnectorPolicy, talk: Talk): string => `${talk.session} ${connector.url}`;
  function sessionOf(connector: ConnectorPolicy, talk: Talk): Promise<Session> {
    const key = keyOf(connector, talk);
    let session = sessions.get(key);
    if (session === undefined) {
      session = open(connector, talk.capabilities);
      sessions.set(key, session);
      owners.set(key, connector);
      session.catch(() => sessions.delete(key));
      // A client that opens sessions without end takes them from itself, never from the shared ones.
      const own = [...sessions.keys()].filter((k) => !k.startsWith(" "));
      if (own.length > OWN_SESSIONS) end(own[0] ?? "");
    }
    return session;
  }

  /** Forgets a session, and tells the server so; whether it hears that changes nothing here. */
  function end(key: string): void {
    const session = sessions.get(key);
    const connector = owners.get(key);
    sessions.delete(key);
    owners.delete(key);
    if (session === undefined || connector === undefined) return;
    void session
      .then(async (open) => {
        if (open.id === "") return;
        const headers = headersOf(open);
        const reply = await upstreams.send(connector, {
          method: "DELETE",
          path: "",
          headers,
          body: "",
          timeoutMs: 5_000,
        });
        await reply.whole();
      })
      .catch(() => undefined);
  }

  /** Reads an answer to its result; what the server says before goes to the client. */
  async function read(
    connector: ConnectorPolicy,
    session: Session,
    first: UpstreamReply,
    id: number,
    talk: Talk,
    timeoutMs: number,
    signals: readonly AbortSignal[],
  ): Promise<JsonValue> {
    let reply = first;
    let last = "";
    for (let turn = 0; turn < 64; turn++) {
      const type = reply.headers["content-type"] ?? "";
      if (!type.startsWith("text/event-stream"))
        return resultIn(parsed(await reply.whole()), id) ?? missing();
      const parser = new SseParser();
      const take = (event: SseEvent): JsonValue | undefined => {
        if (event.id !== "") last = event.id;
        if (event.data.trim() === "") return undefined;
        const value = parsed(new TextEncoder().encode(event.data));
        const result = resultIn(value, id);
        if (result !== undefined || !isObject(value)) return result;
        const { method } = value;
        if (typeof method !== "string") return undefined;
        const params = isObject(value["params"]) ? value["params"] : {};
        const theirs = value["id"];
        if (theirs === undefined) talk.notify(method, params);
        else void talk.ask(method, params).then((a) => answer(connector, session, { id: theirs, ...a }));
        return undefined;
      };
      for await (const bytes of reply.body)
        for (const event of parser.feed(bytes)) {
          const result = take(event);
          if (result !== undefined) return result;
        }
      for (const event of parser.end()) {
        const result = take(event);
        if (result !== undefined) return result;
      }
      // A server may end a stream before the result and go on where the client asks again.
      if (last === "") break;
      await new Promise((resolve) => setTimeout(resolve, RESUME_MS));
      reply = await upstreams.send(connector, {
        method: "GET",
        path: "",
        headers: { accept: "text/event-stream", ...headersOf(session), "last-event-id": last },
        body: "",
        timeoutMs,
        signals,
      });
      if (reply.status !== 200) {
        await reply.whole().catch(() => undefined);
        break;
      }
    }
    return missing();
  }

  /** Our answer to a request of the server's. One that does not arrive ends with the call it belongs to. */
  async function answer(connector: ConnectorPolicy, session: Session, message: JsonObject): Promise<void> {
    try {
      const reply = await post(connector, { jsonrpc: "2.0", ...message }, session, 10_000);
      await reply.whole();
    } catch {
      // The server waits until the call's own time is over.
    }
  }

  async function call(
    connector: ConnectorPolicy,
    method: string,
    params: JsonObject,
    signals: readonly AbortSignal[],
    timeoutMs: number,
    talk: Talk = SILENT,
  ): Promise<JsonValue> {
    if (await isStateless(connector, talk))
      return await stateless(connector, method, params, signals, timeoutMs, talk);
    for (let attempt = 0; ; attempt++) {
      const session = await sessionOf(connector, talk).catch((error: unknown) => {
        const e = upstreamError(error);
        // Nothing but the handshake has been sent.
        throw new UpstreamError(e.code, e.message, true);
      });
      const id = ++next;
      const reply = await post(
        connector,
        { jsonrpc: "2.0", id, method, params },
        session,
        timeoutMs,
        signals,
      );
      if (reply.status === 404 && session.id !== "" && attempt === 0) {
        // The server has forgotten our session and has therefore not read the call.
        await reply.whole().catch(() => undefined);
        sessions.delete(keyOf(connector, talk));
        continue;
      }
      if (reply.status !== 200) {
        const text = new TextDecoder().decode(await reply.whole().catch(() => new Uint8Array(0)));
        throw new UpstreamError(
          "ERR_CONNECTOR_FAILED",
          `the MCP server answered ${reply.status} ${upstreams.scrub(text).slice(0, 200)}`.trim(),
          false,
        );
      }
      return await read(connector, session, reply, id, talk, timeoutMs, signals);
    }
  }

  /** Whether a call goes without a handshake: the client asks for it, or the server knows nothing else. */
  async function isStateless(connector: ConnectorPolicy, talk: Talk): Promise<boolean> {
    if (talk.stateless !== true) {
      if (only.has(connector.url)) return true;
      const first = await sessionOf(connector, talk).then(
        () => false,
        () => true,
      );
      if (!first || !(await eraOf(connector))) return false;
      only.add(connector.url);
      return true;
    }
    return await eraOf(connector);
  }
  function eraOf(connector: ConnectorPolicy): Promise<boolean> {
    let era = eras.get(connector.url);
    if (era === undefined) {
      era = stateless(connector, "server/discover", {}, [], 10_000, SILENT).then(
        (result) =>
          isObject(result) &&
          Array.isArray(result["supportedVersions"]) &&
          result["supportedVersions"].includes(MODERN),
        () => false,
      );
      eras.set(connector.url, era);
      // A server that cannot be reached, or is older, may have become another one a minute later.
      void era.then((modern) => {
        if (!modern) setTimeout(() => eras.delete(connector.url), 60_000).unref();
      });
    }
    return era;
  }

  async function stateless(
    connector: ConnectorPolicy,
    method: string,
    params: JsonObject,
    signals: readonly AbortSignal[],
    timeoutMs: number,
    talk: Talk,
  ): Promise<JsonValue> {
    const id = ++next;
    const theirs = isObject(params["_meta"]) ? params["_meta"] : {};
    const named = params["name"] ?? params["uri"];
    const schema =
      method === "tools/call"
        ? known.get(connector.url)?.tools.find((t) => t.name === named)?.definition["inputSchema"]
        : undefined;
    const _meta: JsonObject = {
      ...theirs,
      [META.revision]: MODERN,
      [META.client]: { name: "atoll", version: "0.1.0" },
      [META.capabilities]: talk.capabilities,
      ...(talk.logLevel === undefined ? {} : { [META.logLevel]: talk.logLevel }),
    };
    const reply = await upstreams.send(connector, {
      method: "POST",
      path: "",
      headers: {
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
        ...(typeof named === "string" && method !== "completion/complete"
          ? { "mcp-name": asHeader(named) }
          : {}),
        ...paramHeaders(schema, isObject(params["arguments"]) ? params["arguments"] : {}),
      },
      body: JSON.stringify({ jsonrpc: "2.0", id, method, params: { ...params, _meta } }),
      timeoutMs,
      signals,
    });
    const type = reply.headers["content-type"] ?? "";
    // Errors of the protocol come with a status of their own here; anything else is no answer of an MCP server.
    if (reply.status === 200 || type.startsWith("application/json"))
      return await read(connector, { id: "", revision: MODERN }, reply, id, talk, timeoutMs, signals);
    await reply.whole().catch(() => undefined);
    throw new UpstreamError("ERR_CONNECTOR_FAILED", `the MCP server answered ${reply.status}`, false);
  }

  async function list(connector: ConnectorPolicy): Promise<readonly RemoteTool[]> {
    const out: RemoteTool[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < 64; page++) {
      const result = await call(connector, "tools/list", cursor === undefined ? {} : { cursor }, [], 10_000);
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
        under = list(connector).finally(() => reading.delete(connector.url));
        reading.set(connector.url, under);
      }
      return await under;
    },
    call,
    leave(session) {
      for (const key of sessions.keys()) if (session !== "" && key.startsWith(`${session} `)) end(key);
    },
  };
}
const headersOf = (session: Session): Record<string, string> => ({
  "mcp-protocol-version": session.revision,
  ...(session.id === "" ? {} : { "mcp-session-id": session.id }),
});
