// Each fault that is planted in a healthy cluster is found by its check, with a hint; the healthy one has none.
import { expect, test } from "vitest";
import { future, running } from "../../cli/check/check.ts";
import { CHECKS, judge } from "../../cli/check/checks.ts";
import { withoutSecrets } from "../../cli/check/report.ts";
import type { Snapshot } from "../../cli/check/snapshot.ts";
import { base64, expired, healthy, IMAGE, NOW, stranger } from "./healthy.ts";

type Broken = ReturnType<typeof healthy>;
// Planting is editing: the objects are plain data of this test's own.
// oxlint-disable-next-line typescript/no-explicit-any
const edit = (o: unknown): any => o;
const first = (s: Broken, name: keyof Snapshot["lists"]): ReturnType<typeof edit> => edit(s.lists[name]?.[0]);
const setCondition = (o: ReturnType<typeof edit>, type: string, status: string): void => {
  o.status.conditions.find((c: { type: string }) => c.type === type).status = status;
};
const second = (s: Broken, name: keyof Snapshot["lists"]): ReturnType<typeof edit> =>
  edit(s.lists[name]?.[1]);

const FAULTS: readonly (readonly [what: string, id: string, plant: (s: Broken) => void])[] = [
  ["an API server that does not answer", "api", (s) => (edit(s).unreachable = "connection refused")],
  ["an old cluster", "version", (s) => (edit(s).version = "v1.31.4")],
  ["a clock that is wrong", "clock", (s) => (edit(s).serverNow = NOW - 60_000)],
  ["no ready node", "nodes", (s) => setCondition(first(s, "nodes"), "Ready", "False")],
  ["too few rights", "rights", (s) => (edit(s).rights[0].allowed = false)],
  ["a kind that is missing", "crds", (s) => s.lists["crds"]?.pop()],
  ["a kind that is not established", "crds", (s) => setCondition(first(s, "crds"), "Established", "False")],
  [
    "our own namespace governed",
    "namespaces",
    (s) => (first(s, "namespaces").metadata.labels = { "atoll.dev/governed": "true" }),
  ],
  [
    "a shape namespace that refuses the lock",
    "namespaces",
    (s) => (second(s, "namespaces").metadata.labels["pod-security.kubernetes.io/enforce"] = "restricted"),
  ],
  ["an operator that is down", "operator", (s) => (first(s, "deployments").status.availableReplicas = 0)],
  [
    "an operator that does not lead",
    "lease",
    (s) => (first(s, "leases").spec.renewTime = new Date(NOW - 120_000).toISOString()),
  ],
  ["a control stream without endpoint", "control", (s) => (first(s, "endpointslices").endpoints = [])],
  ["a webhook that is down", "webhook", (s) => (second(s, "deployments").status.availableReplicas = 0)],
  [
    "a webhook without endpoint",
    "webhook-service",
    (s) => (second(s, "endpointslices").endpoints[0].conditions.ready = false),
  ],
  ["a webhook configuration that was deleted", "webhook-configuration", (s) => s.lists["mutating"]?.pop()],
  [
    "a webhook that fails open",
    "webhook-configuration",
    (s) => (first(s, "mutating").webhooks[0].failurePolicy = "Ignore"),
  ],
  [
    "a webhook that selects nothing governed",
    "webhook-configuration",
    (s) => (first(s, "mutating").webhooks[0].namespaceSelector = { matchLabels: { x: "y" } }),
  ],
  ["an empty caBundle", "ca-bundle", (s) => (first(s, "validating").webhooks[0].clientConfig.caBundle = "")],
  [
    "a caBundle of another authority",
    "ca-bundle",
    (s) => (first(s, "mutating").webhooks[0].clientConfig.caBundle = base64(stranger.certificate)),
  ],
  [
    "an expired authority",
    "ca-expiry",
    (s) => (first(s, "mutating").webhooks[0].clientConfig.caBundle = base64(expired.certificate)),
  ],
  ["an admission policy that was deleted", "policies", (s) => s.lists["policies"]?.shift()],
  [
    "an admission policy that fails open",
    "policies",
    (s) => (first(s, "policies").spec.failurePolicy = "Ignore"),
  ],
  ["a binding that only warns", "policies", (s) => (first(s, "bindings").spec.validationActions = ["Warn"])],
  ["a binding that was deleted", "policies", (s) => s.lists["bindings"]?.pop()],
  [
    "a policy that the API server cannot type",
    "policy-types",
    (s) =>
      (first(s, "policies").status = {
        typeChecking: { expressionWarnings: [{ fieldRef: "f", warning: "w" }] },
      }),
  ],
  ["trust roots that are empty", "trust-roots", (s) => (first(s, "configmaps").data["roots.pem"] = "")],
  [
    "trust roots that were exchanged",
    "trust-roots",
    (s) => (first(s, "configmaps").data["roots.pem"] += "role: policy\nPEM\n"),
  ],
  [
    "another copy of the roots in a namespace",
    "trust-roots",
    (s) => (second(s, "configmaps").data["roots.pem"] = "role: policy\n"),
  ],
  [
    "an image that the installer does not list",
    "guardian-images",
    (s) => (first(s, "configmaps").data.images = ""),
  ],
  ["an image by tag", "guardian-images", (s) => (first(s, "sidecars").spec.image = "x:latest")],
  ["a policy that does not exist", "bundles", (s) => s.lists["bundles"]?.pop()],
  ["a policy that is not active", "bundles", (s) => setCondition(first(s, "bundles"), "Active", "False")],
  [
    "a policy that was refused",
    "bundle-refused",
    (s) => setCondition(first(s, "bundles"), "Verified", "False"),
  ],
  [
    "a policy that expires tomorrow",
    "bundle-expiry",
    (s) => (first(s, "bundles").spec.expiresAt = "2026-11-21T12:00:00.000Z"),
  ],
  ["an index that is gone", "shape-index", (s) => s.lists["indexes"]?.pop()],
  ["a sidecar without a shape", "shape-index", (s) => (first(s, "indexes").spec.sidecars = [])],
  ["pods out of shape", "sidecar-injected", (s) => setCondition(first(s, "sidecars"), "Injected", "False")],
  [
    "a way out that is open",
    "sidecar-locked",
    (s) => setCondition(first(s, "sidecars"), "EgressLocked", "False"),
  ],
  [
    "a network that enforces nothing",
    "network-policy",
    (s) => setCondition(first(s, "sidecars"), "NetworkPolicyEnforced", "False"),
  ],
  ["a NetworkPolicy that widens", "drift", (s) => setCondition(first(s, "sidecars"), "Drifted", "True")],
  [
    "protection that was changed",
    "protection",
    (s) => setCondition(first(s, "sidecars"), "ProtectionDegraded", "True"),
  ],
  ["a freeze", "frozen", (s) => (first(s, "sidecars").spec.freeze = { reason: "r" })],
  [
    "a policy that was rolled back",
    "rolled-back",
    (s) => (first(s, "sidecars").status.rolledBack = [`sha256:${"b".repeat(64)}`]),
  ],
  [
    "a governed namespace without a sidecar",
    "namespace-sidecar",
    (s) => (edit(s.lists["namespaces"]?.[3]).metadata.labels = { "atoll.dev/governed": "true" }),
  ],
  [
    "a missing label",
    "namespace-label",
    (s) => delete edit(s.lists["namespaces"]?.[2]).metadata.labels["atoll.dev/governed"],
  ],
  [
    "two sidecars for one namespace",
    "overlap",
    (s) => s.lists["sidecars"]?.push({ ...first(s, "sidecars"), metadata: { name: "weak" } }),
  ],
  [
    "Pod Security that refuses the lock",
    "pod-security",
    (s) =>
      (edit(s.lists["namespaces"]?.[2]).metadata.labels["pod-security.kubernetes.io/enforce"] = "baseline"),
  ],
  ["a NetworkPolicy that was deleted", "network-policy-objects", (s) => s.lists["networkpolicies"]?.pop()],
  ["an unguarded pod", "unguarded-pods", (s) => (first(s, "pods").spec.initContainers = [])],
  [
    "an unready guardian",
    "guardian-ready",
    (s) => (first(s, "pods").status.initContainerStatuses[0].ready = false),
  ],
  [
    "a guardian that restarts",
    "guardian-restarts",
    (s) => (first(s, "pods").status.initContainerStatuses[0].restartCount = 9),
  ],
  [
    "an old guardian",
    "guardian-age",
    (s) => (first(s, "pods").spec.initContainers[1].image = IMAGE.replaceAll("a", "c")),
  ],
  [
    "a policy that did not arrive",
    "policy-spread",
    (s) => (first(s, "sidecars").status.running[0].hash = "sha256:old"),
  ],
  ["containers in another order", "default-container", (s) => first(s, "pods").spec.initContainers.reverse()],
  [
    "a call that waits for long",
    "approvals",
    (s) =>
      s.lists["approvals"]?.push({
        metadata: { name: "a", creationTimestamp: new Date(NOW - 3_600_000).toISOString() },
        spec: { tool: "t", expiresAt: new Date(NOW + 60_000).toISOString() },
      }),
  ],
  [
    "a person who may take the policies away",
    "powers",
    (s) =>
      s.lists["rolebindings"]?.push({
        metadata: { name: "b" },
        roleRef: { name: "admin" },
        subjects: [{ kind: "User", name: "mallory" }],
      }),
  ],
];

