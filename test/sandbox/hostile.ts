// Modules made to do harm, each with the answer it must get.

import type { ComputeCode, Reason, RunLimits } from "../../kernel/runtime/sandbox/sandbox.ts";
import { EVERY, guest, print, wat } from "./wat.ts";

export interface Hostile {
  readonly name: string;
  readonly module: Uint8Array;
  readonly limits?: Partial<RunLimits>;
  /** Undefined where the attempt must come to nothing and the guest end well. */
  readonly code: ComputeCode | undefined;
  readonly reason?: Reason;
}

const GAS = { gas: 20_000_000 };
const loop = (body: string): string => `(loop $l ${body} (br $l))`;
const check = (errno: number, call: string): string =>
  `(if (i32.ne ${call} (i32.const ${errno})) (then (unreachable)))`;

const refused = (name: string, reason: Reason, module: Uint8Array): Hostile => ({
  name,
  module,
  code: "ERR_COMPUTE_MODULE_REJECTED",
  reason,
});

const uleb = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...uleb(Math.floor(value / 128))];
const section = (id: number, content: readonly number[]): number[] => [
  id,
  ...uleb(content.length),
  ...content,
];
const HEADER = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const START_TYPE = section(1, [1, 0x60, 0, 0]);
const START_EXPORT = section(7, [1, 6, ...new TextEncoder().encode("_start"), 0, 0]);

/** A module of one function whose body is these bytes. */
export function bytesOf(code: readonly number[], locals: readonly number[] = [0]): Uint8Array {
  const body = [...locals, ...code, 0x0b];
  return Uint8Array.from([
    ...HEADER,
    ...START_TYPE,
    ...section(3, [1, 0]),
    ...START_EXPORT,
    ...section(10, [1, ...uleb(body.length), ...body]),
  ]);
}

/** Blocks that carry many values: the engine alone reads 6 MiB of these for half a minute. */
function carrying(values: number): Uint8Array {
  const inner = Array.from({ length: 80_000 }, () => [0x02, 1, 0x00, 0x0b, 0x00]).flat();
  const body = [0, 0x00, ...inner, 0x0b];
  const code = Array.from({ length: 16 }, () => Buffer.from([...uleb(body.length), ...body]));
  const type = [2, 0x60, 0, 0, 0x60, 0, ...uleb(values), ...Array.from({ length: values }, () => 0x7f)];
  const head = [...HEADER, ...section(1, type), ...section(3, [16, ...Array.from({ length: 16 }, () => 0)])];
  const all = Buffer.concat([Buffer.from([16]), ...code]);
  return Buffer.concat([Buffer.from([...head, ...START_EXPORT, 10, ...uleb(all.length)]), all]);
}

/** Many functions of the same body. */
export function manyFunctions(count: number, body: readonly number[]): Uint8Array {
  const one = [...uleb(body.length), ...body];
  const code = new Uint8Array(one.length * count);
  for (let i = 0; i < count; i++) code.set(one, i * one.length);
  const head = [
    ...HEADER,
    ...START_TYPE,
    ...section(3, [...uleb(count), ...Array.from({ length: count }, () => 0)]),
    ...START_EXPORT,
  ];
  const length = [...uleb(uleb(count).length + code.length), ...uleb(count)];
  return Uint8Array.from([...head, 10, ...length, ...code]);
}

export function hostileModules(): Hostile[] {
  return [...exhausting(), ...pointing(), ...reaching(), ...trapping(), ...forbidden(), ...oversized()];
}

