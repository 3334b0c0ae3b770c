// Pods that differ from a governed one in exactly one thing, each with the words by which the API server refuses it.
import type { Json } from "./api.ts";

export type Change = (pod: Json) => void;
export type Case = readonly [what: string, change: Change, words: string];

export const spec = (pod: Json): Json => pod["spec"] as Json;
export const meta = (pod: Json): Json => pod["metadata"] as Json;
export const list = (of: Json, key: string): Json[] => (of[key] ??= []) as Json[];
export const init = (pod: Json, index: number): Json => list(spec(pod), "initContainers")[index] ?? {};
export const agent = (pod: Json): Json => list(spec(pod), "containers")[0] ?? {};
export const secure = (container: Json): Json => (container["securityContext"] ??= {}) as Json;
const pods = (pod: Json): Json => (spec(pod)["securityContext"] ??= {}) as Json;
const labels = (pod: Json): Json => (meta(pod)["labels"] ??= {}) as Json;
const volume = (pod: Json, v: Json): void => void list(spec(pod), "volumes").push(v);
const mount = (container: Json, name: string): void =>
  void list(container, "volumeMounts").push({ name, mountPath: "/x" });
const env = (container: Json, e: Json): void => void list(container, "env").push(e);
export const another = (name: string): Json => ({
  name,
  image: "other:1",
  securityContext: {
    runAsNonRoot: true,
    runAsUser: 1000,
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
    seccompProfile: { type: "RuntimeDefault" },
  },
});
const CONTAINERS = "the first init containers";
const NAMES = "names that begin with atoll-";
const VOLUMES = "the volumes named atoll-*";

/** What an owner may still choose: all of these are admitted. */
export const ADMITTED: readonly (readonly [what: string, change: Change])[] = [
  ["the pod as the webhook leaves it", () => {}],
  ["another container", (p) => void list(spec(p), "containers").push(another("helper"))],
  ["an init container after ours", (p) => void list(spec(p), "initContainers").push(another("prepare"))],
  [
    "somebody's native sidecar after ours",
    (p) => void list(spec(p), "initContainers").push({ ...another("mesh"), restartPolicy: "Always" }),
  ],
  [
    "an emptyDir of its own",
    (p) => {
      volume(p, { name: "scratch", emptyDir: {} });
      mount(agent(p), "scratch");
    },
  ],
  [
    "a claim, a Secret and a ConfigMap of its own",
    (p) => {
      volume(p, { name: "a", persistentVolumeClaim: { claimName: "mine" } });
      volume(p, { name: "b", secret: { secretName: "mine" } });
      volume(p, { name: "c", configMap: { name: "mine" } });
    },
  ],
  [
    "NET_BIND_SERVICE",
    (p) => void ((secure(agent(p))["capabilities"] as Json)["add"] = ["NET_BIND_SERVICE"]),
  ],
  ["an exec probe", (p) => void (agent(p)["readinessProbe"] = { exec: { command: ["true"] } })],
  [
    "a probe through the guardian",
    (p) => void (agent(p)["livenessProbe"] = { httpGet: { path: "/probe/0", port: 15090 } }),
  ],
  [
    "runAsNonRoot, runAsUser and seccompProfile on the pod instead of the container",
    (p) => {
      Object.assign(pods(p), {
        runAsNonRoot: true,
        runAsUser: 1000,
        seccompProfile: { type: "RuntimeDefault" },
      });
      for (const key of ["runAsNonRoot", "runAsUser", "seccompProfile"]) delete secure(agent(p))[key];
    },
  ],
  ["groups of its own", (p) => void Object.assign(pods(p), { fsGroup: 2000, supplementalGroups: [3000] })],
  ["labels of its own", (p) => void (labels(p)["app"] = "x")],
  ["a node of its choice", (p) => void (spec(p)["nodeSelector"] = { pool: "agents" })],
  ["the RuntimeClass that its GuardianSidecar lists", (p) => void (spec(p)["runtimeClassName"] = "proved")],
  [
    "a quantity of ours spelled otherwise",
    (p) => {
      const resources = init(p, 1)["resources"] as { requests: Json };
      resources.requests["cpu"] = "0.1";
    },
  ],
];

