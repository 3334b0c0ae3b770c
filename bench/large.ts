// A module of real code and of a wanted size: all kernels in one, their functions repeated.

import { Writer } from "../kernel/runtime/sandbox/bytes.ts";
import { LIMITS } from "../kernel/runtime/sandbox/limits.ts";
import { readModule } from "../kernel/runtime/sandbox/module.ts";
import { assembly } from "../test/sandbox/assembly.ts";
import { KERNELS } from "./kernels.ts";

export async function largeModule(bytes: number): Promise<Uint8Array> {
  const entries = Object.entries(KERNELS);
  const parts = entries.map(
    ([name, { source }]) =>
      `namespace ${name} { ${source.replace("export function _start", "export function run")} }`,
  );
  // Through a table, so that the compiler does not draw all of them into one function.
  const all = entries.map(([name]) => `${name}.run`).join(", ");
  const one = await assembly(
    `${parts.join("\n")} const all: (() => void)[] = [${all}];
     export function _start(): void { for (let i = 0; i < all.length; i++) all[i](); }`,
    { runtime: "incremental" },
  );
  return repeated(one, bytes);
}

/** The same module with every function body again and again, under new indices that nothing calls. */
function repeated(one: Uint8Array, bytes: number): Uint8Array {
  const shape = readModule(one, LIMITS);
  const code = shape.bodies.reduce((sum, body) => sum + body.end - body.start, 0);
  const times = Math.ceil((bytes - one.length) / code) + 1;
  const w = new Writer(bytes * 2);
  w.copy(one, 0, 8);
  const own = shape.functions.slice(shape.imports.length);
  for (const [id, extent] of shape.sections)
    w.section(id, () => {
      if (id !== 3 && id !== 10) return w.copy(one, extent.start, extent.end);
      w.u32(own.length * times);
      for (let copy = 0; copy < times; copy++)
        for (const [i, body] of shape.bodies.entries()) {
          w.u32(id === 3 ? (own[i] ?? 0) : body.end - body.start);
          if (id === 10) w.copy(one, body.start, body.end);
        }
    });
  return w.done();
}
