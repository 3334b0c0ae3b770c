// The operator's program: controllers and control stream, one replica at a time by lease.

import { createServer } from "node:http";
import { certificateSource } from "./certificates/certificates.ts";
import { log, runProgram } from "./config/config.ts";
import type { Config } from "./config/config.ts";
import { startControl } from "./control/control.ts";
import type { Control } from "./control/control.ts";
import { makeDesk } from "./control/desk.ts";
import type { Desk } from "./control/desk.ts";
import { storedKeys, tokenReviews } from "./control/identity.ts";
import { makeControllers } from "./controllers/controllers.ts";
import { SYSTEM_NAMESPACE, isMap } from "./kinds/kinds.ts";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import type { JsonMap } from "./kinds/kinds.ts";
import {
  CANARY_PORT,
  GATEWAY_NAME,
  GATEWAY_PORT,
  GATEWAY_SECRET,
  canaryText,
  serveCanary,
  watchCanary,
} from "./island/island.ts";
import type { CanaryWatch } from "./island/island.ts";
import { hostLedger } from "./ledger/ledger.ts";
import type { HostedLedger } from "./ledger/ledger.ts";
import { elect, loadClient } from "./runtime/runtime.ts";
import type { Client } from "./runtime/runtime.ts";

/**
 * Where the canary is found: what the installer says, or the addresses of the Service atoll-canary, which stay the same as
 * long as it does. They are part of every pod's shape.
 */
const canaryList = async (client: Client, said: string, stop: AbortSignal): Promise<string> =>
  said === "service" ? canaryText(await addressesOf(client, "atoll-canary", stop), CANARY_PORT) : said;

