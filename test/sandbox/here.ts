// A module admitted and run on the test's own thread, without the executor.

import { admit, invoke } from "../../kernel/runtime/sandbox/invoke.ts";
import type { Outcome } from "../../kernel/runtime/sandbox/invoke.ts";
import { DEFAULT_LIMITS, LIMITS } from "../../kernel/runtime/sandbox/limits.ts";
import type { RunLimits } from "../../kernel/runtime/sandbox/limits.ts";
import { Refusal } from "../../kernel/runtime/sandbox/refusal.ts";

export interface Here {
  readonly stdin?: Uint8Array;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly seed?: string;
  readonly clock?: number;
  readonly limits?: Partial<RunLimits>;
}

export function runHere(module: Uint8Array, options: Here = {}): Outcome {
  // The test's own stack is small: the logical limit must be reached first.
  const limits = { ...DEFAULT_LIMITS, stackUnits: 64 * 1024, ...options.limits };
  return invoke(admit(module, LIMITS), {
    stdin: options.stdin ?? new Uint8Array(0),
    args: options.args ?? [],
    env: options.env ?? {},
    seed: options.seed ?? "seed",
    clock: options.clock ?? 1_700_000_000_000,
    outputBytes: limits.outputBytes,
    limits,
  });
}

/** The reason of a refusal, or "" where the module is admitted. */
export function refusalOf(module: Uint8Array): string {
  try {
    admit(module, LIMITS);
    return "";
  } catch (error) {
    if (error instanceof Refusal) return error.reason;
    throw error;
  }
}

export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
