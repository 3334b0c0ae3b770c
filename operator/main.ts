// The operator's programs, one image: `controllers` (one of them writes) and `webhook` (as many as wanted).

import { createServer } from "node:http";
import { hostname } from "node:os";
import { certificateSource } from "./certificates/certificates.ts";
import { makeControllers } from "./controllers/controllers.ts";
import { SYSTEM_NAMESPACE } from "./kinds/kinds.ts";
import type { JsonMap } from "./kinds/kinds.ts";
import { elect, loadClient } from "./runtime/runtime.ts";
import { startWebhook } from "./webhook/webhook.ts";

/** Everything that the environment decides, read once; what contradicts itself is refused by name. */
interface Config {
  readonly role: "controllers" | "webhook";
  readonly requireSignature: boolean;
  readonly clusterDomain: string;
  readonly canary: string;
  readonly port: number;
  readonly healthPort: number;
  readonly identity: string;
}

function readConfig(argv: readonly string[], env: NodeJS.ProcessEnv): Config {
  const [role] = argv;
  if (role !== "controllers" && role !== "webhook") throw new Error("usage: operator controllers | webhook");
  const flag = env["ATOLL_REQUIRE_SIGNATURE"] ?? "true";
  if (flag !== "true" && flag !== "false") throw new Error("ATOLL_REQUIRE_SIGNATURE: expected true or false");
  const port = (name: string, otherwise: number): number => {
    const value = Number(env[name] ?? otherwise);
    if (!Number.isInteger(value) || value < 0 || value > 65535) throw new Error(`${name}: expected a port`);
    return value;
  };
  return {
    role,
    requireSignature: flag === "true",
    clusterDomain: env["ATOLL_CLUSTER_DOMAIN"] ?? "cluster.local",
    canary: env["ATOLL_CANARY"] ?? "none",
    port: port("ATOLL_PORT", 8443),
    healthPort: port("ATOLL_HEALTH_PORT", 8080),
    identity: env["POD_NAME"] ?? hostname(),
  };
}

const log = (line: JsonMap): void => {
  process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), ...line })}\n`);
};

const stopping = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stopping.abort());
const stopped = new Promise<void>((resolve) => stopping.signal.addEventListener("abort", () => resolve()));

async function runWebhook(config: Config): Promise<void> {
  const webhook = await startWebhook({
    client: loadClient(),
    port: config.port,
    requireSignature: config.requireSignature,
    log,
  });
  log({ event: "serving", port: webhook.port });
  await stopped;
  await webhook.stop();
}

async function runControllers(config: Config): Promise<void> {
  const client = loadClient();
  const service = `atoll-control.${SYSTEM_NAMESPACE}.svc.${config.clusterDomain}`;
  const certificates = certificateSource(client, {
    namespace: SYSTEM_NAMESPACE,
    secret: "atoll-control-ca",
    dnsNames: [service, `atoll-control.${SYSTEM_NAMESPACE}.svc`],
  });
  let controlCa = "";
  let live = true;
  const controllers = makeControllers({
    client,
    instance: config.identity,
    requireSignature: config.requireSignature,
    controlUrl: `https://${service}:8443`,
    canary: config.canary,
    controlCa: () => controlCa,
    log,
  });
  const health = createServer((request, response) => {
    if (request.url === "/metrics")
      void controllers.registry
        .metrics()
        .then((text) =>
          response.writeHead(200, { "content-type": controllers.registry.contentType }).end(text),
        );
    else if (request.url === "/livez" || request.url === "/readyz")
      response.writeHead(live ? 200 : 503).end(live ? "ok" : "stopping");
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve, reject) => {
    health.once("error", reject);
    health.listen(config.healthPort, resolve);
  });
  const renew = async (): Promise<void> => {
    controlCa = (await certificates.refresh()).bundle;
  };
  await renew();
  const timer = setInterval(
    () =>
      void renew().catch((error: unknown) =>
        log({ level: "error", event: "certificates", message: String(error) }),
      ),
    60_000,
  );
  await controllers.synced;
  const lease = elect({
    client,
    namespace: SYSTEM_NAMESPACE,
    name: "atoll-operator",
    identity: config.identity,
    onLost: (why) => {
      // Another replica may write from now on: nothing of what is under way here may.
      log({ level: "error", event: "lease", message: why });
      process.exit(1);
    },
  });
  await Promise.race([lease.held, stopped]);
  if (!stopping.signal.aborted) {
    log({ event: "leading", identity: config.identity });
    controllers.start();
    await stopped;
  }
  live = false;
  clearInterval(timer);
  controllers.stop();
  await lease.release();
  health.close();
  client.close();
}

try {
  const config = readConfig(process.argv.slice(2), process.env);
  await (config.role === "webhook" ? runWebhook(config) : runControllers(config));
  process.exit(0);
} catch (error) {
  log({ level: "error", event: "fatal", message: error instanceof Error ? error.message : String(error) });
  process.exit(1);
}
