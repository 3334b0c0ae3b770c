// A pack's files, out of its tar or a folder it was unpacked into.

import { closeSync, fstatSync, lstatSync, openSync, readSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { PackInvalid, readTar } from "../kernel/evidence/evidence.ts";
import type { PackFile } from "../kernel/evidence/evidence.ts";

/**
 * A log is read a node at a time and nothing of it stays but 40 bytes each: a nursery that grows to 100 MB for it, as V8's
 * does unasked, is most of the memory that verification takes. Costs a tenth of the work beside the signatures.
 */
export const inLittleMemory = (): void => setFlagsFromString("--semi-space-growth-factor=1");

/** What `use` makes of the files; they can be read until it returns. */
export function withPack<T>(path: string, use: (files: readonly PackFile[]) => T): T {
  if (statSync(path).isDirectory()) return use(filesIn(path));
  const fd = openSync(path, "r");
  try {
    const size = fstatSync(fd).size;
    const read = (at: number, length: number): Uint8Array => {
      const buffer = Buffer.alloc(length);
      let done = 0;
      while (done < length) {
        const got = readSync(fd, buffer, done, length - done, at + done);
        if (got === 0) break;
        done += got;
      }
      return buffer.subarray(0, done);
    };
    return use(readTar({ size, read }));
  } finally {
    closeSync(fd);
  }
}

/** Plain files under a folder; anything else that lies there is no part of a pack. */
function filesIn(root: string): readonly PackFile[] {
  const files: PackFile[] = [];
  const walk = (folder: string): void => {
    for (const name of readdirSync(join(root, folder)).sort()) {
      const path = folder === "" ? name : `${folder}/${name}`;
      const stat = lstatSync(join(root, path));
      if (stat.isDirectory()) walk(path);
      else if (!stat.isFile())
        throw new PackInvalid({ file: path, line: 0, code: "CHAIN_BROKEN", reason: "is not a plain file" });
      else files.push({ path, size: stat.size, chunks: (from) => chunksOf(join(root, path), from) });
    }
  };
  walk("");
  return files;
}
export function* chunksOf(path: string, from = 0): Generator<Uint8Array> {
  const fd = openSync(path, "r");
  try {
    for (let at = from; ; ) {
      const buffer = Buffer.alloc(64 << 10);
      const got = readSync(fd, buffer, 0, buffer.byteLength, at);
      if (got === 0) return;
      at += got;
      yield buffer.subarray(0, got);
    }
  } finally {
    closeSync(fd);
  }
}
