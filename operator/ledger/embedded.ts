// The embedded store: one SQLite file, synced at every commit.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { LedgerStore, Shelf } from "./store.ts";

export function embeddedStore(folder: string): LedgerStore {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const db = new DatabaseSync(join(folder, "ledger.sqlite"));
  db.exec("PRAGMA busy_timeout=5000; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;");
  db.exec(`CREATE TABLE IF NOT EXISTS shelves (pod TEXT PRIMARY KEY, count INTEGER NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS records (pod TEXT NOT NULL, seq INTEGER NOT NULL, line TEXT NOT NULL, PRIMARY KEY (pod, seq)) STRICT, WITHOUT ROWID;`);
  const one = db.prepare("SELECT pod, count, state FROM shelves WHERE pod = ?");
  const all = db.prepare("SELECT pod, count, state FROM shelves ORDER BY pod");
  const insert = db.prepare("INSERT INTO records (pod, seq, line) VALUES (?, ?, ?)");
  const upsert = db.prepare(
    "INSERT INTO shelves (pod, count, state) VALUES (?, ?, ?) ON CONFLICT (pod) DO UPDATE SET count = excluded.count, state = excluded.state",
  );
  const some = db.prepare("SELECT line FROM records WHERE pod = ? AND seq >= ? ORDER BY seq LIMIT ?");
  return {
    shelf: async (pod) => shelfOf(one.get(pod)),
    shelves: async () => all.all().flatMap((row) => shelfOf(row) ?? []),
    async put(pod, from, lines, state) {
      db.exec("BEGIN IMMEDIATE");
      try {
        if ((shelfOf(one.get(pod))?.count ?? 0) !== from) {
          db.exec("ROLLBACK");
          return false;
        }
        lines.forEach((line, i) => insert.run(pod, from + i, line));
        upsert.run(pod, from + lines.length, state);
        db.exec("COMMIT");
        return true;
      } catch (error) {
        if (db.isTransaction) db.exec("ROLLBACK");
        throw error;
      }
    },
    lines: async (pod, from, most) =>
      some.all(pod, from, most).flatMap(({ line }) => (typeof line === "string" ? [line] : [])),
    close: async () => db.close(),
  };
}

function shelfOf(row: Record<string, unknown> | undefined): Shelf | undefined {
  const { pod, count, state } = row ?? {};
  return typeof pod === "string" && typeof count === "number" && typeof state === "string"
    ? { pod, count, state }
    : undefined;
}
