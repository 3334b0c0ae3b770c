// What a guardian costs: beside a floor (fastify, the same two signatures, the same two group commits), a bare streaming
// proxy, and an ungoverned gateway, in the same run. Every answer is checked; a wrong one fails the bench.

import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import { amount, asked, someOf } from "../kind-e2e/asked.ts";
import { GUARDIAN_MEMORY } from "../kind-e2e/images.ts";
import { place } from "../test/guard/lab.ts";
import { guardianProgram } from "./guardian-program.ts";
import type { Fire, Fired } from "./guardian-load.ts";

const USAGE = `usage: node bench/guardian.ts [--rounds 3] [--requests 6000] [--parts allow,chat,stream,start] [--no-gateway]
Servers on core 0, load and upstream on core 1. Before a comparison every server is warmed with as many calls as are measured,
at least 2,000, so that V8 has settled on both sides. The guardian is built as it ships and runs in its image's environment. The gateway (@portkey-ai/gateway 1.15.2) is fetched from the registry
into a scratch folder, never into the project. Only ratios carry over to another machine.`;
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const GATEWAY = "@portkey-ai/gateway@1.15.2";

const wish = asked(USAGE, {
  rounds: amount(3, 1),
  requests: amount(6_000, 60),
  parts: someOf("allow", "chat", "stream", "start"),
  "no-gateway": false,
});
const { rounds, requests } = wish;
const parts: ReadonlySet<string> = new Set(wish.parts);
// What a machine sets for every Node of its own is not in the image: a thread reads all those certificates at each start.
delete process.env["NODE_EXTRA_CA_CERTS"];
const scratch = mkdtempSync(join(tmpdir(), "atoll-bench-"));
const children: ChildProcess[] = [];

interface Program {
  readonly pid: number;
  readonly line: string;
}
function launch(
  cpu: number,
  args: readonly string[],
  ready: RegExp,
  env: NodeJS.ProcessEnv = {},
): Promise<Program> {
  const child = spawn("taskset", ["-c", String(cpu), process.execPath, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  children.push(child);
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (part: Buffer) => {
      text += part.toString("utf8");
      const line = text.split("\n").find((l) => ready.test(l));
      if (line !== undefined) resolve({ pid: child.pid ?? 0, line });
    });
    child.once("exit", (code) =>
      reject(new Error(`${args[0] ?? ""} ended with ${code}: ${text.slice(-500)}`)),
    );
  });
}

/** Processor time of a process and its threads, in milliseconds. */
function cpuMs(pid: number): number {
  const fields = (readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1] ?? "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
const rssMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) / 1024;
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;

interface Measured extends Fired {
  /** Processor microseconds of the server for each request: what a loaded machine does not change. */
  readonly cpuUs: number;
}
function load(pid: number, f: Fire): Measured {
  const before = cpuMs(pid);
  const run = spawnSync(
    "taskset",
    ["-c", "1", process.execPath, here("./guardian-load.ts"), JSON.stringify(f)],
    {
      encoding: "utf8",
    },
  );
  if (run.status !== 0) throw new Error(run.stderr);
  const fired = JSON.parse(run.stdout) as Fired;
  if (fired.wrong > 0) throw new Error(`${fired.wrong} wrong answers of ${f.path}: ${fired.example}`);
  const total = f.requests + Math.max(f.connections, Math.ceil(f.requests / 10));
  return { ...fired, cpuUs: ((cpuMs(pid) - before) * 1000) / total };
}
/** The median of several runs, each after the others, so that a slow moment meets all alike. */
function compare(
  list: Readonly<Record<string, { readonly pid: number; readonly fire: Fire }>>,
): Map<string, Measured> {
  const all = new Map<string, Measured[]>(Object.keys(list).map((k) => [k, []]));
  for (const { pid, fire } of Object.values(list)) {
    const { rate: _, ...warming } = fire;
    load(pid, {
      ...warming,
      connections: Math.min(fire.connections, 16),
      requests: Math.max(2_000, fire.requests),
    });
  }
  // Calls that were released while it warmed and that no agent tells of are over then: they have a second.
  spawnSync("sleep", ["2"]);
  for (let round = 0; round < rounds; round++)
    for (const [name, { pid, fire }] of Object.entries(list)) all.get(name)?.push(load(pid, fire));
  const of = (runs: readonly Measured[], key: "perSecond" | "p50" | "p99" | "cpuUs"): number =>
    median(runs.map((r) => r[key]));
  return new Map(
    [...all].map(([name, runs]) => [
      name,
      {
        perSecond: of(runs, "perSecond"),
        p50: of(runs, "p50"),
        p99: of(runs, "p99"),
        cpuUs: of(runs, "cpuUs"),
        wrong: 0,
        example: "",
      },
    ]),
  );
}

