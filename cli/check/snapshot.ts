// Everything that the checks look at, read once from the API server. What the caller may not read is noted, not guessed.

import { KubeConfig } from "@kubernetes/client-node";
import { ApiError, accessFromConfig, clientFrom } from "../../operator/runtime/runtime.ts";
import type { Client } from "../../operator/runtime/runtime.ts";
import { isMap } from "../../operator/kinds/kinds.ts";
import type { Json, JsonMap } from "../../operator/kinds/kinds.ts";

export const LISTS = {
  nodes: "/api/v1/nodes",
  namespaces: "/api/v1/namespaces",
  pods: "/api/v1/pods",
  configmaps: "/api/v1/configmaps?fieldSelector=metadata.name%3Datoll-trust-roots",
  deployments: "/apis/apps/v1/namespaces/atoll-system/deployments",
  endpointslices: "/apis/discovery.k8s.io/v1/namespaces/atoll-system/endpointslices",
  crds: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
  mutating: "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
  validating: "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
  policies: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
  bindings: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
  sidecars: "/apis/atoll.dev/v1alpha1/guardiansidecars",
  bundles: "/apis/atoll.dev/v1alpha1/policybundles",
  indexes: "/apis/atoll.dev/v1alpha1/shapeindexes",
  approvals: "/apis/atoll.dev/v1alpha1/approvalrequests",
  leases: "/apis/coordination.k8s.io/v1/namespaces/atoll-system/leases",
  secrets: "/api/v1/namespaces/atoll-system/secrets?fieldSelector=metadata.name%3Datoll-webhook-ca",
  networkpolicies: "/apis/networking.k8s.io/v1/networkpolicies",
  roles: "/apis/rbac.authorization.k8s.io/v1/clusterroles",
  rolebindings: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
} as const;
export type ListName = keyof typeof LISTS;

export interface Right {
  readonly what: string;
  readonly allowed: boolean;
}
export interface Snapshot {
  /** When it was taken, by this machine and by the API server; 0 where the server did not say. */
  readonly now: number;
  readonly serverNow: number;
  readonly version: string;
  /** Why the API server could not be asked at all; "" when it could. */
  readonly unreachable: string;
  readonly lists: Readonly<Record<ListName, readonly JsonMap[]>>;
  /** Lists that could not be read, with the reason; one that is not served counts as empty. */
  readonly unread: Readonly<Partial<Record<ListName, string>>>;
  readonly rights: readonly Right[];
}

export function openClient(kubeconfig: string | undefined, context: string | undefined): Client {
  const config = new KubeConfig();
  if (kubeconfig === undefined) config.loadFromDefault();
  else config.loadFromFile(kubeconfig);
  if (context !== undefined) config.setCurrentContext(context);
  return clientFrom(accessFromConfig(config));
}

const PRE_RIGHTS: readonly (readonly [group: string, resource: string])[] = [
  ["apiextensions.k8s.io", "customresourcedefinitions"],
  ["admissionregistration.k8s.io", "validatingadmissionpolicies"],
  ["admissionregistration.k8s.io", "mutatingwebhookconfigurations"],
  ["rbac.authorization.k8s.io", "clusterroles"],
  ["", "namespaces"],
];

const words = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const textOf = (v: Json | undefined): string => (typeof v === "string" ? v : "");

async function rightsOf(client: Client): Promise<Right[]> {
  return await Promise.all(
    PRE_RIGHTS.map(async ([group, resource]) => {
      const review = await client.json("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
        method: "POST",
        body: {
          apiVersion: "authorization.k8s.io/v1",
          kind: "SelfSubjectAccessReview",
          spec: { resourceAttributes: { group, resource, verb: "create" } },
        },
      });
      const status = isMap(review["status"]) ? review["status"] : {};
      return { what: `create ${resource}`, allowed: status["allowed"] === true };
    }),
  );
}

/** The API server's own clock: the creation time of an object that is never stored. */
async function serverClock(client: Client): Promise<number> {
  const body = { apiVersion: "v1", kind: "ConfigMap", metadata: { generateName: "atoll-check-" } };
  const answer = await client.json("/api/v1/namespaces/default/configmaps?dryRun=All", {
    method: "POST",
    body,
  });
  const metadata = isMap(answer["metadata"]) ? answer["metadata"] : {};
  const at = Date.parse(textOf(metadata["creationTimestamp"]));
  return Number.isNaN(at) ? 0 : at;
}

const EMPTY = (): Record<ListName, JsonMap[]> => ({
  nodes: [],
  namespaces: [],
  pods: [],
  configmaps: [],
  deployments: [],
  endpointslices: [],
  crds: [],
  mutating: [],
  validating: [],
  policies: [],
  bindings: [],
  sidecars: [],
  bundles: [],
  indexes: [],
  approvals: [],
  leases: [],
  secrets: [],
  networkpolicies: [],
  roles: [],
  rolebindings: [],
});
const isListName = (name: string): name is ListName => Object.hasOwn(LISTS, name);

export async function takeSnapshot(client: Client): Promise<Snapshot> {
  const lists = EMPTY();
  const unread: Partial<Record<ListName, string>> = {};
  const bare = { lists, unread, rights: [], serverNow: 0, version: "" };
  let version: string;
  try {
    version = textOf((await client.json("/version"))["gitVersion"]);
  } catch (error) {
    return { ...bare, now: Date.now(), unreachable: words(error) };
  }
  await Promise.all(
    Object.entries(LISTS).map(async ([name, path]) => {
      if (!isListName(name)) return;
      try {
        const { items } = await client.json(path, { timeoutMs: 30_000 });
        if (Array.isArray(items)) lists[name] = items.filter(isMap);
      } catch (error) {
        // A kind that is not served has no objects; that it is not served is for the checks to say.
        if (!(error instanceof ApiError && error.status === 404)) unread[name] = words(error);
      }
    }),
  );
  const now = Date.now();
  const serverNow = await serverClock(client).catch(() => 0);
  const rights = await rightsOf(client).catch(() => []);
  return { now, serverNow, version, unreachable: "", lists, unread, rights };
}
