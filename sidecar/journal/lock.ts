// One writer per journal. SQLite's lock on an empty file is a record lock of the kernel: it ends with the process,
// however the process ends, and holds across network namespaces. Nothing is ever written to the file.

import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

export class JournalLocked extends Error {
  constructor(dir: string) {
    super(`another process writes the journal in \`${dir}\``);
    this.name = "JournalLocked";
  }
}

/** Takes the lock or throws; the answer gives it back. */
export function lockFolder(dir: string): () => void {
  const database = new DatabaseSync(join(dir, "lock"));
  try {
    database.exec("PRAGMA busy_timeout=0; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if (error instanceof Error && "errcode" in error && error.errcode === 5) throw new JournalLocked(dir);
    throw error;
  }
  return () => {
    database.close();
  };
}
