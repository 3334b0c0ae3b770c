// Modules written as text, for tests: assembled by binaryen with the features that are admitted.

import binaryen from "binaryen";

const F = binaryen.Features;
export const ADMITTED: binaryen.Features =
  F.MutableGlobals |
  F.NontrappingFPToInt |
  F.SIMD128 |
  F.BulkMemory |
  F.BulkMemoryOpt |
  F.SignExt |
  F.Multivalue |
  F.ReferenceTypes;
export const EVERY: binaryen.Features = F.All;

export function wat(text: string, features: binaryen.Features = ADMITTED): Uint8Array {
  const module = binaryen.parseText(text);
  try {
    module.setFeatures(features);
    return module.emitBinary();
  } finally {
    module.dispose();
  }
}

const IMPORTS = new Map([
  ["fd_write", "(param i32 i32 i32 i32) (result i32)"],
  ["fd_read", "(param i32 i32 i32 i32) (result i32)"],
  ["proc_exit", "(param i32)"],
  ["random_get", "(param i32 i32) (result i32)"],
  ["clock_time_get", "(param i32 i64 i32) (result i32)"],
  ["clock_res_get", "(param i32 i32) (result i32)"],
  ["args_get", "(param i32 i32) (result i32)"],
  ["args_sizes_get", "(param i32 i32) (result i32)"],
  ["environ_get", "(param i32 i32) (result i32)"],
  ["environ_sizes_get", "(param i32 i32) (result i32)"],
  ["poll_oneoff", "(param i32 i32 i32 i32) (result i32)"],
  ["path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)"],
  ["path_unlink_file", "(param i32 i32 i32) (result i32)"],
  ["sock_accept", "(param i32 i32 i32) (result i32)"],
  ["sock_send", "(param i32 i32 i32 i32 i32) (result i32)"],
  ["fd_prestat_get", "(param i32 i32) (result i32)"],
  ["fd_close", "(param i32) (result i32)"],
  ["fd_seek", "(param i32 i64 i32 i32) (result i32)"],
  ["fd_fdstat_get", "(param i32 i32) (result i32)"],
  ["sched_yield", "(result i32)"],
  ["proc_raise", "(param i32) (result i32)"],
]);

export interface Guest {
  readonly imports?: readonly string[];
  readonly pages?: number | string;
  readonly before?: string;
  readonly locals?: string;
  readonly body: string;
  readonly features?: binaryen.Features;
}

/** A command with a memory: `body` is that of `_start`, `before` stands before it. */
export function guest({
  imports = [],
  pages = 1,
  before = "",
  locals = "",
  body,
  features,
}: Guest): Uint8Array {
  const lines = imports.map(
    (name) => `(import "wasi_snapshot_preview1" "${name}" (func $${name} ${IMPORTS.get(name) ?? ""}))`,
  );
  return wat(
    `(module ${lines.join("\n")} (memory (export "memory") ${pages}) ${before}
      (func $_start (export "_start") ${locals} ${body}))`,
    features,
  );
}

/** Writes `length` bytes from `at` to stdout; the vector lies at 0, the count at 8. */
export const print = (at: number, length: number | string): string =>
  `(i32.store (i32.const 0) (i32.const ${at}))
   (i32.store (i32.const 4) ${typeof length === "number" ? `(i32.const ${length})` : length})
   (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))`;
