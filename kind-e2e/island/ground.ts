// What every step of the laboratory stands on: the cluster, its node, and a way to say what was found.
import { openCluster, type Cluster } from "../backends.ts";
import { Failure } from "../failure.ts";
import { programPath } from "../programs.ts";
import {
  condition,
  kubeOf,
  until,
  type Condition,
  type Json,
  type Kube,
  type Output,
} from "../trial/kube.ts";
import { SINKS } from "./objects.ts";

export type Ground = {
  readonly cluster: Cluster;
  readonly kube: Kube;
  readonly lab: string;
  readonly check: (what: string, holds: boolean, detail?: string) => void;
  readonly say: (line: string) => void;
  readonly onNode: (...argv: readonly string[]) => Promise<Output>;
  /** Process of a pod's container, as the node numbers it. */
  readonly pidOf: (namespace: string, pod: string, container: string) => Promise<string>;
  readonly conditionOf: (sidecar: string, type: string) => Promise<Condition | undefined>;
  readonly logs: (namespace: string, pod: string, container: string) => Promise<string>;
};

export type Counted = { passed: number; failed: number };

export function ground(name: string, lab: string, counted: Counted): Ground {
  const cluster = openCluster(name);
  const kube = kubeOf(cluster.kubeconfig());
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  const onNode = (...argv: readonly string[]): Promise<Output> => cluster.execOnNode(argv);
  return {
    cluster,
    kube,
    lab,
    say,
    onNode,
    check(what, holds, detail = "") {
      if (holds) counted.passed++;
      else counted.failed++;
      say(`  ${holds ? "ok  " : "FAIL"}  ${what}${detail === "" ? "" : `: ${detail}`}`);
    },
    async pidOf(namespace, pod, container) {
      const { status } = await kube.get("pod", pod, "--namespace", namespace);
      const all = JSON.stringify(status);
      const id = new RegExp(
        `"containerID":"containerd://([0-9a-f]+)"[^{}]*(?:\\{[^{}]*\\}[^{}]*)*"name":"${container}"`,
        "u",
      ).exec(all)?.[1];
      const { stdout } = await onNode(programPath("ctr"), "--namespace", "k8s.io", "tasks", "list");
      const pid = stdout
        .split("\n")
        .map((line) => line.split(/\s+/u))
        .find(([found]) => found !== undefined && found === id)?.[1];
      if (pid === undefined) throw new Failure(`no process of ${namespace}/${pod} ${container}`);
      return pid;
    },
    conditionOf: async (sidecar, type) => condition(await kube.get("guardiansidecar", sidecar), type),
    logs: (namespace, pod, container) =>
      kube.kubectl("logs", "--namespace", namespace, pod, "--container", container),
  };
}

const statusOf = (object: Json): Json => {
  const { status } = object;
  return typeof status === "object" && status !== null ? { ...status } : {};
};
export const podIp = async (kube: Kube, namespace: string, pod: string): Promise<string> =>
  String(statusOf(await kube.get("pod", pod, "--namespace", namespace))["podIP"]);

export const ready = (kube: Kube, namespace: string, pod: string, seconds = 120): Promise<string> =>
  kube.kubectl(
    "wait",
    "--for=condition=Ready",
    `pod/${pod}`,
    "--namespace",
    namespace,
    "--timeout",
    `${seconds}s`,
  );

/** Admission may lag behind a GuardianSidecar that was just applied. */
export const admitted = (kube: Kube, objects: readonly Json[]): Promise<true> =>
  until("admitted", 60, async () => {
    const done = await kube.tryApply(objects);
    return done.code === 0 ? true : done.stderr;
  });

/** Who reached the sinks, by source address; the sinks print every one. */
export async function reachedBy(g: Ground, address: string): Promise<string[]> {
  const lines = (await Promise.all(["sink-pod", "sink-host"].map((pod) => g.logs(SINKS, pod, "agent")))).join(
    "",
  );
  return lines.split("\n").filter((line) => line.includes(`${address}"`) && line.startsWith("{"));
}

export const gone = (kube: Kube, namespace: string, ...pods: readonly string[]): Promise<Output> =>
  kube.tryKubectl(
    "delete",
    "pod",
    ...pods,
    "--namespace",
    namespace,
    "--ignore-not-found",
    "--wait=true",
    "--grace-period=1",
  );
