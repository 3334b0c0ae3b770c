// The few file operations that the journal needs, so that a test can fail, tear or forget each of them.
// Whoever owns the disk can destroy what is on it; nothing read from here is believed before it is verified.

import * as fs from "node:fs";
import { join } from "node:path";

export interface Disk {
  /** Names of the plain files, sorted. */
  list(): readonly string[];
  /** The whole file, or undefined if there is none. */
  read(name: string): Uint8Array | undefined;
  /** Up to `length` bytes from `from`. */
  readAt(name: string, from: number, length: number): Uint8Array;
  size(name: string): number;
  open(name: string, how: "new" | "existing"): OpenFile;
  rename(from: string, to: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Makes creations, renames and removals durable. */
  syncNames(): Promise<void>;
}

export interface OpenFile {
  /** Resolves when every byte has been handed to the system; durable only after `sync`. */
  write(bytes: Uint8Array, at: number): Promise<void>;
  /** The same without leaving this turn: for what may be lost. */
  writeNow(bytes: Uint8Array, at: number): void;
  sync(): Promise<void>;
  close(): void;
}

export function diskAt(dir: string): Disk {
  fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
  return {
    list: () =>
      fs
        .readdirSync(dir, { withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => entry.name)
        .sort(),
    read: (name) => {
      try {
        return fs.readFileSync(join(dir, name));
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
        throw error;
      }
    },
    readAt: (name, from, length) => {
      const fd = fs.openSync(join(dir, name), "r");
      try {
        const buffer = Buffer.alloc(length);
        let done = 0;
        while (done < length) {
          const got = fs.readSync(fd, buffer, done, length - done, from + done);
          if (got === 0) break;
          done += got;
        }
        return buffer.subarray(0, done);
      } finally {
        fs.closeSync(fd);
      }
    },
    size: (name) => fs.statSync(join(dir, name)).size,
    open: (name, how) => openFile(fs.openSync(join(dir, name), how === "new" ? "wx" : "r+", 0o600)),
    rename: (from, to) => fs.promises.rename(join(dir, from), join(dir, to)),
    remove: (name) => fs.promises.unlink(join(dir, name)),
    syncNames: async () => {
      const folder = fs.openSync(dir, "r");
      try {
        await synced(fs.fsync, folder);
      } finally {
        fs.closeSync(folder);
      }
    },
  };
}

const synced = (by: typeof fs.fsync | typeof fs.fdatasync, fd: number): Promise<void> =>
  new Promise((resolve, reject) => {
    by(fd, (error) => (error === null ? resolve() : reject(error)));
  });

function openFile(fd: number): OpenFile {
  const write = (bytes: Uint8Array, at: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const step = (done: number): void => {
        fs.write(fd, bytes, done, bytes.byteLength - done, at + done, (error, written) => {
          if (error !== null) reject(error);
          else if (done + written === bytes.byteLength) resolve();
          else if (written === 0) reject(new Error("the system wrote nothing"));
          else step(done + written);
        });
      };
      if (bytes.byteLength === 0) resolve();
      else step(0);
    });
  return {
    write,
    writeNow: (bytes, at) => {
      let done = 0;
      while (done < bytes.byteLength) {
        const written = fs.writeSync(fd, bytes, done, bytes.byteLength - done, at + done);
        if (written === 0) throw new Error("the system wrote nothing");
        done += written;
      }
    },
    sync: () => synced(fs.fdatasync, fd),
    close: () => fs.closeSync(fd),
  };
}
