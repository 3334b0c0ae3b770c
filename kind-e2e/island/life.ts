// Life behind the lock: Jobs end, probes reach the agent through the guardian, restarts and rollouts lose no call, and a
// guardian that is killed leaves nothing open.
import { setTimeout as pause } from "node:timers/promises";
import { run, until, type Json } from "../trial/kube.ts";
import { programPath } from "../programs.ts";
import { admitted, gone, podIp, reachedBy, ready, type Ground } from "./ground.ts";
import { TEAM, plainSecurity, role, tenant } from "./objects.ts";

const AGENT = { serviceAccountName: "agent" };

async function jobs(g: Ground): Promise<void> {
  const job = (name: string, program: string): Json => ({
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name, namespace: TEAM },
    spec: {
      backoffLimit: 0,
      template: {
        spec: {
          ...AGENT,
          restartPolicy: "Never",
          containers: [
            {
              name: "agent",
              image: g.lab,
              command: ["/usr/bin/node", "--eval", program],
              securityContext: plainSecurity,
            },
          ],
        },
      },
    },
  });
  // A denial before the control stream's first word is one that an agent tries again.
  const call = `const ask = () => fetch("http://127.0.0.1:15080/mcp/v1/execute", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ tool: "tool:github/list_issues", arguments: { repo: "acme/one" } }) }).then((r) => r.json()).then((b) => b.reason_code === "POLICY_STALE" ? setTimeout(ask, 500) : process.exit(b.verdict === "ALLOW" ? 0 : 1)); ask()`;
  const remove = (): Promise<unknown> =>
    g.kube.tryKubectl(
      "delete",
      "job",
      "done",
      "broken",
      "--namespace",
      TEAM,
      "--ignore-not-found",
      "--wait=true",
    );
  await remove();
  await g.kube.apply([job("done", call), job("broken", "process.exit(1)")]);
  const ended = (name: string, how: string): Promise<string> =>
    g.kube.kubectl("wait", `--for=condition=${how}`, `job/${name}`, "--namespace", TEAM, "--timeout", "180s");
  g.check(
    "a Job whose agent made its governed call and ended is Complete",
    (await ended("done", "Complete")).includes("met"),
  );
  g.check("a Job whose agent fails is Failed", (await ended("broken", "Failed")).includes("met"));
  await remove();
}

const PROBES: Readonly<Record<string, Json>> = {
  http: { httpGet: { path: "/", port: 8080 } },
  tcp: { tcpSocket: { port: 8081 } },
  grpc: { grpc: { port: 8082 } },
  exec: {
    exec: {
      command: [
        "/usr/bin/node",
        "--eval",
        'fetch("http://127.0.0.1:8080/").then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))',
      ],
    },
  },
};

async function probes(g: Ground): Promise<void> {
  const names = Object.keys(PROBES).map((kind) => `probe-${kind}`);
  await gone(g.kube, TEAM, ...names);
  await admitted(
    g.kube,
    Object.entries(PROBES).map(([kind, handler]) =>
      tenant(`probe-${kind}`, g.lab, role("app"), {
        container: {
          readinessProbe: { ...handler, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 2 },
          ...(kind === "http"
            ? { lifecycle: { postStart: { httpGet: { path: "/hook", port: 8080 } } } }
            : {}),
        },
      }),
    ),
  );
  for (const name of names) {
    await ready(g.kube, TEAM, name, 240);
    g.check(`${name}: the agent is Ready by its own probe`, true);
  }
  // Straight from the node nothing comes in: the probes did go through the guardian.
  const ip = await podIp(g.kube, TEAM, "probe-http");
  const direct = await g.onNode(
    process.execPath,
    "--eval",
    `fetch("http://${ip}:8080/", { signal: AbortSignal.timeout(1500) }).then(() => process.exit(0), () => process.exit(7))`,
  );
  g.check("the node itself does not reach the agent's port", direct.code === 7, `exit ${direct.code}`);
  for (const kind of ["http", "grpc", "exec"]) {
    await g.kube.exec(
      TEAM,
      `probe-${kind}`,
      "/usr/bin/node",
      "--eval",
      'fetch("http://127.0.0.1:8080/sick").then(() => process.exit(0))',
    );
    await g.kube.kubectl(
      "wait",
      "--for=condition=Ready=false",
      `pod/probe-${kind}`,
      "--namespace",
      TEAM,
      "--timeout",
      "60s",
    );
    g.check(`probe-${kind}: an agent that falls sick is not Ready`, true);
  }
  await gone(g.kube, TEAM, ...names);
}

