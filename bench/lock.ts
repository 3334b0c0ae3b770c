// What the lock costs a guardian: governed calls through one that is locked, against the same one open, in the same run; and
// how long the lock takes to load. The guardian is built as it ships and runs as its user in a pod, the agent in the same
// pod, the tool outside it, so that a call crosses the lock on loopback and at the border, both ways. Every answer is
// checked, and the tool's count of calls too.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import { amount, asked, oneOf } from "../kind-e2e/asked.ts";
import { GUARDIAN_MEMORY } from "../kind-e2e/images.ts";
import { AGENT_PORTS, GUARDIAN_UID, lockRules } from "../sidecar/lock/lock.ts";
import { place } from "../test/guard/lab.ts";
import { AGENT_UID, asUid, HERE, makePod } from "../test/island/pod.ts";
import type { Fire, Fired } from "./guardian-load.ts";
import { guardianProgram } from "./guardian-program.ts";
import { ranNs } from "./processor.ts";
import { at, compare, shown } from "./quads.ts";
import type { Took } from "./quads.ts";

const USAGE = `usage: node bench/lock.ts [--quads 24] [--warm 15000] [--only small|large|fresh] [--plant]   (root, Linux)
Guardian on core 0, agent and tool on core 1. Exits 1 when the lock leaves less than 0.95 of the open guardian's throughput, by
the wall or by processor time of all ends, or takes 100 ms to load.
  --plant   two thousand useless rules before those of live flows: this must exit 1`;
const BOUND = 0.95;
const LOAD_BOUND_MS = 100;

const wish = asked(USAGE, {
  quads: amount(24, 1),
  warm: amount(15_000),
  only: oneOf("small", "large", "fresh"),
  plant: false,
});
const { quads } = wish;

/** The rules that are measured; planted ones are what each packet of every chain on a hook meets first. */
const useless = Array.from({ length: 2_000 }, (_, n) => `    tcp sport ${n + 1} tcp dport ${n + 1} counter`);
const rules = wish.plant
  ? lockRules().replaceAll("policy drop;\n", `policy drop;\n${useless.join("\n")}\n`)
  : lockRules();

const children: ChildProcess[] = [];
/** A program that answers a line with a line. */
interface Talker {
  readonly pid: number;
  /** Its next line, after one is said to it. */
  readonly ask: <T>(say?: object) => Promise<T>;
}
function talk(command: readonly string[]): Talker {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    pid: child.pid ?? 0,
    async ask<T>(say?: object) {
      if (say !== undefined) child.stdin.write(`${JSON.stringify(say)}\n`);
      const next = await lines.next();
      if (next.done === true) throw new Error(`${command.at(-1) ?? ""} ended`);
      return JSON.parse(next.value) as T;
    },
  };
}

const policy = (mcp: string): JsonObject => ({
  apiVersion: "atoll.dev/policy/v1",
  name: "bench",
  layer: "P1",
  connectors: { t: { kind: "mcp", url: mcp } },
  tools: ["do", "large"].map((name) => ({
    name: `tool:t/${name}`,
    effect: "E1",
    sideEffect: "read_only",
    sandbox: "isolated",
    trust: "trusted",
    input: {
      type: "object",
      properties: { n: { type: "integer" }, repo: { type: "string", maxLength: 100 } },
    },
  })),
  toolsets: { all: ["tool:t/do", "tool:t/large"] },
  profiles: [
    {
      match: { principal: "*" },
      toolsets: ["all"],
      maxSideEffect: "full",
      budgets: { session: { calls: 1_000_000_000 } },
    },
  ],
  rules: [
    {
      id: "own",
      tools: ["tool:t/do", "tool:t/large"],
      when: 'call.args.repo.startsWith("acme/") && session.calls >= 0',
      then: "allow",
    },
  ],
  perimeter: { requireTls: false },
  limits: { concurrentCalls: 200, requestsPerSecond: 1_000_000 },
});

