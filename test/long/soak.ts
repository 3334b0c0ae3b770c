// A guardian under steady load for an hour with a fault a minute. Afterwards journal, upstream and answers are held
// against one another, the journal is verified, and memory must not have grown after its warm-up.

import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { join } from "node:path";
import { asked, amount } from "../../kind-e2e/asked.ts";
import { atoll, place } from "../guard/lab.ts";
import type { Guardian } from "../guard/lab.ts";
import { Load, account, everything, loadPolicy, sessionOf } from "../guard/load.ts";
import { Status, startUpstream } from "../guard/upstream.ts";

const USAGE = `usage: node test/long/soak.ts [--minutes 60] [--rate 200] [--keep]
Calls a second against \`atoll guard\`, a fault each minute: killed, stopped, disk full, upstream failing or hanging,
slow clients, bursts, garbage, clients that hang up, a stopped process. The first quarter has the restarts; the guardian
that lives from then on shows whether memory grows. Exit 0: no invariant broken, no growth.`;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const started = performance.now();
const log = (text: string): void =>
  console.log(`${((performance.now() - started) / 60_000).toFixed(2).padStart(6)} min  ${text}`);

interface Sample {
  readonly at: number;
  readonly pid: number;
  readonly rssMiB: number;
  readonly files: number;
}
function sample(pid: number): Sample | undefined {
  try {
    const kb = Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);
    return { at: performance.now(), pid, rssMiB: kb / 1024, files: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return undefined;
  }
}
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;
const quantile = (list: readonly number[], q: number): number =>
  [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * q))] ?? 0;

