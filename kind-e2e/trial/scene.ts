// A cluster of one's own with our images on it, new or kept from the run before.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Cluster } from "../backends.ts";
import { runFolder } from "../holder.ts";
import { requireRoot } from "../node.ts";
import { programs } from "../pins.ts";
import { ensurePrograms } from "../programs.ts";
import type { Counted } from "./counted.ts";
import { loadImages, makeKeys, trialFolder, STATIC, type Loaded } from "./install.ts";
import { kubeOf } from "./kube.ts";
import type { Scene } from "./steps.ts";

export type Wish = {
  /** The cluster outlives this process. */
  readonly keep: boolean;
  /** Go on with one that was kept. */
  readonly reuse: boolean;
};

const memory = (name: string): string => join(trialFolder(name), "scene.json");
/** What a kept cluster's next run has to know. */
export const remember = (scene: Scene): void =>
  writeFileSync(memory(scene.name), JSON.stringify({ images: scene.images, sink: scene.sink }));

export async function bringUp(
  name: string,
  cluster: Cluster,
  wish: Wish,
  { say, step }: Pick<Counted, "say" | "step">,
): Promise<Scene | undefined> {
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
      requireRoot();
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
