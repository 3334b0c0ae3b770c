// kill -9 at a system call: strace counts a run's calls, then runs it again for each of them and kills it there.
import { spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { judge as judgePack } from "../../../cli/verify.ts";
import { canonicalize } from "../../../kernel/canonicalize/canonicalize.ts";
import { parseReceipt } from "../../../kernel/receipts/receipts.ts";
import { signerFromPem, verifierFromRaw } from "../../../kernel/crypto/crypto.ts";
import { verifyStore } from "../../../kernel/evidence/evidence.ts";
import { createStanding } from "../../../sidecar/guard/standing.ts";
import { openJournal, readJournal } from "../../../sidecar/journal/journal.ts";
import { rootsOf } from "../../evidence/packs.ts";
import { newPem } from "../scene.ts";

export const PATHS = ["run", "export", "condense", "recover"] as const;
export type Path = (typeof PATHS)[number];
/** Every call that can change a file, and those that begin and end its handling. */
const CALLS = ["openat", "pwrite64", "fdatasync", "fsync", "rename", "unlink", "ftruncate", "mkdir"];

export interface Point {
  readonly call: string;
  readonly when: number;
}
export interface Lab {
  readonly path: Path;
  points(): readonly Point[];
  /** What is wrong after a kill at this point, "" when nothing is; `killed` says whether it came so far. */
  kill(point: Point): Promise<{ readonly killed: boolean; readonly wrong: string }>;
  remove(): void;
}

/** One bundle, so that a process starts quickly. */
export function bundledWorker(): string {
  const folder = mkdtempSync(join(tmpdir(), "atoll-kill-worker-"));
  const file = join(folder, "worker.mjs");
  buildSync({
    entryPoints: [join(import.meta.dirname, "worker.ts")],
    bundle: true,
    platform: "node",
    format: "esm",
    outfile: file,
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
    nodePaths: [join(import.meta.dirname, "../../../node_modules")],
    logLevel: "error",
  });
  return file;
}

const OPTIONS = {
  podUid: "pod",
  clock: () => 1_800_000_000_000,
  random: (n: number) => new Uint8Array(n).fill(7),
  segmentBytes: 48 << 10,
  checkpointNodes: 25,
  checkpointMs: 3_600_000,
  snapshotRecords: 60,
};

export function createLab(
  path: Path,
  worker: string,
  { decisions = 200, width = 1 }: { readonly decisions?: number; readonly width?: number } = {},
): Lab {
  const home = mkdtempSync(join(tmpdir(), `atoll-kill-${path}-`));
  const pem = newPem();
  const signer = signerFromPem(pem);
  const prepared = join(home, "prepared");
  mkdirSync(prepared, { mode: 0o700 });
  writeFileSync(join(prepared, "guardian.pem"), pem, { mode: 0o400 });
  const args = (mode: Path, dir: string) => [worker, mode, dir, String(decisions), String(width)];
  const env = { ...process.env, UV_THREADPOOL_SIZE: "1", NODE_COMPILE_CACHE: join(home, "cache") };
  const started = (command: string, argv: readonly string[], seen: string): Promise<number | null> => {
    const fd = openSync(seen, "a");
    const child = spawn(command, argv, { stdio: ["ignore", "ignore", "pipe", fd], env });
    closeSync(fd);
    return new Promise((resolve) => child.once("close", (code) => resolve(code)));
  };
  if (path !== "run") {
    const run = spawnSync(process.execPath, args("run", prepared), {
      env,
      stdio: ["ignore", "ignore", "inherit", openSync(join(home, "seen"), "a")],
    });
    if (run.status !== 0) throw new Error("the run to export or recover from did not end well");
    // A stop in the middle of a record.
    if (path === "recover") {
      const last = readJournal(prepared);
      const segments = [...new Set([...last.records()].map((r) => r.segment))];
      const file = join(prepared, segments.at(-1) ?? "");
      const bytes = readFileSync(file);
      let end = bytes.length;
      while (end > 0 && bytes[end - 1] === 0) end--;
      writeFileSync(file, Buffer.concat([bytes.subarray(0, end), Buffer.from('{"body":{"torn')]));
      appendFileSync(file, Buffer.alloc(4096));
    }
  }

  let turn = 0;
  async function inFresh(inject: readonly string[]) {
    const folder = join(home, String(turn++));
    const dir = join(folder, "journal");
    cpSync(prepared, dir, { recursive: true });
    const seen = join(folder, "seen");
    writeFileSync(seen, "");
    const trace = join(folder, "trace");
    const code = await started(
      "strace",
      ["-f", "-qq", "-o", trace, ...inject, process.execPath, ...args(path, dir)],
      seen,
    );
    return { folder, dir, seen, trace, code };
  }

  return {
    path,
    points() {
      const points: Point[] = [];
      const folder = join(home, "count");
      const dir = join(folder, "journal");
      cpSync(prepared, dir, { recursive: true });
      const trace = join(folder, "trace");
      const fd = openSync(join(folder, "seen"), "a");
      // Twice: the first run fills the compile cache, whose files are none of ours.
      for (let i = 0; i < 2; i++) {
        rmSync(dir, { recursive: true });
        cpSync(prepared, dir, { recursive: true });
        const traced = spawnSync(
          "strace",
          [
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-y",
            "-o",
            trace,
            "-e",
            `trace=${CALLS.join(",")}`,
            process.execPath,
            ...args(path, dir),
          ],
          { env, stdio: ["ignore", "ignore", "inherit", fd] },
        );
        if (traced.status !== 0) throw new Error(`the run under strace ended with ${traced.status}`);
      }
      closeSync(fd);
      // strace counts for each thread; the first to come so far is the one that is killed.
      const counts = new Map<string, number>();
      for (const line of readFileSync(trace, "utf8").split("\n")) {
        const m = /^(\d+) +([a-z0-9_]+)\(/.exec(line);
        if (m === null) continue;
        const key = `${m[1]} ${m[2]}`;
        const n = (counts.get(key) ?? 0) + 1;
        counts.set(key, n);
        const call = m[2] ?? "";
        if (line.includes(folder) && !points.some((p) => p.call === call && p.when === n))
          points.push({ call, when: n });
      }
      return points;
    },
    async kill({ call, when }) {
      const at = await inFresh(["-e", `trace=${call}`, "-e", `inject=${call}:signal=KILL:when=${when}`]);
      const seen = readFileSync(at.seen, "utf8")
        .split("\n")
        .filter((line) => line !== "");
      const wrong = await judge(path, at.dir, signer, seen).catch(
        (error: unknown) => `refused: ${error instanceof Error ? error.message : String(error)}`,
      );
      rmSync(at.folder, { recursive: true, force: true });
      return { killed: at.code !== 0, wrong };
    },
    remove: () => rmSync(home, { recursive: true, force: true }),
  };
}

async function judge(
  path: Path,
  dir: string,
  signer: ReturnType<typeof signerFromPem>,
  seen: readonly string[],
): Promise<string> {
  if (path === "export" || path === "condense") {
    const file = join(dir, "..", "pack.tar");
    if (existsSync(file)) {
      const outcome = judgePack(file, rootsOf(signer));
      if (!("report" in outcome)) return `the pack is not valid: ${outcome.finding.reason}`;
    } else if (seen.includes("A pack")) return "the pack that was reported is not there";
  }
  const standing = createStanding(() => true);
  let warned = "";
  const journal = await openJournal({ ...OPTIONS, dir, signer, standing, warn: (why) => (warned = why) });
  try {
    const hashes = new Set<string>();
    const intents = new Set<string>();
    for (const entry of journal.entries()) {
      if (entry.kind !== "node") continue;
      hashes.add(entry.sealed.hash);
      if (entry.sealed.node.kind === "INTENT") intents.add(parseReceipt(entry.sealed.node.body).args_hash);
    }
    const done = new Set<string>();
    for (const line of seen) {
      const what = line.slice(2);
      if (line.startsWith("A sha256:") && !hashes.has(what)) return `acknowledged and lost: ${what}`;
      if (!line.startsWith("D ")) continue;
      if (done.has(what)) return `done twice: ${what}`;
      done.add(what);
      if (!intents.has(what)) return `done without an intent: ${what}`;
    }
    // As a restart does it: what was under way is closed as unknown, and nothing is carried out.
    const { unknown } = standing.restored(journal.ownSession, OPTIONS.clock());
    if (unknown.length > 0) await journal.append(unknown, []).durable;
    const again = standing.restored(journal.ownSession, OPTIONS.clock());
    if (again.unknown.length > 0) return `${again.unknown.length} calls are still open`;
    if (warned !== "") return `a snapshot was refused: ${warned}`;
    const whole = createStanding(() => true);
    for (const entry of journal.entries()) whole.next(entry);
    if (canonicalize(whole.state()) !== canonicalize(standing.state()))
      return "the snapshot and what follows say something else than the whole log";
  } finally {
    await journal.close();
  }
  const reading = readJournal(dir);
  verifyStore(reading.records(), () => verifierFromRaw(signer.publicKey), reading.live);
  return "";
}
