// The rewrite: the original's bytes with what the events ask for between them. Everything new is appended to the end of
// its index space (types, functions, globals, locals), so that no index of the original changes its meaning; custom
// sections and all exports but `_start` and `memory` are dropped.

import { writeAppended } from "./appended.ts";
import { BodyWriter } from "./body.ts";
import type { Added, RewriteParts } from "./body.ts";
import { Reader, Writer } from "./bytes.ts";
import { GAS } from "./gas.ts";
import type { ModuleLimits } from "./limits.ts";
import { readModule } from "./module.ts";
import type { ModuleShape, Sizes } from "./module.ts";
import { refuse } from "./refusal.ts";
import { FunctionScan } from "./scan.ts";
import { valueType } from "./value.ts";

const EVERYTHING: RewriteParts = { stack: true, nan: true };

export interface Rewritten {
  readonly wasm: Uint8Array;
  readonly shape: ModuleShape;
  /** Charged before the module is instantiated: its data, its tables and its first pages. */
  readonly entryGas: number;
}

export function rewrite(
  original: Uint8Array,
  limits: ModuleLimits,
  parts: RewriteParts = EVERYTHING,
): Rewritten {
  const shape = readModule(original, limits);
  const added: Added = {
    gas: shape.globals,
    stack: shape.globals + 1,
    cap: shape.globals + 2,
    status: shape.globals + 3,
    type: shape.types.length,
    bulkBytes: shape.functions.length,
    bulkElements: shape.functions.length + 1,
    grow: shape.functions.length + 2,
  };
  const w = new Writer(original.length * 2 + 4096);
  w.put(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
  const code = new Writer(original.length * 2 + 4096);
  const referenced = writeCode(code, original, shape, limits, added, parts);
  const appended = shape.memory === undefined ? 2 : 3;
  const copy = (id: number): void => {
    const extent = shape.sections.get(id);
    if (extent === undefined) return;
    w.section(id, () => w.copy(original, extent.start, extent.end));
  };
  const extended = (id: number, more: number, fill: () => void): void =>
    w.section(id, () => {
      const extent = shape.sections.get(id) ?? { start: 0, end: 0 };
      const r = new Reader(original, extent.start, extent.end);
      w.u32((extent.end > 0 ? r.u32() : 0) + more);
      w.copy(original, r.pos, r.end);
      fill();
    });

  extended(1, 1, () => w.put(0x60, 1, 0x7f, 1, 0x7f));
  copy(2);
  extended(3, appended, () => {
    for (let i = 0; i < appended; i++) w.u32(added.type);
  });
  if (shape.tables.length > 0)
    w.section(4, () => {
      w.u32(shape.tables.length);
      for (const table of shape.tables) {
        w.u8(0x70);
        writeSizes(w, table, limits.tableSize);
      }
    });
  const memory = shape.memory;
  if (memory !== undefined)
    w.section(5, () => {
      w.u8(1);
      writeSizes(w, memory, limits.memoryPages);
    });
  extended(6, 4, () => {
    w.put(0x7e, 1, 0x42, 0, 0x0b, 0x7e, 1, 0x42, 0, 0x0b); // gas, stack
    w.put(0x7f, 1, 0x41, 0, 0x0b, 0x7f, 1, 0x41, 0, 0x0b); // cap, status
  });
  w.section(7, () => writeExports(w, shape, added));
  // No start section: the host calls it as `start`, once the gas is set.
  if (referenced.size > 0)
    extended(9, 1, () => {
      w.put(3, 0);
      w.u32(referenced.size);
      for (const index of referenced) w.u32(index);
    });
  else copy(9);
  copy(12);
  w.section(10, () => {
    w.u32(shape.bodies.length + appended);
    w.copy(code.bytes, 0, code.pos);
    writeAppended(w, added, memory);
  });
  copy(11);
  let entryGas = GAS.plain + shape.elementEntries + Math.ceil(shape.dataBytes / 2 ** GAS.bytesShift);
  for (const table of shape.tables) entryGas += table.initial;
  entryGas += (memory?.initial ?? 0) * GAS.page;
  return { wasm: w.done(), shape, entryGas };
}

function writeSizes(w: Writer, sizes: Sizes, most: number): void {
  w.u8(1);
  w.u32(sizes.initial);
  w.u32(Math.min(sizes.maximum ?? most, most));
}

function writeExports(w: Writer, shape: ModuleShape, added: Added): void {
  const entries: [string, number, number][] = [
    ["_start", 0, shape.entry ?? 0],
    ["gas", 3, added.gas],
    ["stack", 3, added.stack],
    ["cap", 3, added.cap],
    ["status", 3, added.status],
  ];
  if (shape.start !== undefined) entries.push(["start", 0, shape.start]);
  if (shape.memory !== undefined) entries.push(["memory", 2, 0]);
  w.u32(entries.length);
  for (const [name, kind, index] of entries) {
    w.text(name);
    w.u8(kind);
    w.u32(index);
  }
}

function writeCode(
  w: Writer,
  original: Uint8Array,
  shape: ModuleShape,
  limits: ModuleLimits,
  added: Added,
  parts: RewriteParts,
): ReadonlySet<number> {
  const scan = new FunctionScan(shape, limits);
  let flow = 0;
  for (let i = 0; i < shape.bodies.length; i++) {
    const extent = shape.bodies[i] ?? { start: 0, end: 0 };
    const type = shape.functions[shape.imports.length + i] ?? -1;
    const r = new Reader(original, extent.start, extent.end);
    const groups = r.u32();
    const groupsAt = r.pos;
    let locals = shape.types[type]?.params.length ?? 0;
    let wide = shape.wideGlobals;
    for (let g = 0; g < groups; g++) {
      locals += r.u32();
      if (locals > limits.locals) refuse("limit-locals");
      if (valueType(r.u8()) === 0x7b) wide = true;
    }
    const codeAt = r.pos;
    scan.scan(r, type, locals, wide);
    flow += scan.turns * Math.max(1, locals);
    if (flow > limits.flowSum) refuse("limit-flow");
    new BodyWriter(w, original, scan, added, parts).write(
      groups,
      { start: groupsAt, end: codeAt },
      extent.end,
    );
  }
  return scan.referenced;
}