/** Those of a Service of ours, waited for; none when we are told to stop before. */
async function addressesOf(client: Client, name: string, stop: AbortSignal): Promise<string[]> {
  for (;;) {
    const service = await client.json(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/services/${name}`);
    const spec = isMap(service["spec"]) ? service["spec"] : {};
    const ips = Array.isArray(spec["clusterIPs"]) ? spec["clusterIPs"] : [];
    const hosts = ips.filter((ip): ip is string => typeof ip === "string" && ip !== "None");
    if (hosts.length > 0 || stop.aborted) return hosts;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function run(config: Config, stop: AbortSignal): Promise<void> {
  const client = await loadClient(config.pod);
  const service = `atoll-control.${SYSTEM_NAMESPACE}.svc.${config.clusterDomain}`;
  const certificates = certificateSource(client, {
    namespace: SYSTEM_NAMESPACE,
    secret: "atoll-control-ca",
    dnsNames: [service, `atoll-control.${SYSTEM_NAMESPACE}.svc`],
    addresses: config.addresses,
  });
  const stopped = new Promise<void>((resolve) =>
    stop.addEventListener("abort", () => resolve(), { once: true }),
  );
  let authority = "";
  let gatewayAuthority = "";
  let live = true;
  const canary = await canaryList(client, config.canary, stop);
  const gateway = config.gateway
    ? {
        address: canaryText(
          (await addressesOf(client, "atoll-egress-gateway", stop)).slice(0, 1),
          GATEWAY_PORT,
        ),
        certificates: certificateSource(client, {
          namespace: SYSTEM_NAMESPACE,
          secret: GATEWAY_SECRET,
          dnsNames: [GATEWAY_NAME],
        }),
      }
    : undefined;
  const bird = config.canaryPort === 0 ? undefined : await serveCanary(config.canaryPort);
  let watch: CanaryWatch | undefined;
  const controllers = makeControllers({
    client,
    instance: config.identity,
    requireSignature: config.requireSignature,
    controlUrl: `https://${service}:8443`,
    canary,
    canaryWatch: () => watch,
    controlCa: () => authority,
    gateway: gateway?.address ?? "",
    gatewayCa: () => gatewayAuthority,
    log,
    running: (sidecar) => desk.running(sidecar),
    proofs: (sidecar) => desk.proofs(sidecar),
    frozen: (sidecar) => desk.frozen(`gs/${sidecar}`),
    onPolicy: (sidecar, given, ceiling) => desk.setPolicy(sidecar, given, ceiling),
    reported: (sidecar) => desk.reported(sidecar),
    onLook: () => {
      desk.look();
      void revocations();
    },
  });
  const desk: Desk = makeDesk({
    client,
    pods: () => controllers.pods,
    sidecars: () => controllers.sidecars,
    onChange: (sidecar) => controllers.touch(sidecar),
    roots: () => controllers.roots(),
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
  let control: Control | undefined;
  /** What a guardian hears of the registry: its end, and its own key's. */
  const trustOf = async (podUid: string): Promise<JsonMap> => {
    const registrar = ledger?.registrar;
    if (registrar === undefined) return {};
    const revoked = await registrar.revokedOf(podUid);
    return { ...(await registrar.head()), ...(revoked === undefined ? {} : { revoked: { ...revoked } }) };
  };
  const revoking = new Set<string>();
  const revocations = async (): Promise<void> => {
    for (const { uid, revoke = "" } of controllers.pods.values()) {
      if (revoke === "" || ledger === undefined || revoking.has(`${uid} ${revoke}`)) continue;
      revoking.add(`${uid} ${revoke}`);
      try {
        await ledger.revoke(uid, revoke);
        control?.send({ podUid: uid }, { event: "trust", data: await trustOf(uid) });
      } catch (error) {
        // Looked at again: it may not have published its key yet.
        revoking.delete(`${uid} ${revoke}`);
        const message = error instanceof Error ? error.message : "";
        log({ level: "error", event: "revocation", pod: uid, message });
      }
    }
  };
  let ledger: HostedLedger | undefined;
  const renew = async (): Promise<{ key: string; cert: string }> => {
    const { leaf, bundle, changed } = await certificates.refresh();
    const tls = { key: leaf.key, cert: leaf.certificate };
    if (changed) control?.setCertificate(tls);
    const beyond = (await gateway?.certificates.refresh())?.bundle ?? "";
    if (bundle !== authority || beyond !== gatewayAuthority) {
      authority = bundle;
      gatewayAuthority = beyond;
      for (const name of controllers.sidecars.keys()) controllers.touch(name);
    }
    return tls;
  };
  const tls = await renew();
  const timer = setInterval(
    () =>
      void renew().catch((error: unknown) =>
        log({ level: "error", event: "certificates", message: error instanceof Error ? error.message : "" }),
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
  if (!stop.aborted) {
    log({ event: "leading", identity: config.identity });
    const keys = storedKeys(client, SYSTEM_NAMESPACE, {
      publish: async (identity, key) =>
        (await ledger?.registrar?.publish(desk.bindingOf(identity), Buffer.from(key, "hex"))) ?? true,
      rotate: async (pod, act) => ({ ...(await ledger?.registrar?.rotate(pod, act as JsonObject)) }),
    });
    if (config.ledger !== "")
      ledger = await hostLedger({
        place: config.ledger,
        keyFile: config.ledgerKey,
        registrarKeyFile: config.registrarKey,
        roots: controllers.roots()?.keys ?? [],
        keysOf: (pod) => keys.keysOf(pod),
        log: (message) => log({ event: "ledger", message }),
      });
    log({ event: "registrar", key: ledger?.registrarId ?? "" });
    await desk.load();
    control = await startControl({
      port: config.port,
      tls,
      tokens: tokenReviews(client, Date.now),
      keys,
      ...(ledger === undefined ? {} : { ledger: ledger.answer, trust: trustOf }),
      registry: controllers.registry,
      podOf: (identity) => desk.podOf(identity),
      snapshot: (pod) => desk.snapshot(pod),
      bundleByHash: (hash) => desk.bundleByHash(hash),
      onReport: (report) => desk.onReport(report),
      onChallenge: (identity, challenge) => desk.onChallenge(identity, challenge),
    });
    desk.attach(control);
    if (canary !== "none")
      watch = watchCanary({
        addresses: canary,
        onChange: () => {
          for (const name of controllers.sidecars.keys()) controllers.touch(name);
        },
      });
    controllers.start();
    await stopped;
  }
  live = false;
  clearInterval(timer);
  watch?.stop();
  controllers.stop();
  desk.stop();
  await bird?.stop();
  await control?.stop();
  await ledger?.stop();
  await lease.release();
  health.close();
  client.close();
}

await runProgram(run);
