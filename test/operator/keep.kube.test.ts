// What may be done to a governed pod that exists, and to what guards it: as system:masters, with no webhook in the cluster.
import { execFile } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { IndexEntry } from "../../operator/kinds/kinds.ts";
import { ensurePrograms, programPath } from "../../kind-e2e/cluster.ts";
import { apply, startApi, until } from "./api.ts";
import type { Api, Json, Reply } from "./api.ts";
import { agent, another, init, list, meta, spec } from "./deviations.ts";
import {
  INSTALLER,
  OPERATOR,
  ROOTS,
  enforce,
  entryFrom,
  governedPod,
  ground,
  namespace,
  sidecarSpec,
  storeIndex,
} from "./shapes.ts";

let api: Api;
let entry: IndexEntry;
let stored: Json;
const A = { "atoll.dev/governed": "true", team: "a" };
const POD = "/api/v1/namespaces/team-a/pods/one";
const plain: Json = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "one", labels: { app: "x" } },
  spec: { containers: [{ name: "agent", image: "agent:1", securityContext: { runAsUser: 1000 } }] },
};

beforeAll(async () => {
  api = await startApi();
  await ground(api);
  entry = await entryFrom(
    api,
    "strong",
    sidecarSpec({ credentials: [{ name: "TOKEN", secretRef: { name: "github", key: "token" } }] }),
  );
  await storeIndex(api, [entry]);
  await apply(api, { apiVersion: "v1", kind: "Node", metadata: { name: "n1" } });
  await enforce(api);
  await namespace(api, "team-a", A);
  const pod = await governedPod(api, plain, A, [entry]);
  for (const name of ["one", "two"]) {
    const copy = structuredClone(pod);
    meta(copy)["name"] = name;
    if (name === "two") spec(copy)["nodeName"] = "n1";
    await until(
      `pod ${name} is admitted`,
      async () => (await api.call("POST", "/api/v1/namespaces/team-a/pods", copy)).status === 201,
    );
  }
  stored = (await api.call("GET", POD)).body;
});
afterAll(() => api.stop());

const patch = (path: string, body: unknown, how = ""): Promise<Reply> =>
  api.call("PATCH", `${path}${how}`, body, "application/merge-patch+json");
/** PUT of the stored pod with one change; every change starts from the same pod. */
async function put(path: string, change: (pod: Json) => void): Promise<Reply> {
  const pod = structuredClone((await api.call("GET", POD)).body);
  change(pod);
  return await api.call("PUT", `${POD}${path}?dryRun=All`, pod);
}
const debug =
  (container: Json): ((pod: Json) => void) =>
  (pod) => {
    spec(pod)["ephemeralContainers"] = [container];
  };
const safe = (more: Json = {}): Json => ({ ...another("debugger"), ...more });
const unsafe = (change: Json): Json => ({
  ...another("debugger"),
  securityContext: { ...(another("debugger")["securityContext"] as Json), ...change },
});