/** Refused on creation. */
export const REFUSED: readonly Case[] = [
  ["no guardian at all", (p) => void (spec(p)["initContainers"] = []), CONTAINERS],
  ["no lock", (p) => void list(spec(p), "initContainers").splice(0, 1), CONTAINERS],
  ["no gate", (p) => void list(spec(p), "initContainers").splice(2, 1), CONTAINERS],
  [
    "guardian before lock",
    (p) => {
      const [a, b, ...rest] = list(spec(p), "initContainers");
      spec(p)["initContainers"] = [b, a, ...rest];
    },
    CONTAINERS,
  ],
  [
    "an init container before the lock",
    (p) => void list(spec(p), "initContainers").unshift(another("first")),
    CONTAINERS,
  ],
  [
    "NODE_OPTIONS in the guardian",
    (p) => env(init(p, 1), { name: "NODE_OPTIONS", value: "--import=data:text/javascript,1" }),
    CONTAINERS,
  ],
  ["NODE_OPTIONS in the lock", (p) => env(init(p, 0), { name: "NODE_OPTIONS", value: "--x" }), CONTAINERS],
  ["NODE_OPTIONS in the gate", (p) => env(init(p, 2), { name: "NODE_OPTIONS", value: "--x" }), CONTAINERS],
  ["LD_PRELOAD in the guardian", (p) => env(init(p, 1), { name: "LD_PRELOAD", value: "/x" }), CONTAINERS],
  [
    "envFrom in the guardian",
    (p) => void (init(p, 1)["envFrom"] = [{ configMapRef: { name: "x" } }]),
    CONTAINERS,
  ],
  ["another image of the guardian", (p) => void (init(p, 1)["image"] = "evil:1"), CONTAINERS],
  ["another command of the lock", (p) => void (init(p, 0)["command"] = ["true"]), CONTAINERS],
  ["arguments for the gate", (p) => void (init(p, 2)["args"] = ["--never"]), CONTAINERS],
  ["the guardian as another user", (p) => void (secure(init(p, 1))["runAsUser"] = 1000), CONTAINERS],
  [
    "the guardian privileged",
    (p) => void Object.assign(secure(init(p, 1)), { privileged: true, allowPrivilegeEscalation: true }),
    CONTAINERS,
  ],
  [
    "the guardian without seccomp",
    (p) => void (secure(init(p, 1))["seccompProfile"] = { type: "Unconfined" }),
    CONTAINERS,
  ],
  ["a writable guardian", (p) => void (secure(init(p, 1))["readOnlyRootFilesystem"] = false), CONTAINERS],
  ["a guardian without its startup probe", (p) => void delete init(p, 1)["startupProbe"], CONTAINERS],
  [
    "a guardian that always looks ready",
    (p) => void (init(p, 1)["readinessProbe"] = { exec: { command: ["true"] } }),
    CONTAINERS,
  ],
  [
    "a hook in the guardian",
    (p) => void (init(p, 1)["lifecycle"] = { preStop: { sleep: { seconds: 1 } } }),
    CONTAINERS,
  ],
  [
    "a guardian with little memory",
    (p) => {
      const resources = init(p, 1)["resources"] as { limits: Json; requests: Json };
      resources.limits["memory"] = "16Mi";
      resources.requests["memory"] = "16Mi";
    },
    CONTAINERS,
  ],
  ["a guardian that ends", (p) => void delete init(p, 1)["restartPolicy"], ""],
  [
    "a terminal for the guardian",
    (p) => void Object.assign(init(p, 1), { stdin: true, tty: true }),
    CONTAINERS,
  ],
  [
    "another volume in the guardian",
    (p) => {
      volume(p, { name: "x", emptyDir: {} });
      mount(init(p, 1), "x");
    },
    CONTAINERS,
  ],
  [
    "a container named like ours",
    (p) => void list(spec(p), "containers").push(another("atoll-helper")),
    NAMES,
  ],
  [
    "an init container named like ours",
    (p) => void list(spec(p), "initContainers").push(another("atoll-late")),
    NAMES,
  ],
  [
    "a second guardian among the containers",
    (p) => void list(spec(p), "containers").push(another("atoll-guardian2")),
    NAMES,
  ],
  ["a volume named like ours", (p) => volume(p, { name: "atoll-extra", emptyDir: {} }), VOLUMES],
  [
    "the token volume missing",
    (p) => void (spec(p)["volumes"] = list(spec(p), "volumes").filter((v) => v["name"] !== "atoll-token")),
    "",
  ],
  [
    "the journal in the node's memory",
    (p) => {
      const found = list(spec(p), "volumes").find((v) => v["name"] === "atoll-journal");
      if (found !== undefined) found["emptyDir"] = { medium: "Memory" };
    },
    VOLUMES,
  ],
  [
    "the trust roots from another ConfigMap",
    (p) => {
      const found = list(spec(p), "volumes").find((v) => v["name"] === "atoll-trust");
      if (found !== undefined) found["configMap"] = { name: "mine", defaultMode: 0o444 };
    },
    VOLUMES,
  ],
  [
    "the agent mounts the journal",
    (p) => mount(agent(p), "atoll-journal"),
    "mounts a volume of the guardian",
  ],
  [
    "the agent mounts the gate's volume",
    (p) => mount(agent(p), "atoll-gate"),
    "mounts a volume of the guardian",
  ],
  ["the agent mounts the token", (p) => mount(agent(p), "atoll-token"), "mounts a volume of the guardian"],
  [
    "the agent mounts the credentials",
    (p) => mount(agent(p), "atoll-credentials"),
    "mounts a volume of the guardian",
  ],
  [
    "an init container mounts the policy",
    (p) => {
      const one = another("prepare");
      mount(one, "atoll-policy");
      list(spec(p), "initContainers").push(one);
    },
    "mounts a volume of the guardian",
  ],
  [
    "a volume's device of ours",
    (p) => void (agent(p)["volumeDevices"] = [{ name: "atoll-journal", devicePath: "/dev/x" }]),
    "",
  ],
  ["hostPath", (p) => volume(p, { name: "h", hostPath: { path: "/" } }), "reaches the node"],
  [
    "the container runtime's socket",
    (p) => volume(p, { name: "h", hostPath: { path: "/run/containerd/containerd.sock", type: "Socket" } }),
    "reaches the node",
  ],
  ["NFS", (p) => volume(p, { name: "h", nfs: { server: "evil", path: "/" } }), "reaches the node"],
  [
    "iSCSI",
    (p) =>
      volume(p, {
        name: "h",
        iscsi: { targetPortal: "1.2.3.4:3260", iqn: "iqn.2001-04.com.example:a", lun: 0 },
      }),
    "reaches the node",
  ],
  ["RBD", (p) => volume(p, { name: "h", rbd: { monitors: ["1.2.3.4"], image: "i" } }), "reaches the node"],
  ["CephFS", (p) => volume(p, { name: "h", cephfs: { monitors: ["1.2.3.4"] } }), "reaches the node"],
  ["FlexVolume", (p) => volume(p, { name: "h", flexVolume: { driver: "x/y" } }), "reaches the node"],
  [
    "GlusterFS",
    (p) => volume(p, { name: "h", glusterfs: { endpoints: "e", path: "/" } }),
    "reaches the node",
  ],
  ["Fibre Channel", (p) => volume(p, { name: "h", fc: { wwids: ["x"] } }), "reaches the node"],
  [
    "a token of the service account for the agent",
    (p) => {
      volume(p, {
        name: "t",
        projected: { sources: [{ serviceAccountToken: { path: "t", expirationSeconds: 600 } }] },
      });
      mount(agent(p), "t");
    },
    "a service account's identity",
  ],
  [
    "the mounted token switched on",
    // The API server puts the token into our containers too, before any policy looks.
    (p) => void (spec(p)["automountServiceAccountToken"] = true),
    CONTAINERS,
  ],
  ["the mounted token unsaid", (p) => void delete spec(p)["automountServiceAccountToken"], CONTAINERS],
  [
    "the credential's Secret as a volume",
    (p) => volume(p, { name: "s", secret: { secretName: "github" } }),
    "a credential of the guardian",
  ],
  [
    "the credential's Secret projected",
    (p) => volume(p, { name: "s", projected: { sources: [{ secret: { name: "github" } }] } }),
    "a credential of the guardian",
  ],
  [
    "the credential's Secret as a variable",
    (p) => env(agent(p), { name: "S", valueFrom: { secretKeyRef: { name: "github", key: "token" } } }),
    "a credential of the guardian",
  ],
  [
    "the credential's Secret as variables",
    (p) => void (agent(p)["envFrom"] = [{ secretRef: { name: "github" } }]),
    "a credential of the guardian",
  ],
  ["hostNetwork", (p) => void (spec(p)["hostNetwork"] = true), ""],
  ["hostPID", (p) => void (spec(p)["hostPID"] = true), "hostPID"],
  ["hostIPC", (p) => void (spec(p)["hostIPC"] = true), "hostIPC"],
  ["shared processes", (p) => void (spec(p)["shareProcessNamespace"] = true), "shareProcessNamespace"],
  ["Windows", (p) => void (spec(p)["os"] = { name: "windows" }), ""],
  [
    "a sysctl",
    (p) => void (pods(p)["sysctls"] = [{ name: "net.ipv4.ip_unprivileged_port_start", value: "0" }]),
    "sysctls",
  ],
  [
    "a device with a network of its own",
    (p) =>
      void (agent(p)["resources"] = {
        limits: { "rdma/hca_shared": "1" },
        requests: { "rdma/hca_shared": "1" },
      }),
    "network of its own",
  ],
  [
    "a resource claim",
    (p) => void (spec(p)["resourceClaims"] = [{ name: "nic", resourceClaimTemplateName: "nic" }]),
    "resource claim",
  ],
  [
    "hostAliases",
    (p) => void (spec(p)["hostAliases"] = [{ ip: "1.2.3.4", hostnames: ["api.example"] }]),
    "hostAliases",
  ],
  ["a dnsConfig", (p) => void (spec(p)["dnsConfig"] = { nameservers: ["1.2.3.4"] }), "dnsConfig"],
  ["dnsPolicy Default", (p) => void (spec(p)["dnsPolicy"] = "Default"), "dnsPolicy"],
  ["service links", (p) => void (spec(p)["enableServiceLinks"] = true), "enableServiceLinks"],
  ["service links unsaid", (p) => void delete spec(p)["enableServiceLinks"], "enableServiceLinks"],
  ["an unlisted RuntimeClass", (p) => void (spec(p)["runtimeClassName"] = "strange"), "runtimeClassName"],
  ...[64521, 64522, 64523].flatMap((id): Case[] => [
    [`the agent as user ${id}`, (p) => void (secure(agent(p))["runAsUser"] = id), "64521, 64522 and 64523"],
    [`the agent in group ${id}`, (p) => void (secure(agent(p))["runAsGroup"] = id), "64521, 64522 and 64523"],
    [`user ${id} for the pod`, (p) => void (pods(p)["runAsUser"] = id), "64521, 64522 and 64523"],
    [`fsGroup ${id}`, (p) => void (pods(p)["fsGroup"] = id), "64521, 64522 and 64523"],
    [
      `supplementalGroups ${id}`,
      (p) => void (pods(p)["supplementalGroups"] = [1, id]),
      "64521, 64522 and 64523",
    ],
  ]),
  [
    "root",
    (p) => void Object.assign(secure(agent(p)), { runAsUser: 0, runAsNonRoot: false }),
    "runAsNonRoot",
  ],
  ["no user", (p) => void delete secure(agent(p))["runAsUser"], "explicit runAsUser"],
  ["runAsNonRoot unsaid", (p) => void delete secure(agent(p))["runAsNonRoot"], "runAsNonRoot"],
  [
    "privileged",
    (p) => void Object.assign(secure(agent(p)), { privileged: true, allowPrivilegeEscalation: true }),
    "privileged",
  ],
  [
    "privilege escalation",
    (p) => void (secure(agent(p))["allowPrivilegeEscalation"] = true),
    "allowPrivilegeEscalation",
  ],
  [
    "privilege escalation unsaid",
    (p) => void delete secure(agent(p))["allowPrivilegeEscalation"],
    "allowPrivilegeEscalation",
  ],
  [
    "an unmasked /proc",
    (p) => {
      secure(agent(p))["procMount"] = "Unmasked";
      spec(p)["hostUsers"] = false;
    },
    "procMount",
  ],
  ...["NET_ADMIN", "NET_RAW", "SETUID", "SYS_ADMIN", "SYS_PTRACE", "BPF", "ALL"].map(
    (name): Case => [
      `capability ${name}`,
      (p) => void (secure(agent(p))["capabilities"] = { drop: ["ALL"], add: [name] }),
      "capabilities",
    ],
  ),
  ["capabilities kept", (p) => void delete secure(agent(p))["capabilities"], "drops ALL"],
  ["only some dropped", (p) => void (secure(agent(p))["capabilities"] = { drop: ["NET_RAW"] }), "drops ALL"],
  ["no seccomp profile", (p) => void delete secure(agent(p))["seccompProfile"], "seccompProfile"],
  [
    "seccomp Unconfined",
    (p) => void (secure(agent(p))["seccompProfile"] = { type: "Unconfined" }),
    "seccompProfile",
  ],
  [
    "a later init container as root",
    (p) => {
      const one = another("prepare");
      Object.assign(secure(one), { runAsUser: 0, runAsNonRoot: false });
      list(spec(p), "initContainers").push(one);
    },
    "runAsNonRoot",
  ],
  [
    "a later native sidecar with NET_ADMIN",
    (p) => {
      const one: Json = { ...another("mesh"), restartPolicy: "Always" };
      secure(one)["capabilities"] = { drop: ["ALL"], add: ["NET_ADMIN"] };
      list(spec(p), "initContainers").push(one);
    },
    "capabilities",
  ],
  [
    "a second container as the guardian's user",
    (p) => {
      const one = another("helper");
      secure(one)["runAsUser"] = 64523;
      list(spec(p), "containers").push(one);
    },
    "64521, 64522 and 64523",
  ],
  ...["startupProbe", "readinessProbe", "livenessProbe"].flatMap((name): Case[] => [
    [
      `a ${name} of the kubelet at another host`,
      (p) => void (agent(p)[name] = { httpGet: { host: "evil.example", path: "/", port: 80 } }),
      "probes and hooks",
    ],
    [
      `a ${name} that no lock lets in`,
      (p) => void (agent(p)[name] = { tcpSocket: { port: 8080 } }),
      "probes and hooks",
    ],
  ]),
  ["a gRPC probe", (p) => void (agent(p)["livenessProbe"] = { grpc: { port: 9000 } }), "probes and hooks"],
  [
    "a probe of the guardian's own readiness",
    (p) => void (agent(p)["livenessProbe"] = { httpGet: { path: "/metrics", port: 15090 } }),
    "probes and hooks",
  ],
  [
    "a hook at another host",
    (p) =>
      void (agent(p)["lifecycle"] = {
        preStop: { httpGet: { host: "evil.example", path: "/", port: 80 } },
      }),
    "probes and hooks",
  ],
  [
    "a TCP hook",
    (p) =>
      void (agent(p)["lifecycle"] = {
        postStart: { tcpSocket: { host: "evil.example", port: 80 } },
      }),
    "",
  ],
  ["no label of the sidecar", (p) => void delete labels(p)["atoll.dev/sidecar"], "label atoll.dev/sidecar"],
  [
    "the label of another sidecar",
    (p) => void (labels(p)["atoll.dev/sidecar"] = "weak"),
    "label atoll.dev/sidecar",
  ],
  [
    "the label of a sidecar that is not there",
    (p) => void (labels(p)["atoll.dev/sidecar"] = "ghost"),
    "label atoll.dev/sidecar",
  ],
];
