// The listener that kubelet and Prometheus reach and the agent does not: life, readiness, metrics, and the agent's own
// probes, which nothing but this process can carry to it.

import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Listen } from "../config/config.ts";
import { probeTargets, relay } from "./relay.ts";

export { probeTargets, type ProbeTarget } from "./relay.ts";

export interface HealthOptions {
  readonly listen: Listen;
  readonly started: () => boolean;
  readonly ready: () => { readonly ok: boolean; readonly why: string };
  readonly metrics: () => Promise<string>;
  readonly contentType: string;
  /** The annotation `atoll.dev/probes` as it stands now: the agent's owner may write anything there. */
  readonly probes: () => string;
}
export interface Health {
  readonly port: number;
  close(): Promise<void>;
}

export async function startHealth(options: HealthOptions): Promise<Health> {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const say = (status: number, text: string): void => {
      response
        .writeHead(status, { "content-type": "text/plain", "cache-control": "no-store" })
        .end(`${text}\n`);
    };
    if (request.method !== "GET") return say(405, "only GET");
    const path = request.url ?? "";
    if (path === "/livez") return say(200, "alive");
    if (path === "/startupz") return options.started() ? say(200, "started") : say(503, "starting");
    if (path === "/readyz") {
      const { ok, why } = options.ready();
      return ok ? say(200, "ready") : say(503, why);
    }
    if (path === "/metrics") {
      const text = await options.metrics();
      response.writeHead(200, { "content-type": options.contentType }).end(text);
      return;
    }
    const [, number] = /^\/probe\/([0-9]{1,3})$/.exec(path) ?? [];
    const target = number === undefined ? undefined : probeTargets(options.probes())[Number(number)];
    if (target === undefined) return say(404, "nothing here");
    const result = await relay(target);
    return say(result.ok ? 200 : 503, result.why);
  };
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 16_384 },
    (q, r) => {
      answer(q, r).catch(() => {
        if (r.headersSent) r.destroy();
        else r.writeHead(500).end();
      });
    },
  );
  server.maxConnections = 256;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: options.listen.host, port: options.listen.port }, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : options.listen.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