const rows: {
  readonly name: string;
  readonly value: string;
  readonly bound: string;
  readonly met: string;
}[] = [];
/** Without a bound it is no line of its own: it says how much of one is the machine's. */
const row = (name: string, value: number, unit: string, bound = ""): void => {
  const [how = "", limit = ""] = bound.split(" ");
  const met = how === "≥" ? value >= Number(limit) : value <= Number(limit);
  rows.push({
    name,
    value: `${value.toFixed(2)}${unit}`,
    bound,
    met: bound === "" ? "" : met ? "yes" : "NO",
  });
};

function gateway(): string | undefined {
  if (wish["no-gateway"]) return undefined;
  const folder = join(tmpdir(), "atoll-bench-gateway");
  const program = join(folder, "node_modules/@portkey-ai/gateway/build/start-server.js");
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{"private":true}');
  const run = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", GATEWAY], {
    cwd: folder,
  });
  return run.status === 0 && existsSync(program) ? program : undefined;
}

function policy(mcp: string, v1: string, tools: number): JsonObject {
  const one = (name: string): JsonObject => ({
    name,
    effect: "E1",
    sideEffect: "read_only",
    sandbox: "isolated",
    trust: "trusted",
    ...(name.startsWith("tool:agent/") ? { timeoutMs: 1_000 } : {}),
    input: {
      type: "object",
      properties: {
        n: { type: "integer" },
        repo: { type: "string", maxLength: 100 },
        text: { type: "string", maxLength: 1000 },
      },
    },
  });
  const names = ["tool:t/do", "tool:t/denied", "tool:agent/write_note"];
  for (let i = names.length; i < tools; i++) names.push(`tool:t/other_${i}`);
  return {
    apiVersion: "atoll.dev/policy/v1",
    name: "bench",
    layer: "P1",
    connectors: { t: { kind: "mcp", url: mcp }, m: { kind: "openai", url: v1 } },
    tools: names.map(one),
    models: [
      { name: "model:m/small", price: { inputMicroUsdPerMTok: 250_000, outputMicroUsdPerMTok: 2_000_000 } },
    ],
    toolsets: { all: names },
    profiles: [
      {
        match: { principal: "*" },
        toolsets: ["all"],
        models: ["model:m/small"],
        maxSideEffect: "full",
        budgets: { session: { calls: 1_000_000_000 } },
      },
    ],
    rules: [
      {
        id: "own",
        tools: ["tool:t/do"],
        when: 'call.args.repo.startsWith("acme/") && session.calls >= 0',
        then: "allow",
      },
      { id: "no", tools: ["tool:t/denied"], then: "deny" },
      { id: "notes", tools: ["tool:agent/write_note"], then: "allow" },
    ],
    perimeter: { requireTls: false },
    limits: { concurrentCalls: 200, requestsPerSecond: 1_000_000 },
  };
}