/** What pods of a Deployment said at their end, followed while they live. */
function follow(g: Ground, pods: readonly string[]): Promise<string[]> {
  return Promise.all(
    pods.map(async (pod) => {
      const { stdout } = await run(programPath("kubectl"), [
        "--kubeconfig",
        g.kube.kubeconfig,
        "logs",
        "--follow",
        "--namespace",
        TEAM,
        pod,
        "--container",
        "agent",
      ]);
      return stdout;
    }),
  );
}

async function rollouts(g: Ground): Promise<void> {
  const name = "rollers";
  const remove = (): Promise<unknown> =>
    g.kube.tryKubectl("delete", "deployment", name, "--namespace", TEAM, "--ignore-not-found", "--wait=true");
  await remove();
  await g.kube.apply([
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, namespace: TEAM },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: name } },
        template: {
          metadata: { labels: { app: name } },
          spec: {
            ...AGENT,
            containers: [
              { name: "agent", image: g.lab, command: role("work"), securityContext: plainSecurity },
            ],
          },
        },
      },
    },
  ]);
  const rolled = (): Promise<string> =>
    g.kube.kubectl("rollout", "status", `deployment/${name}`, "--namespace", TEAM, "--timeout", "240s");
  const pods = async (): Promise<string[]> =>
    (
      await g.kube.kubectl(
        "get",
        "pods",
        "--namespace",
        TEAM,
        "--selector",
        `app=${name}`,
        "--field-selector",
        "status.phase=Running",
        "--output",
        "jsonpath={.items[*].metadata.name}",
      )
    )
      .split(" ")
      .filter((pod) => pod !== "");
  const judged = (what: string, said: readonly string[]): void => {
    const counts = said.map((text): Record<string, number> => {
      const line = /\{"work":(\{[^\n]*\})\}/u.exec(text)?.[1];
      return line === undefined ? { "said nothing": 1 } : JSON.parse(line);
    });
    g.check(
      `${what}: every call was answered with its receipt`,
      counts.length > 0 &&
        counts.every(
          (c) => (c["allowed"] ?? 0) > 0 && Object.keys(c).every((word) => !word.startsWith("lost")),
        ),
      JSON.stringify(counts),
    );
  };
  await rolled();
  await pause(5000);
  let said = follow(g, await pods());
  await g.kube.kubectl("rollout", "restart", `deployment/${name}`, "--namespace", TEAM);
  await rolled();
  judged("rolling update", await said);
  await pause(5000);
  said = follow(g, await pods());
  const node = await g.kube.kubectl("get", "nodes", "--output", "jsonpath={.items[0].metadata.name}");
  try {
    await g.kube.kubectl(
      "drain",
      node,
      "--pod-selector",
      `app=${name}`,
      "--ignore-daemonsets",
      "--delete-emptydir-data",
      "--timeout",
      "120s",
    );
    judged("drain", await said);
  } finally {
    await g.kube.kubectl("uncordon", node);
  }
  await rolled();
  g.check("after the drain they run again", true);
  await remove();
}

async function killed(g: Ground): Promise<void> {
  const pod = "killed";
  await gone(g.kube, TEAM, pod);
  await admitted(g.kube, [tenant(pod, g.lab, role("squat"), { spec: AGENT })]);
  await ready(g.kube, TEAM, pod);
  const guardian = await g.pidOf(TEAM, pod, "atoll-guardian");
  // The squatter is the agent itself, and waits for the ports from its start on.
  await pause(3000);
  await g.onNode("kill", "-KILL", guardian);
  const { line } = await until("the squatter says what it heard", 180, async () => {
    const said = /\{"squat":[^\n]*\}/u.exec(await g.logs(TEAM, pod, "agent"))?.[0];
    return said === undefined ? undefined : { line: said };
  });
  g.check(
    "guardian killed, its ports squatted: nobody hears the squatter",
    line.includes('"bound":[15') && !line.includes("SQUATTER"),
    line,
  );
  g.check("and nobody outside is reached", (await reachedBy(g, await podIp(g.kube, TEAM, pod))).length === 0);
  await until("the guardian is back", 180, async () => {
    const asked = await g.kube.exec(
      TEAM,
      pod,
      "/usr/bin/node",
      "--eval",
      'fetch("http://127.0.0.1:15080/atoll/v1/session").then((r) => r.json()).then((b) => process.exit(b.frozen === false ? 0 : 1), () => process.exit(1))',
    );
    return asked.code === 0 || undefined;
  });
  g.check("the squatter gone, the guardian serves again", true);
  await gone(g.kube, TEAM, pod);
}

export async function life(g: Ground): Promise<void> {
  // Side by side, for most of their time is the kubelet's; the one that counts calls has the machine to itself.
  await jobs(g);
  await Promise.all([killed(g), probes(g)]);
  await rollouts(g);
}