const found = (s: Snapshot): string[] =>
  judge(s, false)
    .filter((r) => r.findings.length > 0)
    .map((r) => r.id);

test("a healthy cluster has no finding, and every check was asked", () => {
  const results = judge(healthy(), false);
  expect(results.flatMap((r) => r.findings)).toEqual([]);
  expect(results.map((r) => r.id)).toEqual(CHECKS.map((c) => c.id));
  expect(new Set(CHECKS.map((c) => c.id)).size).toBe(CHECKS.length);
});

test("there are more than 25 faults, and every check has one", () => {
  expect(FAULTS.length).toBeGreaterThanOrEqual(25);
  expect(CHECKS.map((c) => c.id).filter((id) => !FAULTS.some(([, f]) => f === id))).toEqual([]);
});

test.each(FAULTS)("%s is found by `%s`, with a hint", (_what, id, plant) => {
  const s = healthy();
  plant(s);
  expect(found(s)).toContain(id);
  const result = judge(s, false).find((r) => r.id === id);
  expect(result?.hint.length).toBeGreaterThan(20);
  expect(result?.findings.every((f) => f.message !== "")).toBe(true);
});

test("before an installation only what does not need one is asked", () => {
  const s = healthy();
  for (const [name, objects] of Object.entries(s.lists)) if (name !== "nodes") objects.length = 0;
  expect(judge(s, true).flatMap((r) => r.findings)).toEqual([]);
  expect(judge(s, false).flatMap((r) => r.findings).length).toBeGreaterThan(5);
});

test("what may not be read is not said to be well", () => {
  const s = { ...healthy(), unread: { pods: "forbidden" } };
  const result = judge(s, false).find((r) => r.id === "unguarded-pods");
  expect(result?.skipped).toContain("forbidden");
});

test("a report holds no environment, no Secret and no policy's words", () => {
  const text = JSON.stringify(withoutSecrets(healthy()));
  expect(text).not.toContain("hunter2");
  expect(text).not.toContain("authorities");
  expect(text).not.toContain("CERTIFICATE");
  expect(text).toContain('"agent"');
});

test("explain says what governs a pod, what would refuse one, and what is left alone", () => {
  const s = healthy();
  expect(running(s, "team", "agent").text[0]).toBe("governed by the GuardianSidecar strong");
  expect(running(s, "team", "nobody").good).toBe(false);
  const pod = {
    metadata: { name: "p" },
    spec: { hostNetwork: true, containers: [{ name: "c", image: "x" }] },
  };
  expect(future(s, "other", pod).text[0]).toContain("left as it is");
  expect(future(s, "team", pod).good).toBe(false);
});
