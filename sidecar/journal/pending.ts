// A checkpoint on its way to the disk, and the head that it is when it is there.

import type { Signer } from "../../kernel/crypto/crypto.ts";
import type { Head } from "./head.ts";
import type { Position } from "./recover.ts";

export type PendingHead = Omit<Head, "segment" | "at" | "checkpoint_at" | "segments"> & {
  /** Where in its batch the checkpoint stands: its line, and the number of nodes up to and with it. */
  readonly line: number;
  readonly nodes: number;
  readonly by: Signer;
};

/** `before`: where its batch began; `segments`: those that there were by then. */
export function headOf(
  pending: PendingHead,
  lines: readonly string[],
  before: Position,
  segments: readonly number[],
): Head {
  const { line, nodes: _nodes, by: _by, ...rest } = pending;
  const lengthOf = (some: readonly string[]): number =>
    some.reduce((sum, text) => sum + Buffer.byteLength(text, "utf8"), 0);
  const checkpointAt = before.at + lengthOf(lines.slice(0, line));
  return {
    ...rest,
    segment: before.segment,
    checkpoint_at: checkpointAt,
    at: checkpointAt + lengthOf(lines.slice(line, line + 1)),
    segments,
  };
}
