// Admitting a module and running it once, on the thread that calls: the executor's worker does both, tests and
// benchmarks may call them on a thread of their own.

import type { Code } from "../../contracts/contracts.ts";
import { STATUS } from "./appended.ts";
import { GAS_SCHEDULE } from "./gas.ts";
import { Host, Stop } from "./host.ts";
import type { HostRequest } from "./host.ts";
import type { ModuleLimits, RunLimits } from "./limits.ts";
import { PAGE } from "./limits.ts";
import { refuse } from "./refusal.ts";
import { rewrite } from "./rewrite.ts";

export type ComputeCode = Extract<Code, `ERR_COMPUTE_${string}`>;

/** A module that passed: compiled, and what is charged before it starts. */
export interface Admitted {
  readonly module: WebAssembly.Module;
  readonly entryGas: number;
  readonly pages: number;
}

export interface RunRequest extends HostRequest {
  readonly limits: RunLimits;
}

export interface Outcome {
  /** Undefined when the guest ended well. */
  readonly code: ComputeCode | undefined;
  readonly gas: number;
  readonly gasSchedule: number;
  readonly peakPages: number;
  /** Status given to `proc_exit`, or 0. */
  readonly exit: number;
  /** Empty on any failure. */
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

/** Size, our limits and rewrite, the engine's word on the original, its word on the result, compiled code.
 * The original must be valid by itself: a result can be valid only because an index reached what was appended.
 * Our reading comes before the engine's, which takes seconds over bytes that our limits refuse in milliseconds. */
export function admit(original: Uint8Array, limits: ModuleLimits): Admitted {
  if (original.length > limits.moduleBytes) refuse("size");
  const { wasm, entryGas, shape } = rewrite(original, limits);
  if (!WebAssembly.validate(ownCopy(original))) refuse("invalid");
  return { module: new WebAssembly.Module(ownCopy(wasm)), entryGas, pages: shape.memory?.initial ?? 0 };
}

/** The engine wants bytes that nothing shares. */
const ownCopy = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(bytes);

export function invoke(admitted: Admitted, request: RunRequest): Outcome {
  const { limits } = request;
  const cap = Math.floor(limits.memoryBytes / PAGE);
  const host = new Host(request);
  const outcome = (code: ComputeCode | undefined, gas: number, peakPages: number, exit = 0): Outcome => ({
    code,
    gas,
    gasSchedule: GAS_SCHEDULE,
    peakPages,
    exit,
    stdout: code === undefined ? host.stdout.taken() : new Uint8Array(0),
    stderr: host.stderr.taken(),
  });
  if (admitted.pages > cap) return outcome("ERR_COMPUTE_MEMORY_EXHAUSTED", 0, 0);
  if (admitted.entryGas > limits.gas) return outcome("ERR_COMPUTE_GAS_EXHAUSTED", limits.gas, 0);

  let exports: WebAssembly.Exports;
  try {
    exports = new WebAssembly.Instance(admitted.module, { wasi_snapshot_preview1: host.imports() }).exports;
  } catch (error) {
    // Segments are laid out here: one that does not fit traps, as it would at the guest's own start.
    const trapped = error instanceof WebAssembly.RuntimeError;
    return trapped
      ? outcome("ERR_COMPUTE_TRAP", admitted.entryGas, admitted.pages)
      : outcome("ERR_COMPUTE_HOST_FAULT", 0, 0);
  }
  const gas = counter(exports["gas"]);
  const stack = counter(exports["stack"]);
  const capGlobal = exports["cap"];
  const status = exports["status"];
  const memory = exports["memory"] instanceof WebAssembly.Memory ? exports["memory"] : undefined;
  if (!(capGlobal instanceof WebAssembly.Global) || !(status instanceof WebAssembly.Global))
    return outcome("ERR_COMPUTE_HOST_FAULT", 0, 0);
  gas.value = BigInt(limits.gas - admitted.entryGas);
  stack.value = BigInt(limits.stackUnits);
  capGlobal.value = cap;
  host.bind(memory, gas);

  let code: ComputeCode | undefined;
  let exit = 0;
  try {
    if (typeof exports["start"] === "function") exports["start"]();
    stack.value = BigInt(limits.stackUnits);
    if (typeof exports["_start"] === "function") exports["_start"]();
  } catch (error) {
    if (error instanceof Stop && error.what === "exit") {
      exit = error.status;
      code = exit === 0 ? undefined : "ERR_COMPUTE_EXIT_NONZERO";
    } else code = codeOf(error, stack.value < 0n, Number(status.value));
  }
  if (code === "ERR_COMPUTE_HOST_FAULT") return outcome(code, 0, 0);
  const peak = memory === undefined ? 0 : memory.buffer.byteLength / PAGE;
  // Code between two checks may have run on into debt: whatever it did then, the answer is that the gas was used up.
  if (gas.value < 0n) return outcome("ERR_COMPUTE_GAS_EXHAUSTED", limits.gas, peak);
  return outcome(code, limits.gas - Number(gas.value), peak, exit);
}

function counter(value: unknown): WebAssembly.Global {
  if (value instanceof WebAssembly.Global) return value;
  throw new Error("the module has no counter");
}

function codeOf(error: unknown, deep: boolean, status: number): ComputeCode {
  if (error instanceof Stop) {
    if (error.what === "output") return "ERR_COMPUTE_OUTPUT_EXHAUSTED";
    return error.what === "gas" ? "ERR_COMPUTE_GAS_EXHAUSTED" : "ERR_COMPUTE_HOST_FAULT";
  }
  if (!(error instanceof WebAssembly.RuntimeError)) return "ERR_COMPUTE_HOST_FAULT";
  if (status === STATUS.memory) return "ERR_COMPUTE_MEMORY_EXHAUSTED";
  if (status === STATUS.host) return "ERR_COMPUTE_HOST_FAULT";
  return deep ? "ERR_COMPUTE_STACK_EXHAUSTED" : "ERR_COMPUTE_TRAP";
}
