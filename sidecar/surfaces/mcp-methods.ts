// What a client of the gateway may ask for, method by method; everything that reaches a server is judged first.

import { LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { ConnectorPolicy, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import {
  HANDSHAKE,
  META,
  REVISIONS,
  RPC,
  deniedResult,
  foreignMeta,
  paramFault,
  resultOutput,
  rpcError,
  rpcResult,
  splitName,
} from "../../kernel/mcp/mcp.ts";
import type { Message } from "../../kernel/mcp/mcp.ts";
import { scanTexts, textsOf } from "../../kernel/threat/threat.ts";
import { RpcError } from "../federation/federation.ts";
import type { Talk } from "../federation/federation.ts";
import type { Caller } from "../govern/govern.ts";
import type { McpClient, McpClients, McpReply } from "./mcp-clients.ts";
import { failed } from "./models.ts";
import { messageOf } from "./replies.ts";
import type { Refusal, Stamp } from "./replies.ts";
import { callTool, shownName, shownTools } from "./tools.ts";
import type { Surface } from "./surface.ts";

export interface Answer {
  readonly status: number;
  readonly body?: JsonObject;
  readonly stamp?: Stamp | undefined;
  readonly headers?: Record<string, string>;
}
export interface Asking {
  readonly s: Surface;
  readonly clients: McpClients;
  readonly client: McpClient;
  readonly caller: Caller & { readonly state: "verified" };
  readonly message: Message & { readonly kind: "request" };
  /** The connector of the path; undefined for all of them together. */
  readonly connector: ConnectorPolicy | undefined;
  readonly reply: McpReply;
  readonly signal: AbortSignal;
  /** Of a request of the revision without a handshake. */
  readonly headers: Readonly<Record<string, unknown>> | undefined;
}

export const SERVER: JsonObject = { name: "atoll", version: "0.1.0" };
const textIn = (o: JsonObject, key: string): string => (typeof o[key] === "string" ? o[key] : "");
export const metaOf = (params: JsonObject): JsonObject => (isObject(params["_meta"]) ? params["_meta"] : {});

export async function method(a: Asking): Promise<Answer> {
  const { s, message, connector } = a;
  const ok = (result: JsonValue, headers: Record<string, string> = {}): Answer => ({
    status: 200,
    body: rpcResult(message.id, result),
    headers,
  });
  switch (message.method) {
    case "initialize": {
      const asked = message.params["protocolVersion"];
      const served = REVISIONS.filter((r) => r <= HANDSHAKE);
      const declared = message.params["capabilities"];
      const session = connector === undefined ? "" : a.clients.open(isObject(declared) ? declared : {});
      return ok(
        {
          protocolVersion: served.find((r) => r === asked) ?? HANDSHAKE,
          capabilities: capabilitiesOf(a),
          serverInfo: SERVER,
        },
        session === "" ? {} : { "mcp-session-id": session },
      );
    }
    case "ping":
      return ok({});
    case "tools/list": {
      const tools = await shownTools(s, a.caller, connector?.name);
      const shown = tools.map(
        (t): JsonValue => ({ ...t.definition, name: shownName(t, connector === undefined) }),
      );
      return ok({ tools: shown });
    }
    case "tools/call":
      return await toolsCall(a);
    default:
      return await other(a);
  }
}

/** What the policy lets this principal ask of the connector, beside its tools. */
export function capabilitiesOf({ s, caller, connector }: Asking): JsonObject {
  const offers = (name: string): boolean =>
    connector !== undefined && s.governor.offers(caller, `tool:${connector.name}/${name}`);
  return {
    tools: {},
    ...(offers("resources.list") || offers("resources.read")
      ? { resources: offers("resources.subscribe") ? { subscribe: true } : {} }
      : {}),
    ...(offers("prompts.list") || offers("prompts.get") ? { prompts: {} } : {}),
    ...(offers("completion.complete") ? { completions: {} } : {}),
    ...(offers("logging.setLevel") ? { logging: {} } : {}),
  };
}

async function toolsCall(a: Asking): Promise<Answer> {
  const { s, message, connector } = a;
  const { params } = message;
  const name = params["name"];
  const args = params["arguments"] ?? {};
  if (typeof name !== "string" || !isObject(args))
    return {
      status: 200,
      body: rpcError(message.id, RPC.params, "`name` is a string and `arguments` an object"),
    };
  const split = connector === undefined ? splitName(name) : { connector: connector.name, name };
  if (a.headers !== undefined) {
    const fault = await headersFault(a, split?.connector ?? "", split?.name ?? name, args);
    if (fault !== undefined) return { status: 400, body: rpcError(message.id, fault.code, fault.message) };
  }
  const meta = metaOf(params);
  const key = meta["dev.atoll/idempotency-key"];
  let beat: NodeJS.Timeout | undefined;
  const called = await callTool(s, a.caller, {
    connector: split?.connector ?? "unknown",
    name: split?.name ?? name,
    args,
    source: "mcp",
    idempotencyKey: typeof key === "string" ? key : "",
    signal: a.signal,
    talk: talkOf(a, split?.connector ?? "unknown"),
    meta: passedMeta(meta),
    more: roundOf(a),
    held: () => {
      beat = setInterval(() => a.reply.beat(), 5_000);
    },
  });
  clearInterval(beat);
  if (called.rpc !== undefined && a.headers !== undefined) return rpcAnswer(a, called.rpc, called.stamp);
  const r = called.refusal ?? (await refusedQuestion(a, split?.connector ?? "", called.result));
  const receipt = (r?.stamp ?? called.stamp)?.receiptId ?? "";
  if (r !== undefined) {
    const denied = deniedResult({
      code: r.code,
      text: `${messageOf(r)}. Receipt ${receipt}.${r.approval === undefined ? "" : ` Approval ${textIn(r.approval, "id")} is needed; once it is granted, the identical call passes once.`}`,
      receiptId: receipt,
      ...(r.approval === undefined ? {} : { approval: r.approval }),
    });
    return { status: 200, body: rpcResult(message.id, denied), stamp: called.stamp };
  }
  const gone = "The call was made before under this key; its result is not kept.";
  const result = called.result ?? { content: [{ type: "text", text: gone }] };
  return {
    status: 200,
    body: rpcResult(message.id, {
      ...result,
      _meta: { ...foreignMeta(result), "dev.atoll/receipt": receipt },
    }),
    stamp: called.stamp,
  };
}

/** What a client sends with a later round of the same request. */
function roundOf({ headers, message }: Asking): JsonObject {
  const { inputResponses, requestState } = message.params;
  if (headers === undefined) return {};
  return {
    ...(inputResponses === undefined ? {} : { inputResponses }),
    ...(requestState === undefined ? {} : { requestState }),
  };
}

/** An error of the protocol that the server answered with, as it is, scrubbed. */
function rpcAnswer({ s, message }: Asking, error: RpcError, stamp: Stamp | undefined): Answer {
  const text = s.upstreams.scrub(JSON.stringify(error.data ?? { receipt: stamp?.receiptId ?? "" }));
  const data: JsonValue = parseJson(new TextEncoder().encode(text), LIMITS.args);
  const body = rpcError(message.id, error.code, s.upstreams.scrub(error.message), data);
  return { status: 200, body, stamp };
}

async function headersFault(a: Asking, connector: string, name: string, args: JsonObject) {
  const found = a.s.governor.active.policy.connectors.get(connector);
  if (found?.kind !== "mcp") return undefined;
  const tools = await a.s.federation.tools(found).catch(() => []);
  const schema = tools.find((t) => t.name === name)?.definition["inputSchema"];
  return paramFault(schema, args, a.headers ?? {});
}

/** A result that asks the client something is judged question by question; one that is refused refuses the result. */
async function refusedQuestion(
  { s, caller }: Asking,
  connector: string,
  result: JsonObject | undefined,
): Promise<Refusal | undefined> {
  const questions = result?.["resultType"] === "input_required" ? result["inputRequests"] : undefined;
  if (!isObject(questions)) return undefined;
  for (const question of Object.values(questions)) {
    const name = isObject(question) && typeof question["method"] === "string" ? question["method"] : "";
    const params = isObject(question) && isObject(question["params"]) ? question["params"] : {};
    const target = asTool(connector, ASKED_BACK.has(name) ? name : "unknown");
    const told = await s.governor.attest({ target, source: "mcp", args: params, caller });
    if (told.kind === "refused") return told.refusal;
  }
  return undefined;
}

/** Of a client's `_meta` only the token under which it wants to hear of progress goes on. */
const passedMeta = (meta: JsonObject): JsonObject => {
  const { progressToken: token } = meta;
  return typeof token === "string" || typeof token === "number" ? { progressToken: token } : {};
};

const JUDGED: ReadonlySet<string> = new Set([
  "resources/list",
  "resources/templates/list",
  "resources/read",
  "resources/subscribe",
  "resources/unsubscribe",
  "prompts/list",
  "prompts/get",
  "completion/complete",
  "logging/setLevel",
]);
const asTool = (connector: string, name: string): string => `tool:${connector}/${name.replaceAll("/", ".")}`;

/** What else the protocol has is judged as a tool of its connector; what nobody declared is denied. */
async function other(a: Asking): Promise<Answer> {
  const { s, message, caller, connector } = a;
  if (!JUDGED.has(message.method))
    return {
      status: 200,
      body: rpcError(message.id, RPC.method, `no method \`${message.method.slice(0, 80)}\``),
    };
  const { _meta: _m, inputResponses: _r, requestState: _s, ...args } = message.params;
  const target = asTool(connector?.name ?? "unknown", message.method);
  const tool = s.governor.active.policy.tools.get(target);
  let theirs: RpcError | undefined;
  const told = await s.governor.ask({
    target,
    source: "mcp",
    args,
    caller,
    scan: scanTexts(textsOf({ ...args, ...roundOf(a) })),
    dispatch: async (signal): Promise<Outcome> => {
      if (connector?.kind !== "mcp")
        return { status: "failed", code: "DENY_CONNECTOR", detail: "no MCP server" };
      try {
        const result = await s.federation.call(
          connector,
          message.method,
          { ...args, ...roundOf(a), _meta: passedMeta(metaOf(message.params)) },
          [signal, a.signal],
          tool?.timeoutMs ?? 10_000,
          talkOf(a, connector.name),
        );
        return {
          status: "succeeded",
          output: isObject(result) ? resultOutput(result) : result,
          usage: { calls: 1 },
        };
      } catch (error) {
        if (!(error instanceof RpcError)) return failed(error);
        theirs = error;
        const detail = s.upstreams.scrub(error.message).slice(0, 200);
        return { status: "failed", code: "ERR_CONNECTOR_FAILED", detail, usage: { calls: 1 } };
      }
    },
  });
  if (tool?.trusted !== true && (told.kind === "done" || theirs !== undefined)) s.governor.taint(caller);
  const stamp = told.kind === "refused" ? told.refusal.stamp : told.stamp;
  const receipt = stamp?.receiptId ?? "";
  const result = told.kind === "done" && isObject(told.output) ? told.output : {};
  const refusal =
    told.kind === "refused" ? told.refusal : await refusedQuestion(a, connector?.name ?? "", result);
  if (refusal === undefined) {
    // An empty result stays empty: there the protocol has it so, and the receipt stands in the header.
    const noted = Object.keys(result).length === 0 ? {} : { _meta: { "dev.atoll/receipt": receipt } };
    return { status: 200, body: rpcResult(message.id, { ...result, ...noted }), stamp };
  }
  if (theirs !== undefined) return rpcAnswer(a, theirs, stamp);
  const note: JsonObject = { receipt: refusal.stamp?.receiptId ?? receipt, reason: refusal.code };
  const undeclared = refusal.code === "DENY_TOOL_NOT_FOUND";
  const body = rpcError(message.id, undeclared ? RPC.method : RPC.internal, messageOf(refusal), note);
  return { status: 200, body, stamp };
}

/** A client's session with the servers: nobody else's, even with the same id. */
export const ownSession = (session: string, principal: string): string => `${session}@${principal}`;

const ASKED_BACK: ReadonlySet<string> = new Set([
  "sampling/createMessage",
  "elicitation/create",
  "roots/list",
]);

/** What a server says while a call is under way, and what of it reaches the client. */
function talkOf(a: Asking, connector: string): Talk {
  const { s, caller, client, clients, reply } = a;
  const { progressToken: token } = passedMeta(metaOf(a.message.params));
  const offers = (name: string): boolean => s.governor.offers(caller, asTool(connector, name));
  const may: Readonly<Record<string, boolean>> = {
    sampling: offers("sampling/createMessage"),
    elicitation: offers("elicitation/create"),
    roots: offers("roots/list"),
  };
  const capabilities = Object.fromEntries(
    Object.entries(client.capabilities).filter(([name]) => may[name] === true),
  );
  // A session of one's own with the server only for what needs one: everybody else shares.
  const own = Object.keys(capabilities).length > 0 || offers("resources/subscribe");
  const { [META.logLevel]: level } = metaOf(a.message.params);
  const silent = a.headers !== undefined && level === undefined;
  return {
    session: own && client.session !== "" ? ownSession(client.session, caller.id) : "",
    capabilities,
    stateless: a.headers !== undefined,
    ...(typeof level === "string" && offers("logging/setLevel") ? { logLevel: level } : {}),
    notify(name, params) {
      const progress = name === "notifications/progress" && params["progressToken"] === token;
      const log = name === "notifications/message" && !silent && offers("logging/setLevel");
      if ((progress && token !== undefined) || log) reply.send({ jsonrpc: "2.0", method: name, params });
    },
    async ask(name, params) {
      if (name === "ping") return { result: {} };
      if (!ASKED_BACK.has(name) || a.headers !== undefined)
        return { error: { code: RPC.method, message: `no method \`${name}\`` } };
      const target = asTool(connector, name);
      const { _meta: _, ...args } = params;
      let heard: { readonly error: JsonObject } | undefined;
      const told = await s.governor.ask({
        target,
        source: "mcp",
        args,
        caller,
        dispatch: async (signal): Promise<Outcome> => {
          const answer = await clients.ask(
            caller.id,
            (m) => reply.send(m),
            name,
            args,
            AbortSignal.any([signal, a.signal]),
          );
          if ("result" in answer) return { status: "succeeded", output: answer.result, usage: { calls: 1 } };
          heard = answer;
          return {
            status: "failed",
            code: "ERR_CONNECTOR_FAILED",
            detail: "the client refused",
            usage: { calls: 1 },
          };
        },
      });
      if (told.kind === "done") return { result: told.output };
      return heard ?? { error: { code: RPC.request, message: messageOf(told.refusal) } };
    },
  };
}
