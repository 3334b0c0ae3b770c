// The start race (9.4): pods whose agent dials in its first millisecond, in batches; nobody may be reached.
import { until } from "../trial/kube.ts";
import { admitted, gone, podIp, reachedBy, type Ground } from "./ground.ts";
import { SINKS, SINK_PORT, TEAM, role, tenant } from "./objects.ts";

/** More at once are slower altogether on two cores: every start runs several processes. */
const BATCH = 5;
const SECONDS = 600;

export async function race(g: Ground, pods: number): Promise<void> {
  const sink = await podIp(g.kube, SINKS, "sink-pod");
  const arrivals = async (): Promise<number> => (await reachedBy(g, "")).length;
  // The control: a pod that nobody governs is there in its first millisecond.
  const control = tenant("race-control", g.lab, role("race", sink, `${SINK_PORT}`), { namespace: SINKS });
  await gone(g.kube, SINKS, "race-control");
  await admitted(g.kube, [control]);
  const open = await outcome(g, SINKS, "race-control");
  g.check("a pod without a guardian reaches the sink", open.includes("OPEN"), open);
  await gone(g.kube, SINKS, "race-control");

  const before = await arrivals();
  let [started, opened] = [0, 0];
  const words = new Map<string, number>();
  for (let from = 0; from < pods; from += BATCH) {
    const names = Array.from({ length: Math.min(BATCH, pods - from) }, (_, n) => `race-${from + n}`);
    await admitted(
      g.kube,
      names.map((name) => tenant(name, g.lab, role("race", sink, `${SINK_PORT}`))),
    );
    for (const name of names) {
      const said = await outcome(g, TEAM, name);
      started++;
      if (said.includes("OPEN")) opened++;
      words.set(said, (words.get(said) ?? 0) + 1);
    }
    await gone(g.kube, TEAM, ...names);
    g.say(`  ${started} started, ${opened} opened, ${(await arrivals()) - before} arrivals at the sink`);
  }
  const reached = (await arrivals()) - before;
  g.check(
    `${started} pods dialled in their first millisecond: none got out`,
    opened === 0 && reached === 0 && started === pods,
    [...words].map(([said, n]) => `${n} x ${said}`).join("; "),
  );
}

const outcome = (g: Ground, namespace: string, pod: string): Promise<string> =>
  until(`${namespace}/${pod} says what came of it`, SECONDS, async () => {
    const { stdout } = await g.kube.tryKubectl("logs", "--namespace", namespace, pod, "--container", "agent");
    const line = /\{"race":[^\n]*\}/u.exec(stdout)?.[0];
    return line === undefined ? undefined : { line };
  }).then(({ line }) => line);
