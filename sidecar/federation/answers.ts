// The answers of MCP servers as values: one JSON-RPC message, its result or its error.

import { LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { UpstreamError } from "../dispatch/dispatch.ts";

/** The upstream answered the call with a JSON-RPC error. */
export class RpcError extends Error {
  readonly code: number;
  readonly data: JsonValue | undefined;
  constructor(code: number, message: string, data?: JsonValue) {
    super(message);
    this.data = data;
    this.name = "RpcError";
    this.code = code;
  }
}

export function missing(): never {
  throw new UpstreamError("ERR_CONNECTOR_FAILED", "the MCP server's answer has no result", false);
}
export function parsed(bytes: Uint8Array): JsonValue {
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
export function resultIn(value: JsonValue, id: number): JsonValue | undefined {
  if (!isObject(value) || value["id"] !== id) return undefined;
  const error = value["error"];
  if (isObject(error))
    throw new RpcError(
      typeof error["code"] === "number" ? error["code"] : 0,
      typeof error["message"] === "string" ? error["message"] : "error",
      error["data"],
    );
  return value["result"];
}
