// What a cluster lives through: a root agent is asked for, the operator goes, the network plugin stands still while pods start,
// everything on the node is killed at once. The island holds through all of it, and serves again by itself.
import { setTimeout as pause } from "node:timers/promises";
import { Failure } from "../failure.ts";
import { programPath } from "../programs.ts";
import { until } from "../trial/kube.ts";
import { laboratory, surroundings } from "./escape.ts";
import { admitted, gone, podIp, reachedBy, ready, type Ground } from "./ground.ts";
import { SINKS, SINK_PORT, TEAM, plainSecurity, role, tenant } from "./objects.ts";

const POD = "upheaved";
const RACER = "racer";

const ASK = `fetch("http://127.0.0.1:15080/mcp/v1/execute", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ tool: "tool:github/list_issues", arguments: { repo: "acme/one" } }) }).then((r) => r.json()).then((b) => console.log(b.verdict, b.reason_code), (e) => console.log(String(e)))`;
const asked = async (g: Ground): Promise<string> =>
  (await g.kube.exec(TEAM, POD, "/usr/bin/node", "--eval", ASK)).stdout.trim();

/** Runs what is given while the network plugin stands still. */
export async function withoutFelix(g: Ground, meanwhile: () => Promise<void>): Promise<void> {
  const felix = (await g.onNode("pgrep", "-f", "calico-felix")).stdout.trim().split("\n")[0] ?? "";
  if (felix === "") throw new Failure("the network plugin's process was not found");
  await g.onNode("kill", "-STOP", felix);
  try {
    await meanwhile();
  } finally {
    await g.onNode("kill", "-CONT", felix);
  }
}

/** A pod whose agent dials at once; what it said at its end, or that it did not get so far. */
export async function raced(g: Ground, namespace: string, name: string, seconds = 180): Promise<string> {
  const sink = await podIp(g.kube, SINKS, "sink-pod");
  await gone(g.kube, namespace, name);
  await admitted(g.kube, [tenant(name, g.lab, role("race", sink, `${SINK_PORT}`), { namespace })]);
  const said = await until(`${namespace}/${name} has dialled`, seconds, async () => {
    const { stdout } = await g.kube.tryKubectl(
      "get",
      "pod",
      name,
      "--namespace",
      namespace,
      "--output",
      'jsonpath={.status.containerStatuses[?(@.name=="agent")].state.terminated.message}',
    );
    return stdout === "" ? undefined : { stdout };
  }).catch((error: unknown) => {
    if (error instanceof Failure) return { stdout: `not started within ${seconds} s` };
    throw error;
  });
  await gone(g.kube, namespace, name);
  return said.stdout;
}

const scale = (g: Ground, replicas: number): Promise<string> =>
  g.kube.kubectl(
    "scale",
    "deployment",
    "atoll-operator",
    "--namespace",
    "atoll-system",
    `--replicas=${replicas}`,
  );

async function operatorGone(g: Ground): Promise<void> {
  await scale(g, 0);
  try {
    await until("the operator is gone", 60, async () => {
      const { stdout } = await g.kube.tryKubectl(
        "get",
        "pods",
        "--namespace",
        "atoll-system",
        "--selector",
        "app.kubernetes.io/name=atoll-operator",
        "--output",
        "name",
      );
      return stdout.trim() === "" ? true : stdout;
    });
    // Its last word is believed for as long as the policy says; nothing wider is ever taken up.
    const still = await asked(g);
    g.check(
      "the operator gone, the last policy goes on until it is stale",
      still.startsWith("ALLOW") || still.includes("POLICY_STALE"),
      still,
    );
    const lines = await laboratory(g, TEAM, POD, await surroundings(g));
    const open = lines.filter((line) => line.open).map((line) => `${line.name}: ${line.by}`);
    g.check(
      `the operator gone, ${lines.length} attempts, none is open`,
      open.length === 0 && lines.length > 30,
      open.join("; "),
    );
    const said = await raced(g, TEAM, RACER);
    g.check("the operator gone, a new pod has its island", said.includes("silence"), said);
  } finally {
    await scale(g, 1);
  }
  const again = await until("it serves again", 120, async () => {
    const text = await asked(g);
    return text.startsWith("ALLOW") ? { text } : text;
  });
  g.check("the operator back, it serves again", true, again.text);
}

