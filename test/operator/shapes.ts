// Shapes for tests, learned from the API server in the way of the operator.
import { buildShapes, canonicalShape, shapePod } from "../../operator/shape/shape.ts";
import { matchTerms } from "../../operator/kinds/kinds.ts";
import type { IndexEntry, JsonMap, SidecarSpec } from "../../operator/kinds/kinds.ts";
import { yamlFolder, apply, applyCrds, until } from "./api.ts";
import type { Api, Json } from "./api.ts";

export const IMAGE = `registry.example/atoll/sidecar@sha256:${"a".repeat(64)}`;
export const ROOTS = `sha256:${"d".repeat(64)}`;
export const SETTINGS = {
  trustRootsSha256: ROOTS,
  controlUrl: "https://atoll-control.atoll-system.svc.cluster.local:8443",
  canary: "none",
};
export const sidecarSpec = (more: Partial<SidecarSpec> = {}): SidecarSpec => ({
  image: IMAGE,
  conformanceLevel: "L1",
  policyBundleRef: { bundleId: "repo-agents" },
  namespaceSelector: { matchLabels: { team: "a" } },
  ...more,
});

export async function entryFrom(api: Api, name: string, spec: SidecarSpec): Promise<IndexEntry> {
  const shapes = [];
  for (const raw of buildShapes(name, spec, SETTINGS)) {
    const reply = await api.call(
      "POST",
      "/api/v1/namespaces/atoll-shape/pods?dryRun=All&fieldValidation=Strict",
      shapePod(name, raw),
    );
    if (reply.status !== 201) throw new Error(reply.message);
    shapes.push(canonicalShape(raw, reply.body as JsonMap));
  }
  return {
    name,
    match: matchTerms(spec),
    ...(spec.agentContainers === undefined ? {} : { agentContainers: spec.agentContainers }),
    ...(spec.runtimeClasses === undefined ? {} : { runtimeClasses: spec.runtimeClasses }),
    shapes,
  };
}

export async function namespace(api: Api, name: string, labels: Record<string, string>): Promise<void> {
  await apply(api, { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
  await apply(api, {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "default", namespace: name },
  });
}

/** CRDs, namespaces and the installer's ConfigMap; policies only when asked, because they bind at once. */
export async function ground(api: Api): Promise<void> {
  await applyCrds(api);
  await namespace(api, "atoll-system", {});
  await namespace(api, "atoll-shape", {});
  await apply(api, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "atoll-trust-roots", namespace: "atoll-system" },
    data: { "roots.pem": "", sha256: ROOTS, images: `${IMAGE.split("@")[1] ?? ""}\n` },
  });
}

export const policies = (): Json[] => yamlFolder("charts/atoll/templates/admission");

/** Applies the policies and waits until the API server enforces them. */
export async function enforce(api: Api): Promise<void> {
  for (const object of policies()) await apply(api, object);
  await until("the policies are enforced", async () => {
    const reply = await api.call("POST", "/api/v1/namespaces/atoll-shape/pods", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "probe" },
      spec: { containers: [{ name: "a", image: "a" }] },
    });
    if (reply.status === 201)
      await api.call("DELETE", "/api/v1/namespaces/atoll-shape/pods/probe?gracePeriodSeconds=0");
    return reply.status === 422 && reply.message.includes("only dry runs");
  });
}

export const storeIndex = (api: Api, sidecars: readonly IndexEntry[]): Promise<unknown> =>
  apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "ShapeIndex",
    metadata: { name: "cluster" },
    spec: { sidecars },
  });
