// The next segment, made before it is needed: its blocks are allocated and zeroed, so that a record's sync has no
// metadata to write.

import type { Disk } from "./disk.ts";

const DRAFT = "next.draft";

export interface Spare {
  /** Begins to make it; `take` waits for that. */
  prepare(): void;
  make(): Promise<void>;
  /** Gives it its name. A stop before leaves a draft, which is thrown away; after it an empty segment, which is written to. */
  take(name: string): Promise<void>;
  /** Resolves when nothing is being made. */
  idle(): Promise<void>;
}

export function createSpare(disk: Disk, segmentBytes: number): Spare {
  let making: Promise<void> = Promise.resolve();
  async function make(): Promise<void> {
    if (disk.list().includes(DRAFT)) await disk.remove(DRAFT);
    const draft = disk.open(DRAFT, "new");
    try {
      const zeros = Buffer.alloc(Math.min(segmentBytes, 1 << 20));
      for (let at = 0; at < segmentBytes; at += zeros.byteLength)
        await draft.write(zeros.subarray(0, Math.min(zeros.byteLength, segmentBytes - at)), at);
      await draft.sync();
    } finally {
      draft.close();
    }
  }
  return {
    make,
    prepare() {
      making = make();
      making.catch(() => undefined);
    },
    async take(name) {
      // One that failed is tried once more: the disk may have room again.
      await making.catch(make);
      await disk.rename(DRAFT, name);
      await disk.syncNames();
    },
    idle: () => making.catch(() => undefined),
  };
}
