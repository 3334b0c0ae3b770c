// Group commit: the records of concurrent calls share one write and one sync. The protocol, and what restart does
// after a stop at each point:
//   1 records wait in memory          lost; no caller was told anything
//   2 written, not synced             kept if whole, else moved aside; no caller was told anything
//   3 synced                          kept; callers are told now
//   4 the live head written           the log may not be shorter than this any more
// A failed write or sync ends this writer for good: what the system dropped from its cache cannot be known.

import type { OpenFile } from "./disk.ts";

/** Records that go to the disk together, and what their owner wants to know of them when they are there. */
export interface Batch<Extra> {
  readonly lines: string[];
  readonly extra: Extra;
  readonly done: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface Target {
  readonly file: OpenFile;
  readonly at: number;
}

export interface CommitParts<Extra> {
  fresh(): Extra;
  /** Where `bytes` more bytes go; a promise when a new segment has to be begun for them. */
  place(bytes: number): Target | Promise<Target>;
  /** No record will join this batch any more; in the same turn as the last did. */
  closed(batch: Batch<Extra>): void;
  /** After the sync: the batch is durable. */
  landed(batch: Batch<Extra>, bytes: number, milliseconds: number): void;
  failed(error: unknown): void;
}

export interface Committer<Extra> {
  /** The batch that records handed over now will travel in. */
  open(): Batch<Extra>;
  /** Resolves when nothing is waiting or under way. */
  idle(): Promise<void>;
  /** Refuses everything that waits. */
  stop(error: Error): void;
}

/** So few bytes are handed to the system in less time than a thread is asked to; what makes them durable is the sync. */
const AT_ONCE = 256 << 10;

export function createCommitter<Extra>(parts: CommitParts<Extra>): Committer<Extra> {
  let waiting: Batch<Extra> | undefined;
  let flying: Batch<Extra> | undefined;
  let scheduled = false;
  let stopped = false;

  const flush = async (): Promise<void> => {
    scheduled = false;
    if (waiting === undefined || flying !== undefined || stopped) return;
    const batch = waiting;
    waiting = undefined;
    flying = batch;
    const startedAt = performance.now();
    try {
      const bytes = bytesOf(batch.lines);
      const placed = parts.place(bytes.byteLength);
      if (placed instanceof Promise) parts.closed(batch);
      const target = placed instanceof Promise ? await placed : placed;
      const small = bytes.byteLength <= AT_ONCE;
      if (small) target.file.writeNow(bytes, target.at);
      const underWay = small ? target.file.sync() : target.file.write(bytes, target.at);
      // While the system is at it.
      if (!(placed instanceof Promise)) parts.closed(batch);
      await underWay;
      if (!small) await target.file.sync();
      if (stopped) return;
      parts.landed(batch, bytes.byteLength, performance.now() - startedAt);
      batch.resolve();
    } catch (error) {
      if (!stopped) parts.failed(error);
      return;
    } finally {
      flying = undefined;
    }
    schedule();
  };
  const schedule = (): void => {
    if (scheduled || flying !== undefined || waiting === undefined) return;
    scheduled = true;
    // One turn of the loop, so that every call of this turn shares the batch.
    setImmediate(() => void flush());
  };

  return {
    open() {
      waiting ??= newBatch(parts.fresh());
      schedule();
      return waiting;
    },
    async idle() {
      for (;;) {
        const batch = flying ?? waiting;
        if (batch === undefined) return;
        await batch.done.catch(() => undefined);
        // The batch is told before this writer has put it down.
        await Promise.resolve();
      }
    },
    stop(error) {
      stopped = true;
      for (const batch of [flying, waiting]) batch?.reject(error);
      waiting = undefined;
    },
  };
}

/** Each line is written to its place: joined first, all of them would be copied once more. */
function bytesOf(lines: readonly string[]): Buffer {
  let size = 0;
  for (const line of lines) size += Buffer.byteLength(line, "utf8");
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const line of lines) at += bytes.write(line, at, "utf8");
  return bytes;
}

function newBatch<Extra>(extra: Extra): Batch<Extra> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // A caller that does not wait must not bring the process down.
  promise.catch(() => undefined);
  return { lines: [], extra, done: promise, resolve, reject };
}
