// One probe of the agent, carried out over loopback. The targets come from an annotation that the agent's owner writes,
// so each is read as hostile: no host but loopback, no port of ours.

import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";

export type ProbeTarget =
  | {
      readonly kind: "http";
      readonly port: number;
      readonly path: string;
      readonly scheme: "HTTP" | "HTTPS";
      readonly headers: Readonly<Record<string, string>>;
      readonly timeoutMs: number;
    }
  | { readonly kind: "tcp"; readonly port: number; readonly timeoutMs: number }
  | { readonly kind: "grpc"; readonly port: number; readonly service: string; readonly timeoutMs: number };

const OURS: ReadonlySet<number> = new Set([15070, 15080, 15081, 15090]);
const LIMITS = { bytes: 256 * 1024, keys: 10_000, depth: 8 };
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/;
const VALUE = /^[\t\x20-\x7e]{0,1000}$/;

const textOf = (v: JsonValue | undefined): string => (typeof v === "string" ? v : "");

function headersOf(v: JsonValue | undefined): Record<string, string> {
  const out: Record<string, string> = Object.create(null);
  for (const one of Array.isArray(v) ? v : [])
    if (isObject(one) && TOKEN.test(textOf(one["name"])) && VALUE.test(textOf(one["value"])))
      out[textOf(one["name"])] = textOf(one["value"]);
  return out;
}

function targetFrom(o: JsonObject): ProbeTarget | undefined {
  const port = o["port"];
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65_535 || OURS.has(port))
    return undefined;
  const seconds = o["timeoutSeconds"];
  const timeoutMs = Math.min(typeof seconds === "number" && seconds > 0 ? seconds : 1, 60) * 1000;
  if (o["kind"] === "tcp") return { kind: "tcp", port, timeoutMs };
  if (o["kind"] === "grpc")
    return { kind: "grpc", port, service: textOf(o["service"]).slice(0, 200), timeoutMs };
  if (o["kind"] !== "http") return undefined;
  const path = textOf(o["path"]);
  return {
    kind: "http",
    port,
    path: /^\/[\x21-\x7e]{0,2000}$/.test(path) ? path : "/",
    scheme: o["scheme"] === "HTTPS" ? "HTTPS" : "HTTP",
    headers: headersOf(o["headers"]),
    timeoutMs,
  };
}

/** The entries that can be used, at their own places. */
export function probeTargets(annotation: string): readonly (ProbeTarget | undefined)[] {
  let value: JsonValue;
  try {
    value = parseJson(Buffer.from(annotation), LIMITS);
  } catch {
    return [];
  }
  return Array.isArray(value) ? value.map((one) => (isObject(one) ? targetFrom(one) : undefined)) : [];
}

export interface ProbeResult {
  readonly ok: boolean;
  readonly why: string;
}

export async function relay(target: ProbeTarget): Promise<ProbeResult> {
  const four = await once(target, "127.0.0.1");
  return four.refused ? once(target, "::1") : four;
}

interface Tried extends ProbeResult {
  /** Nobody listens at this address. */
  readonly refused: boolean;
}

function once(target: ProbeTarget, host: "127.0.0.1" | "::1"): Promise<Tried> {
  return new Promise((resolve) => {
    const stop = new AbortController();
    const timer = setTimeout(() => end(false, "no answer in time"), target.timeoutMs);
    const end = (ok: boolean, why: string, refused = false): void => {
      clearTimeout(timer);
      resolve({ ok, why, refused });
      stop.abort();
    };
    const failed = (error: Error): void =>
      end(
        false,
        "no answer",
        "code" in error && (error.code === "ECONNREFUSED" || error.code === "EADDRNOTAVAIL"),
      );
    if (target.kind === "tcp") {
      const socket = connect({ host, port: target.port, signal: stop.signal });
      socket.on("error", failed);
      socket.on("connect", () => end(true, "connected"));
    } else if (target.kind === "grpc") askGrpc(target, host, stop.signal, end, failed);
    else {
      const send = target.scheme === "HTTPS" ? httpsRequest : httpRequest;
      const request = send({
        host,
        port: target.port,
        path: target.path,
        headers: target.headers,
        signal: stop.signal,
        agent: false,
        // As kubelet does: a probe asks whether the agent answers, not who it is.
        rejectUnauthorized: false,
      });
      request.on("error", failed);
      request.on("response", (response) => {
        const status = response.statusCode ?? 0;
        response.resume();
        end(status >= 200 && status < 400, `status ${status}`);
      });
      request.end();
    }
  });
}

/** grpc.health.v1.Health/Check, in the few bytes that it needs. */
function askGrpc(
  target: ProbeTarget & { readonly kind: "grpc" },
  host: string,
  signal: AbortSignal,
  end: (ok: boolean, why: string) => void,
  failed: (error: Error) => void,
): void {
  // Loaded where it is needed: few pods have such a probe, and each start would wait for it.
  const session = process
    .getBuiltinModule("node:http2")
    .connect(`http://${host.includes(":") ? `[${host}]` : host}:${target.port}`);
  session.on("error", failed);
  signal.addEventListener("abort", () => session.destroy(), { once: true });
  const stream = session.request({
    ":method": "POST",
    ":path": "/grpc.health.v1.Health/Check",
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.on("error", failed);
  let held = Buffer.alloc(0);
  stream.on("data", (data: Buffer) => {
    if (held.length < 4096) held = Buffer.concat([held, data]);
  });
  // The answer's message is one field: 08 01 is SERVING.
  stream.on("end", () => {
    const serving = held.length >= 7 && held[0] === 0 && held[5] === 0x08 && held[6] === 0x01;
    end(serving, serving ? "SERVING" : "not serving");
  });
  const service = Buffer.from(target.service);
  const message =
    service.length === 0 ? service : Buffer.concat([Buffer.from([0x0a, service.length]), service]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([head, message]));
}
