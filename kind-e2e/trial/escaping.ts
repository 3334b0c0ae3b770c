// What a hostile agent, its owner and an administrator try; each attempt has a twin that shows the way is there at all.
import { INSTALLER, until } from "./kube.ts";
import { TEAM, WORLD, agent, trial } from "./manifests.ts";
import { accepted, asAgent, expect, inWorld, mcp, refused, told, type Scene, type Part } from "./steps.ts";

const json = (value: object): string => JSON.stringify(value);
const dials = async (
  scene: Scene,
): Promise<readonly (readonly [what: string, host: string, port: string])[]> => {
  const jsonpath = (path: string, ...what: readonly string[]): Promise<string> =>
    scene.kube.kubectl("get", ...what, "--output", `jsonpath=${path}`);
  const api = await jsonpath("{.spec.clusterIP}", "service", "kubernetes", "--namespace", "default");
  const dns = await jsonpath("{.items[0].spec.clusterIP}", "services", "--namespace", "kube-system");
  const node = await jsonpath('{.items[0].status.addresses[?(@.type=="InternalIP")].address}', "nodes");
  const other = await jsonpath("{.items[0].status.podIP}", "pods", "--namespace", WORLD);
  return [
    ["the API server's Service", api, "443"],
    ["the cluster's DNS", dns, "53"],
    ["the node's kubelet", node, "10250"],
    ["another pod", other, "8082"],
    ["another pod's Service", scene.sink, "8082"],
  ];
};

/** A pod whose owner tries something; the sentence that must refuse it. */
const tries: readonly (readonly [
  what: string,
  change: (spec: Record<string, unknown>) => void,
  because: RegExp,
])[] = [
  ["host network", (s) => (s["hostNetwork"] = true), /hostNetwork/u],
  ["the host's process ids", (s) => (s["hostPID"] = true), /hostPID|host/u],
  ["shared process ids", (s) => (s["shareProcessNamespace"] = true), /shareProcessNamespace/u],
  ["a path of the host", (s) => (s["volumes"] = [{ name: "h", hostPath: { path: "/" } }]), /hostPath/u],
  [
    "the guardian's user",
    (s) => container(s, { securityContext: { runAsUser: 64523, runAsNonRoot: true } }),
    /64523/u,
  ],
  [
    "a capability",
    (s) => container(s, { securityContext: { runAsUser: 10001, capabilities: { add: ["NET_ADMIN"] } } }),
    /capabilit|drop/iu,
  ],
  [
    "privilege",
    (s) => container(s, { securityContext: { runAsUser: 10001, privileged: true } }),
    /privileged/u,
  ],
  [
    "a container of our name",
    (s) => (s["containers"] = [...list(s["containers"]), { name: "atoll-x", image: "x" }]),
    /atoll-/u,
  ],
  [
    "the guardian's volume",
    (s) => container(s, { volumeMounts: [{ name: "atoll-journal", mountPath: "/j" }] }),
    /atoll-/u,
  ],
  [
    "a service account's token",
    (s) => (s["volumes"] = [{ name: "t", projected: { sources: [{ serviceAccountToken: { path: "t" } }] } }]),
    /identity|token/iu,
  ],
  [
    "an init container under a name of ours",
    (s) => (s["initContainers"] = [{ name: "atoll-first", image: "x", command: ["/bin/true"] }]),
    /atoll-/u,
  ],
];
const list = (value: unknown): Record<string, unknown>[] => (Array.isArray(value) ? value : []);
const container = (spec: Record<string, unknown>, more: object): void => {
  spec["containers"] = list(spec["containers"]).map((c, at) => (at === 0 ? { ...c, ...more } : c));
};

