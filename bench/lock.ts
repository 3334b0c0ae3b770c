// What the lock costs: how long it takes to load, and the guardian's throughput with it against without, in the same run.
// Needs root on Linux. `node bench/lock.ts [quads]`; exits 1 when a bound of the design is missed.
//
// A busy machine changes its speed within a second by more than the lock costs. So it is compared what the bytes cost in
// processor time, of both ends together: this kernel's work on a packet counts for whoever it interrupts, and on a road of
// two namespaces that is one of the two. Each road is run in many short turns, by fours (without, with, with, without:
// what drifts burdens both alike); each four gives one ratio, and what is said is their median and the middle half of
// them. Beside it the same with nothing changed between the turns, which is the method's own error, and the wall's word.
import { readdirSync, readFileSync } from "node:fs";
import { AGENT_PORTS, GUARDIAN_UID, HEALTH_PORT } from "../sidecar/lock/lock.ts";
import { AGENT_UID, type Actor, HERE, makePod } from "../test/island/pod.ts";

const BYTES = 24 << 20;
const CANARY = 7000;
const quads = Number(process.argv[2] ?? 100);
/** Nanoseconds on a processor, of a process with all its threads. */
const ran = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`).reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "latin1").split(" ")[0]),
    0,
  );
const at = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ??
  Number.NaN;

const pod = await makePod({ capture: false });
try {
  const [peer, guardian, agent] = await Promise.all([
    pod.actor("outside", 0),
    pod.actor("pod", GUARDIAN_UID),
    pod.actor("pod", AGENT_UID),
  ]);
  await peer.ask({ do: "serve", host: "::", port: CANARY, bytes: BYTES });
  await guardian.ask({ do: "serve", host: "::", port: HEALTH_PORT, bytes: BYTES });
  await guardian.ask({ do: "serve", host: "127.0.0.1", port: AGENT_PORTS[0], bytes: BYTES });

  const loads: number[] = [];
  const set = (locked: boolean): void => {
    if (!locked) return pod.unlock();
    const began = performance.now();
    pod.lock();
    loads.push(performance.now() - began);
  };
  interface Took {
    readonly wall: number;
    readonly processor: number;
  }
  /** What `BYTES` cost that one reads of the other. */
  const pull = async (who: Actor, from: Actor, host: string, port: number): Promise<Took> => {
    const pids = [who, from].map((each) => each.process.pid ?? 0);
    const spent = (): number => pids.reduce((sum, pid) => sum + ran(pid), 0);
    const before = spent();
    const began = performance.now();
    const { got } = await who.ask({ do: "dial", host, port, bytes: 0, wait: 60_000 });
    if (got !== BYTES) throw new Error(`${String(got)} bytes of ${BYTES} arrived`);
    return { wall: performance.now() - began, processor: spent() - before };
  };
  const roads = [
    { name: "guardian dials and reads, IPv4", run: () => pull(guardian, peer, HERE.out4, CANARY) },
    { name: "guardian dials and reads, IPv6", run: () => pull(guardian, peer, HERE.out6, CANARY) },
    { name: "guardian answers and writes, IPv4", run: () => pull(peer, guardian, HERE.pod4, HEALTH_PORT) },
    {
      name: "guardian answers the agent on loopback",
      run: () => pull(agent, guardian, "127.0.0.1", AGENT_PORTS[0]),
    },
  ];
  /** Without to with, of each four. */
  const compare = async (run: () => Promise<Took>, change: (locked: boolean) => void) => {
    const ratios: Took[] = [];
    const walls: { readonly open: number[]; readonly locked: number[] } = { open: [], locked: [] };
    for (let quad = 0; quad < quads; quad++) {
      const sums = { open: { wall: 0, processor: 0 }, locked: { wall: 0, processor: 0 } };
      for (const kind of ["open", "locked", "locked", "open"] as const) {
        change(kind === "locked");
        const took = await run();
        sums[kind].wall += took.wall;
        sums[kind].processor += took.processor;
        walls[kind].push(took.wall);
      }
      const { open, locked } = sums;
      ratios.push({ wall: open.wall / locked.wall, processor: open.processor / locked.processor });
    }
    return { ratios, walls };
  };
  const speed = (walls: readonly number[]): string =>
    (BYTES / (1 << 20) / (at(walls, 0.5) / 1000)).toFixed(0);
  const shown = (ratios: readonly Took[], by: keyof Took): string => {
    const [low, middle, high] = [0.25, 0.5, 0.75].map((part) =>
      at(
        ratios.map((r) => r[by]),
        part,
      ).toFixed(3),
    );
    return `${middle} (${low} to ${high})`;
  };
  let missed = false;
  for (const road of roads) {
    pod.unlock();
    await road.run();
    const nothing = await compare(road.run, () => undefined);
    const { ratios, walls } = await compare(road.run, set);
    missed ||=
      at(
        ratios.map((r) => r.processor),
        0.5,
      ) < 0.95;
    console.log(`${road.name}: by processor time ${shown(ratios, "processor")}, bound 0.95; nothing changed ${shown(nothing.ratios, "processor")}
  by the wall ${shown(ratios, "wall")}, nothing changed ${shown(nothing.ratios, "wall")}; ${speed(walls.locked)} MiB/s with the lock, ${speed(walls.open)} without`);
  }
  missed ||= at(loads, 0.5) >= 100;
  console.log(
    `loading the lock: median ${at(loads, 0.5).toFixed(1)} ms, worst ${Math.max(...loads).toFixed(1)} ms of ${loads.length}, process starts included (bound 100 ms)`,
  );
  process.exitCode = missed ? 1 : 0;
} finally {
  await pod.remove();
}
