// The chart, installed by Helm into a real API server, and the operator's programs run against it with the chart's rights.
import { afterAll, beforeAll, expect, test } from "vitest";
import { apply, startApi, until } from "./api.ts";
import type { Api, Json } from "./api.ts";
import { CHART, helm, podEnvironment, rendered, startProgram, valuesFile } from "./install.ts";
import type { Program } from "./install.ts";
import { IMAGE, INSTALLER, namespace, sidecarSpec } from "./shapes.ts";
import { ROOTS, bundle, pod } from "./whole.ts";

let api: Api;
const programs: Program[] = [];
let webhook: Program | undefined;
const CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/atoll";
const values = { roots: ROOTS, digests: [IMAGE.split("@")[1] ?? ""] };
const release = (verb: string[]): string[] => [
  ...verb,
  "atoll",
  CHART,
  "--namespace",
  "atoll-system",
  "--kubeconfig",
  api.plane.kubeconfig,
  "--values",
  valuesFile(api, values),
];

beforeAll(async () => {
  api = await startApi({ controllers: true });
  await helm(release(["install", "--create-namespace"]));
});
afterAll(async () => {
  await Promise.all(programs.map((p) => p.stop()));
  await api.stop();
});

test("every object of the chart is one that the API server takes, and a second apply changes nothing", async () => {
  const seen = new Map<string, unknown>();
  const objects = await rendered(api, values);
  expect(objects.length).toBeGreaterThan(40);
  // As Helm would again, under its own field manager. The status belongs to the cluster's controllers.
  for (const round of [1, 2])
    for (const object of objects) {
      const { status: _, ...stored } = (await apply(api, object, "helm", INSTALLER)).body;
      const { resourceVersion: _version, managedFields, ...meta } = stored["metadata"] as Json;
      const key = `${String(stored["kind"])} ${String(meta["namespace"])}/${String(meta["name"])}`;
      const fields = (managedFields as Json[])
        .filter((f) => f["subresource"] === undefined)
        .map(({ time: _time, ...field }) => field);
      if (round === 2) expect([key, { ...stored, metadata: meta, fields }]).toEqual([key, seen.get(key)]);
      seen.set(key, { ...stored, metadata: meta, fields });
    }
});

test("helm upgrade as the installer passes after the webhook has written its authority, and leaves it there", async () => {
  await namespace(api, "team-a", { "atoll.dev/governed": "true", team: "a" });
  webhook = startProgram("operator/webhook.ts", {
    ...(await podEnvironment(api, "atoll-webhook")),
    ATOLL_PORT: "0",
    ATOLL_EXTRA_ADDRESSES: "127.0.0.1",
    POD_NAME: "webhook-0",
  });
  const operator = startProgram("operator/main.ts", {
    ...(await podEnvironment(api, "atoll-operator")),
    ATOLL_PORT: "0",
    ATOLL_HEALTH_PORT: "0",
    POD_NAME: "operator-0",
  });
  programs.push(webhook, operator);
  const authorities = async (): Promise<unknown[]> =>
    ((await api.call("GET", CONFIGURATION)).body["webhooks"] as { clientConfig: Json }[]).map(
      (h) => h.clientConfig["caBundle"],
    );
  await until("the authority is published", async () => (await authorities()).every((a) => a !== undefined));
  const before = await authorities();
  await helm([...release(["upgrade"]), "--kube-as-user", INSTALLER]);
  expect(await authorities()).toEqual(before);
});

test("operator and webhook run with the chart's rights alone, and a pod gets its guardian", async () => {
  const port = Number(webhook?.lines.find((l) => l["event"] === "serving")?.["port"]);
  // The API server of this test has no Service network: it finds the webhook at an address instead.
  for (const kind of ["mutating", "validating"]) {
    const path = `/apis/admissionregistration.k8s.io/v1/${kind}webhookconfigurations/atoll`;
    const stored = (await api.call("GET", path)).body;
    const hooks = stored["webhooks"] as { clientConfig: Json }[];
    for (const hook of hooks)
      hook.clientConfig = {
        caBundle: hook.clientConfig["caBundle"],
        url: `https://127.0.0.1:${port}${(hook.clientConfig["service"] as { path: string }).path}`,
      };
    expect((await api.call("PUT", path, stored, undefined, INSTALLER)).message).toBe("");
  }
  await until("the bundle is taken", async () => {
    const reply = await api.call("POST", "/apis/atoll.dev/v1alpha1/policybundles", bundle({ version: 1 }));
    return reply.status === 201;
  });
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec(),
  });
  await until("a pod is injected and admitted", async () => {
    const reply = await api.call("POST", "/api/v1/namespaces/team-a/pods", pod("one"));
    return reply.status === 201;
  });
  await until("the sidecar says that its policy is active and the protection whole", async () => {
    const { body } = await api.call("GET", "/apis/atoll.dev/v1alpha1/guardiansidecars/strong");
    const conditions = ((body["status"] ?? {}) as { conditions?: Json[] }).conditions ?? [];
    const is = (type: string, status: string): boolean =>
      conditions.some((c) => c["type"] === type && c["status"] === status);
    return is("PolicyActive", "True") && is("ProtectionDegraded", "False");
  });
  for (const program of programs)
    expect(
      program.lines.filter((l) => l["level"] === "error" && /forbidden/i.test(String(l["message"]))),
    ).toEqual([]);
});

test("helm uninstall as the installer leaves kinds and no policy", async () => {
  await helm([
    "uninstall",
    "atoll",
    "--namespace",
    "atoll-system",
    "--kubeconfig",
    api.plane.kubeconfig,
    "--kube-as-user",
    INSTALLER,
  ]);
  const { body } = await api.call("GET", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies");
  expect((body["items"] as Json[]).map((o) => (o["metadata"] as { name: string }).name)).toEqual([]);
  expect((await api.call("GET", "/apis/atoll.dev/v1alpha1/guardiansidecars/strong")).status).toBe(200);
});
