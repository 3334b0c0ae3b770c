// The true path: a signed bundle and a GuardianSidecar are applied, and from then on a pod gets its guardian.
import { generateKeyPairSync } from "node:crypto";
import { KubeConfig } from "@kubernetes/client-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { hashFrom } from "../../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { bundleManifest, signBundle } from "../../kernel/policy/policy.ts";
import { makeControllers } from "../../operator/controllers/controllers.ts";
import type { Controllers } from "../../operator/controllers/controllers.ts";
import { clientFrom } from "../../operator/runtime/runtime.ts";
import { startWebhook } from "../../operator/webhook/webhook.ts";
import type { Webhook } from "../../operator/webhook/webhook.ts";
import { apply, startApi, until, yamlFile } from "./api.ts";
import type { Api, Json } from "./api.ts";
import { enforce, ground, namespace, sidecarSpec } from "./shapes.ts";

let api: Api;
let controllers: Controllers;
let webhook: Webhook;
const key = (): { signer: Signer; pem: string } => {
  const pair = generateKeyPairSync("ed25519");
  return {
    signer: signerFromPem(pair.privateKey.export({ type: "pkcs8", format: "pem" })),
    pem: pair.publicKey.export({ type: "spki", format: "pem" }),
  };
};
const policyKey = key();
const ceilingKey = key();
const stranger = key();
const ROOTS = `role: policy\n${policyKey.pem}\nrole: ceiling\n${ceilingKey.pem}\n`;

export const policyContent = (name: string): JsonObject => ({
  apiVersion: "atoll.dev/policy/v1",
  name,
  layer: "P1",
  connectors: { calc: { kind: "wasm" } },
});
const bundle = (version: number, signer: Signer, content: JsonObject = policyContent(`v${version}`)): Json =>
  bundleManifest(
    {
      signed: signBundle(
        {
          type: "atoll.dev/bundle/v1",
          bundleId: "repo-agents",
          version,
          layer: "P1",
          contentHash: hashFrom(hashJson(content), ""),
          conformanceLevel: "L1",
          notBefore: "",
          expiresAt: "",
        },
        [signer],
      ),
      content,
      source: undefined,
    },
    `repo-agents-v${version}`,
  );
const condition = async (path: string, type: string): Promise<Json> => {
  const { body } = await api.call("GET", `/apis/atoll.dev/v1alpha1/${path}`);
  const status = (body["status"] ?? {}) as { conditions?: Json[] };
  return status.conditions?.find((c) => c["type"] === type) ?? {};
};
const pod = (name: string): Json => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name },
  spec: { containers: [{ name: "agent", image: "agent:1", securityContext: { runAsUser: 1000 } }] },
});

beforeAll(async () => {
  api = await startApi();
  await ground(api);
  await apply(api, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "atoll-trust-roots", namespace: "atoll-system" },
    data: { "roots.pem": ROOTS },
  });
  const config = new KubeConfig();
  config.loadFromFile(api.plane.kubeconfig);
  const client = clientFrom(config);
  const log = (line: unknown): void => void line;
  webhook = await (async () => {
    const started = startWebhook({
      client,
      port: 0,
      requireSignature: true,
      log,
      addresses: ["127.0.0.1"],
      refreshMs: 200,
    });
    const hook = await started;
    for (const object of yamlFile("charts/atoll/templates/webhooks.yaml")) {
      const hooks = object["webhooks"] as { clientConfig: { service?: { path: string }; url?: string } }[];
      for (const h of hooks)
        h.clientConfig = { url: `https://127.0.0.1:${hook.port}${h.clientConfig.service?.path ?? ""}` };
      await apply(api, object);
    }
    return hook;
  })();
  await enforce(api);
  await namespace(api, "team-a", { "atoll.dev/governed": "true", team: "a" });
  controllers = makeControllers({
    client,
    instance: "test",
    requireSignature: true,
    controlUrl: "https://atoll-control.atoll-system.svc.cluster.local:8443",
    canary: "none",
    controlCa: () => "-----BEGIN CERTIFICATE-----\n",
    log,
  });
  await controllers.synced;
  controllers.start();
});
afterAll(async () => {
  controllers.stop();
  await webhook.stop();
  await api.stop();
});

test("a signed bundle becomes active, a sidecar gives pods its guardian, and the second pass finds nothing to do", async () => {
  await apply(api, bundle(1, policyKey.signer));
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec(),
  });
  await until(
    "the bundle is active",
    async () => (await condition("policybundles/repo-agents-v1", "Active"))["status"] === "True",
  );
  await until("the webhook is ready", async () => Promise.resolve(webhook.ready()));
  await until("a pod is injected and admitted", async () => {
    const reply = await api.call("POST", "/api/v1/namespaces/team-a/pods", pod("one"));
    return reply.status === 201;
  });
  const { body } = await api.call("GET", "/api/v1/namespaces/team-a/pods/one");
  const spec = body["spec"] as { initContainers: { name: string }[] };
  expect(spec.initContainers.map((c) => c.name)).toEqual(["atoll-lock", "atoll-guardian", "atoll-gate"]);
  await until("the policy is distributed", async () => {
    const map = await api.call("GET", "/api/v1/namespaces/team-a/configmaps/atoll-policy-strong");
    return map.status === 200 && "bundle.json" in (map.body["data"] as Json);
  });
  expect(
    (await api.call("GET", "/api/v1/namespaces/team-a/configmaps/atoll-trust-roots")).body["data"],
  ).toEqual({ "roots.pem": ROOTS });
  await until("the pod is counted", async () => {
    const sidecar = await api.call("GET", "/apis/atoll.dev/v1alpha1/guardiansidecars/strong");
    return ((sidecar.body["status"] ?? {}) as { counts?: { injected: number } }).counts?.injected === 1;
  });
  expect(await condition("guardiansidecars/strong", "PolicyActive")).toMatchObject({ status: "True" });
});

test("a bundle of a stranger is refused on application, and by the operator when the webhook was not asked", async () => {
  const refused = await api.call(
    "POST",
    "/apis/atoll.dev/v1alpha1/policybundles",
    bundle(2, stranger.signer),
  );
  expect(refused.message).toContain("POLICY_SIGNATURE_INVALID");
  await api.call("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/atoll");
  await until("it is stored without the webhook", async () => {
    const reply = await api.call(
      "POST",
      "/apis/atoll.dev/v1alpha1/policybundles",
      bundle(2, stranger.signer),
    );
    return reply.status === 201 || reply.status === 409;
  });
  await until(
    "it is refused",
    async () => (await condition("policybundles/repo-agents-v2", "Verified"))["reason"] === "Unsigned",
  );
  expect(await condition("policybundles/repo-agents-v1", "Active")).toMatchObject({ status: "True" });
  await until("an Event tells it", async () => {
    const events = await api.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events");
    return JSON.stringify(events.body).includes("no key of role policy has signed");
  });
});

test("with the webhook gone a pod is refused, not admitted without its guardian", async () => {
  await api.call("DELETE", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/atoll");
  await until("the webhook is no longer asked", async () => {
    const reply = await api.call("POST", "/api/v1/namespaces/team-a/pods?dryRun=All", pod("two"));
    return reply.message.includes("atoll-shape");
  });
});
