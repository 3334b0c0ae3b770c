// NetworkPolicies and the island's conditions on a real API server, with the operator's own rights.
import { afterAll, beforeAll, expect, test } from "vitest";
import { LABEL_SIDECAR } from "../../operator/kinds/kinds.ts";
import { apply, until } from "../operator/api.ts";
import type { Api, Json } from "../operator/api.ts";
import { INSTALLER, sidecarSpec } from "../operator/shapes.ts";
import { bundle, pod, startWhole } from "../operator/whole.ts";
import type { Whole } from "../operator/whole.ts";

let whole: Whole;
let api: Api;
let uid = "";
let dead: readonly string[] = [];
const NETWORKS = "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies";
const condition = (type: string): Promise<Json> => whole.condition("guardiansidecars/strong", type);
const own = async (): Promise<Json> => (await api.call("GET", `${NETWORKS}/atoll-island-strong`)).body;
const becomes = (type: string, status: string, reason?: string): Promise<void> =>
  until(`${type} is ${status} ${reason ?? ""}`, async () => {
    const found = await condition(type);
    return found["status"] === status && (reason === undefined || found["reason"] === reason);
  });

beforeAll(async () => {
  whole = await startWhole({
    canary: "10.96.0.77:7007",
    canaryWatch: () => ({ dead: () => dead, stop: () => undefined }),
  });
  api = whole.api;
  // The installer is exempt from the policies; with every right it is what an API server without them would let pass.
  await apply(api, {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: "exempt" },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
    subjects: [{ kind: "ServiceAccount", name: "atoll-installer", namespace: "atoll-system" }],
  });
  await apply(api, bundle({ version: 1 }));
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec({ island: { egress: [{ cidr: "203.0.113.0/24", ports: [443] }] } }),
  });
  await until("the webhook is ready", async () => Promise.resolve(whole.webhook.ready()));
  await until(
    "a pod is admitted",
    async () => (await api.call("POST", "/api/v1/namespaces/team-a/pods", pod("one"))).status === 201,
  );
  const { body } = await api.call("GET", "/api/v1/namespaces/team-a/pods/one");
  uid = (body["metadata"] as { uid: string }).uid;
  await until("the pod is known", async () => Promise.resolve(whole.controllers.pods.size === 1));
});
afterAll(() => whole.stop());

const report = (more: {
  readonly lockProved: boolean;
  readonly networkProved: boolean | undefined;
  readonly failing?: readonly { readonly leg: "lock" | "network"; readonly probe: string }[];
}): void =>
  whole.desk.onReport({
    identity: { namespace: "team-a", podName: "one", podUid: uid, serviceAccount: "default" },
    policyHash: "",
    ceilingHash: "",
    decisions: { total: 0, denied: 0, errors: 0 },
    at: Date.now(),
    failing: [],
    approvals: [],
    ...more,
  });

test("the island of a governed namespace is applied, and a pod has the label by which it is selected", async () => {
  await until("the policy stands", async () => (await own())["kind"] === "NetworkPolicy");
  expect((await own())["spec"]).toMatchObject({
    podSelector: { matchLabels: { [LABEL_SIDECAR]: "strong" } },
    policyTypes: ["Ingress", "Egress"],
    ingress: [{ ports: [{ port: 15_090 }] }],
  });
  expect(JSON.stringify((await own())["spec"])).toContain("203.0.113.0/24");
  const { body } = await api.call("GET", "/api/v1/namespaces/team-a/pods/one");
  expect((body["metadata"] as { labels: Json }).labels).toMatchObject({ [LABEL_SIDECAR]: "strong" });
});

