// The executor: the child process in which every module is decoded, compiled and run. Its main thread only passes
// frames on and watches the time and its own size; the threads run this same file.

import { fileURLToPath } from "node:url";
import { isMainThread, parentPort } from "node:worker_threads";
import { sha256 } from "../../crypto/crypto.ts";
import { encodeFrame, FrameReader, KIND, natural, text } from "./frames.ts";
import type { Frame } from "./frames.ts";
import type { Admitted, Outcome } from "./invoke.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import type { ModuleLimits, RunLimits } from "./limits.ts";
import { Pool } from "./pool.ts";
import type { Ending } from "./pool.ts";
import type { Reason } from "./refusal.ts";
import { serve } from "./worker.ts";

/** Given as the only argument, in JSON. */
export interface ExecutorConfig {
  readonly workers: number;
  readonly compileMs: number;
  readonly limits: ModuleLimits;
  readonly residentBytes: number;
  readonly cachedModules: number;
}

type Entry =
  | { readonly state: "compiling"; readonly waiting: Frame[] }
  | { readonly state: "ready"; readonly admitted: Admitted }
  | { readonly state: "refused"; readonly reason: Reason };

const WATCH_MS = 50;
const LONGEST_FRAME = 256 * 1024 * 1024;

function main(config: ExecutorConfig): void {
  const pool = new Pool(fileURLToPath(import.meta.url), config.workers, {
    up: () => send(0, KIND.ready, {}),
    lost: () => process.kill(process.pid, "SIGKILL"),
  });
  // In order of use, so that the first is the one to forget.
  const modules = new Map<string, Entry>();
  const send = (call: number, kind: number, meta: object, ...parts: Uint8Array[]): void => {
    process.stdout.write(encodeFrame(call, kind, meta, ...parts));
  };

  const failed = (call: number, code: string, more: object = {}): void =>
    send(call, KIND.done, {
      code,
      reason: "",
      gas: 0,
      peakPages: 0,
      exit: 0,
      stdout: 0,
      stuck: false,
      ...more,
    });

  const ran = (call: number, outcome: Outcome): void => {
    const { code, gas, peakPages, exit, stdout, stderr } = outcome;
    const meta = { code: code ?? "", reason: "", gas, peakPages, exit, stdout: stdout.length, stuck: false };
    send(call, KIND.done, meta, stdout, stderr);
  };

  const ended = (call: number, ending: Ending): void => {
    if (ending.answer === "ran") ran(call, ending.outcome);
    else if (ending.answer === "overrun") failed(call, "ERR_COMPUTE_TIME_EXHAUSTED", { stuck: ending.stuck });
    else failed(call, "ERR_COMPUTE_HOST_FAULT");
  };

  const run = (frame: Frame, admitted: Admitted): void => {
    const limits = runLimits(frame);
    const request = {
      stdin: new Uint8Array(frame.payload),
      args: strings(frame.meta["args"]),
      env: Object.fromEntries(strings(frame.meta["env"]).map((entry) => split(entry))),
      seed: text(frame, "seed"),
      clock: natural(frame, "clock"),
      outputBytes: limits.outputBytes,
      limits,
    };
    pool.give({ task: "run", admitted, request }, limits.timeMs, (ending) => ended(frame.call, ending));
  };

  const remember = (hash: string, entry: Entry): void => {
    modules.delete(hash);
    modules.set(hash, entry);
    for (const [old, { state }] of modules) {
      if (modules.size <= config.cachedModules) break;
      if (state !== "compiling") modules.delete(old);
    }
  };

  const proceed = (frame: Frame): void => {
    const hash = text(frame, "hash");
    const entry = modules.get(hash);
    if (entry === undefined) return send(frame.call, KIND.need, {});
    if (entry.state === "compiling") {
      entry.waiting.push(frame);
      return;
    }
    remember(hash, entry);
    if (entry.state === "ready") run(frame, entry.admitted);
    else failed(frame.call, "ERR_COMPUTE_MODULE_REJECTED", { reason: entry.reason });
  };

  const load = (frame: Frame): void => {
    const hash = text(frame, "hash");
    if (modules.has(hash)) return;
    if (sha256(frame.payload) !== hash) throw new Error("a module came under another's hash");
    const waiting: Frame[] = [];
    modules.set(hash, { state: "compiling", waiting });
    const task = { task: "admit", bytes: new Uint8Array(frame.payload), limits: config.limits } as const;
    pool.give(task, config.compileMs, (ending) => {
      if (ending.answer === "admitted") remember(hash, { state: "ready", admitted: ending.admitted });
      else if (ending.answer === "refused") remember(hash, { state: "refused", reason: ending.reason });
      else {
        modules.delete(hash);
        for (const call of waiting) ended(call.call, ending);
        return;
      }
      for (const call of waiting) proceed(call);
    });
  };

  const inspect = (frame: Frame): void => {
    const task = { task: "inspect", bytes: new Uint8Array(frame.payload), limits: config.limits } as const;
    pool.give(task, config.compileMs, (ending) => {
      if (ending.answer === "inspected") send(frame.call, KIND.inspected, ending.inspection);
      else ended(frame.call, ending);
    });
  };

  const reader = new FrameReader(LONGEST_FRAME, (frame) => {
    if (frame.kind === KIND.run) proceed(frame);
    else if (frame.kind === KIND.load) load(frame);
    else if (frame.kind === KIND.inspect) inspect(frame);
    else throw new Error("a frame of unknown kind");
  });
  process.stdin.on("data", (chunk: Buffer) => reader.add(chunk));
  process.stdin.on("end", () => process.exit(0)); // the guardian is gone
  setInterval(() => {
    if (process.resourceUsage().maxRSS * 1024 > config.residentBytes) process.kill(process.pid, "SIGKILL");
  }, WATCH_MS).unref();
}

function runLimits(frame: Frame): RunLimits {
  return {
    gas: natural(frame, "gas"),
    memoryBytes: natural(frame, "memoryBytes"),
    outputBytes: natural(frame, "outputBytes"),
    timeMs: natural(frame, "timeMs"),
    stackUnits: natural(frame, "stackUnits") || DEFAULT_LIMITS.stackUnits,
  };
}

function strings(value: unknown): string[] {
  if (!Array.isArray(value)) throw new Error("a frame's list is none");
  return value.map((entry: unknown) => {
    if (typeof entry !== "string") throw new Error("a frame's list holds something else than text");
    return entry;
  });
}

function split(entry: string): [string, string] {
  const at = entry.indexOf("=");
  return [entry.slice(0, at), entry.slice(at + 1)];
}

if (isMainThread) main(JSON.parse(process.argv[2] ?? "{}"));
else if (parentPort !== null) serve(parentPort);
