// Brings what follows the log to its end: from the snapshot where it can be believed, else from the first record. Either
// way the nodes that are read must make the tree that recovery has found, so what was left out, put in or exchanged
// between the snapshot and the last checkpoint is seen although signatures there are not checked again.

import type { Code, Hash, KeyId } from "../../kernel/contracts/contracts.ts";
import type { Verifier } from "../../kernel/crypto/crypto.ts";
import { createFrontier } from "../../kernel/proofgraph/proofgraph.ts";
import type { Standing } from "./checkpoints.ts";
import type { Disk } from "./disk.ts";
import { JournalRefused } from "./failures.ts";
import { SNAPSHOT, readSnapshot } from "./head.ts";
import type { Head } from "./head.ts";
import { readRecords } from "./read.ts";
import { checkCheckpointLine } from "./recover.ts";
import type { Recovered } from "./recover.ts";

/** Answers the number of the record from which it has read. */
export function bringUp(
  disk: Disk,
  standing: Standing,
  found: Pick<Recovered, "position" | "check">,
  keys: readonly Verifier[],
  warn: (why: string) => void,
): number {
  const { tree } = found.check;
  const end = { record: found.position.record, size: tree.size, root: tree.root() };
  const keyOf = (id: KeyId): Verifier | Code => keys.find((v) => v.keyId === id) ?? "TRUST_KEY_UNKNOWN";
  const snapshot = believed(() => readSnapshot(disk, keyOf), warn);
  if (snapshot !== undefined) {
    const { head, state } = snapshot;
    // Signed by this guardian at a checkpoint that was durable: it is the log that has lost something.
    if (head.record > end.record)
      throw new JournalRefused(
        "CHAIN_BROKEN",
        `the log ends after ${end.record} records and \`${SNAPSHOT}\` was made after ${head.record}`,
      );
    const from = believed(() => {
      if (createFrontier(head.tree_size, head.peaks).root() !== head.root_hash)
        throw new Error("its peaks do not make its root");
      checkCheckpointLine(disk, head);
      standing.resume(state);
      readTo(disk, standing, end, head);
      return head.record;
    }, warn);
    if (from !== undefined) return from;
  }
  standing.reset();
  readTo(disk, standing, end);
  return 0;
}

function believed<T>(read: () => T, warn: (why: string) => void): T | undefined {
  try {
    return read();
  } catch (error) {
    warn(
      `\`${SNAPSHOT}\` is not used, the log is read from its beginning: ${error instanceof Error ? error.message : String(error)}`,
    );
    return undefined;
  }
}

interface End {
  readonly record: number;
  readonly size: number;
  readonly root: Hash;
}

function readTo(disk: Disk, standing: Standing, end: End, from?: Head): void {
  const tree = createFrontier(from?.tree_size, from?.peaks);
  for (const entry of readRecords(disk, end.record, from)) {
    if (entry.kind === "node") tree.append(entry.sealed.hash);
    standing.next(entry);
  }
  if (tree.size !== end.size || tree.root() !== end.root)
    throw new JournalRefused("CHAIN_BROKEN", "the log is not the one that its head was written for");
}
