// The start race (9.4): pods whose agent dials in its first millisecond; nobody may be reached.
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import { Failure } from "../failure.ts";
import type { Json } from "../trial/kube.ts";
import { admitted, gone, podIp, reachedBy, type Ground } from "./ground.ts";
import { SINKS, SINK_PORT, TEAM, role, tenant } from "./objects.ts";

/** In flight at any time. More are slower altogether on two cores: every start runs a dozen processes. */
const AT_ONCE = 8;
/** A start that has said nothing after so long is a failure. */
const SECONDS = 600;
const CONTROL = "race-control";

type Seen = { readonly name: string; readonly said: string | undefined };
const PATH =
  '{range .items[*]}{.metadata.name}|{.status.containerStatuses[?(@.name=="agent")].state.terminated.exitCode}|{.status.containerStatuses[?(@.name=="agent")].state.terminated.message}{"\\n"}{end}';

/** The racers of a namespace; what one said when its agent has ended. */
async function seen(g: Ground, namespace: string): Promise<Seen[]> {
  const text = await g.kube.kubectl(
    "get",
    "pods",
    "--namespace",
    namespace,
    "--selector",
    "app=race",
    "--output",
    `jsonpath=${PATH}`,
  );
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [name = "", code = "", said = ""] = line.split("|");
      return { name, said: code === "" ? undefined : code === "0" && said !== "" ? said : `exit ${code}` };
    });
}

export async function race(g: Ground, pods: number): Promise<void> {
  const sink = await podIp(g.kube, SINKS, "sink-pod");
  const racer = (name: string, namespace: string): Json =>
    tenant(name, g.lab, role("race", sink, `${SINK_PORT}`), { namespace, meta: { labels: { app: "race" } } });
  const arrivals = async (): Promise<number> => (await reachedBy(g, "")).length;
  // The control: a pod that nobody governs is there in its first millisecond.
  const control = async (): Promise<void> => {
    const before = await arrivals();
    await gone(g.kube, SINKS, CONTROL);
    await admitted(g.kube, [racer(CONTROL, SINKS)]);
    let said: string | undefined;
    for (const end = performance.now() + SECONDS * 1000; said === undefined && performance.now() < end; ) {
      await pause(500);
      said = (await seen(g, SINKS)).find((each) => each.name === CONTROL)?.said;
    }
    await gone(g.kube, SINKS, CONTROL);
    const reached = (await arrivals()) - before;
    g.check(
      "a pod without a guardian reaches the sink",
      said?.includes("OPEN") === true && reached > 0,
      `${said}, ${reached} arrivals`,
    );
  };
  await control();
  await gone(g.kube, TEAM, "--selector=app=race");

  const [before, began] = [await arrivals(), performance.now()];
  const words = new Map<string, number>();
  const flying = new Map<string, number>();
  let [made, ended, opened] = [0, 0, 0];
  while (ended < pods) {
    const fresh = Array.from(
      { length: Math.min(AT_ONCE - flying.size, pods - made) },
      () => `race-${made++}`,
    );
    if (fresh.length > 0)
      await admitted(
        g.kube,
        fresh.map((name) => racer(name, TEAM)),
      );
    for (const name of fresh) flying.set(name, performance.now());
    await pause(2000);
    const done = (await seen(g, TEAM)).filter(({ name, said }) => said !== undefined && flying.has(name));
    for (const { name, said = "" } of done) {
      flying.delete(name);
      ended++;
      if (said.includes("OPEN")) opened++;
      words.set(said, (words.get(said) ?? 0) + 1);
    }
    const late = [...flying].find(([, since]) => performance.now() - since > SECONDS * 1000);
    if (late !== undefined) throw new Failure(`${late[0]} says nothing after ${SECONDS} s`);
    if (done.length === 0) continue;
    await g.kube.kubectl(
      "delete",
      "pod",
      ...done.map(({ name }) => name),
      "--namespace",
      TEAM,
      "--wait=false",
      "--grace-period=1",
    );
    const seconds = (performance.now() - began) / 1000;
    if (Math.floor(ended / 25) !== Math.floor((ended - done.length) / 25))
      g.say(
        `  ${ended} started in ${seconds.toFixed(0)} s, ${opened} opened, ${(await arrivals()) - before} arrivals at the sink`,
      );
  }
  const reached = (await arrivals()) - before;
  const silent = [...words.keys()].every((said) => !said.startsWith("exit"));
  g.check(
    `${ended} pods dialled in their first millisecond: none got out`,
    opened === 0 && reached === 0 && silent,
    `${((performance.now() - began) / 1000).toFixed(0)} s, ${reached} arrivals; ${[...words].map(([said, n]) => `${n} x ${said}`).join("; ")}`,
  );
  // Still open: otherwise nobody would have arrived for another reason.
  if (pods > 100) await control();
}
