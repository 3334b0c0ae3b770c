// The revision without a handshake (2026-07-28): every request says for itself what it is, in headers and in `_meta`.

import { isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";

export const MODERN = "2026-07-28";
export const META = {
  revision: "io.modelcontextprotocol/protocolVersion",
  client: "io.modelcontextprotocol/clientInfo",
  capabilities: "io.modelcontextprotocol/clientCapabilities",
  server: "io.modelcontextprotocol/serverInfo",
  subscription: "io.modelcontextprotocol/subscriptionId",
  logLevel: "io.modelcontextprotocol/logLevel",
} as const;

export interface RpcFault {
  readonly code: number;
  readonly message: string;
  readonly data?: JsonValue;
}
type Headers = Readonly<Record<string, unknown>>;
const headerOf = (headers: Headers, name: string): string | undefined => {
  const value = headers[name];
  return typeof value === "string" ? value.trim() : undefined;
};

const MISMATCH = -32_020;
const UNSUPPORTED = -32_022;
const PARAMS = -32_602;

/** The member of the parameters that `Mcp-Name` repeats. */
const NAMED: Readonly<Record<string, string>> = {
  "tools/call": "name",
  "prompts/get": "name",
  "resources/read": "uri",
};

/** Whether a request speaks this revision, or one that is not known here. */
export function isModern(
  headers: Headers,
  params: JsonObject,
  known: (revision: string) => boolean,
): boolean {
  const meta = params["_meta"];
  if (isObject(meta) && META.revision in meta) return true;
  const named = headerOf(headers, "mcp-protocol-version");
  return named !== undefined && (named === MODERN || !known(named));
}

/** Why a request of this revision is not served; undefined when it is. */
export function modernFault(
  headers: Headers,
  method: string,
  params: JsonObject,
  supported: readonly string[],
): RpcFault | undefined {
  const named = headerOf(headers, "mcp-protocol-version");
  const meta = isObject(params["_meta"]) ? params["_meta"] : {};
  const own = meta[META.revision];
  if (named === undefined) return { code: MISMATCH, message: "the header MCP-Protocol-Version is missing" };
  if (own !== undefined && own !== named)
    return { code: MISMATCH, message: "MCP-Protocol-Version and `_meta` name different revisions" };
  if (named !== MODERN)
    return {
      code: UNSUPPORTED,
      message: "unsupported protocol version",
      data: { supported: [...supported], requested: named },
    };
  if (typeof own !== "string") return { code: PARAMS, message: `\`_meta\` lacks ${META.revision}` };
  if (!isObject(meta[META.capabilities]))
    return { code: PARAMS, message: `\`_meta\` lacks ${META.capabilities}` };
  if (headerOf(headers, "mcp-method") !== method)
    return { code: MISMATCH, message: "the header Mcp-Method is not the method of the body" };
  const member = Object.hasOwn(NAMED, method) ? NAMED[method] : undefined;
  if (member !== undefined) {
    const name = headerValue(headerOf(headers, "mcp-name"));
    if (name === undefined || name !== params[member])
      return { code: MISMATCH, message: `the header Mcp-Name is not \`${member}\` of the body` };
  }
  return undefined;
}

const WRAPPED = /^=\?base64\?(.*)\?=$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** What a header says: itself, or what its Base64 wraps; undefined when that is none. */
export function headerValue(text: string | undefined): string | undefined {
  const inner = text === undefined ? undefined : WRAPPED.exec(text)?.[1];
  if (inner === undefined) return text;
  if (!BASE64.test(inner)) return undefined;
  try {
    const bytes = Uint8Array.from(atob(inner), (c) => c.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
/** A value as a header can carry it. */
export function asHeader(text: string): string {
  if (/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !WRAPPED.test(text)) return text;
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (const b of bytes) binary += String.fromCharCode(b);
  return `=?base64?${btoa(binary)}?=`;
}

/** The arguments that a tool's schema wants repeated in headers, by header name. */
function repeated(schema: JsonValue | undefined): (readonly [string, string])[] {
  const properties = isObject(schema) ? schema["properties"] : undefined;
  if (!isObject(properties)) return [];
  return Object.entries(properties).flatMap(([key, property]) => {
    const name = isObject(property) ? property["x-mcp-header"] : undefined;
    return typeof name === "string" && /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/.test(name)
      ? [[key, `mcp-param-${name.toLowerCase()}`] as const]
      : [];
  });
}
const textOf = (value: JsonValue | undefined): string | undefined =>
  typeof value === "string"
    ? value
    : typeof value === "number" || typeof value === "boolean"
      ? String(value)
      : undefined;

export function paramHeaders(schema: JsonValue | undefined, args: JsonObject): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [key, header] of repeated(schema)) {
    const text = textOf(args[key]);
    if (text !== undefined) out[header] = asHeader(text);
  }
  return out;
}
export function paramFault(
  schema: JsonValue | undefined,
  args: JsonObject,
  headers: Headers,
): RpcFault | undefined {
  for (const [key, header] of repeated(schema)) {
    const given = headerOf(headers, header);
    if (given === undefined ? textOf(args[key]) !== undefined : headerValue(given) !== textOf(args[key]))
      return { code: MISMATCH, message: `the header ${header} is not \`${key}\` of the arguments` };
  }
  return undefined;
}

/** The status that goes with an error of this revision. */
export function statusOfRpc(code: number): number {
  if (code === -32_601) return 404;
  return code === PARAMS || (code <= -32_020 && code >= -32_099) ? 400 : 200;
}

const CACHED: ReadonlySet<string> = new Set([
  "tools/list",
  "prompts/list",
  "resources/list",
  "resources/templates/list",
  "resources/read",
  "server/discover",
]);
/** A result as this revision wants it: of a kind, and with a hint how long it holds. Ours holds for this principal, now. */
export function modernResult(method: string, result: JsonObject): JsonObject {
  return {
    ...(CACHED.has(method) && result["resultType"] !== "input_required"
      ? { ttlMs: 0, cacheScope: "private" }
      : {}),
    resultType: "complete",
    ...result,
    // What may differ between principals is nobody else's to keep.
    ...(CACHED.has(method) && "cacheScope" in result ? { cacheScope: "private" } : {}),
  };
}