type Do = () => Promise<Reply>;
const KEEP = "atoll-keep";
const TOUCH = "atoll-touch";
const ALLOWED: readonly (readonly [what: string, act: Do])[] = [
  ["a label of the owner", () => patch(POD, { metadata: { labels: { app: "y" } } }, "?dryRun=All")],
  [
    "an annotation of the owner",
    () => patch(POD, { metadata: { annotations: { note: "y" } } }, "?dryRun=All"),
  ],
  [
    "a freeze",
    () => patch(POD, { metadata: { annotations: { "atoll.dev/freeze": "look" } } }, "?dryRun=All"),
  ],
  ["another image of the agent", () => put("", (p) => void (agent(p)["image"] = "agent:2"))],
  ["a finalizer", () => patch(POD, { metadata: { finalizers: ["example.com/x"] } }, "?dryRun=All")],
  ["the status of a kubelet", () => patch(`${POD}/status`, { status: { phase: "Running" } }, "?dryRun=All")],
  ["a debug container with nothing special", () => put("/ephemeralcontainers", debug(safe()))],
  [
    "a debug container beside the agent",
    () => put("/ephemeralcontainers", debug(safe({ targetContainerName: "agent" }))),
  ],
  [
    "a resize of the agent",
    () => put("/resize", (p) => void (agent(p)["resources"] = { requests: { cpu: "10m" } })),
  ],
  [
    "a binding by a scheduler",
    () =>
      api.call("POST", `${POD}/binding?dryRun=All`, {
        apiVersion: "v1",
        kind: "Binding",
        metadata: { name: "one" },
        target: { kind: "Node", name: "n1" },
      }),
  ],
];
const REFUSED: readonly (readonly [what: string, act: Do, by: string, words: string])[] = [
  [
    "another image of the guardian",
    () => put("", (p) => void (init(p, 1)["image"] = "evil:1")),
    KEEP,
    "containers named atoll-*",
  ],
  [
    "another image of the lock",
    () => put("", (p) => void (init(p, 0)["image"] = "evil:1")),
    KEEP,
    "containers named atoll-*",
  ],
  [
    "another image of the gate",
    () => put("", (p) => void (init(p, 2)["image"] = "evil:1")),
    KEEP,
    "containers named atoll-*",
  ],
  [
    "the label of the sidecar removed",
    () => patch(POD, { metadata: { labels: { "atoll.dev/sidecar": null } } }),
    KEEP,
    "labels of atoll.dev",
  ],
  [
    "the label of the sidecar changed",
    () => patch(POD, { metadata: { labels: { "atoll.dev/sidecar": "weak" } } }),
    KEEP,
    "labels of atoll.dev",
  ],
  [
    "a label of ours added",
    () => patch(POD, { metadata: { labels: { "atoll.dev/x": "y" } } }),
    KEEP,
    "labels of atoll.dev",
  ],
  [
    "the label changed through the status",
    () => patch(`${POD}/status`, { metadata: { labels: { "atoll.dev/sidecar": "weak" } } }),
    KEEP,
    "labels of atoll.dev",
  ],
  [
    "the label removed through the status",
    () => patch(`${POD}/status`, { metadata: { labels: { "atoll.dev/sidecar": null } } }),
    KEEP,
    "labels of atoll.dev",
  ],
  [
    "a label through a binding",
    () =>
      api.call("POST", `${POD}/binding`, {
        apiVersion: "v1",
        kind: "Binding",
        metadata: { name: "one", labels: { "atoll.dev/sidecar": "weak" } },
        target: { kind: "Node", name: "n1" },
      }),
    KEEP,
    "labels of atoll.dev",
  ],
  [
    "a label through the old form of a binding",
    () =>
      api.call("POST", "/api/v1/namespaces/team-a/bindings", {
        apiVersion: "v1",
        kind: "Binding",
        metadata: { name: "one", labels: { "atoll.dev/sidecar": "weak" } },
        target: { kind: "Node", name: "n1" },
      }),
    KEEP,
    "labels of atoll.dev",
  ],
  [
    "the probes' annotation through a binding",
    () =>
      api.call("POST", `${POD}/binding`, {
        apiVersion: "v1",
        kind: "Binding",
        metadata: { name: "one", annotations: { "atoll.dev/probes": "[]" } },
        target: { kind: "Node", name: "n1" },
      }),
    KEEP,
    "annotations atoll.dev/probes",
  ],
  [
    "the probes' annotation",
    () => patch(POD, { metadata: { annotations: { "atoll.dev/probes": "[]" } } }),
    KEEP,
    "annotations atoll.dev/probes",
  ],
  [
    "a resize of the guardian",
    () =>
      put("/resize", (p) => void ((init(p, 1)["resources"] as { requests: Json }).requests["cpu"] = "1m")),
    KEEP,
    "containers named atoll-*",
  ],
  [
    "a debug container named like ours",
    () => put("/ephemeralcontainers", debug({ ...safe(), name: "atoll-debug" })),
    KEEP,
    "debug container",
  ],
  [
    "a debug container that enters the guardian",
    () => put("/ephemeralcontainers", debug(safe({ targetContainerName: "atoll-guardian" }))),
    KEEP,
    "debug container",
  ],
  [
    "a debug container with the journal",
    () =>
      put(
        "/ephemeralcontainers",
        debug(safe({ volumeMounts: [{ name: "atoll-journal", mountPath: "/j" }] })),
      ),
    KEEP,
    "debug container",
  ],
  [
    "a debug container with the guardian's credential",
    () =>
      put(
        "/ephemeralcontainers",
        debug(safe({ env: [{ name: "T", valueFrom: { secretKeyRef: { name: "github", key: "token" } } }] })),
      ),
    KEEP,
    "credential",
  ],
  [
    "a debug container with all of the guardian's credential",
    () => put("/ephemeralcontainers", debug(safe({ envFrom: [{ secretRef: { name: "github" } }] }))),
    KEEP,
    "credential",
  ],
  [
    "a debug container as root",
    () => put("/ephemeralcontainers", debug(unsafe({ runAsUser: 0, runAsNonRoot: false }))),
    KEEP,
    "debug container needs",
  ],
  [
    "a debug container as the guardian's user",
    () => put("/ephemeralcontainers", debug(unsafe({ runAsUser: 64523 }))),
    KEEP,
    "debug container needs",
  ],
  [
    "a debug container in the guardian's group",
    () => put("/ephemeralcontainers", debug(unsafe({ runAsGroup: 64523 }))),
    KEEP,
    "debug container needs",
  ],
  [
    "a privileged debug container",
    () => put("/ephemeralcontainers", debug(unsafe({ privileged: true, allowPrivilegeEscalation: true }))),
    KEEP,
    "debug container needs",
  ],
  [
    "a debug container with NET_ADMIN",
    () => put("/ephemeralcontainers", debug(unsafe({ capabilities: { drop: ["ALL"], add: ["NET_ADMIN"] } }))),
    KEEP,
    "debug container needs",
  ],
  [
    "a debug container with SYS_PTRACE",
    () =>
      put("/ephemeralcontainers", debug(unsafe({ capabilities: { drop: ["ALL"], add: ["SYS_PTRACE"] } }))),
    KEEP,
    "debug container needs",
  ],
  [
    "a debug container that drops nothing",
    () => put("/ephemeralcontainers", debug(unsafe({ capabilities: {} }))),
    KEEP,
    "debug container needs",
  ],
  [
    "a debug container without seccomp",
    () => put("/ephemeralcontainers", debug(unsafe({ seccompProfile: { type: "Unconfined" } }))),
    KEEP,
    "debug container needs",
  ],
  ...["atoll-lock", "atoll-guardian", "atoll-gate"].flatMap((name) =>
    ["exec", "attach"].map(
      (verb) =>
        [
          `${verb} into ${name}`,
          () => api.call("POST", `${POD}/${verb}?container=${name}&command=sh&stdin=true&stdout=true`),
          TOUCH,
          "cannot be entered",
        ] as const,
    ),
  ),
  [
    "exec with the container named twice",
    () => api.call("POST", `${POD}/exec?container=atoll-guardian&container=agent&command=sh`),
    TOUCH,
    "cannot be entered",
  ],
  ["port-forward", () => api.call("POST", `${POD}/portforward?ports=15070`), TOUCH, "port-forward"],
  ["pods/proxy", () => api.call("GET", `${POD}/proxy/metrics`), TOUCH, "port-forward and proxy"],
  [
    "pods/proxy to a port",
    () => api.call("GET", `${POD.replace("/one", "/one:15090")}/proxy/`),
    TOUCH,
    "port-forward and proxy",
  ],
  ...[
    "run/team-a/one/atoll-guardian?cmd=sh",
    "exec/team-a/one/atoll-guardian",
    "attach/team-a/one/atoll-guardian",
    "portForward/team-a/one",
    "x/../run/team-a/one/atoll-guardian",
    "healthz/../run/team-a/one/atoll-guardian",
    "metrics%2F..%2Frun/team-a/one/atoll-guardian",
    "logs/",
    "debug/pprof/",
    "configz",
    "cri/exec/x",
  ].map(
    (path) =>
      [
        `nodes/proxy ${path}`,
        () => api.call("POST", `/api/v1/nodes/n1/proxy/${path}`),
        "atoll-touch-nodes",
        "through nodes/proxy",
      ] as const,
  ),
];
describe("a governed pod that exists", () => {
  for (const [what, act] of ALLOWED)
    test(`may have ${what}`, async () => expect((await act()).message).toBe(""));
  for (const [what, act, by, words] of REFUSED)
    test(`may not have ${what}`, async () => {
      const reply = await act();
      expect(reply.message).toContain(words);
      expect(reply.message).toContain(by);
      expect(reply.status).toBeGreaterThanOrEqual(400);
    });
  test("may be entered where the agent is, and the kubelet asked for its health", async () => {
    // No node answers here: what matters is that no policy of ours refuses.
    for (const path of [`${POD}/exec?container=agent&command=sh`, "/api/v1/nodes/n1/proxy/healthz"])
      expect((await api.call("POST", path)).message).not.toContain("atoll-");
  });
});

