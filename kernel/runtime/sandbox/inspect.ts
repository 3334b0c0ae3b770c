// What a module is made of and whether it would be admitted, for people. It compiles nothing that is not admitted.

import { GAS_SCHEDULE } from "./gas.ts";
import { admit } from "./invoke.ts";
import type { ModuleLimits } from "./limits.ts";
import { REASONS, Refusal } from "./refusal.ts";
import type { Reason } from "./refusal.ts";
import { rewrite } from "./rewrite.ts";

export interface Inspection {
  readonly bytes: number;
  readonly admitted: boolean;
  readonly reason: Reason | "";
  readonly sentence: string;
  readonly imports: readonly string[];
  readonly functions: number;
  readonly tables: number;
  readonly memoryPages: number;
  readonly memoryPagesMost: number;
  readonly rewrittenBytes: number;
  readonly entryGas: number;
  readonly gasSchedule: number;
}

export function inspectModule(bytes: Uint8Array, limits: ModuleLimits): Inspection {
  const nothing = {
    bytes: bytes.length,
    imports: [],
    functions: 0,
    tables: 0,
    memoryPages: 0,
    memoryPagesMost: 0,
    rewrittenBytes: 0,
    entryGas: 0,
    gasSchedule: GAS_SCHEDULE,
  };
  try {
    admit(bytes, limits);
    const { shape, wasm, entryGas } = rewrite(bytes, limits);
    return {
      ...nothing,
      admitted: true,
      reason: "",
      sentence: "the module is admitted",
      imports: shape.imports,
      functions: shape.functions.length - shape.imports.length,
      tables: shape.tables.length,
      memoryPages: shape.memory?.initial ?? 0,
      memoryPagesMost: Math.min(shape.memory?.maximum ?? limits.memoryPages, limits.memoryPages),
      rewrittenBytes: wasm.length,
      entryGas,
    };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return {
      ...nothing,
      imports: importsOf(bytes, error.reason),
      admitted: false,
      reason: error.reason,
      sentence: REASONS[error.reason],
    };
  }
}

/** Only where an import is the reason are the names worth the engine's reading. */
function importsOf(bytes: Uint8Array, reason: Reason): string[] {
  if (reason !== "import" && reason !== "import-type" && reason !== "imported-state") return [];
  const own = new Uint8Array(bytes);
  if (!WebAssembly.validate(own)) return [];
  const module = new WebAssembly.Module(own);
  return WebAssembly.Module.imports(module).map((entry) => `${entry.module}.${entry.name} (${entry.kind})`);
}
