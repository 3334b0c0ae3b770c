// Modules that are small to send and take an optimising compiler minutes, for a sandbox whose own limits are lifted.

import { bytesOf, manyFunctions } from "../test/sandbox/hostile.ts";

const uleb = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...uleb(Math.floor(value / 128))];
const repeat = (count: number, bytes: readonly number[]): number[] => {
  const all: number[] = [];
  for (let i = 0; i < count; i++) for (const byte of bytes) all.push(byte);
  return all;
};
const LOCALS = [1, ...uleb(16_384), 0x7f];
const BRANCH = [0x02, 0x40, 0x41, 0, 0x0d, 0, 0x0b];

export const BOMBS: readonly (readonly [string, () => Uint8Array])[] = [
  ["locals times branches", () => bytesOf(repeat(60_000, BRANCH), LOCALS)],
  ["150,000 functions", () => manyFunctions(150_000, [1, ...uleb(200), 0x7f, ...repeat(4, BRANCH), 0x0b])],
  [
    "tables of branches",
    () => {
      const table = [0x02, 0x40, 0x20, 0, 0x0e, ...uleb(60_000), ...repeat(60_001, [0]), 0x0b];
      return bytesOf(repeat(30, table), LOCALS);
    },
  ],
  [
    "40,000 loops within each other",
    () => bytesOf([...repeat(40_000, [0x03, 0x40]), ...repeat(40_000, [0x20, 0, 0x0d, 0, 0x0b])], LOCALS),
  ],
];

/** As far as limits go: only the deadline of a compilation is left. */
export const LIFTED = {
  moduleBytes: 2 ** 30,
  bodyBytes: 2 ** 30,
  functions: 2 ** 30,
  locals: 2 ** 30,
  nesting: 2 ** 30,
  brTable: 2 ** 30,
  flow: 2 ** 52,
  flowSum: 2 ** 52,
};