async function main(): Promise<number> {
  const { minutes, rate, keep } = asked(USAGE, { minutes: amount(60, 1), rate: amount(200, 1), keep: false });
  const up = await startUpstream();
  const p = place();
  const policy = loadPolicy(up);
  let doing: () => unknown = () => undefined;
  up.tools.set("do", () => doing());
  up.tools.set("denied", () => undefined);
  up.tools.set("keyed", () => undefined);
  up.tools.set("fails", () => {
    throw new Status(500);
  });
  let g: Guardian = await p.start({ policy });
  const first = await sessionOf(g);
  const load = new Load(g.base);
  const stop = new AbortController();
  const driving = load.run(rate, stop.signal, everything);
  const samples: Sample[] = [];
  const sampler = setInterval(() => {
    const s = sample(g.pid);
    if (s !== undefined) samples.push(s);
  }, 5_000);

  const restarts: number[] = [];
  async function again(): Promise<void> {
    g = await p.start({ policy });
    restarts.push(g.startedInMs);
    load.moveTo(g.base);
  }
  const sockets = (count: number, first: string, heldMs: number): Promise<void> => {
    const open: Socket[] = [];
    for (let i = 0; i < count; i++) {
      const s = connect({ host: "127.0.0.1", port: g.port });
      s.on("error", () => {});
      s.write(first);
      open.push(s);
    }
    return pause(heldMs).then(() => open.forEach((s) => s.destroy()));
  };
  const body = JSON.stringify({ tool: "tool:t/denied", arguments: { n: 0, repo: "acme/web" } });
  const request = `POST /mcp/v1/execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
  const disk = (state: "0:" | "unlimited:"): void =>
    void spawnSync("prlimit", ["--pid", String(g.pid), `--fsize=${state}`]);

  const faults: Readonly<Record<string, () => Promise<void>>> = {
    async killed() {
      await g.kill();
      await again();
    },
    async stopped() {
      await g.stop();
      await again();
    },
    async "disk full"() {
      disk("0:");
      await pause(1_500);
      disk("unlimited:");
      await pause(5_000);
      const probe = await load.fire("do");
      // A call had happened whose record could not be written: nothing is taken until a restart.
      if (probe.status !== 200) {
        log(`restarted: ${probe.reason}`);
        await g.kill();
        await again();
      }
    },
    async "upstream fails"() {
      doing = () => {
        throw new Status(503);
      };
      await pause(3_000);
      doing = () => undefined;
    },
    async "upstream hangs"() {
      doing = () => pause(6_000);
      await pause(1_000);
      doing = () => undefined;
    },
    "slow clients": () => sockets(300, "POST /mcp/v1/execute HTTP/1.1\r\nHost: localhost\r\nX-A: ", 12_000),
    async burst() {
      const more = new AbortController();
      const running = load.run(rate * 4, more.signal, everything);
      await pause(4_000);
      more.abort();
      await running;
    },
    garbage: () => sockets(300, "\u0016\u0003\u0001 GET / HTTP/9.9\r\nHost: a\r\nHost: b\r\n\r\n", 500),
    "clients hang up": () => sockets(300, request + body, 20),
    async "half a body"() {
      await sockets(200, request + body.slice(0, 10), 1_000);
    },
    async "process stopped"() {
      process.kill(g.pid, "SIGSTOP");
      await pause(1_500);
      process.kill(g.pid, "SIGCONT");
    },
  };
  const harsh = ["killed", "upstream fails", "disk full", "stopped", "upstream hangs"];
  const mild = Object.keys(faults).filter((f) => !["killed", "disk full", "stopped"].includes(f));
  const quarter = Math.ceil(minutes / 4);
  let lifeBegan = performance.now();
  for (let minute = 0; minute < minutes; minute++) {
    const until = started + (minute + 1) * 60_000;
    await pause(Math.max(0, until - 50_000 - performance.now()));
    const list = minute < quarter ? harsh : mild;
    const name = minute === quarter ? "killed" : (list[minute % list.length] ?? "killed");
    await faults[name]?.();
    if (minute === quarter) lifeBegan = performance.now();
    const s = sample(g.pid);
    const lately = [...load.sent.values()]
      .slice(-rate * 20)
      .filter((c) => c.status === 200 && c.kind === "do");
    log(
      `${name.padEnd(16)} rss ${s?.rssMiB.toFixed(0) ?? "-"} MiB, files ${s?.files ?? "-"}, sent ${load.sent.size}, ` +
        `p50 ${quantile(
          lately.map((c) => c.ms),
          0.5,
        ).toFixed(1)} ms, p99 ${quantile(
          lately.map((c) => c.ms),
          0.99,
        ).toFixed(1)} ms` +
        (restarts.length > 0 ? `, last start ${((restarts.at(-1) ?? 0) / 1000).toFixed(1)} s` : ""),
    );
    await pause(Math.max(0, until - performance.now()));
  }
  stop.abort();
  await driving;
  await load.settled(30_000);
  clearInterval(sampler);

  const life = samples.filter((s) => s.pid === g.pid && s.at > lifeBegan + (minutes * 60_000) / 12);
  const third = Math.floor(life.length / 3);
  const early = median(life.slice(0, third).map((s) => s.rssMiB));
  const late = median(life.slice(-third).map((s) => s.rssMiB));
  const most = Math.max(0, ...life.map((s) => s.rssMiB));
  const files = [
    median(life.slice(0, third).map((s) => s.files)),
    median(life.slice(-third).map((s) => s.files)),
  ];
  await g.kill();
  g = await p.start({ policy });
  const last = await sessionOf(g);
  const now = account(p, up, load.sent);
  const broken = [...now.broken];
  if (last.id !== first.id) broken.push("the session is another one");
  if (last.callsUsed !== now.calls)
    broken.push(`the guardian counts ${last.callsUsed} calls, the journal ${now.calls}`);
  if (1_000_000_000_000 - last.costLeft !== now.costMicroUsd)
    broken.push("the guardian counts another cost than the journal");
  if (now.open !== 0) broken.push(`${now.open} calls are open`);
  if (late > early * 1.1 + 8) broken.push(`memory grew from ${early.toFixed(0)} to ${late.toFixed(0)} MiB`);
  if ((files[1] ?? 0) > (files[0] ?? 0) + 20) broken.push(`open files grew from ${files[0]} to ${files[1]}`);
  await g.stop();
  log(`start with the whole journal: ${(g.startedInMs / 1000).toFixed(1)} s, ${now.nodes} nodes`);
  const roots = join(p.folder, "auditor.pem");
  p.auditor(roots);
  const verified = atoll("verify", p.journal, "--trust", roots);
  if (verified.code !== 0) broken.push(`verify: ${verified.text.slice(0, 500)}`);
  const by = new Map<string, number>();
  for (const s of load.sent.values()) {
    const key = s.status === 0 ? "no answer" : `${s.status} ${s.reason}`.trim();
    by.set(key, (by.get(key) ?? 0) + 1);
  }
  log(`answers: ${[...by].map(([k, n]) => `${k}: ${n}`).join(", ")}`);
  log(
    `memory of the last life: ${early.toFixed(0)} MiB early, ${late.toFixed(0)} late, ${most.toFixed(0)} at most; files ${files.join(" → ")}`,
  );
  log(
    `${now.nodes} nodes, ${now.calls} calls, ${now.unknown} unknown, ${restarts.length + 1} restarts; verify: ${verified.text.trim().split("\n").at(-1) ?? ""}`,
  );
  for (const b of broken) log(`BROKEN ${b}`);
  log(broken.length === 0 ? "no invariant broken, no growth" : `${broken.length} broken`);
  await load.close();
  await up.close();
  if (!keep) p.remove();
  return broken.length === 0 ? 0 : 1;
}

process.exitCode = await main();