async function rebooted(g: Ground): Promise<void> {
  const sink = await podIp(g.kube, SINKS, "sink-pod");
  // It dials at each start of its container, and so also at the first after the reboot.
  await admitted(g.kube, [
    tenant(RACER, g.lab, role("race", sink, `${SINK_PORT}`), { spec: { restartPolicy: "Always" } }),
    tenant(`${RACER}-free`, g.lab, role("race", sink, `${SINK_PORT}`), {
      namespace: SINKS,
      spec: { restartPolicy: "Always" },
    }),
  ]);
  await ready(g.kube, TEAM, RACER).catch(() => "");
  const uptime = (): Promise<string> =>
    g.kube.kubectl(
      "get",
      "pod",
      POD,
      "--namespace",
      TEAM,
      "--output",
      'jsonpath={.status.initContainerStatuses[?(@.name=="atoll-lock")].state.terminated.finishedAt}',
    );
  const before = await uptime();
  const { stdout } = await g.onNode(programPath("ctr"), "--namespace", "k8s.io", "tasks", "list");
  const pids = stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/u))
    .filter(([, pid, state]) => /^[0-9]+$/u.test(pid ?? "") && state === "RUNNING")
    .map(([, pid = ""]) => pid);
  await g.onNode("kill", "-KILL", ...pids);
  await until("the lock was loaded anew", 240, async () => {
    const now = await uptime();
    return now !== "" && now !== before ? true : now;
  });
  const again = await until("it serves again", 240, async () => {
    const text = await asked(g);
    return text.startsWith("ALLOW") ? { text } : text;
  });
  g.check(
    `${pids.length} processes of all pods killed at once: locked again, serves again`,
    true,
    again.text,
  );
  // The sink is another than before: give its twin time to reach it, which has no guardian.
  const address = await podIp(g.kube, SINKS, "sink-pod");
  await pause(10_000);
  const seen = await reachedBy(g, await podIp(g.kube, TEAM, RACER));
  const said = await raced(g, TEAM, `${RACER}-after`);
  g.check(
    `after it nobody of the governed reached ${address}`,
    seen.length === 0 && said.includes("silence"),
    said,
  );
  await Promise.all([gone(g.kube, TEAM, RACER), gone(g.kube, SINKS, `${RACER}-free`)]);
}

export async function upheaval(g: Ground): Promise<void> {
  await Promise.all([gone(g.kube, TEAM, POD, RACER), gone(g.kube, SINKS, `${RACER}-free`)]);
  const root = await g.kube.tryApply([
    tenant("root", g.lab, role("stay"), {
      container: { securityContext: { ...plainSecurity, runAsNonRoot: false, runAsUser: 0 } },
    }),
  ]);
  g.check("an agent with root is refused", root.code !== 0, root.stderr.trim().slice(-140));
  await admitted(g.kube, [
    tenant(POD, g.lab, role("stay"), { spec: { serviceAccountName: "agent", restartPolicy: "Always" } }),
  ]);
  await ready(g.kube, TEAM, POD);
  const first = await until("it serves", 60, async () => {
    const text = await asked(g);
    return text.startsWith("ALLOW") ? { text } : text;
  });
  g.check("it serves", true, first.text);
  await withoutFelix(g, async () => {
    const said = await raced(g, TEAM, RACER, 40);
    g.check("the network plugin stands still, a new pod has its island", !said.includes("OPEN"), said);
  });
  await operatorGone(g);
  await rebooted(g);
  await gone(g.kube, TEAM, POD);
}
