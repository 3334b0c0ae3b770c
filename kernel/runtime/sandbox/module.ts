// The sections of a module, read into what the scan and the rewrite need. Everything not admitted is refused here by
// name; function bodies are only located.

import { Reader } from "./bytes.ts";
import type { ModuleLimits } from "./limits.ts";
import { PREVIEW1 } from "./preview1.ts";
import { refuse } from "./refusal.ts";
import { valueType } from "./value.ts";

export interface Signature {
  readonly params: readonly number[];
  readonly results: readonly number[];
  readonly wide: boolean;
}
export interface Extent {
  readonly start: number;
  readonly end: number;
}
export interface Sizes {
  readonly initial: number;
  readonly maximum: number | undefined;
}

export interface ModuleShape {
  readonly types: Signature[];
  /** Names of the imported functions, which come first in the space of functions. */
  readonly imports: string[];
  /** The type of each function, imported ones first. */
  readonly functions: number[];
  readonly tables: Sizes[];
  memory: Sizes | undefined;
  globals: number;
  wideGlobals: boolean;
  elements: number;
  elementEntries: number;
  datas: number;
  dataBytes: number;
  start: number | undefined;
  /** Function index of the export `_start`. */
  entry: number | undefined;
  readonly bodies: Extent[];
  /** The content of the sections that are copied, by id. */
  readonly sections: Map<number, Extent>;
}

const SECTION_ORDER = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];

export function readModule(bytes: Uint8Array, limits: ModuleLimits): ModuleShape {
  const r = new Reader(bytes);
  if (bytes.length < 8 || String.fromCharCode(...bytes.subarray(0, 4)) !== "\0asm") refuse("header");
  if (bytes[4] === 0x0d && bytes[6] === 1) refuse("component");
  if (bytes[4] !== 1 || bytes[5] !== 0 || bytes[6] !== 0 || bytes[7] !== 0) refuse("header");
  r.pos = 8;
  const shape: ModuleShape = {
    types: [],
    imports: [],
    functions: [],
    tables: [],
    memory: undefined,
    globals: 0,
    wideGlobals: false,
    elements: 0,
    elementEntries: 0,
    datas: 0,
    dataBytes: 0,
    start: undefined,
    entry: undefined,
    bodies: [],
    sections: new Map(),
  };
  let before = -1;
  while (r.pos < r.end) {
    const id = r.u8();
    const s = r.within(r.u32());
    if (id === 0) {
      s.text();
      continue;
    }
    if (id === 13) refuse("exceptions");
    const place = SECTION_ORDER.indexOf(id);
    if (place <= before) refuse("section");
    before = place;
    shape.sections.set(id, { start: s.pos, end: s.end });
    readSection(shape, id, s, limits);
    if (s.pos !== s.end) refuse("malformed");
  }
  if (shape.bodies.length !== shape.functions.length - shape.imports.length) refuse("malformed");
  if (shape.entry === undefined) return refuse("no-start");
  const type = shape.types[shape.functions[shape.entry] ?? -1];
  if (type === undefined || type.params.length + type.results.length > 0) refuse("no-start");
  return shape;
}

function readSection(shape: ModuleShape, id: number, s: Reader, limits: ModuleLimits): void {
  if (id === 8) {
    shape.start = s.u32();
    if (shape.start >= shape.functions.length) refuse("invalid");
    return;
  }
  const count = s.u32();
  if (id === 12) return;
  if (id === 1 && count > limits.types) refuse("limit-types");
  if (id === 2 && count > limits.imports) refuse("limit-imports");
  if (id === 3 && count > limits.functions) refuse("limit-functions");
  if (id === 4 && count > limits.tables) refuse("limit-tables");
  if (id === 5 && count > 1) refuse("multi-memory");
  if (id === 9) shape.elements = count;
  if (id === 11) shape.datas = count;
  for (let i = 0; i < count; i++) {
    if (id === 1) readType(shape, s, limits);
    else if (id === 2) readImport(shape, s);
    else if (id === 3) readFunction(shape, s);
    else if (id === 4) readTable(shape, s, limits);
    else if (id === 5) readMemory(shape, s, limits);
    else if (id === 6) readGlobal(shape, s);
    else if (id === 7) readExport(shape, s);
    else if (id === 9) readElements(shape, s);
    else if (id === 10) readBody(shape, s, limits);
    else readData(shape, s);
  }
}

function readType(shape: ModuleShape, s: Reader, limits: ModuleLimits): void {
  if (s.u8() !== 0x60) refuse("gc");
  const list = (): number[] => {
    const length = s.u32();
    if (length > limits.params) refuse("limit-params");
    return Array.from({ length }, () => valueType(s.u8()));
  };
  const params = list();
  const results = list();
  shape.types.push({ params, results, wide: params.includes(0x7b) || results.includes(0x7b) });
}

