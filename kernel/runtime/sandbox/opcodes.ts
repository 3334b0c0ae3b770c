// The instructions that need nothing but a table: how many operands they take and give, what follows them in the
// bytes, what they cost, and how they treat NaN.

import { GAS } from "./gas.ts";

export const FORM = {
  refused: 0,
  plain: 1,
  memory: 2,
  lane: 3,
  memoryLane: 4,
  bytes16: 5,
  special: 6,
} as const;
/** The shape that an instruction reads NaN-blindly (no bit of a NaN reaches its result), or `bits`. */
export const SHAPE = { bits: 0, scalar: 1, f32x4: 2, f64x2: 3, any: 4 } as const;
/** The kind of NaN that an instruction may give and whose bits depend on the machine. */
export const NAN = { none: 0, f32: 1, f64: 2, f32x4: 3, f64x2: 4 } as const;

export interface OpTable {
  readonly form: Uint8Array;
  readonly pops: Uint8Array;
  readonly pushes: Uint8Array;
  readonly cost: Uint8Array;
  readonly reads: Uint8Array;
  readonly nan: Uint8Array;
}

const empty = (): OpTable => ({
  form: new Uint8Array(256),
  pops: new Uint8Array(256),
  pushes: new Uint8Array(256),
  cost: new Uint8Array(256).fill(GAS.plain),
  reads: new Uint8Array(256),
  nan: new Uint8Array(256),
});

function row(table: OpTable, from: number, to: number, form: number, pops: number, pushes: number): void {
  table.form.fill(form, from, to + 1);
  table.pops.fill(pops, from, to + 1);
  table.pushes.fill(pushes, from, to + 1);
}

/** Arithmetic on floats: reads NaN-blindly, gives a NaN of the machine's choice. */
function arithmetic(table: OpTable, from: number, to: number, reads: number, nan: number): void {
  table.reads.fill(reads, from, to + 1);
  table.nan.fill(nan, from, to + 1);
}

function coreTable(): OpTable {
  const t = empty();
  row(t, 0x00, 0x05, FORM.special, 0, 0); // unreachable nop block loop if else
  row(t, 0x0b, 0x11, FORM.special, 0, 0); // end br br_if br_table return call call_indirect
  row(t, 0x1a, 0x1c, FORM.special, 0, 0); // drop select
  row(t, 0x20, 0x26, FORM.special, 0, 0); // local, global and table access
  row(t, 0x28, 0x35, FORM.memory, 1, 1);
  row(t, 0x36, 0x3e, FORM.memory, 2, 0);
  row(t, 0x3f, 0x44, FORM.special, 0, 0); // memory.size memory.grow and constants
  row(t, 0x45, 0x45, FORM.plain, 1, 1);
  row(t, 0x46, 0x4f, FORM.plain, 2, 1);
  row(t, 0x50, 0x50, FORM.plain, 1, 1);
  row(t, 0x51, 0x66, FORM.plain, 2, 1);
  t.reads.fill(SHAPE.scalar, 0x5b, 0x67); // comparisons of floats
  row(t, 0x67, 0x69, FORM.plain, 1, 1);
  row(t, 0x6a, 0x78, FORM.plain, 2, 1);
  row(t, 0x79, 0x7b, FORM.plain, 1, 1);
  row(t, 0x7c, 0x8a, FORM.plain, 2, 1);
  row(t, 0x8b, 0x91, FORM.plain, 1, 1);
  row(t, 0x92, 0x98, FORM.plain, 2, 1);
  row(t, 0x99, 0x9f, FORM.plain, 1, 1);
  row(t, 0xa0, 0xa6, FORM.plain, 2, 1);
  row(t, 0xa7, 0xc4, FORM.plain, 1, 1);
  arithmetic(t, 0x8d, 0x97, SHAPE.scalar, NAN.f32); // abs, neg and copysign only move bits
  arithmetic(t, 0x9b, 0xa5, SHAPE.scalar, NAN.f64);
  arithmetic(t, 0xb6, 0xb6, SHAPE.scalar, NAN.f32); // demote
  arithmetic(t, 0xbb, 0xbb, SHAPE.scalar, NAN.f64); // promote
  t.reads.fill(SHAPE.scalar, 0xa8, 0xac); // truncations
  t.reads.fill(SHAPE.scalar, 0xae, 0xb2);
  for (const op of [0x91, 0x95, 0x9f, 0xa3]) t.cost[op] = GAS.divide;
  t.cost.fill(GAS.divide, 0x6d, 0x71);
  t.cost.fill(GAS.divide, 0x7f, 0x83);
  row(t, 0xd0, 0xd2, FORM.special, 0, 0); // ref.null ref.is_null ref.func
  row(t, 0xfc, 0xfd, FORM.special, 0, 0);
  return t;
}

