// The same store in PostgreSQL. A commit is durable when it is acknowledged, whatever the server's default says.

import { Pool } from "pg";
import type { LedgerStore, Shelf } from "./store.ts";

export async function postgresStore(url: string): Promise<LedgerStore> {
  const pool = new Pool({
    connectionString: url,
    max: 8,
    connectionTimeoutMillis: 5000,
    options: "-c synchronous_commit=on",
  });
  // A server that goes away ends idle connections; the next query makes another.
  pool.on("error", () => undefined);
  await pool.query(`CREATE TABLE IF NOT EXISTS atoll_shelves (pod TEXT PRIMARY KEY, count BIGINT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS atoll_records (pod TEXT NOT NULL, seq BIGINT NOT NULL, line TEXT NOT NULL, PRIMARY KEY (pod, seq));`);
  return {
    async shelf(pod) {
      const { rows } = await pool.query<Row>("SELECT pod, count, state FROM atoll_shelves WHERE pod = $1", [
        pod,
      ]);
      return rows[0] === undefined ? undefined : shelfOf(rows[0]);
    },
    async shelves() {
      const { rows } = await pool.query<Row>(
        'SELECT pod, count, state FROM atoll_shelves ORDER BY pod COLLATE "C"',
      );
      return rows.map(shelfOf);
    },
    async put(pod, from, lines, state) {
      const client = await pool.connect();
      let broken: Error | undefined;
      try {
        await client.query("BEGIN");
        await client.query(
          "INSERT INTO atoll_shelves (pod, count, state) VALUES ($1, 0, '') ON CONFLICT (pod) DO NOTHING",
          [pod],
        );
        const { rows } = await client.query<Row>(
          "SELECT pod, count, state FROM atoll_shelves WHERE pod = $1 FOR UPDATE",
          [pod],
        );
        if (Number(rows[0]?.count ?? -1) !== from) {
          await client.query("ROLLBACK");
          return false;
        }
        await client.query(
          "INSERT INTO atoll_records (pod, seq, line) SELECT $1, $2 + n - 1, line FROM unnest($3::text[]) WITH ORDINALITY AS t (line, n)",
          [pod, from, lines],
        );
        await client.query("UPDATE atoll_shelves SET count = $2, state = $3 WHERE pod = $1", [
          pod,
          from + lines.length,
          state,
        ]);
        await client.query("COMMIT");
        return true;
      } catch (error) {
        broken = error instanceof Error ? error : new Error(String(error));
        throw broken;
      } finally {
        // After a failure nobody knows the connection's state: it is not used again.
        client.release(broken);
      }
    },
    async lines(pod, from, most) {
      const { rows } = await pool.query<{ line: string }>(
        "SELECT line FROM atoll_records WHERE pod = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
        [pod, from, most],
      );
      return rows.map(({ line }) => line);
    },
    close: () => pool.end(),
  };
}

interface Row {
  readonly pod: string;
  readonly count: string;
  readonly state: string;
}
const shelfOf = (row: Row): Shelf => ({ pod: row.pod, count: Number(row.count), state: row.state });
