// Guests that behave: each with an input and a golden gas. Built from source where they are used.

import { assembly } from "./assembly.ts";
import { guest, print, wat } from "./wat.ts";

export interface Fixture {
  readonly name: string;
  readonly stdin: string;
  build(): Promise<Uint8Array>;
}

const text = (name: string, module: () => Uint8Array, stdin = ""): Fixture => ({
  name,
  stdin,
  build: async () => module(),
});
const script = (
  name: string,
  source: string,
  stdin = "",
  more: Parameters<typeof assembly>[1] = {},
): Fixture => ({
  name,
  stdin,
  build: () => assembly(source, more),
});

/** Reads all input to memory.data and gives its length. */
const INPUT = `
const input = memory.data(4096);
function readInput(): i32 { let total = 0;
  while (total < 4096) { store<u32>(io, <u32>(input + total)); store<u32>(io, 4096 - total, 4); fd_read(0, io, 1, io + 8);
    const got = load<i32>(io, 8); if (got == 0) break; total += got; } return total; }
`;

const BITS_32 = [0, 0x80000000, 0x3f800000, 0x7f800000, 0x7fc00000, 0xffc00000, 0x7fa00001, 0xffe12345];
const BITS_64 = ["0", "0x8000000000000000", "0x3ff0000000000000", "0x7ff0000000000000"].concat([
  "0x7ff8000000000000",
  "0xfff8000000000000",
  "0x7ff4000000000001",
  "0xfffc123456789abc",
]);
const BINARY = ["add", "sub", "mul", "div", "min", "max", "copysign"];
const UNARY = ["abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"];
const LANES = ["add", "sub", "mul", "div", "min", "max", "pmin", "pmax"];
const LANE_UNARY = ["abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"];

/** Every float instruction over zeros, infinities and NaNs of every kind, its bits to stdout. */
export function nanMatrix(): Uint8Array {
  const lines: string[] = [];
  let at = 1024;
  const put = (type: string, expression: string, size: number): void => {
    lines.push(`(${type}.store (i32.const ${at}) ${expression})`);
    at += size;
  };
  // Operands come from memory, so that no compiler folds them.
  const operands: string[] = [];
  BITS_32.forEach((bits, i) =>
    operands.push(`(i32.store (i32.const ${64 + i * 4}) (i32.const ${bits | 0}))`),
  );
  BITS_64.forEach((bits, i) => operands.push(`(i64.store (i32.const ${128 + i * 8}) (i64.const ${bits}))`));
  const f32 = (i: number): string => `(f32.load (i32.const ${64 + i * 4}))`;
  const f64 = (i: number): string => `(f64.load (i32.const ${128 + i * 8}))`;
  for (let a = 0; a < 8; a++) {
    for (const op of UNARY) {
      put("f32", `(f32.${op} ${f32(a)})`, 4);
      put("f64", `(f64.${op} ${f64(a)})`, 8);
    }
    put("f32", `(f32.demote_f64 ${f64(a)})`, 4);
    put("f64", `(f64.promote_f32 ${f32(a)})`, 8);
    put("v128", `(f32x4.demote_f64x2_zero (v128.load64_splat (i32.const ${128 + a * 8})))`, 16);
    put("v128", `(f64x2.promote_low_f32x4 (v128.load32_splat (i32.const ${64 + a * 4})))`, 16);
    for (const op of LANE_UNARY) {
      put("v128", `(f32x4.${op} (v128.load32_splat (i32.const ${64 + a * 4})))`, 16);
      put("v128", `(f64x2.${op} (v128.load64_splat (i32.const ${128 + a * 8})))`, 16);
    }
    for (let b = 0; b < 8; b++) {
      for (const op of BINARY) {
        put("f32", `(f32.${op} ${f32(a)} ${f32(b)})`, 4);
        put("f64", `(f64.${op} ${f64(a)} ${f64(b)})`, 8);
      }
      put("f64", `(f64.add (f64.mul ${f64(a)} ${f64(b)}) ${f64(a)})`, 8);
      put("i32", `(i32.reinterpret_f32 (f32.sub ${f32(a)} ${f32(b)}))`, 4);
      for (const op of LANES) {
        const splat32 = (i: number): string => `(v128.load32_splat (i32.const ${64 + i * 4}))`;
        const splat64 = (i: number): string => `(v128.load64_splat (i32.const ${128 + i * 8}))`;
        put("v128", `(f32x4.${op} ${splat32(a)} ${splat32(b)})`, 16);
        put("v128", `(f64x2.${op} ${splat64(a)} ${splat64(b)})`, 16);
      }
      // One shape's NaN read as the other's.
      put(
        "v128",
        `(f64x2.add (f32x4.add (v128.load (i32.const ${64 + a})) (v128.load (i32.const ${64 + b})))
          (v128.load (i32.const 128)))`,
        16,
      );
    }
  }
  return guest({
    imports: ["fd_write"],
    pages: 2,
    body: `${operands.join("\n")} ${lines.join("\n")} ${print(1024, at - 1024)}`,
  });
}