function exhausting(): Hostile[] {
  const out = "ERR_COMPUTE_GAS_EXHAUSTED" as const;
  const memory = "ERR_COMPUTE_MEMORY_EXHAUSTED" as const;
  return [
    { name: "a loop without end", module: guest({ body: loop("") }), limits: GAS, code: out },
    {
      name: "a loop without end in the start function",
      module: wat(`(module (func $s ${loop("")}) (start $s) (func (export "_start")))`),
      limits: GAS,
      code: out,
    },
    {
      name: "two functions that call each other for ever",
      module: guest({ before: "(func $a (call $b)) (func $b (call $a))", body: "(call $a)" }),
      code: "ERR_COMPUTE_STACK_EXHAUSTED",
    },
    {
      name: "a recursion through the table",
      module: guest({
        before:
          "(type $t (func)) (table 1 funcref) (elem (i32.const 0) $r) (func $r (call_indirect (type $t) (i32.const 0)))",
        body: "(call $r)",
      }),
      code: "ERR_COMPUTE_STACK_EXHAUSTED",
    },
    {
      name: "a call tree that doubles at each level",
      module: guest({
        before: `(func $t (param i32) (if (local.get 0) (then
          (call $t (i32.sub (local.get 0) (i32.const 1))) (call $t (i32.sub (local.get 0) (i32.const 1))))))`,
        body: "(call $t (i32.const 60))",
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "a memory that grows for ever",
      module: guest({ body: loop("(drop (memory.grow (i32.const 1)))") }),
      code: memory,
    },
    {
      name: "a memory that grows by all at once",
      module: guest({ body: "(drop (memory.grow (i32.const 65000)))" }),
      code: memory,
    },
    { name: "a memory that starts at 256 MiB", module: guest({ pages: 4096, body: "" }), code: memory },
    refused("a memory that starts at 4 GiB", "limit-memory", guest({ pages: 65536, body: "" })),
    {
      name: "every page of its memory touched, again and again",
      module: guest({
        pages: 1024,
        locals: "(local $i i32)",
        body: loop(`(i32.store (local.get $i) (i32.const 1))
          (local.set $i (i32.and (i32.add (local.get $i) (i32.const 4096)) (i32.const 0x3ffffff)))`),
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "fills of the whole memory",
      module: guest({
        pages: 1000,
        body: loop("(memory.fill (i32.const 0) (i32.const 1) (i32.const 65536000))"),
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "copies of the whole memory",
      module: guest({
        pages: 1000,
        body: loop("(memory.copy (i32.const 0) (i32.const 1) (i32.const 65535999))"),
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "a table that grows for ever",
      module: guest({
        before: "(table $t 0 funcref)",
        body: loop("(drop (table.grow $t (ref.null func) (i32.const 1000)))"),
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "a table that grows by 2^32-1",
      module: guest({
        before: "(table $t 0 funcref)",
        body: "(drop (table.grow $t (ref.null func) (i32.const -1)))",
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "fills of a whole table",
      module: guest({
        before: "(table $t 65536 funcref)",
        body: loop("(table.fill $t (i32.const 0) (ref.null func) (i32.const 65536))"),
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "output without end",
      module: guest({ imports: ["fd_write"], pages: 2, body: loop(print(16, 60000)) }),
      code: "ERR_COMPUTE_OUTPUT_EXHAUSTED",
    },
    {
      name: "output without end, a byte at a time",
      module: guest({ imports: ["fd_write"], body: loop(print(16, 1)) }),
      limits: { gas: 1_000_000_000, outputBytes: 10_000 },
      code: "ERR_COMPUTE_OUTPUT_EXHAUSTED",
    },
    {
      name: "stderr without end",
      module: guest({
        imports: ["fd_write"],
        body: `(i32.store (i32.const 4) (i32.const 60000))
          ${loop("(drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))")}`,
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "polls without end",
      module: guest({
        imports: ["poll_oneoff"],
        body: loop(
          "(drop (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2048)))",
        ),
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "waiting for a clock that stands",
      module: guest({
        imports: ["clock_time_get"],
        body: loop("(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0)))"),
      }),
      limits: GAS,
      code: out,
    },
    {
      name: "random bytes without end",
      module: guest({
        imports: ["random_get"],
        pages: 1000,
        body: loop("(drop (call $random_get (i32.const 0) (i32.const 65536000)))"),
      }),
      limits: GAS,
      code: out,
    },
  ];
}

/** Pointers and counts that lie: each call answers EFAULT, or the guest would trap. */
function pointing(): Hostile[] {
  const fault = (name: string, imported: string, call: string): Hostile => ({
    name,
    module: guest({ imports: [imported], body: check(21, call) }),
    code: undefined,
  });
  return [
    fault(
      "2^32-1 vectors to write",
      "fd_write",
      "(call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8))",
    ),
    fault(
      "2^32-1 vectors to read",
      "fd_read",
      "(call $fd_read (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 8))",
    ),
    fault(
      "vectors beyond the memory",
      "fd_write",
      "(call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 8))",
    ),
    {
      name: "a vector that points beyond the memory",
      module: guest({
        imports: ["fd_write"],
        body: `(i32.store (i32.const 0) (i32.const 65000)) (i32.store (i32.const 4) (i32.const -1))
          ${check(21, "(call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))")}`,
      }),
      code: undefined,
    },
    fault(
      "a count written at the memory's last byte",
      "fd_write",
      "(call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 65535))",
    ),
    fault(
      "random bytes beyond the memory",
      "random_get",
      "(call $random_get (i32.const 65535) (i32.const 2))",
    ),
    fault(
      "the time written beyond the memory",
      "clock_time_get",
      "(call $clock_time_get (i32.const 0) (i64.const 0) (i32.const -4))",
    ),
    fault(
      "arguments beyond the memory",
      "args_sizes_get",
      "(call $args_sizes_get (i32.const -1) (i32.const 0))",
    ),
    fault(
      "2^32-1 subscriptions",
      "poll_oneoff",
      "(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0))",
    ),
    {
      name: "host calls of a module without memory",
      module:
        wat(`(module (import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
        (func (export "_start") ${check(21, "(call $r (i32.const 0) (i32.const 4))")}))`),
      code: undefined,
    },
  ];
}

/** What would leave the sandbox: every attempt is an errno. */
function reaching(): Hostile[] {
  return [
    {
      name: "a path opened from every descriptor",
      module: guest({
        imports: ["path_open"],
        locals: "(local $fd i32)",
        body: `(loop $l ${check(
          76,
          `(call $path_open (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
            (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 64))`,
        )}
          (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $fd) (i32.const 1024))))`,
      }),
      code: undefined,
    },
    {
      name: "a file removed",
      module: guest({
        imports: ["path_unlink_file"],
        body: check(76, "(call $path_unlink_file (i32.const 3) (i32.const 0) (i32.const 1))"),
      }),
      code: undefined,
    },
    {
      name: "a connection accepted and written to",
      module: guest({
        imports: ["sock_accept", "sock_send"],
        body: `${check(76, "(call $sock_accept (i32.const 3) (i32.const 0) (i32.const 0))")}
          ${check(76, "(call $sock_send (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))")}`,
      }),
      code: undefined,
    },
    {
      name: "a folder that was opened before, looked for",
      module: guest({
        imports: ["fd_prestat_get"],
        body: check(8, "(call $fd_prestat_get (i32.const 3) (i32.const 0))"),
      }),
      code: undefined,
    },
    {
      name: "stdout written after it was closed",
      module: guest({
        imports: ["fd_close", "fd_write"],
        body: `${check(0, "(call $fd_close (i32.const 1))")}
          ${check(8, "(call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8))")}`,
      }),
      code: undefined,
    },
    {
      name: "a signal to itself",
      module: guest({ imports: ["proc_raise"], body: check(52, "(call $proc_raise (i32.const 9))") }),
      code: undefined,
    },
  ];
}

function trapping(): Hostile[] {
  const trap = (name: string, module: Uint8Array): Hostile => ({ name, module, code: "ERR_COMPUTE_TRAP" });
  return [
    trap("unreachable", guest({ body: "(unreachable)" })),
    trap("a division by zero", guest({ body: "(drop (i32.div_u (i32.const 1) (i32.const 0)))" })),
    trap("a load beyond the memory", guest({ body: "(drop (i32.load (i32.const -1)))" })),
    trap("a float too large for an integer", guest({ body: "(drop (i32.trunc_f64_s (f64.const 1e30)))" })),
    trap("data beyond the memory", guest({ before: '(data (i32.const 65535) "ab")', body: "" })),
    trap(
      "an empty slot of the table called",
      guest({
        before: "(type $t (func)) (table 1 funcref)",
        body: "(call_indirect (type $t) (i32.const 0))",
      }),
    ),
    trap(
      "a function of another type called",
      guest({
        before: "(type $t (func (param i32))) (table 1 funcref) (elem (i32.const 0) $_start)",
        body: "(call_indirect (type $t) (i32.const 1) (i32.const 0))",
      }),
    ),
    trap(
      "a trap in the start function",
      wat('(module (func $s (unreachable)) (start $s) (func (export "_start")))'),
    ),
    {
      name: "an exit with status 3, output before it",
      module: guest({
        imports: ["fd_write", "proc_exit"],
        body: `${print(16, 4)} (call $proc_exit (i32.const 3)) ${loop("")}`,
      }),
      code: "ERR_COMPUTE_EXIT_NONZERO",
    },
    {
      name: "an exit with status 0 from deep inside",
      module: guest({
        imports: ["proc_exit"],
        before: `(func $d (param i32) (if (local.get 0) (then (call $d (i32.sub (local.get 0) (i32.const 1))))
          (else (call $proc_exit (i32.const 0)))) (unreachable))`,
        body: "(call $d (i32.const 100))",
      }),
      code: undefined,
    },
    {
      name: "an exit that cannot be paid for",
      module: guest({ imports: ["proc_exit"], body: "(call $proc_exit (i32.const 0))" }),
      limits: { gas: 1_040 },
      code: "ERR_COMPUTE_GAS_EXHAUSTED",
    },
  ];
}

function forbidden(): Hostile[] {
  const start = '(func (export "_start"))';
  const every = (text: string): Uint8Array => wat(`(module ${text})`, EVERY);
  const admitted = (text: string): Uint8Array => wat(`(module ${text})`);
  return [
    refused("an import of the host's own", "import", admitted(`(import "env" "system" (func)) ${start}`)),
    refused(
      "an import of another preview",
      "import",
      admitted(`(import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32))) ${start}`),
    ),
    refused(
      "a name that is none of preview 1",
      "import",
      admitted(`(import "wasi_snapshot_preview1" "constructor" (func)) ${start}`),
    ),
    refused(
      "preview 1 under another signature",
      "import-type",
      admitted(`(import "wasi_snapshot_preview1" "fd_write" (func (param i64))) ${start}`),
    ),
    refused("an imported memory", "imported-state", admitted(`(import "env" "m" (memory 1)) ${start}`)),
    refused("an imported table", "imported-state", admitted(`(import "env" "t" (table 1 funcref)) ${start}`)),
    refused("an imported global", "imported-state", admitted(`(import "env" "g" (global i32)) ${start}`)),
    refused("no start", "no-start", admitted('(func (export "main"))')),
    refused("a start that takes something", "no-start", admitted('(func (export "_start") (param i32))')),
    refused("shared memory", "threads", every(`(memory 1 1 shared) ${start}`)),
    refused(
      "an atomic instruction",
      "threads",
      every(`(memory 1) (func (export "_start") (drop (i32.atomic.load (i32.const 0))))`),
    ),
    refused("a 64-bit memory", "memory64", every(`(memory i64 1) ${start}`)),
    refused("two memories", "multi-memory", every(`(memory 1) (memory 1) ${start}`)),
    refused("an exception's tag", "exceptions", every(`(tag $t) ${start} (func (throw $t))`)),
    refused("a tail call", "tail-call", every('(func $f (export "_start") (return_call $f))')),
    refused("a struct", "gc", every(`(type $s (struct (field i32))) (func (param (ref null $s))) ${start}`)),
    refused("an external reference", "externref", every(`(func (param externref)) ${start}`)),
    refused(
      "relaxed SIMD",
      "relaxed-simd",
      every(
        `(func (export "_start") (drop (f32x4.relaxed_min (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0))))`,
      ),
    ),
    refused(
      "a constant that is computed",
      "const-expr",
      every(`(global i32 (i32.add (i32.const 1) (i32.const 2))) ${start}`),
    ),
    refused("nothing at all", "header", new Uint8Array(0)),
    refused("a component", "component", Uint8Array.from([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0])),
    refused("a cut off module", "malformed", bytesOf([]).subarray(0, -3)),
    refused("an operand of the wrong type", "invalid", bytesOf([0x42, 0, 0x45, 0x1a])),
  ];
}

/** Compile bombs: small to send, long to compile. Each is refused by its limit before the engine compiles anything. */
export function oversized(): Hostile[] {
  const repeat = (count: number, ...bytes: number[]): number[] =>
    Array.from({ length: count }, () => bytes).flat();
  const table = (targets: number): number[] => [0x41, 0, 0x0e, ...uleb(targets), ...repeat(targets + 1, 0)];
  return [
    refused("more than 8 MiB", "size", new Uint8Array(8 * 1024 * 1024 + 1)),
    refused("50,001 functions", "limit-functions", manyFunctions(50_001, [0, 0x0b])),
    refused("a body of more than 512 KiB", "limit-body", bytesOf(repeat(524_288, 0x01))),
    refused("4,097 locals", "limit-locals", bytesOf([], [1, ...uleb(4_097), 0x7f])),
    refused("2^32-1 locals", "limit-locals", bytesOf([], [1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f])),
    refused("blocks 513 deep", "limit-nesting", bytesOf([...repeat(513, 0x02, 0x40), ...repeat(513, 0x0b)])),
    refused("a br_table of 16,385", "limit-br-table", bytesOf(table(16_385))),
    refused(
      "locals times branches",
      "limit-flow",
      bytesOf(repeat(2_000, 0x02, 0x40, 0x41, 0, 0x0d, 0, 0x0b), [1, ...uleb(4_096), 0x7f]),
    ),
    refused(
      "locals times branches over many functions",
      "limit-flow",
      manyFunctions(100, [1, ...uleb(4_096), 0x7f, ...repeat(100, 0x02, 0x40, 0x0b), 0x0b]),
    ),
    refused("blocks of 1,000 values each", "limit-params", carrying(1_000)),
    refused("blocks of 128 values each", "limit-flow", carrying(128)),
    refused(
      "20,000 operands at once",
      "limit-operands",
      bytesOf([...repeat(20_000, 0x41, 0), ...repeat(20_000, 0x1a)]),
    ),
  ];
}
