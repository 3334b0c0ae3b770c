// A PostgreSQL server of the test's own, from Debian's package, on a socket in a folder of its own.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Postgres {
  readonly url: string;
  start(): Promise<void>;
  /** As a machine would end it. */
  kill(): Promise<void>;
  remove(): Promise<void>;
}

const HOME = "/usr/lib/postgresql";

export async function startPostgres(): Promise<Postgres> {
  const version = existsSync(HOME) ? readdirSync(HOME).sort().at(-1) : undefined;
  if (version === undefined) throw new Error("no PostgreSQL under /usr/lib/postgresql: install `postgresql`");
  const bin = (name: string): string => join(HOME, version, "bin", name);
  const folder = mkdtempSync(join(tmpdir(), "atoll-pg-"));
  // The server refuses to run as root.
  const root = process.getuid?.() === 0;
  const who = root ? { uid: 65534, gid: 65534 } : {};
  if (root) chownSync(folder, 65534, 65534);
  const data = join(folder, "data");
  const env = { ...process.env, LC_ALL: "C", HOME: folder };
  const made = spawnSync(bin("initdb"), ["-D", data, "-U", "atoll", "-A", "trust", "--no-sync"], {
    ...who,
    env,
    encoding: "utf8",
    cwd: folder,
  });
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
  let child: ChildProcess | undefined;
  const ended = (process: ChildProcess): Promise<void> =>
    process.exitCode !== null || process.signalCode !== null
      ? Promise.resolve()
      : new Promise((resolve) => process.once("exit", () => resolve()));
  const ready = (): boolean =>
    spawnSync(bin("pg_isready"), ["-h", folder, "-U", "atoll", "-d", "postgres", "-q"], { env }).status === 0;
  const server = {
    url: `postgres://atoll@localhost/postgres?host=${encodeURIComponent(folder)}`,
    async start() {
      child = spawn(bin("postgres"), ["-D", data, "-k", folder, "-c", "listen_addresses="], {
        ...who,
        env,
        cwd: folder,
        stdio: "ignore",
      });
      for (let i = 0; i < 200 && !ready(); i++) {
        if (child.exitCode !== null) throw new Error(`postgres ended with ${child.exitCode}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    async kill() {
      if (child === undefined) return;
      // Its own children end with it when it is asked to end at once.
      child.kill("SIGQUIT");
      await ended(child);
      child = undefined;
    },
    async remove() {
      await server.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await server.start();
  return server;
}
