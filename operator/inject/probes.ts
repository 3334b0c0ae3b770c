// Probes and lifecycle hooks that the kubelet would send to an agent's port: the lock lets nothing in, so they are
// pointed at the guardian, which calls the agent over loopback. The targets travel in an annotation, as data.

import { isMap } from "../kinds/kinds.ts";
import type { Json, JsonMap } from "../kinds/kinds.ts";
import { API_PORT, HEALTH_PORT, PROXY_PORT } from "../shape/shape.ts";

/** One entry of the annotation `atoll.dev/probes`; the n-th is served at `/probe/n`. */
export type ProbeTarget =
  | {
      readonly kind: "http";
      readonly port: number;
      readonly path: string;
      readonly scheme: "HTTP" | "HTTPS";
      readonly headers: readonly { readonly name: string; readonly value: string }[];
      readonly timeoutSeconds: number;
    }
  | { readonly kind: "tcp"; readonly port: number; readonly timeoutSeconds: number }
  | {
      readonly kind: "grpc";
      readonly port: number;
      readonly service: string;
      readonly timeoutSeconds: number;
    };

export class ProbeRefusal extends Error {}

const PROBES = ["startupProbe", "readinessProbe", "livenessProbe"] as const;
const LOOPBACK = new Set(["", "127.0.0.1", "localhost", "::1"]);
const FORBIDDEN: readonly number[] = [API_PORT, PROXY_PORT, HEALTH_PORT];

const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");

function portOf(v: Json | undefined, container: JsonMap, what: string): number {
  const named = Array.isArray(container["ports"])
    ? container["ports"].find((p: Json) => isMap(p) && p["name"] === v && typeof v === "string")
    : undefined;
  const port =
    typeof v === "number" ? v : isMap(named) ? named["containerPort"] : /^\d+$/.test(text(v)) ? Number(v) : 0;
  if (typeof port !== "number" || port < 1 || port > 65535)
    throw new ProbeRefusal(
      `${what} names the port \`${JSON.stringify(v)}\`, which the container does not declare`,
    );
  if (FORBIDDEN.includes(port))
    throw new ProbeRefusal(
      `${what} asks port ${port}, which is the guardian's; point it at a port of the container`,
    );
  return port;
}

function target(handler: JsonMap, container: JsonMap, timeoutSeconds: number, what: string): ProbeTarget {
  const { httpGet: http, tcpSocket: tcp, grpc } = handler;
  const host = text(isMap(http) ? http["host"] : isMap(tcp) ? tcp["host"] : undefined);
  if (!LOOPBACK.has(host))
    throw new ProbeRefusal(
      `${what} asks the host \`${host}\`; a governed pod is probed on its own loopback only`,
    );
  if (isMap(http))
    return {
      kind: "http",
      port: portOf(http["port"], container, what),
      path: text(http["path"]) || "/",
      scheme: http["scheme"] === "HTTPS" ? "HTTPS" : "HTTP",
      headers: (Array.isArray(http["httpHeaders"]) ? http["httpHeaders"] : [])
        .filter(isMap)
        .map((h: JsonMap) => ({ name: text(h["name"]), value: text(h["value"]) })),
      timeoutSeconds,
    };
  if (isMap(grpc))
    return {
      kind: "grpc",
      port: portOf(grpc["port"], container, what),
      service: text(grpc["service"]),
      timeoutSeconds,
    };
  return { kind: "tcp", port: portOf(isMap(tcp) ? tcp["port"] : undefined, container, what), timeoutSeconds };
}

const isNetwork = (handler: JsonMap): boolean =>
  isMap(handler["httpGet"]) || isMap(handler["tcpSocket"]) || isMap(handler["grpc"]);

/** Does this handler already ask the guardian for a target that the annotation has? */
const isOurs = (handler: JsonMap, known: number): boolean => {
  const http = handler["httpGet"];
  if (!isMap(http) || http["port"] !== HEALTH_PORT) return false;
  const n = /^\/probe\/(\d+)$/.exec(text(http["path"]))?.[1];
  return n !== undefined && Number(n) < known;
};

function rewritten(handler: JsonMap, n: number): JsonMap {
  const { httpGet: _http, tcpSocket: _tcp, grpc: _grpc, ...rest } = handler;
  return { ...rest, httpGet: { path: `/probe/${n}`, port: HEALTH_PORT, scheme: "HTTP" } };
}

/** The container with its network probes and hooks rewritten; new targets are appended to `targets`. */
export function rewriteProbes(container: JsonMap, targets: ProbeTarget[], known: number): JsonMap {
  const name = text(container["name"]);
  const one = (handler: Json | undefined, what: string): Json | undefined => {
    if (!isMap(handler) || !isNetwork(handler) || isOurs(handler, known)) return handler;
    const seconds = handler["timeoutSeconds"];
    targets.push(
      target(
        handler,
        container,
        typeof seconds === "number" ? seconds : 1,
        `${what} of container \`${name}\``,
      ),
    );
    return rewritten(handler, targets.length - 1);
  };
  const result: Record<string, Json | undefined> = { ...container };
  for (const probe of PROBES)
    if (container[probe] !== undefined) result[probe] = one(container[probe], probe);
  const lifecycle = container["lifecycle"];
  if (isMap(lifecycle)) {
    const hooks: Record<string, Json | undefined> = { ...lifecycle };
    for (const hook of ["postStart", "preStop"])
      if (lifecycle[hook] !== undefined) hooks[hook] = one(lifecycle[hook], hook);
    result["lifecycle"] = hooks;
  }
  return result;
}
