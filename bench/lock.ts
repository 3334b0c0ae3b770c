// What the lock costs: how long it takes to load, and the guardian's throughput with it against without, in the same run.
// Needs root on Linux. `node bench/lock.ts [quads]`; exits 1 when a bound of the design is missed.
//
// A busy machine changes its speed within milliseconds by more than the lock costs. So two pods stand side by side, one
// locked and one open, and take turns of 8 MiB by fours (open, locked, locked, open: what drifts burdens both alike);
// half-way the lock goes to the other pod. Compared is what the bytes cost in processor time, of both ends together: this
// kernel's work on a packet counts for whoever it interrupts, and that is one of the two. Each four gives one ratio; said
// are their median and the middle half of them, the same with both pods open (which is the method's own error), and the
// wall's word. No packet is captured meanwhile.
import { readdirSync, readFileSync } from "node:fs";
import { AGENT_PORTS, GUARDIAN_UID, HEALTH_PORT } from "../sidecar/lock/lock.ts";
import { AGENT_UID, type Actor, HERE, makePod } from "../test/island/pod.ts";

const BYTES = 8 << 20;
const CANARY = 7000;
const quads = Number(process.argv[2] ?? 200);

/** Nanoseconds on a processor, of a process with all its threads. */
const ran = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`).reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "latin1").split(" ")[0]),
    0,
  );
const at = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ??
  Number.NaN;

interface Took {
  readonly wall: number;
  readonly processor: number;
}
/** What `BYTES` cost that one reads of the other. */
async function pull(who: Actor, from: Actor, host: string, port: number): Promise<Took> {
  const pids = [who, from].map((each) => each.process.pid ?? 0);
  const spent = (): number => pids.reduce((sum, pid) => sum + ran(pid), 0);
  const before = spent();
  const began = performance.now();
  const { got } = await who.ask({ do: "dial", host, port, bytes: 0, wait: 60_000 });
  if (got !== BYTES) throw new Error(`${String(got)} bytes of ${BYTES} arrived`);
  return { wall: performance.now() - began, processor: spent() - before };
}

const loads: number[] = [];
async function place() {
  const pod = await makePod({ capture: false });
  const [peer, guardian, agent] = await Promise.all([
    pod.actor("outside", 0),
    pod.actor("pod", GUARDIAN_UID),
    pod.actor("pod", AGENT_UID),
  ]);
  await peer.ask({ do: "serve", host: "::", port: CANARY, bytes: BYTES });
  await guardian.ask({ do: "serve", host: "::", port: HEALTH_PORT, bytes: BYTES });
  await guardian.ask({ do: "serve", host: "127.0.0.1", port: AGENT_PORTS[0], bytes: BYTES });
  return {
    lock() {
      const began = performance.now();
      pod.lock();
      loads.push(performance.now() - began);
    },
    open: () => pod.unlock(),
    remove: () => pod.remove(),
    roads: {
      "guardian dials and reads, IPv4": () => pull(guardian, peer, HERE.out4, CANARY),
      "guardian dials and reads, IPv6": () => pull(guardian, peer, HERE.out6, CANARY),
      "guardian answers and writes, IPv4": () => pull(peer, guardian, HERE.pod4, HEALTH_PORT),
      "guardian answers the agent on loopback": () => pull(agent, guardian, "127.0.0.1", AGENT_PORTS[0]),
    },
  };
}

/** The first to the second, of each four. */
async function compare(count: number, first: () => Promise<Took>, second: () => Promise<Took>) {
  const ratios: Took[] = [];
  for (let quad = 0; quad < count; quad++) {
    const [a, b, c, d] = [await first(), await second(), await second(), await first()];
    const ratio = (by: keyof Took): number => (a[by] + d[by]) / (b[by] + c[by]);
    ratios.push({ wall: ratio("wall"), processor: ratio("processor") });
  }
  return ratios;
}

const [left, right] = [await place(), await place()];
try {
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
  for (const name of [
    "guardian dials and reads, IPv4",
    "guardian dials and reads, IPv6",
    "guardian answers and writes, IPv4",
    "guardian answers the agent on loopback",
  ] as const) {
    const [l, r] = [left.roads[name], right.roads[name]];
    const half = Math.ceil(quads / 2);
    left.open();
    right.open();
    const nothing = [...(await compare(half / 2, l, r)), ...(await compare(half / 2, r, l))];
    right.lock();
    const locked = await compare(half, l, r);
    right.open();
    left.lock();
    locked.push(...(await compare(half, r, l)));
    missed ||=
      at(
        locked.map((t) => t.processor),
        0.5,
      ) < 0.95;
    console.log(`${name}: by processor time ${shown(locked, "processor")}, bound 0.95; both open ${shown(nothing, "processor")}
  by the wall ${shown(locked, "wall")}; both open ${shown(nothing, "wall")}`);
  }
  for (let time = loads.length; time < 40; time++) {
    left.open();
    left.lock();
  }
  missed ||= at(loads, 0.5) >= 100;
  console.log(
    `loading the lock: median ${at(loads, 0.5).toFixed(1)} ms, worst ${Math.max(...loads).toFixed(1)} ms of ${loads.length}, process starts included (bound 100 ms)`,
  );
  process.exitCode = missed ? 1 : 0;
} finally {
  await left.remove();
  await right.remove();
}
