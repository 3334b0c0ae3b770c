// The next segment, made before it is needed: its blocks are allocated and zeroed, so that a record's sync has no
// metadata to write.

import type { Disk } from "./disk.ts";

const DRAFT = "next.draft";

export interface Spare {
  /** Begins to make it where that was not done yet; `take` waits for that. */
  prepare(bytes: number): void;
  /** Gives it its name. A stop before leaves a draft, which is thrown away; after it an empty segment, which is written to. */
  take(name: string, bytes: number): Promise<void>;
  /** Resolves when nothing is being made. */
  idle(): Promise<void>;
  /** What was made before is not believed any more. */
  reset(): void;
}

export function createSpare(disk: Disk): Spare {
  let making: Promise<void> | undefined;
  async function make(size: number): Promise<void> {
    if (disk.list().includes(DRAFT)) await disk.remove(DRAFT);
    const draft = disk.open(DRAFT, "new");
    try {
      const zeros = Buffer.alloc(Math.min(size, 1 << 20));
      for (let at = 0; at < size; at += zeros.byteLength)
        await draft.write(zeros.subarray(0, Math.min(zeros.byteLength, size - at)), at);
      await draft.sync();
    } finally {
      draft.close();
    }
  }
  return {
    prepare(bytes) {
      making ??= make(bytes);
      making.catch(() => undefined);
    },
    async take(name, bytes) {
      // One that failed is tried once more: the disk may have room again.
      making = (making ?? make(bytes))
        .catch(() => make(bytes))
        .then(() => disk.rename(DRAFT, name))
        .then(() => disk.syncNames());
      await making;
      making = undefined;
    },
    idle: async () => await making?.catch(() => undefined),
    reset() {
      making = undefined;
    },
  };
}
