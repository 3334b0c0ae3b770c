// The true path: a signed bundle and a GuardianSidecar are applied, and from then on a pod gets its guardian.
import { afterAll, beforeAll, expect, test } from "vitest";
import { apply, until } from "./api.ts";
import type { Api, Json, Reply } from "./api.ts";
import { INSTALLER, sidecarSpec } from "./shapes.ts";
import { ROOTS, bundle, makeKey, pod, startWhole } from "./whole.ts";
import type { Whole } from "./whole.ts";

let whole: Whole;
let api: Api;
const condition = (path: string, type: string): Promise<Json> => whole.condition(path, type);
const stranger = makeKey();
const GROUP = "/apis/admissionregistration.k8s.io/v1";
/** Only the installer may take the webhooks away, not even the administrator. */
const gone = (plural: string): Promise<Reply> =>
  api.call("DELETE", `${GROUP}/${plural}/atoll`, undefined, undefined, INSTALLER);
beforeAll(async () => {
  whole = await startWhole();
  api = whole.api;
});
afterAll(() => whole.stop());

test("a signed bundle becomes active, a sidecar gives pods its guardian, and the second pass finds nothing to do", async () => {
  await apply(api, bundle({ version: 1 }));
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
  await until("the webhook is ready", async () => Promise.resolve(whole.webhook.ready()));
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
    bundle({ version: 2, signers: [stranger.signer] }),
  );
  expect(refused.message).toContain("POLICY_SIGNATURE_INVALID");
  expect((await gone("validatingwebhookconfigurations")).message).toBe("");
  await until("it is stored without the webhook", async () => {
    const reply = await api.call(
      "POST",
      "/apis/atoll.dev/v1alpha1/policybundles",
      bundle({ version: 2, signers: [stranger.signer] }),
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
  const refused = await api.call("DELETE", `${GROUP}/mutatingwebhookconfigurations/atoll`);
  expect(refused.message).toContain("helm uninstall --kube-as-user");
  expect((await gone("mutatingwebhookconfigurations")).message).toBe("");
  await until("the webhook is no longer asked", async () => {
    const reply = await api.call("POST", "/api/v1/namespaces/team-a/pods?dryRun=All", pod("two"));
    return reply.message.includes("atoll-shape");
  });
});