export const escaping: Part = {
  name: "escaping",
  steps: [
    [
      "the agent reaches nothing but its guardian; a pod without one reaches all of it",
      async (scene) => {
        for (const [what, host, port] of await dials(scene)) {
          expect(
            (await asAgent(scene, "agent", "dial", host, port)) === '"closed"',
            `the agent reached ${what}`,
          );
          expect((await inWorld(scene, "dial", host, port)) === '"open"', `${what} is closed for everybody`);
        }
        expect(
          (await asAgent(scene, "agent", "dial", "127.0.0.1", "15080")) === '"open"',
          "the guardian is closed too",
        );
        const first = await scene.kube.kubectl("logs", "agent", "--namespace", TEAM, "--container", "agent");
        expect(first.includes('{"first_dial":"closed"}'), `in its first millisecond: ${first}`);
      },
    ],
    [
      "a pod that asks for more than an agent may have is refused, with the reason",
      async (scene) => {
        for (const [what, change, because] of tries) {
          const pod = structuredClone(agent("trick", scene.images.trial, scene.sink));
          const spec: unknown = pod["spec"];
          if (typeof spec !== "object" || spec === null) throw new Error("the pod has no spec");
          const open: Record<string, unknown> = { ...spec };
          change(open);
          const done = await scene.kube.tryApply([{ ...pod, spec: open }], "--dry-run=server");
          if (done.code === 0) throw new Error(`${what}: it was accepted`);
          refused(done, because);
        }
        accepted(
          await scene.kube.tryApply([agent("honest", scene.images.trial, scene.sink)], "--dry-run=server"),
        );
      },
    ],
    [
      "nobody execs into the guardian, attaches a debugger, forwards its ports or proxies to it; the agent's own shell opens",
      async ({ kube }) => {
        const at = ["--namespace", TEAM, "agent"];
        for (const name of ["atoll-lock", "atoll-guardian", "atoll-gate"])
          refused(
            await kube.tryKubectl("exec", ...at, "--container", name, "--", "/usr/bin/node", "-v"),
            "cannot be entered",
          );
        refused(
          await kube.tryKubectl(
            "debug",
            ...at,
            "--image",
            "x",
            "--target",
            "atoll-guardian",
            "--profile",
            "general",
          ),
          /denied|forbidden|ephemeral/iu,
        );
        refused(
          await kube.tryKubectl("port-forward", ...at, ":15090", "--pod-running-timeout=5s"),
          /denied|forbidden/iu,
        );
        refused(
          await kube.tryKubectl("get", "--raw", `/api/v1/namespaces/${TEAM}/pods/agent:15090/proxy/metrics`),
          /denied|forbidden/iu,
        );
        accepted(await kube.tryKubectl("exec", ...at, "--container", "agent", "--", "/usr/bin/node", "-v"));
      },
    ],
    [
      "nobody changes what guards a running pod: label, image, size; the agent's own label may be changed",
      async ({ kube }) => {
        refused(
          await kube.tryKubectl("label", "--namespace", TEAM, "pod", "agent", "atoll.dev/sidecar-"),
          /atoll/u,
        );
        refused(
          await kube.tryKubectl(
            "label",
            "--overwrite",
            "--namespace",
            TEAM,
            "pod",
            "agent",
            "atoll.dev/sidecar=other",
          ),
          /atoll/u,
        );
        const image = json({ spec: { initContainers: [{ name: "atoll-guardian", image: "x" }] } });
        refused(
          await kube.tryKubectl(
            "patch",
            "--namespace",
            TEAM,
            "pod",
            "agent",
            "--type",
            "strategic",
            "--patch",
            image,
          ),
          /denied|forbidden|atoll/iu,
        );
        accepted(await kube.tryKubectl("label", "--overwrite", "--namespace", TEAM, "pod", "agent", "own=1"));
      },
    ],
    [
      "the administrator takes nothing of the protection away, only the installer may",
      async ({ kube }) => {
        for (const kind of ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"])
          refused(await kube.tryKubectl("delete", kind, "atoll", "--dry-run=server"), /atoll|denied/iu);
        refused(
          await kube.tryKubectl("delete", "crd", "guardiansidecars.atoll.dev", "--dry-run=server"),
          /atoll|denied/iu,
        );
        refused(
          await kube.tryKubectl("delete", "validatingadmissionpolicy", "atoll-shape", "--dry-run=server"),
          /atoll|denied/iu,
        );
        refused(
          await kube.tryKubectl("label", "namespace", TEAM, "atoll.dev/governed-", "--dry-run=server"),
          /atoll|denied/iu,
        );
        accepted(
          await kube.tryKubectl(
            "delete",
            "mutatingwebhookconfiguration",
            "atoll",
            "--dry-run=server",
            "--as",
            INSTALLER,
          ),
        );
      },
    ],
    [
      "with the webhook gone no governed pod is made and other pods are; with it back they are again",
      async (scene) => {
        const { kube, images, sink } = scene;
        const scale = (n: number): Promise<string> =>
          kube.kubectl("scale", "deployment/atoll-webhook", "--namespace", "atoll-system", `--replicas=${n}`);
        await scale(0);
        try {
          await until("the webhook is gone", 60, async () => {
            const text = await kube.kubectl(
              "get",
              "pods",
              "--namespace",
              "atoll-system",
              "--selector",
              "app.kubernetes.io/name=atoll-webhook",
              "--output",
              "name",
            );
            return text.trim() === "" ? true : text;
          });
          refused(await kube.tryApply([agent("late", images.trial, sink)]), /webhook/u);
          const free = agent("free", images.trial, sink);
          accepted(
            await kube.tryApply(
              [
                {
                  ...free,
                  metadata: { name: "free", namespace: WORLD },
                  spec: { containers: [{ name: "c", image: images.trial, command: [...trial("agent")] }] },
                },
              ],
              "--dry-run=server",
            ),
          );
        } finally {
          await scale(2);
          await kube.kubectl(
            "rollout",
            "status",
            "deployment/atoll-webhook",
            "--namespace",
            "atoll-system",
            "--timeout",
            "90s",
          );
        }
        await until("governed pods are made again", 30, async () => {
          const done = await kube.tryApply([agent("late", images.trial, sink)], "--dry-run=server");
          return done.code === 0 ? true : told(done);
        });
      },
    ],
    [
      "with the lock flushed from the node the guardian stops serving and says so; loaded again, it goes on",
      async (scene) => {
        const pid = await guardianPid(scene);
        accepted(
          await scene.cluster.execOnNode([
            "nsenter",
            "-t",
            pid,
            "-n",
            "nft",
            "delete",
            "table",
            "inet",
            "atoll_lock",
          ]),
        );
        await until("calls are denied", 20, async () => {
          const answer = await mcp(scene, "agent", "github__list_issues", { repo: "acme/one" });
          return answer.error ? true : answer.text.slice(0, 200);
        });
        await until("the sidecar says so", 30, async () => {
          const text = await scene.kube.kubectl(
            "get",
            "guardiansidecar",
            "repo-agents",
            "--output",
            'jsonpath={.status.conditions[?(@.type=="EgressLocked")].status}',
          );
          return text === "False" ? true : text;
        });
        const rules = await scene.cluster.execOnNode([
          "sh",
          "-c",
          `nsenter -t ${pid} -n nft -f /proc/${pid}/root/etc/atoll/lock.nft`,
        ]);
        accepted(rules);
        await until("calls pass again", 30, async () => {
          const answer = await mcp(scene, "agent", "github__list_issues", { repo: "acme/one" });
          return answer.error ? answer.text.slice(0, 200) : true;
        });
      },
    ],
  ],
};

/** The guardian's process as the node counts it. */
export async function guardianPid(scene: Scene): Promise<string> {
  const done = await scene.cluster.execOnNode([
    "sh",
    "-c",
    `for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^/usr/bin/node /opt/atoll/sidecar.js guardian' && basename $p; done | head -n 1`,
  ]);
  const pid = done.stdout.trim();
  expect(/^[0-9]+$/u.test(pid), `no guardian runs: ${told(done)}`);
  return pid;
}
