// Untrusted modules: one call in, one outcome out, the same on every machine. The guardian's own process never parses
// a module; it knows a module by its hash and hands its bytes to the executor.

import { fileURLToPath } from "node:url";
import type { Hash } from "../../contracts/contracts.ts";
import { sha256 } from "../../crypto/crypto.ts";
import { KIND, natural, text } from "./frames.ts";
import type { Frame } from "./frames.ts";
import { GAS_SCHEDULE } from "./gas.ts";
import type { Inspection } from "./inspect.ts";
import type { ComputeCode } from "./invoke.ts";
import { COMPILE_MS, DEFAULT_LIMITS, LIMITS, MOST } from "./limits.ts";
import type { ModuleLimits, RunLimits } from "./limits.ts";
import { REASONS } from "./refusal.ts";
import type { Reason } from "./refusal.ts";
import { Supervisor } from "./supervisor.ts";
import type { ModuleSource, Reply } from "./supervisor.ts";

export { artifactStore, directory, ociLayout } from "./artifacts.ts";
export type { ArtifactFiles, ArtifactStore } from "./artifacts.ts";
export { GAS_SCHEDULE } from "./gas.ts";
export { DEFAULT_LIMITS, LIMITS, MOST } from "./limits.ts";
export { REASONS } from "./refusal.ts";
export { toolOutput, toolRequest } from "./toolcall.ts";
export type { ComputeCode, Inspection, Reason, RunLimits };

export interface SandboxOptions {
  /** Invocations at a time, a thread each; the rest waits in order. */
  readonly workers?: number;
  /** Calls that may wait; one more is a fault of the host. */
  readonly waiting?: number;
  /** The executor's file and the program that runs it, where they are not the defaults. */
  readonly entry?: string;
  readonly node?: string;
  /** Further flags for that program. */
  readonly flags?: readonly string[];
  readonly compileMs?: number;
  /** The executor is ended when it ever occupied more than this. */
  readonly residentBytes?: number;
  readonly cachedModules?: number;
  readonly moduleLimits?: Partial<ModuleLimits>;
  /** Where a call names its module by hash, this has its bytes. */
  readonly fetch?: (hash: Hash) => Promise<Uint8Array | undefined>;
}

export interface ComputeRequest {
  readonly module: Uint8Array | Hash;
  readonly stdin: Uint8Array;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly limits?: Partial<RunLimits>;
  /** The source of everything random in the guest. */
  readonly seed: string;
  /** Unix milliseconds: every clock of the guest stands there. */
  readonly clock: number;
}

interface Usage {
  readonly gas: number;
  readonly gasSchedule: number;
  readonly peakPages: number;
  /** At most 4 KiB, for people; no part of any receipt. */
  readonly stderr: Uint8Array;
}
export type ComputeResult =
  | (Usage & { readonly ok: true; readonly stdout: Uint8Array })
  | (Usage & {
      readonly ok: false;
      readonly code: ComputeCode;
      /** Of ERR_COMPUTE_MODULE_REJECTED: why. */
      readonly reason: Reason | "";
      /** Of ERR_COMPUTE_EXIT_NONZERO: the status. */
      readonly exit: number;
    });

export interface Sandbox {
  run(request: ComputeRequest): Promise<ComputeResult>;
  inspect(module: Uint8Array): Promise<Inspection | undefined>;
  /** The executor's process, 0 while there is none. */
  readonly pid: number;
  close(): Promise<void>;
}

/** Beside this file from source, beside the bundle that holds this file otherwise. */
const EXECUTOR = import.meta.url.endsWith(".ts") ? "./executor.ts" : "./executor.js";

const CODES: ReadonlySet<string> = new Set<ComputeCode>([
  "ERR_COMPUTE_GAS_EXHAUSTED",
  "ERR_COMPUTE_TIME_EXHAUSTED",
  "ERR_COMPUTE_MEMORY_EXHAUSTED",
  "ERR_COMPUTE_OUTPUT_EXHAUSTED",
  "ERR_COMPUTE_STACK_EXHAUSTED",
  "ERR_COMPUTE_TRAP",
  "ERR_COMPUTE_EXIT_NONZERO",
  "ERR_COMPUTE_MODULE_REJECTED",
  "ERR_COMPUTE_HOST_FAULT",
]);
const isCode = (value: string): value is ComputeCode => CODES.has(value);
const isReason = (value: string): value is Reason => Object.hasOwn(REASONS, value);

