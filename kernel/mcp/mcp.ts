// The Model Context Protocol as values: JSON-RPC messages, revisions, names under a connector, results of governed calls.

import { ContractError, isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";

export * from "./modern.ts";

/** Newest first. `initialize` answers with the client's own revision when it is one of these, else with the newest. */
export const REVISIONS = ["2026-07-28", "2025-11-25", "2025-06-18"] as const;
export type Revision = (typeof REVISIONS)[number];
/** The newest revision that is opened by `initialize`; 2026-07-28 has no handshake. */
export const HANDSHAKE: Revision = "2025-11-25";
export const isRevision = (v: unknown): v is Revision => REVISIONS.some((r) => r === v);

export const RPC = {
  parse: -32700,
  request: -32600,
  method: -32601,
  params: -32602,
  internal: -32603,
  /** As 2026-07-28 numbers it; the revisions before it have no number of their own for this. */
  unsupportedRevision: -32022,
} as const;

export type RpcId = string | number;
export type Message =
  | { readonly kind: "request"; readonly id: RpcId; readonly method: string; readonly params: JsonObject }
  | { readonly kind: "notification"; readonly method: string; readonly params: JsonObject }
  | {
      readonly kind: "response";
      readonly id: RpcId;
      readonly result: JsonValue | undefined;
      readonly error: JsonValue | undefined;
    };

const isRpcId = (v: JsonValue | undefined): v is RpcId =>
  typeof v === "string" || (typeof v === "number" && Number.isSafeInteger(v));

export function parseMessage(value: JsonValue): Message {
  if (!isObject(value))
    throw new ContractError("", "expected one JSON-RPC message; batches are not part of these revisions");
  if (value["jsonrpc"] !== "2.0") throw new ContractError("jsonrpc", 'expected "2.0"');
  const id = value["id"];
  const method = value["method"];
  if (typeof method !== "string") {
    if (!isRpcId(id) || "result" in value === "error" in value)
      throw new ContractError("", "expected a request, a notification or a response");
    return { kind: "response", id, result: value["result"], error: value["error"] };
  }
  const params = value["params"] ?? {};
  if (!isObject(params)) throw new ContractError("params", "expected an object");
  if (id === undefined) return { kind: "notification", method, params };
  if (!isRpcId(id)) throw new ContractError("id", "expected a string or a whole number");
  return { kind: "request", id, method, params };
}

export const rpcResult = (id: RpcId, result: JsonValue): JsonObject => ({ jsonrpc: "2.0", id, result });
export const rpcError = (id: RpcId | null, code: number, message: string, data?: JsonValue): JsonObject => ({
  jsonrpc: "2.0",
  id,
  error: { code, message, ...(data === undefined ? {} : { data }) },
});

/** `tool:github/create_issue` is `github__create_issue` to a client of the federation. */
export const federatedName = (connector: string, name: string): string => `${connector}__${name}`;
export function splitName(
  federated: string,
): { readonly connector: string; readonly name: string } | undefined {
  const at = federated.indexOf("__");
  if (at <= 0 || at + 2 >= federated.length) return undefined;
  return { connector: federated.slice(0, at), name: federated.slice(at + 2) };
}

/** The name of an upstream's tool within a target: characters that targets do not have as `%XX`. */
export function nameInTarget(name: string): string {
  let out = "";
  for (const byte of new TextEncoder().encode(name)) {
    const c = String.fromCharCode(byte);
    out += /[A-Za-z0-9._/-]/.test(c) ? c : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return out;
}

/** What the definition pin covers: name, description and schemas, nothing that changes without meaning. */
export function definitionOf(tool: JsonObject): JsonObject {
  const out: Record<string, JsonValue> = {};
  for (const key of ["name", "description", "inputSchema", "outputSchema"]) {
    const v = tool[key];
    if (v !== undefined) out[key] = v;
  }
  return out;
}

export interface DenialNote {
  readonly code: string;
  readonly text: string;
  readonly receiptId: string;
  readonly approval?: JsonObject;
}
/** A refusal is a result of the tool, not an error of the protocol: the model reads it. */
export const deniedResult = (note: DenialNote): JsonObject => ({
  content: [{ type: "text", text: note.text }],
  isError: true,
  _meta: {
    "dev.atoll/receipt": note.receiptId,
    "dev.atoll/reason": note.code,
    ...(note.approval === undefined ? {} : { "dev.atoll/approval": note.approval }),
  },
});

/** A server's `_meta` without what only the guardian says: nobody else speaks of receipts, reasons and approvals. */
export function foreignMeta(result: JsonObject): JsonObject {
  const meta = result["_meta"];
  if (!isObject(meta)) return {};
  return Object.fromEntries(Object.entries(meta).filter(([key]) => !/^dev\.atoll\//i.test(key.trim())));
}

/** The output that is hashed: the result without `_meta`. */
export function resultOutput(result: JsonObject): JsonObject {
  const out: Record<string, JsonValue> = {};
  for (const [k, v] of Object.entries(result)) if (k !== "_meta") out[k] = v;
  return out;
}
