// The gate: proves from inside the pod, before the agent starts and ever after, that nothing leaves it. It runs under
// a UID of its own, which the lock treats like the agent's.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { AGENT_PORTS } from "../lock/lock.ts";
import { type Echo, openEcho } from "./icmp.ts";
import { guardianAnswers, outwardProbes } from "./probes.ts";
import { GATE_REPORT, type GateReport, judgeReport, readReport, REPORT_EVERY_MS } from "./report.ts";
import { gateTargets, type Target } from "./targets.ts";

export { type GateReport, type GateVerdict, receiveReports, type ReportReceiver } from "./report.ts";
export type { Target } from "./targets.ts";

export type GateOptions = {
  /** Asked anew each round: addresses and routes come and go. */
  readonly targets: () => readonly Target[];
  /** The guardian's unix socket for reports. */
  readonly socket: string;
  /** Where the last report is kept for the startup probe. */
  readonly state: string;
  readonly everyMs?: number;
  readonly timeoutMs?: number;
};

const RETRY_MS = 500;
/** How long the startup probe waits for a proof: less than the five seconds that the kubelet gives it. */
const CHECK_MS = 3000;
const LOOK_MS = 50;

/** One round: everything at once. */
export const proveOnce = async (
  round: number,
  options: { targets: readonly Target[]; echo: Echo; timeoutMs: number },
): Promise<GateReport> => {
  const began = performance.now();
  const probes = outwardProbes(options.targets, options.echo, options.timeoutMs);
  const [guardian, ...answered] = await Promise.all([
    guardianAnswers(`http://127.0.0.1:${AGENT_PORTS[0]}/`, options.timeoutMs),
    ...probes.map((probe) => probe.run()),
  ]);
  return {
    type: GATE_REPORT,
    round,
    probes: probes.length,
    guardian,
    failing: probes.filter((_, at) => answered[at] === true).map((probe) => probe.name),
    duration_ms: Math.round(performance.now() - began),
  };
};

/** Sends a report; false when nobody took it (the guardian is down: its own restart will ask for the next one). */
const sendReport = (path: string, report: GateReport): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path);
    socket.setTimeout(1000, () => socket.destroy());
    socket.on("error", () => undefined);
    socket.on("close", (failed) => resolve(!failed));
    socket.end(`${JSON.stringify(report)}\n`);
  });

/** Runs rounds until it is told to stop. */
export const runGate = async (options: GateOptions, signal: AbortSignal): Promise<void> => {
  const { everyMs = REPORT_EVERY_MS, timeoutMs = 1000 } = options;
  const echo = await openEcho();
  for (let round = 1; !signal.aborted; round++) {
    const began = performance.now();
    const report = await proveOnce(round, { targets: options.targets(), echo, timeoutMs });
    // Renamed into place, so that the startup probe never reads half a report.
    writeFileSync(`${options.state}.new`, `${JSON.stringify(report)}\n`);
    renameSync(`${options.state}.new`, options.state);
    // A guardian that has just come back serves nobody before it is told, so it is told soon.
    const next = began + ((await sendReport(options.socket, report)) ? everyMs : Math.min(everyMs, RETRY_MS));
    // Being told to stop ends the pause, and with it the loop.
    await pause(Math.max(0, next - performance.now()), undefined, { signal }).catch(() => undefined);
  }
};

const fileOr = (path: string, otherwise: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return otherwise;
  }
};

const ownIndices = (): number[] => {
  const indices = Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? [])
      .filter((each) => !each.internal && each.family === "IPv6")
      .map((each) => each.scopeid ?? 0),
  );
  return [...new Set(indices)].filter((index) => index > 0);
};

/**
 * The startup probe: 0 when the last report is fresh and clean, else 1 and a sentence that names what was reached. It waits
 * for the first report, so that a pod's start takes one such process and not one each second.
 */
const check = async (
  state: string,
  waitMs: number,
  ageMs: (path: string) => number,
  say: (text: string) => void,
): Promise<number> => {
  for (const end = performance.now() + waitMs; ; await pause(LOOK_MS)) {
    const text = fileOr(state, "");
    const verdict = judgeReport(readReport(Buffer.from(text.trimEnd())), text === "" ? 0 : ageMs(state));
    if (verdict.proved) return 0;
    if (verdict.failing.length === 0 && performance.now() < end) continue;
    say(`gate: ${verdict.reason}\n`);
    return 1;
  }
};

type Output = { write(text: string): unknown };

/**
 * `atoll-gate [run|check]`, configured by its environment: `ATOLL_GATE_SOCKET`, `ATOLL_GATE_STATE`, and the targets'
 * (see `gateTargets`). `check` is the startup probe.
 */
export const gate = async (
  argv: readonly string[],
  io: {
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly stderr: Output;
    readonly signal: AbortSignal;
    readonly ageMs: (path: string) => number;
    readonly waitMs?: number;
  },
): Promise<number> => {
  const socket = io.env["ATOLL_GATE_SOCKET"] ?? "/run/atoll-gate/report.sock";
  const state = io.env["ATOLL_GATE_STATE"] ?? "/run/atoll-gate/report.json";
  if (argv[0] === "check")
    return check(state, io.waitMs ?? CHECK_MS, io.ageMs, (text) => io.stderr.write(text));
  if (argv.length > 1 || (argv[0] !== undefined && argv[0] !== "run")) {
    io.stderr.write("usage: atoll-gate [run | check]\n");
    return 2;
  }
  try {
    const targets = (): Target[] =>
      gateTargets({
        env: io.env,
        resolvConf: fileOr("/etc/resolv.conf", ""),
        routes4: fileOr("/proc/net/route", ""),
        routes6: fileOr("/proc/net/ipv6_route", ""),
        interfaces: ownIndices(),
      });
    await runGate({ targets, socket, state }, io.signal);
    return 0;
  } catch (error) {
    io.stderr.write(`gate: ${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
};
