// Everything of the operator in one process against a real API server: controllers, control stream, webhook, policies.
import { generateKeyPairSync } from "node:crypto";
import { KubeConfig } from "@kubernetes/client-node";
import type { JsonObject, Timestamp } from "../../kernel/contracts/contracts.ts";
import { hashFrom } from "../../kernel/contracts/contracts.ts";
import { hashJson, sha256, signerFromPem } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { bundleManifest, signBundle } from "../../kernel/policy/policy.ts";
import type { BundleHead } from "../../kernel/policy/policy.ts";
import type { ControlPlaneOptions } from "../../kind-e2e/cluster.ts";
import type { Lives } from "../../operator/certificates/certificates.ts";
import { certificateSource } from "../../operator/certificates/certificates.ts";
import { startControl } from "../../operator/control/control.ts";
import type { Control } from "../../operator/control/control.ts";
import { makeDesk } from "../../operator/control/desk.ts";
import type { Desk } from "../../operator/control/desk.ts";
import { storedKeys, tokenReviews } from "../../operator/control/identity.ts";
import { makeControllers } from "../../operator/controllers/controllers.ts";
import type { Controllers, ControllersOptions } from "../../operator/controllers/controllers.ts";
import { accessFromConfig, clientFrom } from "../../operator/runtime/runtime.ts";
import type { Client } from "../../operator/runtime/runtime.ts";
import { startWebhook } from "../../operator/webhook/webhook.ts";
import type { Webhook } from "../../operator/webhook/webhook.ts";
import { apply, startApi, yamlFile } from "./api.ts";
import type { Api, Json } from "./api.ts";
import { enforce, ground, namespace, trust } from "./shapes.ts";

export interface Key {
  readonly signer: Signer;
  readonly pem: string;
}
export const makeKey = (): Key => {
  const pair = generateKeyPairSync("ed25519");
  return {
    signer: signerFromPem(pair.privateKey.export({ type: "pkcs8", format: "pem" })),
    pem: pair.publicKey.export({ type: "spki", format: "pem" }),
  };
};
export const policyKey = makeKey();
export const ceilingKey = makeKey();
export const approverKey = makeKey();
export const ROOTS = `role: policy\n${policyKey.pem}\nrole: ceiling\n${ceilingKey.pem}\nrole: approver\n${approverKey.pem}\n`;

export const policyContent = (name: string, more: JsonObject = {}): JsonObject => ({
  apiVersion: "atoll.dev/policy/v1",
  name,
  layer: "P1",
  connectors: { calc: { kind: "wasm" } },
  ...more,
});
export interface BundleParts {
  readonly id?: string;
  readonly version: number;
  readonly content?: JsonObject;
  readonly signers?: readonly Signer[];
  readonly head?: Partial<Pick<BundleHead, "layer" | "conformanceLevel">> & {
    readonly notBefore?: string;
    readonly expiresAt?: string;
  };
  readonly name?: string;
}
export function bundle(parts: BundleParts): Json {
  const content = parts.content ?? policyContent(`v${parts.version}`);
  const id = parts.id ?? "repo-agents";
  return bundleManifest(
    {
      signed: signBundle(
        {
          type: "atoll.dev/bundle/v1",
          bundleId: id,
          version: parts.version,
          layer: parts.head?.layer ?? "P1",
          contentHash: hashFrom(hashJson(content), ""),
          conformanceLevel: parts.head?.conformanceLevel ?? "L1",
          notBefore: (parts.head?.notBefore ?? "") as Timestamp | "",
          expiresAt: (parts.head?.expiresAt ?? "") as Timestamp | "",
        },
        parts.signers ?? [policyKey.signer],
      ),
      content,
      source: undefined,
    },
    parts.name ?? `${id}-v${parts.version}`,
  );
}
export const pod = (name: string): Json => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name },
  spec: { containers: [{ name: "agent", image: "agent:1", securityContext: { runAsUser: 1000 } }] },
});

export interface Whole {
  readonly api: Api;
  readonly client: Client;
  readonly controllers: Controllers;
  readonly desk: Desk;
  readonly control: Control;
  readonly controlCa: string;
  readonly webhook: Webhook;
  /** The installer's trust roots. */
  readonly roots: string;
  /** What the programs logged. */
  readonly lines: readonly string[];
  condition(path: string, type: string): Promise<Json>;
  stop(): Promise<void>;
}

