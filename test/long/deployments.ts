// Operator and webhook are replaced by their Deployments three times on a real node, while pods are created and an agent works.
//   node test/long/deployments.ts [--rollouts 3] [--rate 20] [--name deployments] [--plant kill]
//
// True afterwards: no create failed, each was injected, and no call of the agent failed.
import { setTimeout as pause } from "node:timers/promises";
import { asked, oneOf, text, amount } from "../../kind-e2e/asked.ts";
import { KubeConfig } from "@kubernetes/client-node";
import { openCluster } from "../../kind-e2e/backends.ts";
import { Failure } from "../../kind-e2e/failure.ts";
import { counted } from "../../kind-e2e/trial/counted.ts";
import { INSTALLER } from "../../kind-e2e/trial/kube.ts";
import type { Kube } from "../../kind-e2e/trial/kube.ts";
import { TEAM, agent } from "../../kind-e2e/trial/manifests.ts";
import { bringUp } from "../../kind-e2e/trial/scene.ts";
import type { Scene } from "../../kind-e2e/trial/steps.ts";
import { accessFromConfig, clientFrom } from "../../operator/runtime/runtime.ts";
import { installed, startAgents, work } from "./load.ts";

const wish = asked(
  `usage: node test/long/deployments.ts [--rollouts 3] [--rate 20] [--name deployments] [--plant kill]
A cluster of its own (about a minute), then the rollouts (about a minute each). --plant kill deletes all replicas of the webhook at
once instead: creates must fail.
`,
  { rollouts: amount(3, 1), rate: amount(20, 1), name: text("deployments"), plant: oneOf("kill") },
);
const { say, step, close } = counted();
const MOST_AT_ONCE = 16;
const SYSTEM = "atoll-system";

/** Creates pods that are thrown away by the API server at the very end, so that all of admission is asked and nothing runs. */
function creates(scene: Scene): {
  stop(): Promise<{ created: number; failed: string[]; perSecond: number }>;
} {
  const config = new KubeConfig();
  config.loadFromFile(scene.kube.kubeconfig);
  const client = clientFrom(accessFromConfig(config));
  const flying = new Set<Promise<void>>();
  const failed: string[] = [];
  let created = 0;
  const over = new AbortController();
  const began = performance.now();
  const one = async (name: string): Promise<void> => {
    try {
      const { spec } = (await client.json(`/api/v1/namespaces/${TEAM}/pods?dryRun=All`, {
        method: "POST",
        body: agent(name, scene.images.trial, scene.sink),
      })) as { spec?: { initContainers?: readonly { name: string }[] } };
      const names = (spec?.initContainers ?? []).slice(0, 3).map((c) => c.name);
      if (names.join(" ") === "atoll-lock atoll-guardian atoll-gate") created++;
      else failed.push(`${name} was admitted without its guardian`);
    } catch (error) {
      failed.push(error instanceof Error ? error.message : String(error));
    }
  };
  const loading = (async () => {
    for (let sent = 0; !over.signal.aborted; sent++) {
      await pause(Math.max(1, began + (sent / wish.rate) * 1000 - performance.now()));
      while (flying.size >= MOST_AT_ONCE) await Promise.race(flying);
      const asked: Promise<void> = one(`p${sent}`).finally(() => void flying.delete(asked));
      flying.add(asked);
    }
  })();
  return {
    async stop() {
      over.abort();
      await loading;
      await Promise.all(flying);
      client.close();
      return { created, failed, perSecond: created / ((performance.now() - began) / 1000) };
    },
  };
}

async function replace(kube: Kube, name: string): Promise<void> {
  const at = ["--namespace", SYSTEM, "--as", INSTALLER];
  if (wish.plant === "kill") {
    if (name === "atoll-webhook")
      await kube.kubectl(
        "delete",
        "pod",
        "--selector",
        `app.kubernetes.io/name=${name}`,
        "--force",
        "--grace-period=0",
        ...at,
      );
    await pause(10_000);
    return;
  }
  await kube.kubectl("rollout", "restart", `deployment/${name}`, ...at);
  await kube.kubectl("rollout", "status", `deployment/${name}`, "--timeout=180s", ...at);
}

async function main(): Promise<void> {
  const cluster = openCluster(wish.name);
  try {
    const scene = await bringUp(wish.name, cluster, { keep: false, reuse: false }, { say, step });
    if (scene === undefined || !(await installed(scene, step))) return;
    const [worker = ""] = await startAgents(scene, 1);
    const load = creates(scene);
    await pause(2000);
    for (let i = 1; i <= wish.rollouts; i++)
      await step(`rollout ${i} of operator and webhook, and the agent's calls go on`, async () => {
        const over = performance.now();
        const working = work(scene, worker, 25_000, 100);
        for (const name of ["atoll-operator", "atoll-webhook"]) await replace(scene.kube, name);
        const { counts } = await working;
        const bad = Object.keys(counts).filter((outcome) => outcome !== "allow");
        if (bad.length > 0 || (counts["allow"] ?? 0) === 0) throw new Failure(JSON.stringify(counts));
        say(`  ${JSON.stringify(counts)} in ${((performance.now() - over) / 1000).toFixed(0)} s`);
      });
    const { created, failed, perSecond } = await load.stop();
    await step("no create failed", () => {
      say(`  ${created} creates, ${perSecond.toFixed(0)} a second, ${failed.length} failed`);
      if (failed.length > 0 || created === 0)
        throw new Failure(`${failed.length} of ${created + failed.length}: ${failed[0] ?? ""}`);
      return Promise.resolve();
    });
  } finally {
    await step("the cluster is gone", async () => {
      await cluster.down();
    });
  }
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
await main();
process.exitCode = close();
