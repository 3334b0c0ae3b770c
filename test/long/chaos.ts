// Operator, webhook and guardians are killed at random while agents work and pods come and go.
//
//   node test/long/chaos.ts [--minutes 10] [--every 5] [--agents 3] [--name chaos]
//
// True afterwards: no ungoverned pod ever was, no acknowledged receipt is lost, no call was done twice, and everything is
// ready again within 30 s of the last kill (kubelet's pause between restarts is bounded at 5 s on this cluster; with its
// default a container that is killed often waits up to five minutes).
import { asked, text, amount } from "../../kind-e2e/asked.ts";
import { setTimeout as pause } from "node:timers/promises";
import { openCluster } from "../../kind-e2e/backends.ts";
import { Failure } from "../../kind-e2e/failure.ts";
import { counted } from "../../kind-e2e/trial/counted.ts";
import { TEAM, agent } from "../../kind-e2e/trial/manifests.ts";
import { bringUp } from "../../kind-e2e/trial/scene.ts";
import { doneCount, expect, type Scene } from "../../kind-e2e/trial/steps.ts";
import { until, type Json } from "../../kind-e2e/trial/kube.ts";
import { installed, receiptsHold, startAgents, watchPods, work, type Work } from "./load.ts";

const wish = asked("usage: node test/long/chaos.ts [--minutes 10] [--every 5] [--agents 3] [--name chaos]", {
  minutes: amount(10, 1),
  every: amount(5, 1),
  agents: amount(3, 1),
  name: text("chaos"),
});
const { say, step, close } = counted();
const duration = wish.minutes * 60_000;

const KILL = `
all=$(for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -Eq '^/usr/bin/node /opt/atoll/(operator|webhook|sidecar).js( (controllers|guardian))? *$' && basename $p; done)
one=$(echo "$all" | shuf -n 1)
test -n "$one" && tr '\\0' ' ' < /proc/$one/cmdline && kill -9 $one`;

async function churn(scene: Scene, until_: number): Promise<number> {
  let made = 0;
  for (let n = 0; Date.now() < until_; n++) {
    const name = `churn-${n % 3}`;
    await scene.kube.tryKubectl(
      "delete",
      "pod",
      name,
      "--namespace",
      TEAM,
      "--ignore-not-found",
      "--wait=true",
      "--timeout=60s",
    );
    // With the webhook just killed this is refused, which is right.
    if ((await scene.kube.tryApply([agent(name, scene.images.trial, scene.sink)])).code === 0) made++;
    await pause(3000);
  }
  return made;
}

/** Every pod of ours and of the agents is ready. */
const everythingReady = (scene: Scene, seconds: number): Promise<object | true> =>
  until("everything is ready", seconds, async () => {
    const waiting: string[] = [];
    for (const namespace of ["atoll-system", TEAM]) {
      const list = await scene.kube.get("pods", "--namespace", namespace);
      for (const pod of (Array.isArray(list["items"]) ? list["items"] : []) as readonly Json[]) {
        const { metadata, status } = pod as {
          metadata: { name: string; deletionTimestamp?: string };
          status: { conditions?: readonly { type: string; status: string }[] };
        };
        if (metadata.deletionTimestamp !== undefined) continue;
        if (status.conditions?.find((c) => c.type === "Ready")?.status !== "True")
          waiting.push(metadata.name);
      }
    }
    return waiting.length === 0 ? true : `not ready: ${waiting.join(" ")}`;
  });

async function main(): Promise<void> {
  const cluster = openCluster(wish.name);
  try {
    const scene = await bringUp(wish.name, cluster, { keep: false, reuse: false }, { say, step });
    if (scene === undefined || !(await installed(scene, step))) return;
    const names = await startAgents(scene, wish.agents);
    const before = await doneCount(scene, "create_issue");
    const watch = watchPods(scene);
    const end = Date.now() + duration;
    const working = names.map((name) => work(scene, name, duration, 100));
    const churning = churn(scene, end);
    const kills: Record<string, number> = {};
    let works: Work[] = [];
    await step(`one is killed every ${wish.every} s for ${wish.minutes} minutes`, async () => {
      while (Date.now() < end) {
        await pause(wish.every * 1000);
        const done = await cluster.execOnNode(["sh", "-c", KILL]);
        const victim = /\/opt\/atoll\/(\w+)/u.exec(done.stdout)?.[1] ?? "nobody";
        kills[victim] = (kills[victim] ?? 0) + 1;
      }
      say(`  killed: ${JSON.stringify(kills)}`);
      expect(
        (kills["sidecar"] ?? 0) > 0 && (kills["webhook"] ?? 0) > 0 && (kills["operator"] ?? 0) > 0,
        "not each of the three was killed",
      );
    });
    await step("everything is ready again within 30 s of the last kill", async () => {
      await everythingReady(scene, 30);
    });
    const churned = await churning;
    works = await Promise.all(working);
    await watch.stop();
    await step(`no pod was ungoverned, of ${watch.seen.size} that were seen`, () => {
      if (watch.ungoverned.size > 0) throw new Failure([...watch.ungoverned].join(" "));
      expect(
        churned > 0 && watch.seen.size > names.length + churned / 2,
        `only ${churned} pods came and went`,
      );
      return Promise.resolve();
    });
    await step("no acknowledged receipt is lost and no call was done twice", async () => {
      say(`  ${await receiptsHold(scene, works, before)}`);
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
