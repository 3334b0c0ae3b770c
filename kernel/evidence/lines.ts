// The lines of a pack's file, each ended by a newline, in memory that does not grow with the file.

import { joined } from "./bytes.ts";
import { JsonError, parseText } from "../contracts/contracts.ts";
import type { JsonLimits, JsonValue } from "../contracts/contracts.ts";
import { canonicalize } from "../canonicalize/canonicalize.ts";
import { broken } from "./finding.ts";
import type { PackFile } from "./tar.ts";

export interface Numbered {
  readonly number: number;
  readonly bytes: Uint8Array;
}

export const MAX_LINE = 65 << 20;
const NEWLINE = 0x0a;

/** From a byte on, where a line begins, its lines are counted anew. */
export function* linesOfFile(file: PackFile, from = 0): Generator<Numbered> {
  let held: Uint8Array = new Uint8Array(0);
  let number = 0;
  for (const chunk of file.chunks(from)) {
    let searchFrom = held.byteLength;
    held = searchFrom === 0 ? chunk : joined([held, chunk]);
    let start = 0;
    for (let end = held.indexOf(NEWLINE, searchFrom); end >= 0; end = held.indexOf(NEWLINE, searchFrom)) {
      number++;
      yield { number, bytes: held.subarray(start, end) };
      start = end + 1;
      searchFrom = start;
    }
    held = held.subarray(start);
    if (held.byteLength > MAX_LINE) throw broken(file.path, number + 1, "the line is too long");
  }
  if (held.byteLength > 0) throw broken(file.path, number + 1, "the line does not end");
}

export function wholeFile(file: PackFile, most: number): Uint8Array {
  if (file.size > most) throw broken(file.path, 0, `is longer than ${most} bytes`);
  return joined([...file.chunks()]);
}

/** The value of bytes that are its canonical form and nothing else. */
export function canonicalValue(bytes: Uint8Array, limits: JsonLimits): JsonValue {
  const { value, text } = parseText(bytes, limits);
  if (canonicalize(value) !== text) throw new JsonError("not in canonical form", 0);
  return value;
}
