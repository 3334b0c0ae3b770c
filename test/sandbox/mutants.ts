// Modules with a few bytes changed, and what decoder and rewrite make of them.

import { invoke } from "../../kernel/runtime/sandbox/invoke.ts";
import { DEFAULT_LIMITS, LIMITS } from "../../kernel/runtime/sandbox/limits.ts";
import { Refusal } from "../../kernel/runtime/sandbox/refusal.ts";
import { rewrite } from "../../kernel/runtime/sandbox/rewrite.ts";

/** Small and seeded, so that a failure can be had again. */
export function generator(seed: number): () => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

export function mutant(original: Uint8Array, random: () => number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(original);
  const flips = 1 + Math.floor(random() * 3);
  for (let i = 0; i < flips; i++) {
    const at = 8 + Math.floor(random() * (bytes.length - 8));
    bytes[at] =
      random() < 0.5 ? (bytes[at] ?? 0) ^ (1 << Math.floor(random() * 8)) : Math.floor(random() * 256);
  }
  return bytes;
}

export interface MutantCounts {
  mutants: number;
  /** The engine takes the original. */
  valid: number;
  admitted: number;
  ran: number;
  /** Refused by our decoder although the engine takes them: features and limits. */
  refused: number;
  /** The engine refuses the original, our decoder lets it by: what checking the original is for. */
  onlyEngine: number;
  /** Of these, the result would have been valid. */
  wouldPass: number;
  faults: string[];
}

export function tryMutants(seeds: readonly Uint8Array[], count: number, seed: number): MutantCounts {
  const random = generator(seed);
  const counts: MutantCounts = {
    mutants: 0,
    valid: 0,
    admitted: 0,
    ran: 0,
    refused: 0,
    onlyEngine: 0,
    wouldPass: 0,
    faults: [],
  };
  for (let i = 0; i < count; i++) {
    const original = seeds[i % seeds.length] ?? new Uint8Array(8);
    judge(mutant(original, random), counts, i);
  }
  return counts;
}

function judge(bytes: Uint8Array<ArrayBuffer>, counts: MutantCounts, index: number): void {
  counts.mutants++;
  const valid = WebAssembly.validate(bytes);
  if (valid) counts.valid++;
  let result: ReturnType<typeof rewrite>;
  try {
    result = rewrite(bytes, LIMITS);
  } catch (error) {
    if (!(error instanceof Refusal)) counts.faults.push(`${index}: ${String(error)}`);
    else if (valid) counts.refused++;
    return;
  }
  const wasm = new Uint8Array(result.wasm);
  const validAfter = WebAssembly.validate(wasm);
  if (!valid) {
    counts.onlyEngine++;
    if (validAfter) counts.wouldPass++;
    return;
  }
  if (!validAfter) {
    counts.faults.push(`${index}: the result is not valid`);
    return;
  }
  counts.admitted++;
  const admitted = {
    module: new WebAssembly.Module(wasm),
    entryGas: result.entryGas,
    pages: result.shape.memory?.initial ?? 0,
  };
  const limits = { ...DEFAULT_LIMITS, gas: 3_000_000, stackUnits: 16 * 1024 };
  const outcome = invoke(admitted, {
    stdin: new Uint8Array(64),
    args: [],
    env: {},
    seed: "mutant",
    clock: 0,
    outputBytes: limits.outputBytes,
    limits,
  });
  counts.ran++;
  if (outcome.code === "ERR_COMPUTE_HOST_FAULT") counts.faults.push(`${index}: a fault of the host`);
}
