// Calls to upstreams: one pool per origin, the guardian's credential put in here and nowhere else, errors scrubbed.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Pool } from "undici";
import type { ConnectorPolicy } from "../../kernel/contracts/contracts.ts";
import { Answer } from "./answer.ts";
import { UpstreamError, upstreamError } from "./failure.ts";
import { refuseSecrets, withoutSecrets } from "./leak.ts";

export { UpstreamError, upstreamError } from "./failure.ts";

export interface UpstreamReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: AsyncIterable<Uint8Array>;
  /** All of the body, in place of reading it. */
  whole(): Promise<Uint8Array>;
}
export interface UpstreamRequest {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly timeoutMs: number;
  /** Whichever of them comes first ends the request. */
  readonly signals?: readonly AbortSignal[];
}

export interface Upstreams {
  send(connector: ConnectorPolicy, request: UpstreamRequest): Promise<UpstreamReply>;
  /** The text without anything that is a credential of ours or looks like one. */
  scrub(text: string): string;
  close(): Promise<void>;
}

export function createUpstreams(options: {
  /** Folder with one file for each credential; "" when there is none. */
  readonly credentials: string;
  readonly connect?: Pool.Options["connect"];
}): Upstreams {
  const pools = new Map<string, Line>();
  const read = credentialReader(options.credentials);
  const lineTo = (origin: string): Line => {
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
  /** What a connector's address comes to, found once for each policy. */
  const ways = new WeakMap<ConnectorPolicy, Way>();
  const wayTo = (connector: ConnectorPolicy): Way => {
    let way = ways.get(connector);
    if (way === undefined) {
      const url = new URL(connector.url);
      const base = url.pathname.endsWith("/") ? url.pathname.slice(0, -1) : url.pathname;
      way = { line: lineTo(url.origin), base, search: url.search };
      ways.set(connector, way);
    }
    return way;
  };
  return {
    async send(connector, request) {
      const { line, base, search } = wayTo(connector);
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
      const { signals = [] } = request;
      for (const signal of signals) if (signal.aborted) throw upstreamError(signal.reason);
      const answer = new Answer(signals);
      try {
        line.dispatch(
          {
            method: request.method,
            path: (base + request.path || "/") + search,
            headers,
            body: request.body === "" ? null : request.body,
            headersTimeout: request.timeoutMs,
            bodyTimeout: request.timeoutMs,
          },
          answer,
        );
      } catch (error) {
        answer.fail(error);
      }
      await answer.started;
      // An error's text is scrubbed where it is read, and says what was wrong.
      const secrets = answer.status < 400 ? read.known() : [];
      return {
        status: answer.status,
        headers: answer.headers,
        body: secrets.length === 0 ? answer : withoutSecrets(answer, secrets),
        async whole() {
          const bytes = await answer.whole();
          refuseSecrets(bytes, secrets);
          return bytes;
        },
      };
    },
    scrub: (text) => scrubbed(text, read.known()),
    async close() {
      await Promise.all([...pools.values()].map((p) => p.destroy()));
    },
  };
}

/** A pool of connections to one origin; of undici's ways to ask, this one makes no stream. */
type Line = Pick<Pool, "dispatch" | "destroy">;
interface Way {
  readonly line: Line;
  readonly base: string;
  readonly search: string;
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
