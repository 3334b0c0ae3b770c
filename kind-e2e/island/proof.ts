// Each leg taken away in a running cluster, found within 15 s by the guardian itself, and mended.
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import { Failure } from "../failure.ts";
import { until, type Json } from "../trial/kube.ts";
import { inNetwork } from "./escape.ts";
import { admitted, gone, ready, type Ground } from "./ground.ts";
import { SIDECAR, TEAM, role as does, tenant } from "./objects.ts";

const POD = "proved";
const LIMIT = 15;
const INSTALLER = "system:serviceaccount:atoll-system:atoll-installer";

/** What an agent is told by its guardian: a call, and the code of the answer. */
const ASK = `fetch("http://127.0.0.1:15080/mcp/v1/execute", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ tool: "tool:atoll/none", arguments: {} }) }).then((r) => r.json()).then((b) => console.log(b.reason_code), (e) => console.log(String(e)))`;
const code = async (g: Ground): Promise<string> =>
  (await g.kube.exec(TEAM, POD, "/usr/bin/node", "--eval", ASK)).stdout.trim();

const readyOf = async (g: Ground): Promise<boolean> =>
  (
    await g.kube.kubectl(
      "get",
      "pod",
      POD,
      "--namespace",
      TEAM,
      "--output",
      'jsonpath={.status.initContainerStatuses[?(@.name=="atoll-guardian")].ready}',
    )
  ).trim() === "true";

/** Takes a leg away, waits for the guardian to stop, mends it, waits for it to go on. */
async function leg(
  g: Ground,
  what: string,
  type: "EgressLocked" | "NetworkPolicyEnforced",
  take: () => Promise<unknown>,
  mend: () => Promise<unknown>,
): Promise<void> {
  await until(`${POD} is ready and both legs are proved`, 60, async () => {
    if (!(await readyOf(g))) return "not ready";
    const found = await g.conditionOf(SIDECAR, type);
    return found?.status === "True" ? true : `${type} is ${found?.status} ${found?.message}`;
  });
  const before = await g.logs(TEAM, POD, "atoll-guardian");
  const began = performance.now();
  await take();
  try {
    const seconds = (): string => ((performance.now() - began) / 1000).toFixed(1);
    await until(
      "the guardian stops serving",
      LIMIT + 15,
      async () => (await code(g)) === "SYSTEM_FROZEN" || undefined,
    );
    const stopped = performance.now() - began;
    g.check(`${what}: calls stop within ${LIMIT} s`, stopped < LIMIT * 1000, `${seconds()} s`);
    const told = await until("the condition says so", 30, async () => {
      const found = await g.conditionOf(SIDECAR, type);
      return found?.status === "False" ? found : `${found?.status} ${found?.reason}`;
    });
    g.check(
      `${what}: ${type}=False names the probe`,
      /(TCP|UDP|ICMP) /u.test(told.message),
      `${seconds()} s, ${told.reason}: ${told.message.slice(0, 140)}`,
    );
    await until("the guardian is not ready", 30, async () => !(await readyOf(g)) || undefined);
    g.check(`${what}: /readyz fails`, true, `${seconds()} s`);
    const events = await g.kube.kubectl(
      "get",
      "events.events.k8s.io",
      "--namespace",
      "default",
      "--output",
      "json",
    );
    g.check(`${what}: an Event`, events.includes(`${type}: reached`), "");
    const said = (await g.logs(TEAM, POD, "atoll-guardian")).slice(before.length);
    g.check(
      `${what}: the guardian's own log names it`,
      /"ok":false,"why":"reached from inside the pod: /u.test(said),
      "",
    );
    const metric = await metrics(g);
    g.check(`${what}: metric atoll_lock_ok 0`, /^atoll_lock_ok 0$/mu.test(metric));
  } finally {
    await mend();
  }
  await until(`${what}: it serves again`, 60, async () => {
    const found = await g.conditionOf(SIDECAR, type);
    return (await readyOf(g)) && found?.status === "True" ? true : `${found?.status} ${found?.message}`;
  });
  const again = await code(g);
  g.check(`${what}: restored when mended`, again !== "SYSTEM_FROZEN" && again !== "", again);
}