async function main(): Promise<number> {
  const up = JSON.parse((await launch(1, [here("./guardian-upstream.ts")], /mcp/)).line) as Record<
    "mcp" | "v1",
    string
  >;
  const serving = async (program: string, ...args: string[]) => {
    const p = await launch(0, [here(program), ...args], /serving/);
    return { pid: p.pid, base: p.line.replace("serving ", "") };
  };
  const floor = await serving("./guardian-floor.ts", scratch);
  const hop = await serving("./guardian-floor.ts", scratch, up.mcp, up.v1);
  const bare = await serving("./guardian-proxy.ts", up.v1);
  const synced = await serving("./guardian-proxy.ts", up.v1, scratch);
  const p = place();
  const rules = policy(up.mcp, up.v1, 100);
  const shipped = { policy: rules, cpu: 0, program: await guardianProgram(scratch), env: GUARDIAN_MEMORY };
  const g = await p.start(shipped);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const idle = rssMiB(g.pid);

  const call = (base: string, tool: string, connections: number, more: Partial<Fire> = {}): Fire => ({
    base,
    path: "/mcp/v1/execute",
    body: JSON.stringify({ tool: `tool:t/${tool}`, arguments: { n: "$N", repo: "acme/web" } }).replace(
      '"$N"',
      "$N",
    ),
    connections,
    requests: connections === 1 ? Math.ceil(requests / 6) : requests,
    status: 200,
    holds: '"ok":true',
    ...more,
  });
  const chat = (base: string, more: Partial<Fire> = {}): Fire => ({
    base,
    path: "/v1/chat/completions",
    body: JSON.stringify({
      model: "m/small",
      messages: [{ role: "user", content: "hello" }],
      tools: [{ type: "function", function: { name: "write_note", parameters: { type: "object" } } }],
    }),
    connections: 64,
    requests: Math.ceil(requests / 6),
    status: 200,
    holds: '"name":"write_note"',
    ...more,
  });

  const ungoverned = parts.has("allow") ? gateway() : undefined;
  const servers: Record<string, { pid: number; fire: Fire }> = {
    floor: { pid: floor.pid, fire: call(floor.base, "do", 64) },
    "floor and hop": { pid: hop.pid, fire: call(hop.base, "do", 64) },
    guardian: { pid: g.pid, fire: call(g.base, "do", 64) },
    denied: { pid: g.pid, fire: call(g.base, "denied", 64, { status: 0, holds: '"verdict":"DENY"' }) },
  };
  if (ungoverned !== undefined) {
    const port = 18_787;
    const gate = await launch(0, [ungoverned, `--port=${port}`, "--headless"], /Ready|running|:18787/i, {
      TRUSTED_CUSTOM_HOSTS: "127.0.0.1,localhost",
    });
    servers["gateway"] = {
      pid: gate.pid,
      fire: chat(`http://127.0.0.1:${port}`, {
        headers: {
          "x-portkey-provider": "openai",
          "x-portkey-custom-host": up.v1,
          authorization: "Bearer x",
        },
        requests: Math.ceil(requests / 3),
      }),
    };
  }
  const get = (m: Map<string, Measured>, name: string): Measured => {
    const found = m.get(name);
    if (found === undefined) throw new Error(name);
    return found;
  };
  if (parts.has("allow")) {
    const at64 = compare(servers);
    const busy = rssMiB(g.pid);
    const at1 = compare({
      floor: { pid: floor.pid, fire: call(floor.base, "do", 1) },
      "floor and hop": { pid: hop.pid, fire: call(hop.base, "do", 1) },
      guardian: { pid: g.pid, fire: call(g.base, "do", 1) },
    });
    console.log(`
| c=64, one core | req/s | p50 ms | p99 ms | processor µs a request |
|---|---|---|---|---|`);
    for (const [name, m] of at64)
      console.log(
        `| ${name} | ${m.perSecond.toFixed(0)} | ${m.p50.toFixed(2)} | ${m.p99.toFixed(2)} | ${m.cpuUs.toFixed(0)} |`,
      );
    const G = get(at64, "guardian");
    const F = get(at64, "floor");
    const H = get(at64, "floor and hop");
    row("allow c=64 / floor", G.perSecond / F.perSecond, " ×", "≥ 0.6");
    row("allow c=64 / floor with the same hop", G.perSecond / H.perSecond, " ×", "≥ 0.6");
    row("the same by processor time", H.cpuUs / G.cpuUs, " ×", "≥ 0.6");
    const P = at64.get("gateway");
    if (P !== undefined) row("allow c=64 / ungoverned gateway", G.perSecond / P.perSecond, " ×", "≥ 4");
    const one = get(at1, "guardian").p50;
    row("allow c=1 p50", one, " ms", "≤ 1.5");
    row("allow c=1 p50 / floor", one / get(at1, "floor").p50, " ×", "≤ 1.5");
    row("allow c=1 p50 / floor with the same hop", one / get(at1, "floor and hop").p50, " ×", "≤ 1.5");
    row("deny / allow", get(at64, "denied").perSecond / G.perSecond, " ×", "≥ 1.5");
    row("idle memory", idle, " MiB", "≤ 90");
    row("memory under load", busy, " MiB", "≤ 160");
  }
  if (parts.has("chat")) {
    const chats = compare({
      direct: { pid: g.pid, fire: chat(up.v1.replace("/v1", ""), { rate: 100 }) },
      floor: { pid: hop.pid, fire: chat(hop.base, { rate: 100 }) },
      guardian: { pid: g.pid, fire: chat(g.base, { rate: 100 }) },
    });
    const added = (who: string, k: "p50" | "p99"): number => get(chats, who)[k] - get(chats, "direct")[k];
    row("chat at 100/s adds, p50", added("guardian", "p50"), " ms", "≤ 1.5");
    row("three signatures, two commits and the hop alone, p50", added("floor", "p50"), " ms");
    row("chat at 100/s adds, p99", added("guardian", "p99"), " ms", "≤ 5");
    row("three signatures, two commits and the hop alone, p99", added("floor", "p99"), " ms");
  }
  if (parts.has("stream"))
    for (const connections of [1, 4]) {
      const streamed = (base: string): Fire => {
        const f = chat(base, { first: true, holds: "one", connections });
        return { ...f, body: JSON.stringify({ ...(JSON.parse(f.body) as object), stream: true }) };
      };
      const first = compare({
        bare: { pid: bare.pid, fire: streamed(bare.base) },
        synced: { pid: synced.pid, fire: streamed(synced.base) },
        guardian: { pid: g.pid, fire: streamed(g.base) },
      });
      const of = (who: string): number => get(first, who).p50;
      const at = `c=${connections}`;
      row(`first streamed text / bare proxy, ${at}`, of("guardian") / of("bare"), " ×", "≤ 1.2");
      row(`a bare proxy with one sync / bare proxy, ${at}`, of("synced") / of("bare"), " ×");
      row(`first streamed text / bare proxy with one sync, ${at}`, of("guardian") / of("synced"), " ×");
    }
  await g.stop();
  const verified = p.verified();
  p.remove();

  if (parts.has("start")) {
    const starts: number[] = [];
    const nodes: number[] = [];
    for (let i = 0; i < Math.max(11, rounds); i++) {
      const fresh = place();
      const s = await fresh.start(shipped);
      starts.push(s.startedInMs);
      await s.stop();
      fresh.remove();
      const begun = performance.now();
      spawnSync("taskset", ["-c", "0", process.execPath, "-e", "0"]);
      nodes.push(performance.now() - begun);
    }
    row("start to ready, 100 tools", median(starts), " ms", "≤ 400");
    row("start beyond bare Node", median(starts) - median(nodes), " ms", "≤ 250");
  }
  console.log("\n| figure | value | bound | met |\n|---|---|---|---|");
  for (const r of rows) console.log(`| ${r.name} | ${r.value} | ${r.bound} | ${r.met} |`);
  console.log(
    `\nevery answer was the expected one; the journal of the run ${verified.code === 0 ? "verifies" : "DOES NOT VERIFY"}`,
  );
  return verified.code;
}

process.exitCode = await main().finally(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(scratch, { recursive: true, force: true });
});
process.exit();
