// The durable records from a place on, as their lines: for who copies the log while it grows.

import type { Disk } from "./disk.ts";
import { linesOf, segmentName, segmentsOf } from "./segments.ts";

/** Where a copying reader stands; only this file makes one. */
export interface Cursor {
  readonly segment: number;
  readonly at: number;
  readonly record: number;
}
export interface Tail {
  readonly lines: readonly string[];
  readonly cursor: Cursor;
}

/** The cursor of a record, by reading its segment up to it. */
export function cursorAt(disk: Disk, record: number): Cursor {
  const first =
    segmentsOf(disk)
      .filter((n) => n <= record)
      .at(-1) ?? 0;
  let cursor: Cursor = { segment: first, at: 0, record: first };
  for (const line of linesOf(disk, segmentName(first))) {
    if (cursor.record === record) break;
    cursor = { segment: first, at: line.at + line.bytes.byteLength + 1, record: cursor.record + 1 };
  }
  return cursor;
}

/** Lines from the cursor to below record `until`, at least one where there is one, else within `most` bytes. */
export function readTail(disk: Disk, from: Cursor, until: number, most: number): Tail {
  const lines: string[] = [];
  let cursor = from;
  let size = 0;
  while (cursor.record < until) {
    const before = cursor.record;
    for (const line of linesOf(disk, segmentName(cursor.segment), cursor.at)) {
      size += line.bytes.byteLength + 1;
      if (lines.length > 0 && size > most) return { lines, cursor };
      lines.push(Buffer.from(line.bytes).toString("utf8"));
      cursor = {
        segment: cursor.segment,
        at: line.at + line.bytes.byteLength + 1,
        record: cursor.record + 1,
      };
      if (cursor.record >= until) return { lines, cursor };
    }
    if (!segmentsOf(disk).includes(cursor.record)) {
      if (cursor.record === before) break;
      continue;
    }
    cursor = { segment: cursor.record, at: 0, record: cursor.record };
  }
  return { lines, cursor };
}
