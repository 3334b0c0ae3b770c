// Agents at work while something is done to their cluster, and what has to be true afterwards.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Failure } from "../../kind-e2e/failure.ts";
import { installing } from "../../kind-e2e/trial/installing.ts";
import { journalNodes, copyJournal, trustFor } from "../../kind-e2e/trial/journal.ts";
import { atoll } from "../../kind-e2e/trial/install.ts";
import type { Step } from "../../kind-e2e/trial/counted.ts";
import { TEAM, agent, trial } from "../../kind-e2e/trial/manifests.ts";
import { doneCount, told, type Scene } from "../../kind-e2e/trial/steps.ts";
import { until, type Json } from "../../kind-e2e/trial/kube.ts";

/** Everything up to a policy in force and an agent that runs. */
export async function installed(scene: Scene, step: Step): Promise<boolean> {
  for (const [sentence, run] of installing.steps) if (!(await step(sentence, () => run(scene)))) return false;
  return true;
}

export async function startAgents(scene: Scene, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, n) => `worker-${n}`);
  for (const name of names)
    await until(`${name} is admitted`, 60, async () => {
      const done = await scene.kube.tryApply([agent(name, scene.images.trial, scene.sink)]);
      return done.code === 0 ? true : told(done);
    });
  await scene.kube.kubectl(
    "wait",
    "--for=condition=Ready",
    ...names.map((name) => `pod/${name}`),
    "--namespace",
    TEAM,
    "--timeout=300s",
  );
  return names;
}

export type Work = {
  readonly pod: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly receipts: readonly string[];
};
/** One agent's calls for a time, by its own account. */
export async function work(scene: Scene, pod: string, milliseconds: number, pauseMs: number): Promise<Work> {
  const done = await scene.kube.exec(TEAM, pod, ...trial("work", String(milliseconds), String(pauseMs)));
  const line = done.stdout.trim().split("\n").at(-1) ?? "";
  if (done.code !== 0 || !line.startsWith("{"))
    throw new Failure(`the work of ${pod} ended early: ${told(done)}`);
  const { counts, receipts }: Omit<Work, "pod"> = JSON.parse(line);
  return { pod, counts, receipts };
}

/** Looks at every pod of the governed namespace again and again; what it finds ungoverned is kept for good. */
export function watchPods(scene: Scene): {
  readonly seen: Set<string>;
  readonly ungoverned: Set<string>;
  stop(): Promise<void>;
} {
  const seen = new Set<string>();
  const ungoverned = new Set<string>();
  const stop = new AbortController();
  const done = (async () => {
    while (!stop.signal.aborted) {
      const list = await scene.kube.get("pods", "--namespace", TEAM).catch((): Json => ({}));
      for (const pod of Array.isArray(list["items"]) ? list["items"] : []) {
        const { metadata, spec } = pod as {
          metadata: { name: string; uid: string; labels?: Record<string, string> };
          spec: { initContainers?: readonly { name: string }[] };
        };
        seen.add(metadata.uid);
        const names = (spec.initContainers ?? [])
          .slice(0, 3)
          .map((c) => c.name)
          .join(" ");
        if (
          names !== "atoll-lock atoll-guardian atoll-gate" ||
          metadata.labels?.["atoll.dev/sidecar"] === undefined
        )
          ungoverned.add(metadata.name);
      }
      await pause(500);
    }
  })();
  return {
    seen,
    ungoverned,
    stop: async () => {
      stop.abort();
      await done;
    },
  };
}

/** No receipt that an agent was given is missing from its guardian's journal, none was given twice, and the journal verifies. */
export async function receiptsHold(scene: Scene, works: readonly Work[], before: number): Promise<string> {
  let acknowledged = 0;
  for (const { pod, receipts } of works) {
    acknowledged += receipts.length;
    if (new Set(receipts).size !== receipts.length) throw new Failure(`${pod} was given one receipt twice`);
    const recorded = new Set((await journalNodes(scene, pod)).map((n) => n.receipt));
    const lost = receipts.filter((id) => !recorded.has(id));
    if (lost.length > 0)
      throw new Failure(`${pod}: ${lost.length} of ${receipts.length} acknowledged receipts are lost`);
    const pack = join(scene.keys.folder, `${pod}.tar`);
    await atoll("export", "--journal", await copyJournal(scene, pod), "-o", pack);
    await atoll("verify", pack, "--trust", await trustFor(scene, pod));
  }
  const executed = (await doneCount(scene, "create_issue")) - before;
  const attempts = works.reduce((sum, w) => sum + Object.values(w.counts).reduce((a, b) => a + b, 0), 0);
  if (executed < acknowledged)
    throw new Failure(`${acknowledged} calls were acknowledged and only ${executed} done`);
  if (executed > attempts)
    throw new Failure(`${executed} calls were done for ${attempts} attempts: one was done twice`);
  writeFileSync(join(scene.keys.folder, "works.json"), JSON.stringify(works));
  return `${attempts} calls, ${acknowledged} acknowledged, ${executed} done; ${works.map((w) => JSON.stringify(w.counts)).join(" ")}`;
}
