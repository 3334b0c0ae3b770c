// What a module and an invocation may cost at most. Counted over the original, before the engine compiles anything.

export const PAGE = 65_536;

export const LIMITS = {
  moduleBytes: 8 * 1024 * 1024,
  bodyBytes: 512 * 1024,
  functions: 50_000,
  types: 10_000,
  params: 128,
  locals: 4_096,
  nesting: 512,
  brTable: 16_384,
  tables: 4,
  tableSize: 65_536,
  imports: 64,
  memoryPages: 4_096,
  operands: 16_384,
  /** Locals × control instructions drive the time of an optimising compiler; one function, and all. */
  flow: 4_000_000,
  flowSum: 40_000_000,
} as const;

/** What may be lifted in a test of the last line of defence, which is the kill. */
export type ModuleLimits = { readonly [K in keyof typeof LIMITS]: number };

/** What one invocation may use. */
export interface RunLimits {
  readonly gas: number;
  /** Rounded down to whole pages of 64 KiB; 256 MiB at most. */
  readonly memoryBytes: number;
  readonly outputBytes: number;
  readonly timeMs: number;
  /** Logical bytes of call frames (see gas.ts); independent of the engine's real frames. */
  readonly stackUnits: number;
}

export const DEFAULT_LIMITS: RunLimits = {
  gas: 1_000_000_000,
  memoryBytes: 64 * 1024 * 1024,
  outputBytes: 1024 * 1024,
  timeMs: 5_000,
  stackUnits: 1024 * 1024,
};

export const MOST: RunLimits = {
  gas: Number.MAX_SAFE_INTEGER,
  memoryBytes: LIMITS.memoryPages * PAGE,
  outputBytes: 64 * 1024 * 1024,
  timeMs: 600_000,
  stackUnits: 2 * 1024 * 1024,
};

/** The real stack of a thread (reserved, not occupied): no frame shape may use it up before its logical limit.
 * Most logical units × 16 are 32 MiB; 500 inlined values in each of at most 32,768 frames are 128 MiB. */
export const REAL_STACK_MIB = 256;
export const COMPILE_MS = 5_000;
