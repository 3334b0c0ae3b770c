#!/usr/bin/env node
// `npm run e2e`: the whole story on a real cluster, nothing mocked below the model and the tool server. Every step is
// counted; the last line is `N passed, N failed`. The cluster is its own and ends with this process, also when it is killed.
import { asked, someOf, text } from "./asked.ts";
import { openCluster } from "./backends.ts";
import { Failure } from "./failure.ts";
import { counted } from "./trial/counted.ts";
import { escaping } from "./trial/escaping.ts";
import { governing } from "./trial/governing.ts";
import { installing } from "./trial/installing.ts";
import { leaving } from "./trial/leaving.ts";
import { island } from "./island/part.ts";
import { checking, proving } from "./trial/proving.ts";
import { bringUp, remember, type Wish } from "./trial/scene.ts";
import type { Part } from "./trial/steps.ts";

const USAGE = `usage: npm run e2e [-- --name NAME] [--only PART,…] [--keep] [--reuse]
Parts: installing, governing, escaping, checking, island, proving, leaving (each needs the ones before it).
--keep leaves the cluster running; --reuse goes on with one that was kept. Builds the cluster's programs first where they are missing (about a quarter of an
hour on two cores).
`;
const PARTS: readonly Part[] = [installing, governing, escaping, checking, island, proving, leaving];

const { say, step, close } = counted();

async function story(name: string, wish: Wish & { readonly only: readonly string[] }): Promise<void> {
  const cluster = openCluster(name);
  try {
    const scene = await bringUp(name, cluster, wish, { say, step });
    if (scene === undefined) return;
    for (const part of PARTS) {
      if (!wish.only.includes(part.name)) continue;
      say(`== ${part.name}`);
      for (const [sentence, run] of part.steps) await step(sentence, () => run(scene));
    }
    remember(scene);
  } finally {
    if (!wish.keep)
      await step("the cluster is gone, and nothing of it is left", async () => {
        await cluster.down();
        if (cluster.running()) throw new Failure("it still runs");
      });
  }
}

const { name, ...wish } = asked(USAGE, {
  name: text("e2e"),
  only: someOf(...PARTS.map((part) => part.name)),
  keep: false,
  reuse: false,
});
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, () => {
    // The kernel ends the cluster with us; what lies on disk goes at the next start.
    process.exit(130);
  });
await story(name, wish);
process.exitCode = close();