function readImport(shape: ModuleShape, s: Reader): void {
  const from = s.text();
  const name = s.text();
  const kind = s.u8();
  if (kind === 4) refuse("exceptions");
  if (kind !== 0) refuse("imported-state");
  const signature = from === "wasi_snapshot_preview1" ? PREVIEW1.get(name) : undefined;
  if (signature === undefined) return refuse("import");
  const type = s.u32();
  const found = shape.types[type];
  if (found === undefined) return refuse("invalid");
  if (spelled(found) !== signature) refuse("import-type");
  shape.imports.push(name);
  shape.functions.push(type);
}

const LETTER = new Map([
  [0x7f, "i"],
  [0x7e, "I"],
]);
const spelled = (type: Signature): string =>
  [type.params, type.results].map((list) => list.map((t) => LETTER.get(t) ?? "?").join("")).join(":");

function readFunction(shape: ModuleShape, s: Reader): void {
  const type = s.u32();
  if (type >= shape.types.length) refuse("invalid");
  shape.functions.push(type);
}

/** Limits of a table or a memory: only the flag that a maximum follows is admitted. */
function readSizes(s: Reader): Sizes {
  const flags = s.u8();
  if ((flags & 4) !== 0) refuse("memory64");
  if ((flags & 2) !== 0) refuse("threads");
  if (flags > 1) refuse("malformed");
  const initial = s.u32();
  return { initial, maximum: flags === 1 ? s.u32() : undefined };
}

function readTable(shape: ModuleShape, s: Reader, limits: ModuleLimits): void {
  if (valueType(s.u8()) !== 0x70) refuse("gc");
  const sizes = readSizes(s);
  if (sizes.initial > limits.tableSize) refuse("limit-tables");
  shape.tables.push(sizes);
}

function readMemory(shape: ModuleShape, s: Reader, limits: ModuleLimits): void {
  shape.memory = readSizes(s);
  if (shape.memory.initial > limits.memoryPages) refuse("limit-memory");
}

function readGlobal(shape: ModuleShape, s: Reader): void {
  if (valueType(s.u8()) === 0x7b) shape.wideGlobals = true;
  if (s.u8() > 1) refuse("malformed");
  readConstant(shape, s);
  shape.globals++;
}

function readConstant(shape: ModuleShape, s: Reader): void {
  const op = s.u8();
  if (op === 0x41) s.skipSigned(5);
  else if (op === 0x42) s.skipSigned(10);
  else if (op === 0x43) s.skip(4);
  else if (op === 0x44) s.skip(8);
  else if (op === 0xd0) valueType(s.u8());
  else if (op === 0xd2) {
    if (s.u32() >= shape.functions.length) refuse("invalid");
  } else if (op === 0xfd && s.u32() === 12) s.skip(16);
  else refuse("const-expr");
  if (s.u8() !== 0x0b) refuse("const-expr");
}

function readExport(shape: ModuleShape, s: Reader): void {
  const name = s.text();
  const kind = s.u8();
  const index = s.u32();
  if (kind > 3) refuse("exceptions");
  if (name === "_start" && kind === 0) {
    if (index >= shape.functions.length) refuse("invalid");
    shape.entry = index;
  }
}

/** Eight forms by three bits: passive or declared, a table index or (there) declared, expressions for indices. */
function readElements(shape: ModuleShape, s: Reader): void {
  const flags = s.u32();
  if (flags > 7) refuse("malformed");
  const active = (flags & 1) === 0;
  if (active) {
    if ((flags & 2) !== 0 && s.u32() >= shape.tables.length) refuse("invalid");
    readConstant(shape, s);
  }
  const expressions = (flags & 4) !== 0;
  if ((flags & 3) !== 0) {
    const kind = s.u8();
    if (expressions ? valueType(kind) !== 0x70 : kind !== 0) refuse("gc");
  }
  const count = s.u32();
  if (active) shape.elementEntries += count;
  for (let i = 0; i < count; i++) {
    if (expressions) readConstant(shape, s);
    else if (s.u32() >= shape.functions.length) refuse("invalid");
  }
}

function readBody(shape: ModuleShape, s: Reader, limits: ModuleLimits): void {
  const body = s.within(s.u32());
  if (body.end - body.pos > limits.bodyBytes) refuse("limit-body");
  shape.bodies.push({ start: body.pos, end: body.end });
}

function readData(shape: ModuleShape, s: Reader): void {
  const flags = s.u32();
  if (flags > 2) refuse("malformed");
  if (flags === 2 && s.u32() !== 0) refuse("multi-memory");
  if (flags !== 1) readConstant(shape, s);
  const length = s.u32();
  s.skip(length);
  if (flags !== 1) shape.dataBytes += length;
}