export const FIXTURES: readonly Fixture[] = [
  text("nothing", () => wat('(module (func (export "_start")))')),
  text("nan matrix", nanMatrix),
  text(
    "echo",
    () =>
      guest({
        imports: ["fd_read", "fd_write"],
        body: `(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
          (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
          ${print(64, "(i32.load (i32.const 8))")}`,
      }),
    '{"a":[1,2,3]}',
  ),
  text("nested branches", () =>
    guest({
      imports: ["fd_write"],
      locals: "(local $i i32) (local $n i32)",
      body: `(loop $again
        (block $three (block $two (block $one (block $zero
          (br_table $zero $one $two $three (i32.rem_u (local.get $i) (i32.const 4))))
          (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $three))
          (local.set $n (i32.mul (local.get $n) (i32.const 3))))
          (local.set $n (i32.xor (local.get $n) (i32.const 0x55))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 1000))))
        (i32.store (i32.const 64) (local.get $n)) ${print(64, 4)}`,
    }),
  ),
  text("several results", () =>
    guest({
      imports: ["fd_write"],
      before: `(func $divide (param i32 i32) (result i32 i32)
        (i32.div_u (local.get 0) (local.get 1)) (i32.rem_u (local.get 0) (local.get 1)))`,
      locals: "(local $i i32) (local $q i32) (local $r i32)",
      body: `(loop $again
        (local.get $i) (call $divide (i32.add (local.get $i) (i32.const 12345)) (i32.add (local.get $i) (i32.const 7)))
        (local.set $r) (local.set $q) (drop)
        (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.mul (local.get $q) (local.get $r))))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $again (i32.lt_u (local.get $i) (i32.const 500))))
        ${print(64, 4)}`,
    }),
  ),
  text("calls through a table", () =>
    guest({
      imports: ["fd_write"],
      before: `(type $op (func (param i32) (result i32))) (table 4 funcref) (elem (i32.const 0) $a $b $c $a)
        (func $a (param i32) (result i32) (i32.add (local.get 0) (i32.const 3)))
        (func $b (param i32) (result i32) (i32.mul (local.get 0) (i32.const 5)))
        (func $c (param i32) (result i32) (i32.rotl (local.get 0) (i32.const 7)))`,
      locals: "(local $i i32) (local $x i32)",
      body: `(loop $again
        (local.set $x (call_indirect (type $op) (local.get $x) (i32.and (local.get $i) (i32.const 3))))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $again (i32.lt_u (local.get $i) (i32.const 777))))
        (i32.store (i32.const 64) (local.get $x)) ${print(64, 4)}`,
    }),
  ),
  text("references to functions", () =>
    guest({
      imports: ["fd_write"],
      before: `(type $op (func (result i32))) (table $t 1 10 funcref) (func $f (result i32) (i32.const 42))
        (func $other (export "f") (result i32) (i32.const 43)) (elem declare func $f)`,
      body: `(drop (table.grow $t (ref.func $f) (i32.const 3)))
        (table.fill $t (i32.const 0) (ref.func $f) (i32.const 2)) (table.set $t (i32.const 3) (ref.func $other))
        (table.copy $t $t (i32.const 1) (i32.const 2) (i32.const 2))
        (i32.store (i32.const 64) (i32.add (call_indirect (type $op) (i32.const 2))
          (i32.add (table.size $t) (ref.is_null (table.get $t (i32.const 1))))))
        ${print(64, 4)}`,
    }),
  ),
  text("bulk memory", () =>
    guest({
      imports: ["fd_write"],
      pages: 4,
      before: '(data $d "some passive bytes") (data (i32.const 3000) "active")',
      body: `(memory.init $d (i32.const 100) (i32.const 0) (i32.const 18)) (data.drop $d)
        (memory.fill (i32.const 200) (i32.const 7) (i32.const 1000))
        (memory.copy (i32.const 2000) (i32.const 100) (i32.const 500)) ${print(100, 3000)}`,
    }),
  ),
  text("memory that grows", () =>
    guest({
      imports: ["fd_write"],
      pages: "1 20",
      locals: "(local $i i32)",
      body: `(loop $again (i32.store (i32.add (i32.const 64) (i32.mul (local.get $i) (i32.const 4)))
          (memory.grow (local.get $i)))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $again (i32.lt_u (local.get $i) (i32.const 8))))
        ${print(64, 32)}`,
    }),
  ),
  text("a start function", () =>
    wat(`(module (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (global $g (mut i32) (i32.const 1)) (func $s (global.set $g (i32.const 99))) (start $s)
      (func (export "_start") (i32.store (i32.const 64) (global.get $g)) ${print(64, 4)}))`),
  ),
  text("a trap after work", () =>
    guest({
      locals: "(local $i i32)",
      body: `(loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 123))))
        (drop (i32.load (i32.const -4)))`,
    }),
  ),
  text("an exit with 7", () => guest({ imports: ["proc_exit"], body: "(call $proc_exit (i32.const 7))" })),
  text("random and time", () =>
    guest({
      imports: ["fd_write", "random_get", "clock_time_get"],
      body: `(drop (call $random_get (i32.const 64) (i32.const 100)))
        (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 164))) ${print(64, 108)}`,
    }),
  ),
  script(
    "json sum",
    `${INPUT} export function _start(): void { const n = readInput(); let sum: i64 = 0, value: i64 = 0, inside = false;
      for (let i = 0; i < n; i++) { const c = load<u8>(input + i);
        if (c >= 48 && c <= 57) { value = value * 10 + (c - 48); inside = true; }
        else if (inside) { sum += value; value = 0; inside = false; } }
      print(sum + value); }`,
    '{"a":12,"b":[3,4,5],"c":{"d":600}}',
  ),
  script(
    "strings",
    `export function _start(): void { let s = "";
      for (let i = 0; i < 200; i++) s += i.toString() + ",";
      const utf8 = String.UTF8.encode(s); writeBytes(changetype<usize>(utf8), utf8.byteLength); }`,
    "",
    { runtime: "incremental" },
  ),
  script(
    "float text",
    `export function _start(): void { let s = "";
      for (let i = 1; i < 40; i++) s += (Math.sin(<f64>i) / <f64>i + Math.exp(<f64>i * 0.1)).toString() + " ";
      const utf8 = String.UTF8.encode(s); writeBytes(changetype<usize>(utf8), utf8.byteLength); }`,
    "",
    { runtime: "minimal" },
  ),
  script(
    "map and garbage",
    `export function _start(): void { const m = new Map<i32, string>(); let total = 0;
      for (let i = 0; i < 500; i++) { m.set((i * 7919) % 211, "v" + i.toString()); if (i % 50 == 0) __collect(); }
      const keys = m.keys(); for (let i = 0; i < keys.length; i++) total += m.get(keys[i]).length; print(total); }`,
    "",
    { runtime: "incremental" },
  ),
  script(
    "not optimised",
    `function f(x: f64, n: i32): f64 { return n == 0 ? x : f(x * 1.5 - 0.25, n - 1); }
      export function _start(): void { print(reinterpret<u64>(f(1, 40))); }`,
    "",
    { optimize: 0 },
  ),
  script(
    "vectors",
    `export function _start(): void { const a = memory.data(64); let s = f32x4.splat(0);
      for (let i = 0; i < 1000; i++) { s = f32x4.add(f32x4.mul(s, f32x4.splat(0.99)), f32x4.splat(<f32>i));
        s = f32x4.max(s, i32x4.splat(i)); }
      v128.store(a, f32x4.sqrt(s)); writeBytes(a, 16); }`,
    "",
    { simd: true },
  ),
  script(
    "quick sort",
    `function sort(a: StaticArray<i32>, lo: i32, hi: i32): void { if (lo >= hi) return; let i = lo, j = hi; const p = a[(lo + hi) >> 1];
      while (i <= j) { while (a[i] < p) i++; while (a[j] > p) j--; if (i <= j) { const t = a[i]; a[i] = a[j]; a[j] = t; i++; j--; } }
      sort(a, lo, j); sort(a, i, hi); }
      export function _start(): void { const a = new StaticArray<i32>(2000); let x: u32 = 1;
        for (let i = 0; i < 2000; i++) { x = x * 1664525 + 1013904223; a[i] = x >> 3; }
        sort(a, 0, 1999); let h: u64 = 0; for (let i = 0; i < 2000; i++) h = h * 31 + <u64>a[i]; print(h); }`,
  ),
  script(
    "fibonacci",
    `function fib(n: i32): i32 { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
      export function _start(): void { print(fib(18)); }`,
  ),
  script(
    "an assertion that fails",
    `export function _start(): void { const a = new Array<i32>(3); let i = 0; while (true) { a[i++] = 1; assert(i < 3); } }`,
  ),
];
