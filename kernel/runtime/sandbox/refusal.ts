// Why a module is not admissible: a closed list, so that a receipt never carries an engine's own words.

export const REASONS = {
  size: "the module is larger than 8 MiB",
  header: "the bytes do not start a WebAssembly 1.0 module",
  component: "components are not modules",
  malformed: "the binary format is broken",
  invalid: "the module is not valid WebAssembly",
  section: "a section is unknown, repeated or out of order",
  gc: "GC, typed references and other heap types are not admitted",
  externref: "`externref` is not admitted",
  exceptions: "exception handling is not admitted",
  "tail-call": "tail calls are not admitted",
  threads: "threads, atomics and shared memory are not admitted",
  memory64: "64-bit memories and tables are not admitted",
  "multi-memory": "more than one memory is not admitted",
  "relaxed-simd": "relaxed SIMD is not deterministic",
  "const-expr": "extended constant expressions are not admitted",
  opcode: "an instruction is unknown",
  import: "an import is not one of WASI preview 1",
  "import-type": "an import of WASI preview 1 has another signature",
  "imported-state": "memories, tables and globals cannot be imported",
  "no-start": "there is no export `_start` without parameters and results",
  "limit-types": "more than 10,000 types",
  "limit-params": "more than 128 parameters or results",
  "limit-imports": "more than 64 imports",
  "limit-functions": "more than 50,000 functions",
  "limit-tables": "more than 4 tables, or a table larger than 65,536",
  "limit-memory": "the memory starts larger than 256 MiB",
  "limit-body": "a function body is larger than 512 KiB",
  "limit-locals": "a function has more than 4,096 locals",
  "limit-nesting": "a function nests deeper than 512 blocks",
  "limit-br-table": "a `br_table` has more than 16,384 targets",
  "limit-operands": "a function needs more than 16,384 operand slots",
  "limit-flow": "locals times control instructions of a function exceed 4,000,000, or 40,000,000 in all",
} as const;

export type Reason = keyof typeof REASONS;

/** A module that is not admitted; anything else thrown while one is read is a fault of ours. */
export class Refusal extends Error {
  readonly reason: Reason;
  constructor(reason: Reason) {
    super(REASONS[reason]);
    this.name = "Refusal";
    this.reason = reason;
  }
}

export function refuse(reason: Reason): never {
  throw new Refusal(reason);
}