const metrics = async (g: Ground): Promise<string> => {
  const { stdout } = await g.onNode(
    process.execPath,
    "--eval",
    `fetch("http://" + ${JSON.stringify(await address(g))} + ":15090/metrics").then((r) => r.text()).then((t) => process.stdout.write(t))`,
  );
  return stdout;
};
const address = (g: Ground): Promise<string> =>
  g.kube.kubectl("get", "pod", POD, "--namespace", TEAM, "--output", "jsonpath={.status.podIP}");

/** The installer, exempt from the policies, with every right: what an API server without them would let pass. */
async function exempt(g: Ground): Promise<void> {
  await g.kube.apply([
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "island-exempt" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
      subjects: [{ kind: "ServiceAccount", name: "atoll-installer", namespace: "atoll-system" }],
    },
  ]);
}

export async function proof(g: Ground): Promise<void> {
  await gone(g.kube, TEAM, POD);
  await admitted(g.kube, [tenant(POD, g.lab, does("stay"), { spec: { serviceAccountName: "agent" } })]);
  await ready(g.kube, TEAM, POD);
  await exempt(g);

  const { stdout: lockRules } = await g.onNode(
    process.execPath,
    new URL("../../cli/atoll.ts", import.meta.url).pathname,
    "lock",
    "rules",
  );
  await leg(
    g,
    "lock flushed",
    "EgressLocked",
    () => inNetwork(g, TEAM, POD, "nft", "flush", "ruleset"),
    () => inNetwork(g, TEAM, POD, "sh", "-c", `nft -f - <<'RULES'\n${lockRules}RULES\n`),
  );

  const wide: Json = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "widening", namespace: TEAM },
    spec: { podSelector: {}, policyTypes: ["Egress"], egress: [{}] },
  };
  const refused = await g.kube.tryApply([wide]);
  g.check("a widening NetworkPolicy is refused", refused.code !== 0, refused.stderr.trim().slice(-160));
  await leg(
    g,
    "widening NetworkPolicy",
    "NetworkPolicyEnforced",
    async () => {
      await g.kube.apply([wide], "--as", INSTALLER);
      await until("Drifted names it", 15, async () => {
        const found = await g.conditionOf(SIDECAR, "Drifted");
        return found?.message.includes(`${TEAM}/widening`) === true ? true : found?.message;
      });
      g.check("widening NetworkPolicy: Drifted names it", true);
    },
    () => g.kube.kubectl("delete", "networkpolicy", "widening", "--namespace", TEAM, "--as", INSTALLER),
  );
  const after = await g.conditionOf(SIDECAR, "Drifted");
  g.check(
    "its effect is remembered: the pods of then are named",
    after?.message.includes(`${TEAM}/${POD}`) === true,
    after?.message.slice(0, 160),
  );

  const name = `atoll-island-${SIDECAR}`;
  const denied = await g.kube.tryKubectl("delete", "networkpolicy", name, "--namespace", TEAM);
  g.check("our NetworkPolicy cannot be deleted", denied.code !== 0, denied.stderr.trim().slice(-120));
  const first = await g.kube.kubectl(
    "get",
    "networkpolicy",
    name,
    "--namespace",
    TEAM,
    "--output",
    "jsonpath={.metadata.uid}",
  );
  await g.kube.kubectl("delete", "networkpolicy", name, "--namespace", TEAM, "--as", INSTALLER);
  await until("it is back", 15, async () => {
    const { stdout } = await g.kube.tryKubectl(
      "get",
      "networkpolicy",
      name,
      "--namespace",
      TEAM,
      "--output",
      "jsonpath={.metadata.uid}",
    );
    return (stdout !== "" && stdout !== first) || undefined;
  });
  g.check("deleted past the policies, it is back at once", true);
  // With the operator's right to write it taken away, nobody repairs, and the guardian has to notice by itself.
  const role = await g.kube.get("clusterrole", "atoll-operator");
  const rules = Array.isArray(role["rules"]) ? role["rules"] : [];
  const writeRole = (kept: readonly unknown[]): Promise<string> =>
    g.kube.apply(
      [
        {
          apiVersion: role["apiVersion"],
          kind: role["kind"],
          metadata: { name: "atoll-operator" },
          rules: kept,
        },
      ],
      "--server-side",
      "--force-conflicts",
      "--as",
      INSTALLER,
    );
  await leg(
    g,
    "NetworkPolicy deleted",
    "NetworkPolicyEnforced",
    async () => {
      await writeRole(rules.filter((rule) => !JSON.stringify(rule).includes("networkpolicies")));
      await g.kube.kubectl("delete", "networkpolicy", name, "--namespace", TEAM, "--as", INSTALLER);
    },
    () => writeRole(rules),
  );

  const felix = (await g.onNode("pgrep", "-f", "calico-felix")).stdout.trim().split("\n")[0] ?? "";
  if (felix === "") throw new Failure("the network plugin's process was not found");
  const open = ["iptables-nft", "--insert", "FORWARD", "1", "--jump", "ACCEPT"];
  await leg(
    g,
    "a CNI that ignores policies",
    "NetworkPolicyEnforced",
    async () => {
      await g.onNode("kill", "-STOP", felix);
      await g.onNode(...open);
    },
    async () => {
      await g.onNode("iptables-nft", "--delete", "FORWARD", "--jump", "ACCEPT");
      await g.onNode("kill", "-CONT", felix);
    },
  );

  const birds = async (): Promise<string[]> =>
    (
      await Promise.all(["EgressLocked", "NetworkPolicyEnforced"].map((type) => g.conditionOf(SIDECAR, type)))
    ).map((c) => `${c?.status} ${c?.reason}`);
  const service = ["service", "atoll-canary", "--namespace", "atoll-system", "--type=merge", "--patch"];
  const point = (name: string): Promise<string> =>
    g.kube.kubectl(
      "patch",
      ...service,
      JSON.stringify({ spec: { selector: { "app.kubernetes.io/name": name } } }),
    );
  await point("nobody");
  try {
    const down = await until("both conditions are unknown", 40, async () => {
      const said = await birds();
      return said.every((s) => s === "Unknown CanaryDown") ? said : said.join(", ");
    });
    g.check("canary down is never read as success", true, down.join(", "));
    await pause(16_000);
    g.check("and stops nobody", (await code(g)) !== "SYSTEM_FROZEN");
  } finally {
    await point("atoll-operator");
  }
  await until("the canary lives again", 40, async () => {
    const said = await birds();
    return said.every((s) => s === "True Proved") ? true : said.join(", ");
  });
  g.check("the canary back, both are proved again", true);

  const journal = await g.kube.tryKubectl(
    "exec",
    "--namespace",
    TEAM,
    POD,
    "--container",
    "agent",
    "--",
    "/usr/bin/node",
    "--eval",
    "1",
  );
  g.check("the agent was there all the time", journal.code === 0);
  await attested(g);
  await gone(g.kube, TEAM, POD);
}

/** The journal of the guardian, as the node sees its volume: the ATTESTATION nodes of the probes. */
async function attested(g: Ground): Promise<void> {
  const uid = await g.kube.kubectl(
    "get",
    "pod",
    POD,
    "--namespace",
    TEAM,
    "--output",
    "jsonpath={.metadata.uid}",
  );
  const { stdout } = await g.onNode(
    "sh",
    "-c",
    `cat $(find / -xdev -path '*/pods/${uid}/volumes/*atoll-journal*' -name '*.jsonl' 2>/dev/null)`,
  );
  const found = stdout
    .split("\n")
    .filter((line) => line.includes("atoll.dev/probe/v1"))
    .map(
      (line) =>
        /"name":"([^"]*)","result":"([a-z]*)","target":"([a-z]*)"/u.exec(line)?.slice(1).join(" | ") ?? "",
    );
  for (const target of ["lock", "network"])
    for (const result of ["answered", "held"])
      g.check(
        `ATTESTATION nodes tell of the ${target}: ${result}`,
        found.some((line) => line.endsWith(`${result} | ${target}`)),
        found.find((line) => line.endsWith(`${result} | ${target}`)) ?? `${found.length} probe nodes`,
      );
}