test("conditions follow what guardians prove, and name the probe that was answered", async () => {
  await becomes("EgressLocked", "Unknown", "NoReport");
  report({ lockProved: true, networkProved: true });
  await becomes("EgressLocked", "True", "Proved");
  await becomes("NetworkPolicyEnforced", "True", "Proved");
  report({
    lockProved: false,
    networkProved: true,
    failing: [{ leg: "lock", probe: "canary TCP 10.96.0.77:7007" }],
  });
  await becomes("EgressLocked", "False", "ProbeAnswered");
  expect((await condition("EgressLocked"))["message"]).toContain("team-a/one: canary TCP 10.96.0.77:7007");
  await until("an Event tells it", async () =>
    JSON.stringify((await api.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")).body).includes(
      "reached from inside: team-a/one: canary TCP",
    ),
  );
  expect(await whole.controllers.registry.metrics()).toContain(
    'atoll_island_broken{sidecar="strong",leg="lock"} 1',
  );
  report({
    lockProved: true,
    networkProved: false,
    failing: [{ leg: "network", probe: "canary TCP 10.96.0.77:7007" }],
  });
  await becomes("NetworkPolicyEnforced", "False", "ProbeAnswered");
  report({ lockProved: true, networkProved: true });
  await becomes("EgressLocked", "True");
  await becomes("NetworkPolicyEnforced", "True");
});

test("a dead canary is never read as success", async () => {
  dead = ["10.96.0.77:7007"];
  whole.controllers.touch("strong");
  await becomes("EgressLocked", "Unknown", "CanaryDown");
  await becomes("NetworkPolicyEnforced", "Unknown", "CanaryDown");
  dead = [];
  whole.controllers.touch("strong");
  await becomes("EgressLocked", "True", "Proved");
});

const wide = {
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "theirs", namespace: "team-a" },
  spec: { podSelector: {}, policyTypes: ["Egress"], egress: [{}] },
};

test("another's policy that widens ours is refused, and found where it exists all the same; the pods of then are named", async () => {
  const refused = await api.call("POST", NETWORKS, wide);
  expect(refused.message).toContain("has to leave governed pods out");
  // As one whom the policies exempt: what an API server without them would take.
  expect((await api.call("POST", NETWORKS, wide, undefined, INSTALLER)).message).toBe("");
  await becomes("Drifted", "True");
  expect((await condition("Drifted"))["message"]).toContain(
    "NetworkPolicy team-a/theirs adds egress of 1 pods: anywhere",
  );
  await api.call("DELETE", `${NETWORKS}/theirs`, undefined, undefined, INSTALLER);
  await until("it is gone and its effect remembered", async () => {
    const said = String((await condition("Drifted"))["message"]);
    return !said.includes("theirs") && said.includes("live on in team-a/one: replace these pods");
  });
});

test("ours is repaired when it is deleted or opened, and nobody but the installer may", async () => {
  const refused = await api.call("DELETE", `${NETWORKS}/atoll-island-strong`);
  expect(refused.message).toContain("are the operator's");
  const first = ((await own())["metadata"] as { uid: string }).uid;
  await api.call("DELETE", `${NETWORKS}/atoll-island-strong`, undefined, undefined, INSTALLER);
  await until("it is back", async () => {
    const meta = (await own())["metadata"] as { uid?: string } | undefined;
    return meta?.uid !== undefined && meta.uid !== first;
  });
  const opened = await own();
  const spec = { ...(opened["spec"] as Json), egress: [{}] };
  const put = await api.call(
    "PUT",
    `${NETWORKS}/atoll-island-strong`,
    { ...opened, spec },
    undefined,
    INSTALLER,
  );
  expect(put.message).toBe("");
  await until("it is as it was", async () =>
    JSON.stringify((await own())["spec"]).includes("203.0.113.0/24"),
  );
});

test("the operator may write no NetworkPolicy but its own", async () => {
  const path = `${NETWORKS}/else`;
  await expect(
    whole.client.json(`${path}?fieldManager=x&force=true`, {
      method: "PATCH",
      contentType: "application/apply-patch+yaml",
      body: { ...wide, metadata: { name: "else", namespace: "team-a" } },
    }),
  ).rejects.toThrow("the operator writes its own NetworkPolicies only");
});

test("the policy of a sidecar that is gone stays while its pods live, and goes with the last of them", async () => {
  expect((await api.call("DELETE", "/apis/atoll.dev/v1alpha1/guardiansidecars/strong")).message).toBe("");
  await until("it is known", async () => Promise.resolve(whole.controllers.sidecars.size === 0));
  expect((await own())["kind"]).toBe("NetworkPolicy");
  await api.call("DELETE", "/api/v1/namespaces/team-a/pods/one?gracePeriodSeconds=0");
  await until("it is removed", async () => (await own())["reason"] === "NotFound");
});