describe("kubectl debug", () => {
  const kubectl = (args: readonly string[]): Promise<string> =>
    new Promise((resolve) =>
      execFile(
        programPath("kubectl"),
        ["--kubeconfig", api.plane.kubeconfig, "-n", "team-a", ...args],
        { timeout: 30_000 },
        (_error, stdout, stderr) => resolve(stdout + stderr),
      ),
    );
  beforeAll(() => ensurePrograms(["kubectl"]));
  for (const profile of ["general", "baseline", "restricted", "netadmin", "sysadmin", "legacy"])
    test(`with the profile ${profile} is refused: none says which user it runs as`, async () => {
      const said = await kubectl([
        "debug",
        "one",
        "--image=busybox",
        `--profile=${profile}`,
        "--attach=false",
        "--",
        "sh",
      ]);
      expect(said).toContain("a debug container needs runAsNonRoot, an explicit runAsUser");
    });
  test("that targets the guardian is refused", async () => {
    expect(
      await kubectl([
        "debug",
        "one",
        "--image=busybox",
        "--profile=restricted",
        "--target=atoll-guardian",
        "--attach=false",
        "--",
        "sh",
      ]),
    ).toContain("target the guardian");
  });
  test("of a node in a governed namespace is refused", async () => {
    expect(await kubectl(["debug", "node/n1", "--image=busybox", "--attach=false", "--", "sh"])).toContain(
      "atoll-shape",
    );
  });
  test("that copies the pod is refused as any pod without its guardian, or is one with it", async () => {
    const said = await kubectl([
      "debug",
      "one",
      "--copy-to=copy",
      "--image=busybox",
      "--share-processes",
      "--attach=false",
      "--",
      "sh",
    ]);
    expect(said).toContain("atoll-shape");
  });
});

