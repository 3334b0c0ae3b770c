#!/usr/bin/env node
// `npm run e2e`: the whole story on a real cluster, nothing mocked below the model and the tool server. Every step is
// counted; the last line is `N passed, N failed`. The cluster is its own and ends with this process, also when it is killed.
import { parseArgs } from "node:util";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openCluster, type Cluster } from "./backends.ts";
import { Failure } from "./failure.ts";
import { runFolder } from "./holder.ts";
import { programs } from "./pins.ts";
import { ensurePrograms } from "./programs.ts";
import { loadImages, makeKeys, trialFolder, STATIC, type Loaded } from "./trial/install.ts";
import { kubeOf } from "./trial/kube.ts";
import type { Part, Scene } from "./trial/steps.ts";
import { installing } from "./trial/installing.ts";
import { governing } from "./trial/governing.ts";
import { escaping } from "./trial/escaping.ts";
import { proving } from "./trial/proving.ts";
import { leaving } from "./trial/leaving.ts";

const USAGE = `usage: npm run e2e [-- --name NAME] [--only PART,…] [--keep]
Parts: installing, governing, escaping, proving, leaving (each needs the ones before it).
--keep leaves the cluster running; --reuse goes on with one that was kept. Builds the cluster's programs first where they are missing (about a quarter of an
hour on two cores).
`;
const PARTS: readonly Part[] = [installing, governing, escaping, proving, leaving];

const began = performance.now();
let passed = 0;
let failed = 0;
const say = (text: string): void => {
  process.stdout.write(`${((performance.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}\n`);
};
async function step(sentence: string, run: () => Promise<void>): Promise<boolean> {
  const from = performance.now();
  const took = (): string => `(${((performance.now() - from) / 1000).toFixed(1)} s)`;
  try {
    await run();
    passed++;
    say(`ok      ${sentence} ${took()}`);
    return true;
  } catch (error) {
    failed++;
    const message =
      error instanceof Failure
        ? error.message
        : error instanceof Error
          ? (error.stack ?? error.message)
          : String(error);
    say(`FAILED  ${sentence} ${took()}\n            ${message.replaceAll("\n", "\n            ")}`);
    return false;
  }
}

type Wish = { readonly only: readonly string[] | undefined; readonly keep: boolean; readonly reuse: boolean };

/** What a kept cluster's next run has to know. */
const memory = (name: string): string => join(trialFolder(name), "scene.json");

async function bringUp(name: string, cluster: Cluster, wish: Wish): Promise<Scene | undefined> {
  const detail = (text: string): void => say(`  ${text}`);
  const scene = async (images: Loaded, sink: string): Promise<Scene> => ({
    name,
    cluster,
    kube: kubeOf(cluster.kubeconfig()),
    keys: await makeKeys(trialFolder(name)),
    images,
    sink,
  });
  if (wish.reuse) {
    const known: Pick<Scene, "images" | "sink"> = JSON.parse(readFileSync(memory(name), "utf8"));
    return scene(known.images, known.sink);
  }
  // What an interrupted run left behind.
  await cluster.down();
  rmSync(runFolder(name), { recursive: true, force: true });
  const up = await step("a cluster comes up", async () => {
    if (cluster.backend === "embedded") {
      await ensurePrograms(
        programs.map((p) => p.name),
        detail,
      );
      await cluster.up({ report: detail, staticPolicies: STATIC, bound: !wish.keep });
    } else await cluster.up({ report: detail });
  });
  if (!up) return undefined;
  let images: Loaded | undefined;
  await step("images are built and load by digest", async () => {
    images = await loadImages(cluster, detail);
  });
  return images === undefined ? undefined : scene(images, "");
}

async function story(name: string, wish: Wish): Promise<void> {
  const cluster = openCluster(name);
  try {
    const scene = await bringUp(name, cluster, wish);
    if (scene === undefined) return;
    for (const part of PARTS) {
      if (wish.only !== undefined && !wish.only.includes(part.name)) continue;
      say(`== ${part.name}`);
      for (const [sentence, run] of part.steps) await step(sentence, () => run(scene));
    }
    writeFileSync(memory(name), JSON.stringify({ images: scene.images, sink: scene.sink }));
  } finally {
    if (!wish.keep)
      await step("the cluster is gone, and nothing of it is left", async () => {
        await cluster.down();
        if (cluster.running()) throw new Failure("it still runs");
      });
  }
}

const { values } = parseArgs({
  options: {
    name: { type: "string" },
    only: { type: "string" },
    keep: { type: "boolean" },
    reuse: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  },
});
if (values.help === true) process.stdout.write(USAGE);
else {
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      // The kernel ends the cluster with us; what lies on disk goes at the next start.
      process.exit(130);
    });
  await story(values.name ?? "e2e", {
    only: values.only?.split(","),
    keep: values.keep === true,
    reuse: values.reuse === true,
  });
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
}
