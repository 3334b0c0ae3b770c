// What the lock costs: how long it takes to load, and the guardian's throughput with it against without, alternating in
// one run. Needs root on Linux. `node bench/lock.ts [rounds]`; exits 1 when a bound of the design is missed.
import { type Actor, HERE, makePod } from "../test/island/pod.ts";
import { GUARDIAN_UID, HEALTH_PORT } from "../sidecar/lock/lock.ts";

const BYTES = 256 << 20;
const CANARY = 7000;
const rounds = Number(process.argv[2] ?? 9);
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

const pod = await makePod();
try {
  const [peer, guardian] = await Promise.all([pod.actor("outside", 0), pod.actor("pod", GUARDIAN_UID)]);
  await peer.ask({ do: "serve", host: "::", port: CANARY, bytes: BYTES });
  await guardian.ask({ do: "serve", host: "::", port: HEALTH_PORT, bytes: BYTES });

  const loads: number[] = [];
  const apply = (): void => {
    const began = performance.now();
    pod.lock();
    loads.push(performance.now() - began);
  };
  const pull = async (who: Actor, host: string, port: number): Promise<number> => {
    const began = performance.now();
    const { got } = await who.ask({ do: "dial", host, port, bytes: 0, wait: 60_000 });
    if (got !== BYTES) throw new Error(`${String(got)} bytes of ${BYTES} arrived`);
    return BYTES / (1 << 20) / ((performance.now() - began) / 1000);
  };
  const roads = [
    { name: "guardian dials and reads, IPv4", run: () => pull(guardian, HERE.out4, CANARY) },
    { name: "guardian dials and reads, IPv6", run: () => pull(guardian, HERE.out6, CANARY) },
    { name: "guardian answers and writes, IPv4", run: () => pull(peer, HERE.pod4, HEALTH_PORT) },
  ];
  let missed = false;
  for (const road of roads) {
    const open: number[] = [];
    const locked: number[] = [];
    await road.run();
    for (let round = 0; round < rounds; round++) {
      // Alternating, and in turns first, so that a slow moment of the machine burdens both alike.
      const turns = [
        async () => {
          pod.unlock();
          open.push(await road.run());
        },
        async () => {
          apply();
          locked.push(await road.run());
        },
      ];
      for (const turn of round % 2 === 0 ? turns : turns.toReversed()) await turn();
    }
    // Neighbours in time are compared, because the machine's own mood changes over a run.
    const ratio = median(locked.map((speed, at) => speed / (open[at] ?? Number.NaN)));
    missed ||= ratio < 0.95;
    console.log(
      `${road.name}: ${median(locked).toFixed(0)} MiB/s with the lock, ${median(open).toFixed(0)} without: ${ratio.toFixed(3)} (bound 0.95)`,
    );
  }
  missed ||= median(loads) >= 100;
  console.log(
    `loading the lock: median ${median(loads).toFixed(1)} ms, worst ${Math.max(...loads).toFixed(1)} ms of ${loads.length}, process starts included (bound 100 ms)`,
  );
  process.exitCode = missed ? 1 : 0;
} finally {
  await pod.remove();
}
