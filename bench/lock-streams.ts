// What the lock costs raw streams of a stand-in for the guardian, where nothing but packets is paid: to be read beside
// `bench/lock.ts`, without a bound of its own. Needs root on Linux. `node bench/lock-streams.ts [quads]`
//
// Two pods stand side by side, one locked and one open, and take turns of 8 MiB by fours; half-way the lock goes to the
// other pod. Compared is what the bytes cost in processor time, of both ends together: this kernel's work on a packet
// counts for whoever it interrupts, and that is one of the two. No packet is captured meanwhile.
import { AGENT_PORTS, GUARDIAN_UID, HEALTH_PORT } from "../sidecar/lock/lock.ts";
import { AGENT_UID, type Actor, HERE, makePod } from "../test/island/pod.ts";
import { ranNs } from "./processor.ts";
import { compare, shown } from "./quads.ts";
import type { Took } from "./quads.ts";

const BYTES = 8 << 20;
const CANARY = 7000;
const quads = Number(process.argv[2] ?? 200);

/** What `BYTES` cost that one reads of the other. */
async function pull(who: Actor, from: Actor, host: string, port: number): Promise<Took> {
  const pids = [who, from].map((each) => each.process.pid ?? 0);
  const spent = (): number => pids.reduce((sum, pid) => sum + ranNs(pid), 0);
  const before = spent();
  const began = performance.now();
  const { got } = await who.ask({ do: "dial", host, port, bytes: 0, wait: 60_000 });
  if (got !== BYTES) throw new Error(`${String(got)} bytes of ${BYTES} arrived`);
  return { wall: performance.now() - began, processor: spent() - before };
}

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
    lock: () => pod.lock(),
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

const [left, right] = [await place(), await place()];
try {
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
    const nothing = [...(await compare(half / 2, l, r)).ratios, ...(await compare(half / 2, r, l)).ratios];
    right.lock();
    const locked = [...(await compare(half, l, r)).ratios];
    right.open();
    left.lock();
    locked.push(...(await compare(half, r, l)).ratios);
    const by = (list: readonly Took[], key: "wall" | "processor"): string => shown(list.map((t) => t[key]));
    console.log(`${name}: by processor time ${by(locked, "processor")}; both open ${by(nothing, "processor")}
  by the wall ${by(locked, "wall")}; both open ${by(nothing, "wall")}`);
  }
} finally {
  await left.remove();
  await right.remove();
}
