// Where records lie: segments named by the number of their first record, one record per line, then zero bytes.

import type { Disk } from "./disk.ts";

export const segmentName = (first: number): string => `${String(first).padStart(16, "0")}.jsonl`;

/** The number of the first record of the segment that `name` is, undefined for any other file. */
export function firstOf(name: string): number | undefined {
  return /^\d{16}\.jsonl$/.test(name) ? Number(name.slice(0, 16)) : undefined;
}

export const segmentsOf = (disk: Disk): readonly number[] =>
  disk.list().flatMap((name) => {
    const first = firstOf(name);
    return first === undefined ? [] : [first];
  });

/** One line without its newline, and the byte in its segment at which it begins. */
export interface Line {
  readonly bytes: Uint8Array;
  readonly at: number;
}
/** What follows the last whole line: where it begins, and whether any of it is not zero. */
export interface Rest {
  readonly at: number;
  readonly dirty: boolean;
}

const CHUNK = 1 << 20;
const ZEROS = Buffer.alloc(CHUNK);
const NEWLINE = 0x0a;

/** Reads a segment from `from` in bounded memory, a line at a time; the generator's result is the rest. */
export function* linesOf(disk: Disk, name: string, from = 0): Generator<Line, Rest> {
  let held: Uint8Array = new Uint8Array(0);
  let at = from;
  for (;;) {
    const chunk = disk.readAt(name, at + held.byteLength, CHUNK);
    if (chunk.byteLength === 0) return { at, dirty: !isZero(held) };
    let searchFrom = held.byteLength;
    held = searchFrom === 0 ? chunk : Buffer.concat([held, chunk]);
    let start = 0;
    for (let end = held.indexOf(NEWLINE, searchFrom); end >= 0; end = held.indexOf(NEWLINE, searchFrom)) {
      yield { bytes: held.subarray(start, end), at: at + start };
      start = end + 1;
      searchFrom = start;
    }
    held = held.subarray(start);
    at += start;
    if (held.byteLength > 0 && isZero(held))
      return { at, dirty: hasContent(disk, name, at + held.byteLength) };
  }
}

function hasContent(disk: Disk, name: string, from: number): boolean {
  for (let at = from; ; at += CHUNK) {
    const chunk = disk.readAt(name, at, CHUNK);
    if (!isZero(chunk)) return true;
    if (chunk.byteLength < CHUNK) return false;
  }
}

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.byteLength; at += CHUNK) {
    const part = bytes.subarray(at, at + CHUNK);
    if (Buffer.compare(part, ZEROS.subarray(0, part.byteLength)) !== 0) return false;
  }
  return true;
}
