// The kinds of value that a guest may hold.

import { refuse } from "./refusal.ts";

/** A value type that is admitted: the four numbers, the vector, and `funcref`. */
export function valueType(byte: number): number {
  if ((byte >= 0x7b && byte <= 0x7f) || byte === 0x70) return byte;
  return refuse(byte === 0x6f ? "externref" : byte === 0x69 || byte === 0x74 ? "exceptions" : "gc");
}