function simdTable(): OpTable {
  const t = empty();
  row(t, 0, 10, FORM.memory, 1, 1);
  row(t, 11, 11, FORM.memory, 2, 0);
  row(t, 12, 12, FORM.bytes16, 0, 1);
  row(t, 13, 13, FORM.bytes16, 2, 1);
  row(t, 14, 14, FORM.plain, 2, 1);
  row(t, 15, 20, FORM.plain, 1, 1);
  row(t, 21, 34, FORM.lane, 1, 1);
  for (const op of [23, 26, 28, 30, 32, 34]) t.pops[op] = 2; // replace_lane
  row(t, 35, 76, FORM.plain, 2, 1);
  row(t, 77, 77, FORM.plain, 1, 1);
  row(t, 78, 81, FORM.plain, 2, 1);
  row(t, 82, 82, FORM.plain, 3, 1);
  row(t, 83, 83, FORM.plain, 1, 1);
  row(t, 84, 87, FORM.memoryLane, 2, 1);
  row(t, 88, 91, FORM.memoryLane, 2, 0);
  row(t, 92, 93, FORM.memory, 1, 1);
  row(t, 94, 255, FORM.plain, 2, 1);
  const unary = [
    94, 95, 96, 97, 98, 99, 100, 103, 104, 105, 106, 116, 117, 122, 124, 125, 126, 127, 128, 129, 131, 132,
    135, 136, 137, 138, 148, 160, 161, 163, 164, 167, 168, 169, 170, 192, 193, 195, 196, 199, 200, 201, 202,
    224, 225, 227, 236, 237, 239, 248, 249, 250, 251, 252, 253, 254, 255,
  ];
  for (const op of unary) t.pops[op] = 1;
  const holes = [
    154, 162, 165, 166, 175, 176, 178, 179, 180, 187, 194, 197, 198, 207, 208, 210, 211, 212, 226, 238,
  ];
  for (const op of holes) t.form[op] = FORM.refused;
  t.reads.fill(SHAPE.f32x4, 65, 71);
  t.reads.fill(SHAPE.f64x2, 71, 77);
  arithmetic(t, 103, 106, SHAPE.f32x4, NAN.f32x4);
  arithmetic(t, 227, 233, SHAPE.f32x4, NAN.f32x4); // pmin and pmax (234, 235) only choose
  for (const op of [116, 117, 122, 148]) arithmetic(t, op, op, SHAPE.f64x2, NAN.f64x2);
  arithmetic(t, 239, 245, SHAPE.f64x2, NAN.f64x2);
  arithmetic(t, 94, 94, SHAPE.f64x2, NAN.f32x4); // demote
  arithmetic(t, 95, 95, SHAPE.f32x4, NAN.f64x2); // promote
  t.reads.fill(SHAPE.f32x4, 248, 250);
  t.reads.fill(SHAPE.f64x2, 252, 254);
  for (const op of [227, 231, 239, 243]) t.cost[op] = GAS.divide;
  return t;
}

export const CORE: OpTable = coreTable();
export const SIMD: OpTable = simdTable();