test("a rollout of another digest leaves running pods and finishing Jobs alone", async () => {
  const next = await entryFrom(
    api,
    "strong",
    sidecarSpec({ image: `registry.example/atoll/sidecar@sha256:${"b".repeat(64)}` }),
  );
  // The installer lists the digest first.
  await apply(
    api,
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "atoll-trust-roots", namespace: "atoll-system" },
      data: {
        "roots.pem": "",
        sha256: ROOTS,
        images: `sha256:${"a".repeat(64)}\nsha256:${"b".repeat(64)}`,
      },
    },
    "test",
    INSTALLER,
  );
  await until("the operator may write it", async () => {
    try {
      await storeIndex(api, [next]);
      return true;
    } catch {
      return false;
    }
  });
  const old = structuredClone(stored);
  meta(old)["name"] = "late";
  for (const key of ["uid", "resourceVersion", "creationTimestamp", "managedFields"]) delete meta(old)[key];
  await until("new pods need the new shape", async () =>
    (await api.call("POST", "/api/v1/namespaces/team-a/pods?dryRun=All", old)).message.includes(
      "not exactly those",
    ),
  );
  for (const [what, act] of ALLOWED) expect([what, (await act()).message]).toEqual([what, ""]);
  const finalizers = (values: string[]): Promise<Reply> => patch(POD, { metadata: { finalizers: values } });
  expect((await finalizers(["batch.kubernetes.io/job-tracking"])).message).toBe("");
  expect((await patch(`${POD}/status`, { status: { phase: "Succeeded" } })).message).toBe("");
  expect((await finalizers([])).message).toBe("");
  expect((await api.call("DELETE", `${POD}?gracePeriodSeconds=0`)).message).toBe("");
});

