// An upgrade from another commit's chart and images to this one's, with agents at work all the while.
//
//   node test/long/upgrade.ts [--from HEAD~1] [--agents 3] [--seconds 120] [--name upgrade]
//
// True afterwards: no pod was ever ungoverned, no acknowledged receipt is lost, no call was done twice, and no call failed in a pod
// that was not itself replaced. Pods of the older guardian are declared stale and replaced one by one at the end.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asked, text, amount } from "../../kind-e2e/asked.ts";
import { setTimeout as pause } from "node:timers/promises";
import { openCluster } from "../../kind-e2e/backends.ts";
import { root } from "../../kind-e2e/build.ts";
import { Failure } from "../../kind-e2e/failure.ts";
import { counted } from "../../kind-e2e/trial/counted.ts";
import { available, CHART, installChart } from "../../kind-e2e/trial/install.ts";
import { condition, until } from "../../kind-e2e/trial/kube.ts";
import { SIDECAR, TEAM, agent, guardianSidecar } from "../../kind-e2e/trial/manifests.ts";
import { bringUp } from "../../kind-e2e/trial/scene.ts";
import { doneCount, expect, mcp, told, type Scene } from "../../kind-e2e/trial/steps.ts";
import { installed, receiptsHold, startAgents, watchPods, work } from "./load.ts";

const wish = asked(
  "usage: node test/long/upgrade.ts [--from HEAD~1] [--agents 3] [--seconds 120] [--name upgrade]",
  { from: text("HEAD~1"), agents: amount(3, 1), seconds: amount(120, 1), name: text("upgrade") },
);
const { say, step, close } = counted();

/** The older tree beside this one, with this one's packages. */
function olderTree(): string {
  const folder = mkdtempSync(join(tmpdir(), "atoll-older-"));
  const tar = execFileSync("git", ["archive", wish.from], { cwd: root, maxBuffer: 256 << 20 });
  execFileSync("tar", ["-x", "-C", folder], { input: tar });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  return folder;
}
type Older = { readonly sidecar: string; readonly operator: string };
/** The older images, built by the older tree's own script, under names of their own. */
async function olderImages(scene: Scene, folder: string): Promise<Older> {
  execFileSync(process.execPath, ["kind-e2e/images.ts", "--uncompressed"], { cwd: folder, stdio: "ignore" });
  const load = (name: string): Promise<string> =>
    scene.cluster.loadImage(join(folder, "dist/images", `${name}.tar`), `localhost/atoll/${name}:0.1.0`);
  return { sidecar: await load("sidecar"), operator: await load("operator") };
}

async function main(): Promise<void> {
  const cluster = openCluster(wish.name);
  const folder = olderTree();
  try {
    const scene = await bringUp(wish.name, cluster, { keep: false, reuse: false }, { say, step });
    if (scene === undefined) return;
    const newer = scene.images;
    const builds = await step(`the images of ${wish.from} are built and loaded`, async () => {
      scene.images = { ...newer, ...(await olderImages(scene, folder)) };
      expect(
        scene.images.operator !== newer.operator || scene.images.sidecar !== newer.sidecar,
        "the two commits have the same images",
      );
    });
    if (!builds) return;
    scene.chart = join(folder, "charts/atoll");
    if (!(await installed(scene, step))) return;
    const names = await startAgents(scene, wish.agents);
    const before = await doneCount(scene, "create_issue");
    const watch = watchPods(scene);
    const duration = wish.seconds * 1000;
    const working = names.map((name) => work(scene, name, duration, 100));
    await pause(3000);
    await step("the chart upgrades to this commit's while the agents work", async () => {
      scene.images = newer;
      await installChart(scene.kube, newer, scene.keys, CHART);
      await available(scene.kube, "atoll-operator", 120);
      await available(scene.kube, "atoll-webhook", 120);
      await scene.kube.apply([guardianSidecar(newer.sidecar)]);
      await until("the newer shape is known", 90, async () => {
        const found = condition(await scene.kube.get("guardiansidecar", SIDECAR), "Injected");
        return found?.status === "True" ? true : `${found?.reason ?? ""} ${found?.message ?? ""}`;
      });
    });
    const works = await Promise.all(working);
    await step("no call failed in a pod that was not replaced", () => {
      for (const { pod, counts } of works) {
        const bad = Object.entries(counts).filter(([outcome]) => outcome !== "allow");
        if (bad.length > 0 || (counts["allow"] ?? 0) === 0)
          throw new Failure(`${pod}: ${JSON.stringify(counts)}`);
      }
      return Promise.resolve();
    });
    await step("no acknowledged receipt is lost and no call was done twice", async () => {
      say(`  ${await receiptsHold(scene, works, before)}`);
    });
    await step("each pod is replaced by one with the newer guardian, and works", async () => {
      for (const name of names) {
        await scene.kube.kubectl("delete", "pod", name, "--namespace", TEAM, "--wait=true");
        await until(`${name} is admitted`, 60, async () => {
          const done = await scene.kube.tryApply([agent(name, newer.trial, scene.sink)]);
          return done.code === 0 ? true : told(done);
        });
        await scene.kube.kubectl(
          "wait",
          "--for=condition=Ready",
          `pod/${name}`,
          "--namespace",
          TEAM,
          "--timeout=120s",
        );
        await until("a call is allowed", 30, async () => {
          const answer = await mcp(scene, name, "github__list_issues", { repo: "acme/one" });
          return answer.error ? answer.text.slice(0, 200) : true;
        });
        const image = await scene.kube.kubectl(
          "get",
          "pod",
          name,
          "--namespace",
          TEAM,
          "--output",
          "jsonpath={.spec.initContainers[1].image}",
        );
        expect(image === newer.sidecar, `${name} has ${image}`);
      }
    });
    await watch.stop();
    await step(`no pod was ungoverned, of ${watch.seen.size} that were seen`, () => {
      expect(watch.ungoverned.size === 0, [...watch.ungoverned].join(" "));
      return Promise.resolve();
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await step("the cluster is gone", async () => {
      await cluster.down();
    });
  }
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
await main();
process.exitCode = close();