export function createSandbox(options: SandboxOptions = {}): Sandbox {
  const workers = options.workers ?? 2;
  const supervisor = new Supervisor({
    entry: options.entry ?? fileURLToPath(new URL(EXECUTOR, import.meta.url)),
    node: options.node ?? process.execPath,
    flags: options.flags ?? [],
    config: {
      workers,
      compileMs: options.compileMs ?? COMPILE_MS,
      limits: { ...LIMITS, ...options.moduleLimits },
      residentBytes: options.residentBytes ?? 1024 * 1024 * 1024,
      cachedModules: options.cachedModules ?? 64,
    },
  });
  const most = options.moduleLimits?.moduleBytes ?? LIMITS.moduleBytes;
  const turns = turnstile(workers, options.waiting ?? 1_024);

  return {
    get pid() {
      return supervisor.pid;
    },
    async run(request) {
      const limits = checkedLimits(request.limits ?? {});
      const module = moduleOf(request.module, options.fetch);
      if (typeof request.module !== "string" && request.module.length > most)
        return failure("ERR_COMPUTE_MODULE_REJECTED", "size");
      const meta = {
        hash: module.hash,
        args: request.args ?? [],
        env: Object.entries(request.env ?? {}).map(([name, value]) => `${name}=${value}`),
        seed: request.seed,
        clock: request.clock,
        ...limits,
      };
      const reply = await turns(() =>
        supervisor.call({ kind: KIND.run, meta, payload: request.stdin, module, timeMs: limits.timeMs }),
      );
      return resultOf(reply);
    },
    async inspect(module) {
      const timeMs = options.compileMs ?? COMPILE_MS;
      const reply = await turns(() =>
        supervisor.call({ kind: KIND.inspect, meta: {}, payload: module, module: undefined, timeMs }),
      );
      return "frame" in reply && reply.frame.kind === KIND.inspected ? inspectionOf(reply.frame) : undefined;
    },
    close: () => supervisor.close(),
  };
}

/** Lets so many through at a time and so many wait. */
function turnstile(seats: number, most: number): (go: () => Promise<Reply>) => Promise<Reply> {
  let taken = 0;
  const waiting: (() => void)[] = [];
  return async (go) => {
    if (taken >= seats) {
      if (waiting.length >= most) return { lost: "fault" };
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
      });
    } else taken++;
    try {
      return await go();
    } finally {
      const next = waiting.shift();
      if (next === undefined) taken--;
      else next();
    }
  };
}

function moduleOf(module: Uint8Array | Hash, fetch: SandboxOptions["fetch"]): ModuleSource {
  if (typeof module !== "string") return { hash: sha256(module), bytes: async () => module };
  return {
    hash: module,
    bytes: async () => {
      const bytes = await fetch?.(module);
      return bytes !== undefined && sha256(bytes) === module ? bytes : undefined;
    },
  };
}

function checkedLimits(asked: Partial<RunLimits>): RunLimits {
  const limits: RunLimits = { ...DEFAULT_LIMITS, ...asked };
  for (const key of ["gas", "memoryBytes", "outputBytes", "timeMs", "stackUnits"] as const) {
    const value = limits[key];
    if (!Number.isSafeInteger(value) || value < 1 || value > MOST[key])
      throw new RangeError(`limit \`${key}\` must be an integer between 1 and ${MOST[key]}, found ${value}`);
  }
  return limits;
}

const NO_BYTES = new Uint8Array(0);

const failure = (code: ComputeCode, reason: Reason | "" = ""): ComputeResult => ({
  ok: false,
  code,
  reason,
  exit: 0,
  gas: 0,
  gasSchedule: GAS_SCHEDULE,
  peakPages: 0,
  stderr: NO_BYTES,
});

function resultOf(reply: Reply): ComputeResult {
  if ("lost" in reply)
    return failure(reply.lost === "overrun" ? "ERR_COMPUTE_TIME_EXHAUSTED" : "ERR_COMPUTE_HOST_FAULT");
  const { frame } = reply;
  if (frame.kind !== KIND.done) return failure("ERR_COMPUTE_HOST_FAULT");
  const code = text(frame, "code");
  const reason = text(frame, "reason");
  const length = natural(frame, "stdout");
  const usage = {
    gas: natural(frame, "gas"),
    gasSchedule: GAS_SCHEDULE,
    peakPages: natural(frame, "peakPages"),
    stderr: new Uint8Array(frame.payload.subarray(length)),
  };
  if (code === "") return { ok: true, ...usage, stdout: new Uint8Array(frame.payload.subarray(0, length)) };
  if (!isCode(code)) return failure("ERR_COMPUTE_HOST_FAULT");
  return { ok: false, code, reason: isReason(reason) ? reason : "", exit: natural(frame, "exit"), ...usage };
}

function inspectionOf(frame: Frame): Inspection {
  const reason = text(frame, "reason");
  const imports = frame.meta["imports"];
  return {
    bytes: natural(frame, "bytes"),
    admitted: frame.meta["admitted"] === true,
    reason: isReason(reason) ? reason : "",
    sentence: isReason(reason) ? REASONS[reason] : "the module is admitted",
    imports: Array.isArray(imports) ? imports.filter((name) => typeof name === "string") : [],
    functions: natural(frame, "functions"),
    tables: natural(frame, "tables"),
    memoryPages: natural(frame, "memoryPages"),
    memoryPagesMost: natural(frame, "memoryPagesMost"),
    rewrittenBytes: natural(frame, "rewrittenBytes"),
    entryGas: natural(frame, "entryGas"),
    gasSchedule: natural(frame, "gasSchedule"),
  };
}
