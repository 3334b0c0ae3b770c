// A healthy cluster as the checks see it: small, and each object as the API server would give it.
import { sha256 } from "../../kernel/crypto/crypto.ts";
import type { JsonMap } from "../../operator/kinds/kinds.ts";
import { makeAuthority } from "../../operator/certificates/certificates.ts";
import { CRDS, POLICIES } from "../../cli/check/installation.ts";
import type { ListName, Snapshot } from "../../cli/check/snapshot.ts";

export const NOW = Date.parse("2026-11-20T12:00:00.000Z");
const DIGEST = `sha256:${"a".repeat(64)}`;
export const IMAGE = `registry.example/atoll/sidecar@${DIGEST}`;
const HASH = `sha256:${"b".repeat(64)}`;
export const authority = makeAuthority(new Date(NOW - 86_400_000), 365 * 86_400_000);
export const expired = makeAuthority(new Date(NOW - 10 * 86_400_000), 86_400_000);
export const stranger = makeAuthority(new Date(NOW - 86_400_000), 365 * 86_400_000);
const ROOTS = "role: policy\nPEM\nrole: approver\nPEM\n";
export const base64 = (text: string): string => Buffer.from(text).toString("base64");

const condition = (type: string, status: string): JsonMap => ({ type, status, reason: "R", message: "m" });
const named = (name: string, more: JsonMap = {}): JsonMap => ({ metadata: { name }, ...more });
const deployment = (name: string, replicas: number): JsonMap =>
  named(name, { spec: { replicas }, status: { availableReplicas: replicas } });
const slice = (service: string): JsonMap => ({
  metadata: { name: service, labels: { "kubernetes.io/service-name": service } },
  endpoints: [{ conditions: { ready: true } }],
});
const webhooks = (...names: readonly string[]): JsonMap =>
  named("atoll", {
    webhooks: names.map((name) => ({
      name,
      failurePolicy: name === "sidecars.atoll.dev" ? "Ignore" : "Fail",
      clientConfig: { caBundle: base64(authority.certificate) },
      namespaceSelector: { matchLabels: { "atoll.dev/governed": "true" } },
    })),
  });

/** Fresh each time, so that a fault can be planted in it. */
export function healthy(): Omit<Snapshot, "lists"> & { readonly lists: Record<ListName, JsonMap[]> } {
  const lists = {
    nodes: [named("one", { status: { conditions: [condition("Ready", "True")] } })],
    namespaces: [
      named("atoll-system"),
      { metadata: { name: "atoll-shape", labels: { "pod-security.kubernetes.io/enforce": "privileged" } } },
      {
        metadata: {
          name: "team",
          labels: { "atoll.dev/governed": "true", "kubernetes.io/metadata.name": "team" },
        },
      },
      named("other"),
    ],
    pods: [
      {
        metadata: { name: "agent", namespace: "team", labels: { "atoll.dev/sidecar": "strong" } },
        spec: {
          initContainers: ["atoll-lock", "atoll-guardian", "atoll-gate"].map((name) => ({
            name,
            image: IMAGE,
          })),
          containers: [{ name: "agent", image: "x", env: [{ name: "SECRET", value: "hunter2" }] }],
        },
        status: {
          phase: "Running",
          initContainerStatuses: [{ name: "atoll-guardian", ready: true, restartCount: 0 }],
        },
      },
    ],
    configmaps: [
      {
        metadata: { name: "atoll-trust-roots", namespace: "atoll-system" },
        data: { "roots.pem": ROOTS, sha256: sha256(ROOTS), images: DIGEST },
      },
      { metadata: { name: "atoll-trust-roots", namespace: "team" }, data: { "roots.pem": ROOTS } },
    ],
    deployments: [deployment("atoll-operator", 1), deployment("atoll-webhook", 2)],
    endpointslices: [slice("atoll-control"), slice("atoll-webhook")],
    crds: CRDS.map((name) =>
      named(`${name}.atoll.dev`, { status: { conditions: [condition("Established", "True")] } }),
    ),
    mutating: [webhooks("pods.atoll.dev")],
    validating: [webhooks("kinds.atoll.dev", "sidecars.atoll.dev")],
    policies: POLICIES.map((name) => named(name, { spec: { failurePolicy: "Fail" } })),
    bindings: POLICIES.map((name) =>
      named(name, { spec: { policyName: name, validationActions: ["Deny"] } }),
    ),
    sidecars: [
      named("strong", {
        spec: {
          image: IMAGE,
          policyBundleRef: { bundleId: "b" },
          namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "team" } },
        },
        status: {
          conditions: [
            condition("Injected", "True"),
            condition("EgressLocked", "True"),
            condition("NetworkPolicyEnforced", "True"),
            condition("Drifted", "False"),
            condition("ProtectionDegraded", "False"),
          ],
          policy: { hash: HASH },
          running: [{ hash: HASH, pods: 1 }],
        },
      }),
    ],
    bundles: [
      named("b-v1", {
        spec: { bundleId: "b", version: 1, contentHash: HASH, expiresAt: "2027-11-20T12:00:00.000Z" },
        status: { conditions: [condition("Verified", "True"), condition("Active", "True")] },
      }),
    ],
    indexes: [named("cluster", { spec: { sidecars: [{ name: "strong", match: [], shapes: [] }] } })],
    approvals: [],
    leases: [
      named("atoll-operator", {
        spec: { holderIdentity: "o", renewTime: new Date(NOW - 3000).toISOString() },
      }),
    ],
    secrets: [
      named("atoll-webhook-ca", {
        data: { authorities: base64(JSON.stringify([{ certificate: authority.certificate }])) },
      }),
    ],
    networkpolicies: [{ metadata: { name: "atoll-island-strong", namespace: "team" } }],
    roles: [
      named("admin", {
        rules: [{ apiGroups: ["admissionregistration.k8s.io"], resources: ["*"], verbs: ["*"] }],
      }),
    ],
    rolebindings: [],
  };
  return {
    now: NOW,
    serverNow: NOW - 500,
    version: "v1.36.3",
    unreachable: "",
    lists,
    unread: {},
    rights: [{ what: "create namespaces", allowed: true }],
  };
}
