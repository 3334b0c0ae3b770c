// The gate's report and its receiver. The gate connects to a unix socket that only the guardian and it can see, writes
// one report as a line of JSON, and hangs up; every five seconds, for the life of the pod.
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { isObject, type JsonValue, parseJson } from "../../kernel/contracts/contracts.ts";

export const GATE_REPORT = "atoll.dev/gate-report/v1";
/** A report is believed for so long after it arrived, by the guardian's own clock. */
export const REPORT_FRESH_MS = 15_000;
export const REPORT_EVERY_MS = 5000;

export type GateReport = {
  readonly type: typeof GATE_REPORT;
  /** Counts the rounds of one gate process, from 1. */
  readonly round: number;
  /** How many probes were run: a report of none proves nothing. */
  readonly probes: number;
  /** Whether the guardian answered the gate. */
  readonly guardian: boolean;
  /** Names of the probes that were answered and must not have been; empty when the pod is shut. */
  readonly failing: readonly string[];
  readonly duration_ms: number;
};

export type GateVerdict =
  | { readonly proved: true }
  /** `failing`: what was reached, or empty when there is no believable report at all. */
  | { readonly proved: false; readonly reason: string; readonly failing: readonly string[] };

const LINE = 64 * 1024;
const LIMITS = { bytes: LINE, keys: 32, depth: 4 };

const isWhole = (value: JsonValue | undefined): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0;
const isText = (value: JsonValue): value is string => typeof value === "string" && value.length <= 200;

/** Reads a report; undefined for everything that is not one. */
export const readReport = (line: Uint8Array): GateReport | undefined => {
  let value: JsonValue;
  try {
    value = parseJson(line, LIMITS);
  } catch {
    return undefined;
  }
  if (!isObject(value) || value["type"] !== GATE_REPORT) return undefined;
  const { round, probes, guardian, failing, duration_ms } = value;
  if (!isWhole(round) || !isWhole(probes) || !isWhole(duration_ms) || typeof guardian !== "boolean")
    return undefined;
  if (!Array.isArray(failing) || !failing.every(isText)) return undefined;
  return { type: GATE_REPORT, round, probes, guardian, failing, duration_ms };
};

/** Judges the last report and its age. Pure. */
export const judgeReport = (report: GateReport | undefined, ageMs: number): GateVerdict => {
  if (report === undefined) return { proved: false, reason: "the gate has not reported", failing: [] };
  if (report.failing.length > 0)
    return {
      proved: false,
      reason: `reached from inside the pod: ${report.failing.join(", ")}`,
      failing: report.failing,
    };
  if (ageMs >= REPORT_FRESH_MS)
    return {
      proved: false,
      reason: `the gate's last report is ${Math.floor(ageMs / 1000)} s old`,
      failing: [],
    };
  if (!report.guardian) return { proved: false, reason: "the guardian did not answer the gate", failing: [] };
  if (report.probes === 0) return { proved: false, reason: "the gate tried nothing", failing: [] };
  return { proved: true };
};

export type ReportReceiver = {
  readonly verdict: () => GateVerdict;
  readonly last: () => GateReport | undefined;
  readonly close: () => Promise<void>;
};

const readLine = (socket: Socket, onLine: (line: Buffer) => void): void => {
  let held = Buffer.alloc(0);
  socket.setTimeout(5000, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (data: Buffer) => {
    held = Buffer.concat([held, data]);
    const end = held.indexOf(10);
    if (end >= 0) onLine(held.subarray(0, end));
    // One report a connection.
    if (end >= 0 || held.length > LINE) socket.destroy();
  });
};

/**
 * Listens for reports at `path`, in a volume of the guardian's and the gate's alone. `now` is a monotonic clock in
 * milliseconds; `onReport` is told each report that could be read, for condition, metric and attestation.
 */
export const receiveReports = async (options: {
  readonly path: string;
  readonly now: () => number;
  readonly onReport?: (report: GateReport) => void;
}): Promise<ReportReceiver> => {
  let last: { report: GateReport; at: number } | undefined;
  // Left behind by a guardian that was killed.
  rmSync(options.path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    readLine(socket, (line) => {
      const report = readReport(line);
      if (report === undefined) return;
      last = { report, at: options.now() };
      options.onReport?.(report);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.path, resolve);
  });
  // The gate has another UID; who can see the volume is what protects it.
  chmodSync(options.path, 0o666);
  return {
    verdict: () => judgeReport(last?.report, last === undefined ? 0 : options.now() - last.at),
    last: () => last?.report,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
};