/** A client with a service account's own token, and so with no more rights than the chart gives it. */
export async function clientOf(api: Api, serviceAccount: string): Promise<Client> {
  const { body, message } = await api.call(
    "POST",
    `/api/v1/namespaces/atoll-system/serviceaccounts/${serviceAccount}/token`,
    { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 7200 } },
  );
  if (message !== "") throw new Error(message);
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: "c", server: api.plane.url, caData: Buffer.from(api.plane.caPem).toString("base64") }],
    users: [{ name: "u", token: (body["status"] as { token: string }).token }],
    contexts: [{ name: "x", cluster: "c", user: "u" }],
    currentContext: "x",
  });
  return clientFrom(accessFromConfig(config));
}

export interface WholeOptions
  extends Partial<Pick<ControllersOptions, "canary" | "canaryWatch" | "remote" | "evictionGraceMs">> {
  /** False: nothing is judged on application, so that all falls to the operator. */
  readonly validate?: boolean;
  readonly plane?: ControlPlaneOptions;
  /** How long the webhook's certificates live. */
  readonly lives?: Lives;
  /** Trust roots beside those of the tests. */
  readonly more?: string;
  /** Sidecars that may run without the lock. */
  readonly unlocked?: string;
}
export async function startWhole({
  validate = true,
  plane,
  lives,
  unlocked,
  more: others = "",
  ...more
}: WholeOptions = {}): Promise<Whole> {
  const api = await startApi(plane);
  await ground(api);
  const roots = `${ROOTS}${others}`;
  await trust(api, roots, sha256(roots), unlocked);
  const client = await clientOf(api, "atoll-operator");
  const webhookClient = await clientOf(api, "atoll-webhook");
  const lines: string[] = [];
  const log = (line: unknown): void => void lines.push(JSON.stringify(line));
  const webhook = await startWebhook({
    client: webhookClient,
    port: 0,
    requireSignature: true,
    log,
    addresses: ["127.0.0.1"],
    refreshMs: 200,
    drainMs: 0,
    ...(lives === undefined ? {} : { lives }),
  });
  for (const object of yamlFile("charts/atoll/templates/webhooks.yaml")) {
    const hooks = object["webhooks"] as { clientConfig: { service?: { path: string }; url?: string } }[];
    for (const h of hooks)
      h.clientConfig = { url: `https://127.0.0.1:${webhook.port}${h.clientConfig.service?.path ?? ""}` };
    if (validate || object["kind"] === "MutatingWebhookConfiguration") await apply(api, object);
  }
  await enforce(api);
  await namespace(api, "team-a", { "atoll.dev/governed": "true", team: "a" });
  const certificates = await certificateSource(client, {
    namespace: "atoll-system",
    secret: "atoll-control-ca",
    dnsNames: ["localhost"],
    addresses: ["127.0.0.1"],
  }).refresh();
  const controllers = makeControllers({
    client,
    instance: "test",
    requireSignature: true,
    controlUrl: "https://atoll-control.atoll-system.svc.cluster.local:8443",
    canary: "none",
    controlCa: () => certificates.bundle,
    protectionGraceMs: 0,
    log,
    ...more,
    running: (sidecar) => desk.running(sidecar),
    proofs: (sidecar) => desk.proofs(sidecar),
    frozen: (sidecar) => desk.frozen(`gs/${sidecar}`),
    onPolicy: (sidecar, given, ceiling) => desk.setPolicy(sidecar, given, ceiling),
    reported: (sidecar) => desk.reported(sidecar),
    onLook: () => desk.look(),
  });
  const desk: Desk = makeDesk({
    client,
    pods: () => controllers.pods,
    sidecars: () => controllers.sidecars,
    onChange: (sidecar) => controllers.touch(sidecar),
    roots: () => controllers.roots(),
    log,
  });
  await controllers.synced;
  await desk.load();
  const control = await startControl({
    port: 0,
    tls: { key: certificates.leaf.key, cert: certificates.leaf.certificate },
    tokens: tokenReviews(client, Date.now),
    keys: storedKeys(client, "atoll-system"),
    registry: controllers.registry,
    heartbeatMs: 100,
    podOf: (identity) => desk.podOf(identity),
    snapshot: (one) => desk.snapshot(one),
    bundleByHash: (hash) => desk.bundleByHash(hash),
    onReport: (report) => desk.onReport(report),
    onChallenge: (identity, challenge) => desk.onChallenge(identity, challenge),
  });
  desk.attach(control);
  controllers.start();
  return {
    api,
    client,
    controllers,
    desk,
    control,
    controlCa: certificates.bundle,
    webhook,
    roots,
    lines,
    async condition(path, type) {
      const { body } = await api.call("GET", `/apis/atoll.dev/v1alpha1/${path}`);
      const status = (body["status"] ?? {}) as { conditions?: Json[] };
      return status.conditions?.find((c) => c["type"] === type) ?? {};
    },
    async stop() {
      controllers.stop();
      desk.stop();
      await control.stop();
      await webhook.stop();
      await api.stop();
    },
  };
}
