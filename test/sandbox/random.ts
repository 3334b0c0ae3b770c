// Random modules by binaryen's own generator, made into commands: the export to call comes over stdin, every logged
// value goes out through `fd_write`, so that host calls can be compared as well.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import binaryen from "binaryen";
import { generator } from "./mutants.ts";
import { ADMITTED } from "./wat.ts";

const WASM_OPT = fileURLToPath(new URL("../../node_modules/binaryen/bin/wasm-opt", import.meta.url));
const ENABLED = [
  "simd",
  "bulk-memory",
  "sign-ext",
  "nontrapping-float-to-int",
  "mutable-globals",
  "multivalue",
];
const DISABLED = [
  "gc",
  "reference-types",
  "exception-handling",
  "threads",
  "tail-call",
  "relaxed-simd",
  "memory64",
];

/** Raw engines differ in the bits of NaN, so the generator is told to leave none. */
export function randomModule(seed: number): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "atoll-random-"));
  try {
    const random = generator(seed);
    const length = 1000 + Math.floor(random() * 3000);
    const input = Uint8Array.from({ length }, () => Math.floor(random() * 256));
    writeFileSync(join(folder, "in"), input);
    execFileSync(
      process.execPath,
      [WASM_OPT, join(folder, "in"), "-ttf", "--denan", "-o", join(folder, "out.wasm")].concat(
        ENABLED.map((feature) => `--enable-${feature}`),
        DISABLED.map((feature) => `--disable-${feature}`),
      ),
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    return asCommand(readFileSync(join(folder, "out.wasm")));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const LOGGED = new Map([
  ["log-i32", binaryen.i32],
  ["log-i64", binaryen.i64],
  ["log-f32", binaryen.f32],
  ["log-f64", binaryen.f64],
  ["log-v128", binaryen.v128],
]);

/** Scratch for the host calls, at the memory's beginning. */
const VALUE = 0;
const VECTOR = 16;
const COUNT = 24;

function asCommand(bytes: Uint8Array): Uint8Array {
  const m = binaryen.readBinary(bytes);
  try {
    m.setFeatures(ADMITTED);
    if (!m.hasMemory()) m.setMemory(1, 10, "memory", []);
    const functions = Array.from({ length: m.getNumFunctions() }, (_, i) =>
      binaryen.getFunctionInfo(m.getFunctionByIndex(i)),
    );
    const i32 = (value: number): number => m.i32.const(value);
    const store = (type: number, value: number): number => {
      if (type === binaryen.i32) return m.i32.store(0, 4, i32(VALUE), value);
      if (type === binaryen.i64) return m.i64.store(0, 8, i32(VALUE), value);
      if (type === binaryen.f32) return m.f32.store(0, 4, i32(VALUE), value);
      if (type === binaryen.f64) return m.f64.store(0, 8, i32(VALUE), value);
      return m.v128.store(0, 16, i32(VALUE), value);
    };
    const write = (): number =>
      m.block(null, [
        m.i32.store(0, 4, i32(VECTOR), i32(VALUE)),
        m.i32.store(0, 4, i32(VECTOR + 4), i32(16)),
        m.drop(m.call("wasi_write", [i32(1), i32(VECTOR), i32(1), i32(COUNT)], binaryen.i32)),
      ]);
    const i32s = binaryen.createType([binaryen.i32, binaryen.i32, binaryen.i32, binaryen.i32]);
    for (const name of ["read", "write"])
      m.addFunctionImport(`wasi_${name}`, "wasi_snapshot_preview1", `fd_${name}`, i32s, binaryen.i32);
    for (const info of functions) {
      if ((info.module ?? "") === "") continue;
      const type = LOGGED.get(info.base ?? "");
      const params = binaryen.expandType(info.params);
      const results = binaryen.expandType(info.results);
      m.removeFunction(info.name);
      const body = type === undefined ? [] : [store(type, m.local.get(0, type)), write()];
      for (const result of results) body.push(zero(m, result));
      m.addFunction(info.name, info.params, info.results, [], m.block(null, body, info.results));
      if (params.length > 1 && type !== undefined)
        throw new Error(`${info.base} takes ${params.length} values`);
    }
    const calls: number[] = [];
    const exported = Array.from({ length: m.getNumExports() }, (_, i) =>
      binaryen.getExportInfo(m.getExportByIndex(i)),
    );
    for (const info of exported) {
      const target = functions.find((entry) => entry.name === info.value);
      if (info.kind !== binaryen.ExternalFunction || target === undefined || (target.module ?? "") !== "")
        continue;
      const args = binaryen.expandType(target.params).map((type) => zero(m, type));
      const call = m.call(target.name, args, target.results);
      const results = binaryen.expandType(target.results).length;
      if (results > 1) continue;
      const whole = results === 0 ? call : m.block(null, [store(target.results, call), write()]);
      calls.push(m.if(m.i32.eq(m.local.get(0, binaryen.i32), i32(calls.length)), whole));
    }
    // An original's start function runs before its host knows its memory: here it is the command that calls it.
    const start = m.getStart();
    const first = start === 0 ? [] : [m.call(binaryen.getFunctionInfo(start).name, [], binaryen.none)];
    if (start !== 0) m.setStart(m.addFunction("idle", binaryen.none, binaryen.none, [], m.nop()));
    const read = [
      ...first,
      m.i32.store(0, 4, i32(VECTOR), i32(VALUE)),
      m.i32.store(0, 4, i32(VECTOR + 4), i32(4)),
      m.drop(m.call("wasi_read", [i32(0), i32(VECTOR), i32(1), i32(COUNT)], binaryen.i32)),
      m.local.set(0, m.i32.load(0, 4, i32(VALUE))),
    ];
    m.addFunction(
      "command",
      binaryen.none,
      binaryen.none,
      [binaryen.i32],
      m.block(null, [...read, ...calls]),
    );
    m.addFunctionExport("command", "_start");
    if (!exported.some((info) => info.name === "memory")) m.addMemoryExport("0", "memory");
    return m.emitBinary();
  } finally {
    m.dispose();
  }
}

function zero(m: binaryen.Module, type: number): number {
  if (type === binaryen.i32) return m.i32.const(3);
  if (type === binaryen.i64) return m.i64.const(5n);
  if (type === binaryen.f32) return m.f32.const(1.5);
  if (type === binaryen.f64) return m.f64.const(-2.25);
  return m.v128.const(Array.from({ length: 16 }, (_, i) => i));
}
