// The gateway in the revision without a handshake: the same methods, each request for itself, results of a stated kind.

import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import {
  META,
  REVISIONS,
  RPC,
  modernResult,
  rpcError,
  rpcResult,
  statusOfRpc,
} from "../../kernel/mcp/mcp.ts";
import { SERVER, capabilitiesOf, metaOf, method } from "./mcp-methods.ts";
import type { Answer, Asking } from "./mcp-methods.ts";

const SERVED: ReadonlySet<string> = new Set([
  "tools/list",
  "tools/call",
  "resources/list",
  "resources/templates/list",
  "resources/read",
  "prompts/list",
  "prompts/get",
  "completion/complete",
]);
/** Clients that listen at one time; each holds a connection and nothing else. */
const LISTENERS = 64;
let listeners = 0;

export async function modernMethod(a: Asking): Promise<Answer> {
  const { id, method: name } = a.message;
  if (name === "subscriptions/listen") return await listen(a);
  const answer: Answer =
    name === "server/discover"
      ? { status: 200, body: rpcResult(id, discovered(a)) }
      : SERVED.has(name)
        ? await method(a)
        : { status: 200, body: rpcError(id, RPC.method, `no method \`${name.slice(0, 80)}\``) };
  const { body = {} } = answer;
  const { error, result } = body;
  if (isObject(error)) {
    const code = typeof error["code"] === "number" ? error["code"] : RPC.internal;
    return { ...answer, status: statusOfRpc(code) };
  }
  return { ...answer, body: { ...body, result: modernResult(name, isObject(result) ? result : {}) } };
}

const discovered = (a: Asking): JsonObject => ({
  supportedVersions: [...REVISIONS],
  capabilities: capabilitiesOf(a),
  _meta: { [META.server]: SERVER },
});

/** Nothing here changes while a guardian runs, so nothing is acknowledged; the stream stays open as long as the client wants. */
async function listen(a: Asking): Promise<Answer> {
  const { id } = a.message;
  const subscription = metaOf(a.message.params)[META.subscription] ?? id;
  if (listeners >= LISTENERS)
    return { status: 200, body: rpcError(id, RPC.internal, "too many clients listen") };
  const told = a.reply.send({
    jsonrpc: "2.0",
    method: "notifications/subscriptions/acknowledged",
    params: { notifications: {}, _meta: { [META.subscription]: subscription } },
  });
  if (!told) return { status: 406, body: rpcError(id, RPC.request, "a listening client accepts streams") };
  listeners++;
  const beat = setInterval(() => a.reply.beat(), 15_000);
  await new Promise<void>((resolve) => {
    if (a.signal.aborted) resolve();
    a.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  clearInterval(beat);
  listeners--;
  return { status: 200, body: rpcResult(id, { resultType: "complete" }) };
}
