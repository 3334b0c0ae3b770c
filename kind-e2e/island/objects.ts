// The laboratory's own image and objects.
import { join } from "node:path";
import { writeImage, type Entry } from "../archive.ts";
import type { Cluster } from "../backends.ts";
import { makeBase } from "../base.ts";
import { root } from "../build.ts";
import { baseFor, imagesFolder, referenceOf } from "../images.ts";
import type { Json } from "../trial/kube.ts";
import { GITHUB_TOKEN, MODEL_KEY } from "../trial/secrets.ts";
import { SIDECAR, TEAM } from "../trial/manifests.ts";

export const SINKS = "island-sinks";
export const OPEN = "island-open";
export const OPEN_SIDECAR = "island-open";
/** Namespace and GuardianSidecar of the layout without the lock. */
export const RESTRICTED = "island-restricted";
export const SINK_PORT = 7000;
export const HOST_PORT = 7001;

const FILES = ["lab.ts", "attempts.ts", "dead-ends.ts", "sockets.ts", "roles.ts"];
const NODE = ["/usr/bin/node", "--disable-warning=ExperimentalWarning"];
export const role = (...argv: readonly string[]): readonly string[] => [
  ...NODE,
  "/opt/lab/roles.ts",
  ...argv,
];
export const LAB: readonly string[] = [...NODE, "/opt/lab/lab.ts"];

/** The guardian's base (with `nft` and its file capability) and the attempts beside it. Test only, never published. */
export async function loadLab(cluster: Cluster): Promise<string> {
  const archive = join(imagesFolder, "lab.tar");
  const own: Entry[] = [
    ...FILES.map(
      (file): Entry => ({
        path: `opt/lab/${file}`,
        mode: 0o644,
        from: { file: join(root, "test/island/lab", file) },
      }),
    ),
    { path: "opt/lab/package.json", mode: 0o644, from: { text: '{"type":"module"}\n' } },
  ];
  const base = baseFor(
    "sidecar",
    makeBase(() => undefined),
  );
  await writeImage(
    archive,
    referenceOf("lab"),
    [base, own],
    { user: "10001:10001", entrypoint: [...role("stay")] },
    { compress: false },
  );
  return cluster.loadImage(archive, referenceOf("lab"));
}

export const plainSecurity = {
  runAsNonRoot: true,
  runAsUser: 10001,
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

/** A pod of a governed namespace as a tenant writes it. */
export const tenant = (
  name: string,
  image: string,
  command: readonly string[],
  more: {
    readonly namespace?: string;
    readonly spec?: Json;
    readonly container?: Json;
    readonly meta?: Json;
  } = {},
): Json => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: more.namespace ?? TEAM, labels: { app: "island" }, ...more.meta },
  spec: {
    terminationGracePeriodSeconds: 1,
    restartPolicy: "Never",
    containers: [{ name: "agent", image, command, securityContext: plainSecurity, ...more.container }],
    ...more.spec,
  },
});

/** Those who answer: one as a pod, one on the node's own network. */
export const sinks = (image: string): Json[] => [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: SINKS } },
  ...["pod", "host"].map((where) =>
    tenant(`sink-${where}`, image, role("sink", `${where === "pod" ? SINK_PORT : HOST_PORT}`), {
      namespace: SINKS,
      meta: { labels: { app: `sink-${where}` } },
      spec: {
        automountServiceAccountToken: false,
        hostNetwork: where === "host",
        restartPolicy: "Always",
      },
    }),
  ),
];

/** A governed namespace with what an agent of the trial needs, and its GuardianSidecar. */
export const governedNamespace = (
  name: string,
  sidecar: string,
  spec: Json,
  labels: Readonly<Record<string, string>> = {},
): Json[] => [
  {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels: { "atoll.dev/governed": "true", ...labels } },
  },
  { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "agent", namespace: name } },
  {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "repo-agents", namespace: name },
    stringData: { MODEL_KEY, GITHUB_TOKEN },
  },
  { apiVersion: "atoll.dev/v1alpha1", kind: "GuardianSidecar", metadata: { name: sidecar }, spec },
];

/** A namespace whose guardian has no NetworkPolicy: there the lock alone stands, and can be taken away alone. */
export const openNamespace = (sidecar: Json): Json[] => {
  const spec = sidecar["spec"];
  return governedNamespace(OPEN, OPEN_SIDECAR, {
    ...(typeof spec === "object" && spec !== null ? spec : {}),
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": OPEN } },
    island: { inPodLock: "nftables", networkPolicy: false },
  });
};
export { SIDECAR, TEAM };