const call = (tool: string, requests: number, more: Partial<Fire> = {}): Fire => ({
  base: `http://127.0.0.1:${AGENT_PORTS[0]}`,
  path: "/mcp/v1/execute",
  body: `{"tool":"tool:t/${tool}","arguments":{"n":$N,"repo":"acme/web"}}`,
  connections: 64,
  requests,
  status: 200,
  holds: '"verdict":"ALLOW"',
  ...more,
});
const ROADS = [
  { key: "small", name: "small answers, kept connections", fire: call("do", 600) },
  { key: "large", name: "answers of 64 KiB, kept connections", fire: call("large", 120) },
  {
    key: "fresh",
    name: "small answers, a connection for each call on both sides",
    fire: call("do", 600, { fresh: true }),
  },
].filter(({ key }) => wish.only === undefined || wish.only === key);

/** What carries packets besides the ends themselves. */
const softirqs = readdirSync("/proc")
  .filter((pid) => /^[0-9]+$/.test(pid))
  .filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/comm`, "latin1").startsWith("ksoftirqd/");
    } catch {
      return false; // it ended meanwhile
    }
  })
  .map(Number);
/** Nanoseconds for which the machine was at work for anybody, in steps of 10 ms. */
const machine = (): number => {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (
    /^cpu (.*)$/m.exec(readFileSync("/proc/stat", "latin1"))?.[1] ?? ""
  )
    .trim()
    .split(" ")
    .map(Number);
  return (user + nice + system + irq + softirq) * 1e7;
};
const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

// The journal lies in memory: the moods of a disk are larger than what the lock costs, and waiting for one would hide it.
process.env["TMPDIR"] = "/dev/shm";
const scratch = mkdtempSync(join(tmpdir(), "atoll-bench-"));
const p = place();
const pod = await makePod({ capture: false });
// Thousands of ended connections that linger make each dial look for a port longer than the lock takes, and more so turn by turn.
for (const where of ["pod", "outside"] as const)
  pod.run(where, ["sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=500"]);
async function main(): Promise<number> {
  const node = ["taskset", "-c", "1", process.execPath];
  const upstream = talk([
    "ip",
    "netns",
    "exec",
    pod.outside,
    ...node,
    join(import.meta.dirname, "lock-upstream.ts"),
    HERE.out4,
  ]);
  const { mcp } = await upstream.ask<{ mcp: string }>();
  const asGuardian = spawnSync("chown", ["-R", `${GUARDIAN_UID}`, p.folder]);
  if (asGuardian.status !== 0) throw new Error(asGuardian.stderr.toString());
  const program = await guardianProgram(scratch);
  chmodSync(scratch, 0o755);
  const g = await p.start({
    policy: policy(mcp),
    cpu: 0,
    under: ["ip", "netns", "exec", pod.name, ...asUid(GUARDIAN_UID)],
    program,
    env: GUARDIAN_MEMORY,
    more: ["--port", `${AGENT_PORTS[0]}`],
  });
  children.push(g.child);
  const agent = talk([
    "ip",
    "netns",
    "exec",
    pod.name,
    ...asUid(AGENT_UID),
    ...node,
    join(import.meta.dirname, "guardian-load.ts"),
  ]);
  const ends = { guardian: g.pid, agent: agent.pid, tool: upstream.pid };

  const loads: number[] = [];
  const lock = (): void => {
    const began = performance.now();
    pod.lock(rules);
    loads.push(performance.now() - began);
  };
  const fire = async (f: Fire): Promise<void> => {
    const fired = await agent.ask<Fired>(f);
    if (fired.wrong > 0) throw new Error(`${fired.wrong} wrong answers: ${fired.example}`);
  };
  /** Connections of the one state are not the other's: both sides begin anew, unmeasured. */
  const begin = async (f: Fire, locked: boolean): Promise<void> => {
    await upstream.ask({ fresh: f.fresh === true });
    await wait(30);
    if (locked) lock();
    else pod.unlock();
    await fire({ ...f, requests: f.connections });
    await upstream.ask({ fresh: f.fresh === true });
    await wait(30);
  };
  const spent = (): number[] => [...Object.values(ends), ...softirqs].map((pid) => ranNs(pid));
  interface Turn extends Took {
    readonly perSecond: number;
    /** Processor microseconds a call, of each end. */
    readonly us: readonly number[];
  }
  const turn = (f: Fire, locked: boolean) => async (): Promise<Turn> => {
    await begin(f, locked);
    const before = spent();
    const all = machine();
    const began = performance.now();
    await fire(f);
    const wall = performance.now() - began;
    const ran = spent().map((ns, i) => ns - (before[i] ?? 0));
    const { done } = await upstream.ask<{ done: number }>({ fresh: f.fresh === true });
    if (done !== f.requests) throw new Error(`the tool did ${done} calls of ${f.requests}`);
    const processor = ran.reduce((sum, ns) => sum + ns, 0);
    const others = (machine() - all - processor) / (wall * 1e6);
    const us = ran.map((ns) => ns / 1000 / f.requests);
    return { wall, processor, others, perSecond: (f.requests * 1000) / wall, us };
  };
  const half = (turns: readonly Turn[]): string => {
    const us = (i: number): string =>
      at(
        turns.map((t) => t.us[i] ?? Number.NaN),
        0.5,
      ).toFixed(0);
    const rates = turns.map((t) => t.perSecond);
    return `${shown(rates, 0)} calls/s; processor µs a call: guardian ${us(0)}, agent ${us(1)}, tool ${us(2)}`;
  };

  let missed = false;
  const warm = wish.warm;
  await fire({ ...call("do", warm) });
  for (const { name, fire: f } of ROADS) {
    await begin(f, true);
    await fire({ ...f, requests: Math.ceil(warm / 20) });
    await upstream.ask({ fresh: f.fresh === true });
    const { ratios, first, second } = await compare(quads, turn(f, false), turn(f, true));
    console.log(`${name}\n  open:   ${half(first)}\n  locked: ${half(second)}`);
    const same = wish.plant ? 0 : Math.ceil(quads / 2);
    const nothing = await compare(same, turn(f, false), turn(f, false));
    if (ratios.length < quads / 2) {
      missed = true;
      console.log(`  something else ran: ${ratios.length} fours of ${quads} are too few to say anything`);
      continue;
    }
    for (const by of ["wall", "processor"] as const) {
      const list = ratios.map((r) => r[by]);
      const met = at(list, 0.5) >= BOUND;
      missed ||= !met;
      const error = same === 0 ? "" : `; both open ${shown(nothing.ratios.map((r) => r[by]))}`;
      console.log(
        `  locked to open by the ${by} ${shown(list)} of ${list.length}, bound ${BOUND}: ${met ? "met" : "MISSED"}${error}`,
      );
    }
  }
  while (loads.length < 40) lock();
  missed ||= at(loads, 0.5) >= LOAD_BOUND_MS;
  console.log(
    `loading the lock: median ${at(loads, 0.5).toFixed(1)} ms, worst ${Math.max(...loads).toFixed(1)} ms of ${loads.length}, process starts included (bound ${LOAD_BOUND_MS} ms)`,
  );
  await g.stop();
  console.log("every answer was an ALLOW, and the tool did every call once");
  return missed ? 1 : 0;
}

async function clean(): Promise<void> {
  for (const child of children) child.kill("SIGKILL");
  await pod.remove();
  p.remove();
  rmSync(scratch, { recursive: true, force: true });
}
// A bench that is stopped leaves no namespace behind.
process.once("SIGTERM", () => void clean().finally(() => process.exit(143)));
try {
  process.exitCode = await main();
} finally {
  await clean();
}
process.exit();