describe("what guards the guard, as system:masters", () => {
  const GROUP = "/apis/admissionregistration.k8s.io/v1";
  const RBAC = "/apis/rbac.authorization.k8s.io/v1";
  const KINDS = "/apis/atoll.dev/v1alpha1";
  const remove = (path: string, as?: string): Promise<Reply> =>
    api.call("DELETE", `${path}${path.includes("?") ? "&" : "?"}dryRun=All`, undefined, undefined, as);
  beforeAll(async () => {
    for (const kind of ["Mutating", "Validating"])
      await apply(
        api,
        {
          apiVersion: "admissionregistration.k8s.io/v1",
          kind: `${kind}WebhookConfiguration`,
          metadata: { name: "atoll" },
          webhooks: [
            {
              name: "x.atoll.dev",
              admissionReviewVersions: ["v1"],
              sideEffects: "None",
              failurePolicy: "Fail",
              clientConfig: { service: { namespace: "atoll-system", name: "atoll-webhook" } },
              rules: [
                {
                  apiGroups: ["never.example"],
                  apiVersions: ["v1"],
                  operations: ["CREATE"],
                  resources: ["nothing"],
                },
              ],
            },
          ],
        },
        "test",
        INSTALLER,
      );
    await apply(api, {
      apiVersion: "atoll.dev/v1alpha1",
      kind: "GuardianSidecar",
      metadata: { name: "strong" },
      spec: sidecarSpec(),
    });
  });
  const MASTERS: readonly (readonly [what: string, act: Do, words: string])[] = [
    [
      "the mutating webhook's end",
      () => remove(`${GROUP}/mutatingwebhookconfigurations/atoll`),
      "uninstall it with",
    ],
    [
      "the validating webhook's end",
      () => remove(`${GROUP}/validatingwebhookconfigurations/atoll`),
      "uninstall it with",
    ],
    [
      "all webhooks' end at once",
      () => remove(`${GROUP}/mutatingwebhookconfigurations?labelSelector=`),
      "uninstall it with",
    ],
    [
      "a webhook that is ignored when it fails",
      () =>
        api.call(
          "PATCH",
          `${GROUP}/mutatingwebhookconfigurations/atoll`,
          [{ op: "replace", path: "/webhooks/0/failurePolicy", value: "Ignore" }],
          "application/json-patch+json",
        ),
      "change it with",
    ],
    [
      "a webhook at another address",
      () =>
        api.call(
          "PATCH",
          `${GROUP}/mutatingwebhookconfigurations/atoll`,
          [{ op: "replace", path: "/webhooks/0/clientConfig", value: { url: "https://evil.example/" } }],
          "application/json-patch+json",
        ),
      "change it with",
    ],
    [
      "a webhook with another authority",
      () =>
        api.call(
          "PATCH",
          `${GROUP}/mutatingwebhookconfigurations/atoll`,
          [
            {
              op: "add",
              path: "/webhooks/0/clientConfig/caBundle",
              value: Buffer.from(api.plane.caPem).toString("base64"),
            },
          ],
          "application/json-patch+json",
        ),
      "change it with",
    ],
    [
      "a webhook that leaves a namespace out",
      () =>
        api.call(
          "PATCH",
          `${GROUP}/mutatingwebhookconfigurations/atoll`,
          [{ op: "add", path: "/webhooks/0/matchConditions", value: [{ name: "x", expression: "false" }] }],
          "application/json-patch+json",
        ),
      "change it with",
    ],
    [
      "our kinds' end",
      () => remove("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/shapeindexes.atoll.dev"),
      "uninstall it with",
    ],
    [
      "another schema of our kinds",
      () =>
        patch("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/shapeindexes.atoll.dev", {
          spec: { names: { shortNames: ["evil"] } },
        }),
      "change it with",
    ],
    [
      "the operator's role changed",
      () => patch(`${RBAC}/clusterroles/atoll-operator`, { rules: [] }),
      "change it with",
    ],
    [
      "the operator's binding ended",
      () => remove(`${RBAC}/clusterrolebindings/atoll-operator`),
      "uninstall it with",
    ],
    [
      "another subject for the operator's binding",
      () =>
        patch(`${RBAC}/clusterrolebindings/atoll-operator`, {
          subjects: [{ kind: "User", name: "evil", apiGroup: "rbac.authorization.k8s.io" }],
        }),
      "change it with",
    ],
    [
      "other trust roots",
      () =>
        patch("/api/v1/namespaces/atoll-system/configmaps/atoll-trust-roots", {
          data: { "roots.pem": "evil" },
        }),
      "change it with",
    ],
    [
      "another list of images",
      () =>
        patch("/api/v1/namespaces/atoll-system/configmaps/atoll-trust-roots", {
          data: {
            "roots.pem": "",
            sha256: ROOTS,
            images: `sha256:${"e".repeat(64)}`,
          },
        }),
      "change it with",
    ],
    [
      "the words from which policies are put back",
      () => patch("/api/v1/namespaces/atoll-system/configmaps/atoll-protection", { data: { x: "y" } }),
      "change it with",
    ],
    [
      "an index of somebody else's",
      () => patch(`${KINDS}/shapeindexes/cluster`, { spec: { sidecars: [] } }),
      "written by the operator alone",
    ],
    ["no index", () => remove(`${KINDS}/shapeindexes/cluster`), "written by the operator alone"],
    [
      "a second index",
      () =>
        api.call("POST", `${KINDS}/shapeindexes`, {
          apiVersion: "atoll.dev/v1alpha1",
          kind: "ShapeIndex",
          metadata: { name: "cluster" },
          spec: { sidecars: [] },
        }),
      "written by the operator alone",
    ],
    [
      "a status that says all is well",
      () => patch(`${KINDS}/guardiansidecars/strong/status`, { status: { phase: "Ready" } }),
      "written by the operator alone",
    ],
    [
      "an approval request of one's own",
      () =>
        api.call("POST", `${KINDS}/namespaces/team-a/approvalrequests`, {
          apiVersion: "atoll.dev/v1alpha1",
          kind: "ApprovalRequest",
          metadata: { name: "a" },
          spec: {},
        }),
      "",
    ],
    [
      "a namespace that is no longer governed",
      () => patch("/api/v1/namespaces/team-a", { metadata: { labels: { "atoll.dev/governed": null } } }),
      "stays governed",
    ],
    [
      "a namespace governed a little",
      () => patch("/api/v1/namespaces/team-a", { metadata: { labels: { "atoll.dev/governed": "no" } } }),
      "stays governed",
    ],
    [
      "the label through the namespace's status",
      () =>
        patch("/api/v1/namespaces/team-a/status", { metadata: { labels: { "atoll.dev/governed": null } } }),
      "stays governed",
    ],
    [
      "the label through finalize",
      async () => {
        const body = (await api.call("GET", "/api/v1/namespaces/team-a")).body;
        meta(body)["labels"] = {};
        return await api.call("PUT", "/api/v1/namespaces/team-a/finalize", body);
      },
      "stays governed",
    ],
    [
      "the end of atoll-system",
      () => remove("/api/v1/namespaces/atoll-system"),
      "removed by atoll-installer only",
    ],
    [
      "the end of atoll-shape",
      () => remove("/api/v1/namespaces/atoll-shape"),
      "removed by atoll-installer only",
    ],
    [
      "a NetworkPolicy that opens governed pods",
      () =>
        api.call("POST", "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies", {
          apiVersion: "networking.k8s.io/v1",
          kind: "NetworkPolicy",
          metadata: { name: "open" },
          spec: { podSelector: {}, egress: [{}], policyTypes: ["Egress"] },
        }),
      "leave governed pods out",
    ],
    [
      "a pod stored in the shape namespace",
      () => api.call("POST", "/api/v1/namespaces/atoll-shape/pods", plain),
      "only dry runs",
    ],
  ];
  for (const [what, act, words] of MASTERS)
    test(`refuses ${what}`, async () => {
      const reply = await act();
      expect(reply.status).toBeGreaterThanOrEqual(400);
      expect(reply.message).toContain(words);
    });
  const TAKEN: readonly (readonly [what: string, change: (s: Json) => void, words: string])[] = [
    [
      "an image that is not listed",
      (s) => void ((s["guardian"] as Json)["image"] = `evil@sha256:${"e".repeat(64)}`),
      "guardian.digests",
    ],
    ["an image by tag", (s) => void ((s["lock"] as Json)["image"] = "evil:latest"), "guardian.digests"],
    [
      "another command",
      (s) => void ((s["lock"] as Json)["command"] = ["/usr/bin/node", "-e", "0"]),
      "names and commands",
    ],
    ["arguments", (s) => void ((s["guardian"] as Json)["args"] = ["--x"]), "names and commands"],
    [
      "NODE_OPTIONS",
      (s) => list(s["guardian"] as Json, "env").push({ name: "NODE_OPTIONS", value: "x" }),
      "environment",
    ],
    [
      "an environment for the lock",
      (s) => void ((s["lock"] as Json)["env"] = [{ name: "ATOLL_LOCK", value: "x" }]),
      "names and commands",
    ],
    [
      "other trust roots' hash",
      (s) => {
        const found = list(s["guardian"] as Json, "env").find(
          (e) => e["name"] === "ATOLL_TRUST_ROOTS_SHA256",
        );
        if (found !== undefined) found["value"] = `sha256:${"0".repeat(64)}`;
      },
      "trust roots",
    ],
    [
      "a second, later hash of other roots",
      (s) =>
        list(s["guardian"] as Json, "env").push({
          name: "ATOLL_TRUST_ROOTS_SHA256",
          value: `sha256:${"0".repeat(64)}`,
        }),
      "",
    ],
    [
      "another user",
      (s) => void (((s["guardian"] as Json)["securityContext"] as Json)["runAsUser"] = 0),
      "users and security contexts",
    ],
    [
      "more capabilities",
      (s) =>
        void (((s["gate"] as Json)["securityContext"] as Json)["capabilities"] = {
          drop: ["ALL"],
          add: ["SYS_ADMIN"],
        }),
      "users and security contexts",
    ],
    [
      "a hostPath",
      (s) => list(s, "volumes").push({ name: "atoll-host", hostPath: { path: "/" } }),
      "our volumes only",
    ],
    [
      "a volume over our program",
      (s) =>
        list(s["guardian"] as Json, "volumeMounts").push({ name: "atoll-gate", mountPath: "/opt/atoll" }),
      "our volumes only",
    ],
  ];
  for (const [what, change, words] of TAKEN)
    test(`refuses from a taken-over operator: ${what}`, async () => {
      const index = structuredClone((await api.call("GET", `${KINDS}/shapeindexes/cluster`)).body);
      const [first] = list(spec(index), "sidecars");
      change(list(first ?? {}, "shapes")[0] ?? {});
      const reply = await api.call(
        "PATCH",
        `${KINDS}/shapeindexes/cluster?fieldManager=atoll-operator&force=true&dryRun=All`,
        {
          apiVersion: index["apiVersion"],
          kind: "ShapeIndex",
          metadata: { name: "cluster" },
          spec: spec(index),
        },
        "application/apply-patch+yaml",
        OPERATOR,
      );
      expect(reply.status).toBeGreaterThanOrEqual(400);
      expect(reply.message).toContain(words);
    });
  test("the operator changes no trust root, no policy's words, no spec, and no policy", async () => {
    for (const name of ["atoll-trust-roots", "atoll-protection", "kube-root-ca.crt"]) {
      const reply = await api.call(
        "PATCH",
        `/api/v1/namespaces/atoll-system/configmaps/${name}?fieldManager=x&force=true`,
        { apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data: { x: "y" } },
        "application/apply-patch+yaml",
        OPERATOR,
      );
      expect(reply.status).toBe(422);
    }
    for (const path of [
      `${KINDS}/guardiansidecars/strong`,
      `${GROUP}/validatingadmissionpolicies/atoll-shape`,
      `${GROUP}/validatingadmissionpolicybindings/atoll-shape`,
      `${RBAC}/clusterroles/atoll-operator`,
    ])
      for (const verb of ["PATCH", "DELETE"])
        expect([
          path,
          verb,
          (
            await api.call(
              verb,
              path,
              {},
              verb === "PATCH" ? "application/merge-patch+json" : undefined,
              OPERATOR,
            )
          ).status,
        ]).toEqual([path, verb, 403]);
  });
  test("the installer may do all of it", async () => {
    for (const path of [
      `${GROUP}/mutatingwebhookconfigurations/atoll`,
      `${GROUP}/validatingadmissionpolicies/atoll-shape`,
      `${RBAC}/clusterroles/atoll-webhook`,
    ])
      expect([path, (await remove(path, INSTALLER)).message]).toEqual([path, ""]);
    expect(
      (
        await api.call(
          "PATCH",
          "/api/v1/namespaces/team-a?dryRun=All",
          { metadata: { labels: { "atoll.dev/governed": null } } },
          "application/merge-patch+json",
          INSTALLER,
        )
      ).message,
    ).toBe("");
  });
});
