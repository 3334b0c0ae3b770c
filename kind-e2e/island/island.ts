#!/usr/bin/env node
// The island laboratory on a real cluster that `npm run up` has brought up: `node kind-e2e/island/island.ts [STEP…]`.
import { parseArgs } from "node:util";
import { openCluster } from "../backends.ts";
import { Failure } from "../failure.ts";
import { kubeOf } from "../trial/kube.ts";
import { guardianSidecar } from "../trial/manifests.ts";
import { escape } from "./escape.ts";
import { ground, ready, type Counted, type Ground } from "./ground.ts";
import { OPEN, OPEN_SIDECAR, RESTRICTED, SIDECAR, SINKS, loadLab, openNamespace, sinks } from "./objects.ts";
import { life } from "./life.ts";
import { proof } from "./proof.ts";
import { race } from "./race.ts";
import { restricted, withoutGateway } from "./restricted.ts";
import { upheaval } from "./upheaval.ts";

const STEPS: Readonly<
  Record<string, { readonly what: string; readonly run: (g: Ground, pods: number) => Promise<void> }>
> = {
  escape: { what: "every attempt from inside, with all legs and without", run: escape },
  proof: { what: "each leg taken away is found within 15 s, by name, and its return too", run: proof },
  life: { what: "Jobs, probes, restarts and rollouts behind the lock", run: life },
  restricted: { what: "the layout without the lock, behind the egress gateway", run: restricted },
  upheaval: { what: "operator gone, network plugin still, everything killed at once", run: upheaval },
  race: { what: "pods whose agent dials in its first millisecond", run: race },
};
const USAGE = `usage: node kind-e2e/island/island.ts [--name NAME] [--pods N] [STEP…]

Needs a cluster that \`npm run up -- --name NAME\` brought up. Steps (default: all, the race with 30 pods):
${Object.entries(STEPS)
  .map(([name, { what }]) => `  ${name.padEnd(10)} ${what}\n`)
  .join("")}
\`race --pods 1000\` takes the better part of an hour on two cores. Closes with \`N passed, M failed\`.
`;

/** The laboratory in a cluster: its image on the node, those who answer, and what runs a step and counts. */
export async function openIsland(
  name: string,
): Promise<(steps: readonly string[], pods?: number) => Promise<Counted>> {
  const counted: Counted = { passed: 0, failed: 0 };
  const cluster = openCluster(name);
  const kube = kubeOf(cluster.kubeconfig());
  const lab = await loadLab(cluster);
  const g = ground(name, lab, counted);
  const { spec } = await kube.get("guardiansidecar", SIDECAR);
  const image = typeof spec === "object" && spec !== null && "image" in spec ? String(spec.image) : "";
  await kube.apply(sinks(lab));
  await kube.apply(openNamespace(guardianSidecar(image)));
  for (const pod of ["sink-pod", "sink-host"]) await ready(kube, SINKS, pod);
  return async (steps, pods = 30) => {
    const before = { ...counted };
    for (const step of steps) {
      const chosen = STEPS[step];
      if (chosen === undefined) throw new Failure(`\`${step}\` is none of ${Object.keys(STEPS).join(", ")}`);
      const began = performance.now();
      g.say(`== island: ${step}: ${chosen.what}`);
      try {
        await chosen.run(g, pods);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        g.check(step, false, error.message);
      }
      g.say(`== ${step}: ${((performance.now() - began) / 1000).toFixed(0)} s`);
    }
    return { passed: counted.passed - before.passed, failed: counted.failed - before.failed };
  };
}

/** Removes what the laboratory made. */
export async function clearIsland(name: string): Promise<void> {
  const kube = kubeOf(openCluster(name).kubeconfig());
  const remove = (...what: readonly string[]): Promise<string> =>
    kube.kubectl("delete", ...what, "--ignore-not-found", "--timeout", "120s");
  await remove("namespace", OPEN, SINKS, RESTRICTED);
  await remove("guardiansidecar", OPEN_SIDECAR, RESTRICTED);
  if (
    (await kube.tryKubectl("get", "service", "atoll-egress-gateway", "--namespace", "atoll-system")).code ===
    0
  )
    await withoutGateway(kube);
  await remove("clusterrolebinding", "island-exempt");
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: "string", default: "atoll" },
      pods: { type: "string", default: "30" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) process.stdout.write(USAGE);
  else {
    const run = await openIsland(values.name);
    const { passed, failed } = await run(
      positionals.length > 0 ? positionals : Object.keys(STEPS),
      Number(values.pods),
    );
    process.stdout.write(`${passed} passed, ${failed} failed\n`);
    process.exitCode = failed === 0 ? 0 : 1;
  }
}
