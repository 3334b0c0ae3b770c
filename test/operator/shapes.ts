// Shapes for tests, learned from the API server in the way of the operator.
import { buildShapes, canonicalShape, shapePod } from "../../operator/shape/shape.ts";
import { inject } from "../../operator/inject/inject.ts";
import { matchTerms } from "../../operator/kinds/kinds.ts";
import type { IndexEntry, JsonMap, SidecarSpec } from "../../operator/kinds/kinds.ts";
import { yamlFile, yamlFolder, apply, applyCrds, until } from "./api.ts";
import type { Api, Json } from "./api.ts";
import { applyPatch } from "./apply-patch.ts";

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
  // The operator's and the installer's real rights: whatever the tests do as them, they can do in a cluster.
  for (const object of yamlFile("charts/atoll/templates/rbac.yaml")) await apply(api, object);
  await trust(api, "", ROOTS);
}
/** `unlocked` are the sidecars that the installer lets run without the lock. */
export const trust = (api: Api, pem: string, sha256: string, unlocked = ""): Promise<unknown> =>
  apply(api, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "atoll-trust-roots", namespace: "atoll-system" },
    data: { "roots.pem": pem, sha256, images: `${IMAGE.split("@")[1] ?? ""}\n`, unlocked },
  });

/** A pod as the webhook leaves it, with no webhook: the API server's defaults are asked for as before a webhook's call. */
export async function governedPod(
  api: Api,
  pod: Json,
  labels: Record<string, string>,
  entries: readonly IndexEntry[],
): Promise<Json> {
  const { body, message } = await api.call("POST", "/api/v1/namespaces/atoll-shape/pods?dryRun=All", pod);
  if (message !== "") throw new Error(message);
  const { status: _, ...rest } = body as JsonMap;
  const defaulted: JsonMap = { ...rest, metadata: pod["metadata"] as JsonMap };
  const injected = inject(defaulted, { name: "team-a", labels }, { sidecars: entries });
  if (injected.outcome !== "inject") throw new Error(injected.message);
  return applyPatch(defaulted, injected.patch) as Json;
}

export const policies = (): Json[] => yamlFolder("charts/atoll/admission");

/** Applies the policies and waits until the API server enforces them. */
export async function enforce(api: Api): Promise<void> {
  for (const object of policies()) await apply(api, object);
  await apply(api, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "atoll-protection", namespace: "atoll-system" },
    data: {
      "all.yaml":
        JSON.stringify(policies()[0]) +
        policies()
          .slice(1)
          .map((o) => `\n---\n${JSON.stringify(o)}`)
          .join(""),
    },
  });
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

export const OPERATOR = "system:serviceaccount:atoll-system:atoll-operator";
export const INSTALLER = "system:serviceaccount:atoll-system:atoll-installer";
export const indexOf = (sidecars: readonly IndexEntry[]): Json => ({
  apiVersion: "atoll.dev/v1alpha1",
  kind: "ShapeIndex",
  metadata: { name: "cluster" },
  spec: { sidecars },
});
export async function storeIndex(api: Api, sidecars: readonly IndexEntry[]): Promise<void> {
  const reply = await api.call(
    "PATCH",
    "/apis/atoll.dev/v1alpha1/shapeindexes/cluster?fieldManager=atoll-operator&force=true",
    indexOf(sidecars),
    "application/apply-patch+yaml",
    OPERATOR,
  );
  if (reply.status >= 300) throw new Error(reply.message);
}
