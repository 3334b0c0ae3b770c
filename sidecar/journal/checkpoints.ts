// What is written at a checkpoint beside the log: the head, and now and then the snapshot, from which a restart goes on.
// A stop at any step of it leaves the older one or the newer one, and either is right: the log after it is read.

import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import type { Entry } from "../../kernel/evidence/evidence.ts";
import type { Disk } from "./disk.ts";
import { HEAD, SNAPSHOT, headBytes, replaceFile, snapshotBytes } from "./head.ts";
import type { Head } from "./head.ts";

/** What follows the log and is kept at checkpoints: all that a restart has to know besides the chains. */
export interface Standing {
  /** A durable record, in the order of the log. */
  next(entry: Entry): void;
  /** As plain data: all that `resume` needs to go on after the last record. */
  state(): JsonObject;
  /** Goes on from such data; throws when it is no such data. */
  resume(state: JsonObject): void;
  /** Goes back to the beginning, before the first record. */
  reset(): void;
}

export interface CheckpointParts {
  readonly disk: Disk;
  readonly standing: Standing | undefined;
  /** Records between two snapshots; more where a snapshot is large. */
  readonly snapshotRecords: number;
  /** The head could not be written: the journal is not to be trusted with more. */
  failed(error: unknown): void;
  warn(why: string): void;
}
/** A head, and the key that signed its checkpoint: the next one may be handed over to before the head is written. */
export interface SignedBy {
  readonly head: Head;
  readonly by: Signer;
}
export interface Checkpoints {
  /** Writes a head; of several that wait, the last. */
  head(head: SignedBy): void;
  /** Records that have become durable; the checkpoint is the one at place `at` among them. */
  follow(entries: readonly Entry[], checkpoint?: SignedBy & { readonly at: number }): void;
  /** From now on every checkpoint has its snapshot. */
  closing(): void;
  /** The standing is at this record. */
  stands(record: number): void;
  /** Resolves when nothing is being written. */
  idle(): Promise<void>;
}

/** A snapshot is written once for so many of its bytes in records, so that its cost a record does not grow. */
const BYTES_A_RECORD = 1 << 10;

export function createCheckpoints(parts: CheckpointParts): Checkpoints {
  const { disk, standing } = parts;
  let next: SignedBy | undefined;
  let kept = 0;
  let size = 0;
  let following = standing !== undefined;
  let every = false;
  let writing: Promise<void> = Promise.resolve();

  const due = (record: number): boolean =>
    record > kept && (every || record - kept >= Math.max(parts.snapshotRecords, size / BYTES_A_RECORD));

  function keep({ head, by }: SignedBy, state: JsonObject): void {
    kept = head.record;
    const content = snapshotBytes({ head, state }, by);
    size = content.byteLength;
    writing = writing.then(() =>
      replaceFile(disk, SNAPSHOT, content).catch(async (error: unknown) => {
        parts.warn(`the snapshot cannot be written: ${String(error)}`);
        // What it has taken of a full disk is given back; the next start makes another.
        await disk.remove(`${SNAPSHOT}.draft`).catch(() => undefined);
      }),
    );
  }

  return {
    head(head) {
      next = head;
      writing = writing.then(async () => {
        const latest = next;
        next = undefined;
        if (latest === undefined) return;
        try {
          await replaceFile(disk, HEAD, headBytes(latest.head, latest.by));
        } catch (error) {
          parts.failed(error);
        }
      });
    },
    follow(entries, checkpoint) {
      if (standing === undefined || !following) return;
      try {
        for (const [i, entry] of entries.entries()) {
          standing.next(entry);
          if (i === checkpoint?.at && due(checkpoint.head.record)) keep(checkpoint, standing.state());
        }
      } catch (error) {
        // What it stands for is not known any more: the next start reads the log from the last snapshot.
        following = false;
        parts.warn(`no further snapshot is made: ${String(error)}`);
      }
    },
    closing() {
      every = true;
    },
    stands(record) {
      kept = record;
    },
    idle: () => writing,
  };
}
