// Calls to upstreams: one pool per origin, the guardian's credential put in here and nowhere else, errors scrubbed.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Pool } from "undici";
import type { Dispatcher } from "undici";
import type { ConnectorPolicy } from "../../kernel/contracts/contracts.ts";
import { UpstreamError } from "./failure.ts";
import { withoutSecrets } from "./leak.ts";

export { UpstreamError } from "./failure.ts";

export interface UpstreamReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: AsyncIterable<Uint8Array>;
}
export interface UpstreamRequest {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface Upstreams {
  send(connector: ConnectorPolicy, request: UpstreamRequest): Promise<UpstreamReply>;
  /** The text without anything that is a credential of ours or looks like one. */
  scrub(text: string): string;
  close(): Promise<void>;
}

const MOST = 32 << 20;
const UNSENT: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_DESTROYED",
  "CERT_HAS_EXPIRED",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);

export function createUpstreams(options: {
  /** Folder with one file for each credential; "" when there is none. */
  readonly credentials: string;
  readonly connect?: Pool.Options["connect"];
}): Upstreams {
  const pools = new Map<string, Pool>();
  const read = credentialReader(options.credentials);
  const poolOf = (origin: string): Pool => {
    let pool = pools.get(origin);
    if (pool === undefined) {
      pool = new Pool(origin, {
        connections: 64,
        pipelining: 1,
        keepAliveTimeout: 4_000,
        allowH2: false,
        ...(options.connect === undefined ? {} : { connect: options.connect }),
      });
      pools.set(origin, pool);
    }
    return pool;
  };
  return {
    async send(connector, request) {
      const url = new URL(connector.url);
      const base = url.pathname.endsWith("/") ? url.pathname.slice(0, -1) : url.pathname;
      const headers: Record<string, string> = { ...request.headers };
      if (connector.credential !== "") {
        const secret = read(connector.credential);
        if (secret === "")
          throw new UpstreamError(
            "ERR_CONNECTOR_FAILED",
            `credential \`${connector.credential}\` is not there`,
            true,
          );
        if (connector.kind === "anthropic") headers["x-api-key"] = secret;
        else headers["authorization"] = `Bearer ${secret}`;
      }
      if (request.body !== "") headers["content-type"] ??= "application/json";
      let reply: Dispatcher.ResponseData;
      try {
        reply = await poolOf(url.origin).request({
          method: request.method,
          path: (base + request.path || "/") + url.search,
          headers,
          body: request.body === "" ? null : request.body,
          headersTimeout: request.timeoutMs,
          bodyTimeout: request.timeoutMs,
          ...(request.signal === undefined ? {} : { signal: request.signal }),
        });
      } catch (error) {
        throw upstreamError(error);
      }
      const flat: Record<string, string> = {};
      for (const [k, v] of Object.entries(reply.headers))
        if (v !== undefined) flat[k] = Array.isArray(v) ? v.join(", ") : v;
      const bounded = guarded(reply.body);
      // An error's text is scrubbed where it is read, and says what was wrong.
      const body = reply.statusCode < 400 ? withoutSecrets(bounded, read.known()) : bounded;
      return { status: reply.statusCode, headers: flat, body };
    },
    scrub: (text) => scrubbed(text, read.known()),
    async close() {
      await Promise.all([...pools.values()].map((p) => p.destroy()));
    },
  };
}

/** The bytes of a body, at most so many, every failure with its code. */
async function* guarded(body: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array> {
  let size = 0;
  try {
    for await (const chunk of body) {
      size += chunk.byteLength;
      if (size > MOST)
        throw new UpstreamError("ERR_CONNECTOR_FAILED", "the upstream's answer is too large", false);
      yield chunk;
    }
  } catch (error) {
    throw upstreamError(error);
  }
}

export async function wholeBody(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of body) parts.push(part);
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
}

export function upstreamError(error: unknown): UpstreamError {
  if (error instanceof UpstreamError) return error;
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
  const name = error instanceof Error ? error.name : "";
  if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT" || name === "TimeoutError")
    return new UpstreamError("ERR_CONNECTOR_TIMEOUT", "the upstream did not answer in time", false);
  return new UpstreamError(
    "ERR_CONNECTOR_FAILED",
    `the upstream could not be reached (${code || name || "error"})`,
    UNSENT.has(code),
  );
}

interface CredentialReader {
  (name: string): string;
  known(): readonly string[];
}

/** Reads a credential file when it is first used and again when it was rotated. */
function credentialReader(folder: string): CredentialReader {
  const cache = new Map<string, { readonly stamp: string; readonly value: string; readonly at: number }>();
  const read = (name: string): string => {
    if (folder === "" || !/^[A-Za-z0-9_.-]{1,128}$/.test(name) || name.startsWith(".")) return "";
    const held = cache.get(name);
    const now = performance.now();
    if (held !== undefined && now - held.at < 1_000) return held.value;
    const file = join(folder, name);
    try {
      const stat = statSync(file);
      const stamp = `${stat.mtimeMs} ${stat.ino} ${stat.size}`;
      const value = held?.stamp === stamp ? held.value : readFileSync(file, "utf8").trim();
      cache.set(name, { stamp, value, at: now });
      return /^[\x21-\x7e]*$/.test(value) ? value : "";
    } catch {
      return "";
    }
  };
  return Object.assign(read, {
    known: () => [...cache.values()].map((c) => c.value).filter((v) => v.length >= 4),
  });
}

const SHAPES =
  /\b(?:sk-[A-Za-z0-9_-]{8,200}|gh[pousr]_[A-Za-z0-9]{20,251}|github_pat_[A-Za-z0-9_]{20,255}|xox[abeoprs]-[A-Za-z0-9-]{10,200}|AKIA[A-Z0-9]{12,20})|\b[Bb]earer\s+[A-Za-z0-9._~+/=-]{8,4000}/g;

function scrubbed(text: string, secrets: readonly string[]): string {
  let out = text;
  for (const secret of secrets) {
    out = out.replaceAll(secret, "[redacted]");
    const encoded = encodeURIComponent(secret);
    if (encoded !== secret) out = out.replaceAll(encoded, "[redacted]");
    out = out.replaceAll(Buffer.from(secret).toString("base64"), "[redacted]");
    // A provider often echoes the first and the last characters of a key that it refuses.
    if (secret.length >= 16)
      out = out.replaceAll(secret.slice(0, 12), "[redacted]").replaceAll(secret.slice(-8), "[redacted]");
  }
  return out.replace(SHAPES, "[redacted]");
}
