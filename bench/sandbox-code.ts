// The part of bench/sandbox.ts that runs under the executor's own compiler flags: what metering costs guests, and what
// rewriting costs beside compiling. `FOLDER kernels` prints a row per kernel, `FOLDER large` the times of large.wasm,
// each in JSON. Times of guests are processor time, which a busy machine bends less.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Writer } from "../kernel/runtime/sandbox/bytes.ts";
import { Host } from "../kernel/runtime/sandbox/host.ts";
import { LIMITS } from "../kernel/runtime/sandbox/limits.ts";
import { rewrite } from "../kernel/runtime/sandbox/rewrite.ts";

export interface KernelRow {
  readonly name: string;
  /** Milliseconds: as it is, with gas alone, with everything. The best of all rounds, which took turns. */
  readonly times: readonly [number, number, number];
}
export interface LargeRow {
  readonly bytes: number;
  readonly rewritten: number;
  readonly cold: number;
  readonly warm: number;
  readonly compile: number;
}

const ROUNDS = 15;
const PLENTY = 2n ** 60n;

function run(module: WebAssembly.Module): number {
  const empty = new Uint8Array(0);
  const host = new Host({ stdin: empty, args: [], env: {}, seed: "", clock: 0, outputBytes: 1 << 20 });
  const { exports } = new WebAssembly.Instance(module, { wasi_snapshot_preview1: host.imports() });
  const metered = exports["gas"];
  const gas = new WebAssembly.Global({ value: "i64", mutable: true }, PLENTY);
  for (const name of ["gas", "stack"]) {
    const counter = exports[name];
    if (counter instanceof WebAssembly.Global) counter.value = PLENTY;
  }
  const memory = exports["memory"];
  host.bind(
    memory instanceof WebAssembly.Memory ? memory : undefined,
    metered instanceof WebAssembly.Global ? metered : gas,
  );
  const { start, _start } = exports;
  if (typeof start === "function") start();
  if (typeof _start !== "function") throw new Error("the kernel has no start");
  const before = process.threadCpuUsage();
  _start();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}

function kernel(name: string, wasm: Uint8Array): KernelRow {
  const variants = [
    wasm,
    rewrite(wasm, LIMITS, { stack: false, nan: false }).wasm,
    rewrite(wasm, LIMITS).wasm,
  ].map((bytes) => new WebAssembly.Module(new Uint8Array(bytes)));
  const best: [number, number, number] = [Infinity, Infinity, Infinity];
  for (let round = 0; round < ROUNDS; round++)
    for (let i = 0; i < variants.length; i++) {
      const at = (i + round) % variants.length;
      const variant = variants[at];
      if (variant !== undefined) best[at] = Math.min(best[at] ?? Infinity, run(variant));
    }
  return { name, times: best };
}

function timed(work: () => unknown): number {
  const before = performance.now();
  work();
  return performance.now() - before;
}

/** The engine remembers what it has compiled: every round gets a module that it has not seen. */
function unseen(wasm: Uint8Array, round: number): Uint8Array<ArrayBuffer> {
  const w = new Writer(wasm.length + 64);
  w.copy(wasm, 0, wasm.length);
  w.section(0, () => w.text(`${process.pid} ${round}`));
  return new Uint8Array(w.done());
}

function large(wasm: Uint8Array): LargeRow {
  const cold = timed(() => rewrite(wasm, LIMITS));
  let warm = Infinity;
  let compile = Infinity;
  for (let round = 0; round < 5; round++) {
    warm = Math.min(
      warm,
      timed(() => rewrite(wasm, LIMITS)),
    );
    const bytes = unseen(wasm, round);
    compile = Math.min(
      compile,
      timed(() => new WebAssembly.Module(bytes)),
    );
  }
  return { bytes: wasm.length, rewritten: rewrite(wasm, LIMITS).wasm.length, cold, warm, compile };
}

const [folder = ".", what] = process.argv.slice(2);
const file = (name: string): Uint8Array => readFileSync(join(folder, name));
if (what === "large") console.log(JSON.stringify(large(file("large.wasm"))));
else
  for (const name of readdirSync(folder))
    if (name !== "large.wasm") console.log(JSON.stringify(kernel(name.replace(".wasm", ""), file(name))));
