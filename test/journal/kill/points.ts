// kill -9 at a call to the file system: a run counts its calls, then it is run again for each of them and kills itself
// where that call begins. The process is a real one, and so are its files; what is left of them is judged here.
import { spawn } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
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

export interface Lab {
  readonly path: Path;
  /** Calls of a run that nobody kills. */
  calls(): Promise<number>;
  /** What is wrong after a kill at this call, "" when nothing is; `killed` says whether it came so far. */
  kill(call: number): Promise<{ readonly killed: boolean; readonly wrong: string }>;
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
      js: 'import { createRequire as ownRequire } from "node:module"; const require = ownRequire(import.meta.url);',
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

export async function createLab(
  path: Path,
  worker: string,
  {
    decisions = 200,
    width = 1,
    before = 0,
  }: {
    readonly decisions?: number;
    readonly width?: number;
    /** Decisions that are there already when a run begins. */
    readonly before?: number;
  } = {},
): Promise<Lab> {
  const home = mkdtempSync(join(tmpdir(), `atoll-kill-${path}-`));
  const pem = newPem();
  const signer = signerFromPem(pem);
  const prepared = join(home, "prepared");
  mkdirSync(prepared, { mode: 0o700 });
  writeFileSync(join(prepared, "guardian.pem"), pem, { mode: 0o400 });
  const started = (
    mode: Path,
    dir: string,
    seen: string,
    count: number,
    killAt: number,
  ): Promise<NodeJS.Signals | number | null> => {
    const fd = openSync(seen, "a");
    const child = spawn(process.execPath, [worker, mode, dir, String(count), String(width)], {
      stdio: ["ignore", "ignore", "inherit", fd],
      env: { ...process.env, NODE_COMPILE_CACHE: join(home, "cache"), ATOLL_KILL_AT: String(killAt) },
    });
    closeSync(fd);
    return new Promise((resolve) => child.once("close", (code, signal) => resolve(signal ?? code)));
  };
  const done = join(home, "seen");
  const first = path === "run" ? before : decisions;
  if (first > 0 && (await started("run", prepared, done, first, 0)) !== 0)
    throw new Error("the run to begin with did not end well");
  if (path === "recover") {
    // A stop in the middle of a record.
    const segments = [...new Set([...readJournal(prepared).records()].map((r) => r.segment))];
    const file = join(prepared, segments.at(-1) ?? "");
    const bytes = readFileSync(file);
    let end = bytes.length;
    while (end > 0 && bytes[end - 1] === 0) end--;
    writeFileSync(file, Buffer.concat([bytes.subarray(0, end), Buffer.from('{"body":{"torn')]));
    appendFileSync(file, Buffer.alloc(4096));
  }

  let turn = 0;
  async function inFresh(killAt: number) {
    const folder = join(home, String(turn++));
    const dir = join(folder, "journal");
    cpSync(prepared, dir, { recursive: true });
    const seen = join(folder, "seen");
    writeFileSync(seen, "");
    const end = await started(path, dir, seen, decisions, killAt);
    const lines = readFileSync(seen, "utf8")
      .split("\n")
      .filter((line) => line !== "");
    return { folder, dir, lines, end };
  }

  return {
    path,
    async calls() {
      const { folder, lines, end } = await inFresh(0);
      rmSync(folder, { recursive: true, force: true });
      const said = lines.find((line) => line.startsWith("N "));
      if (end !== 0 || said === undefined)
        throw new Error(`the run that is counted ended with ${String(end)}`);
      return Number(said.slice(2));
    },
    async kill(call) {
      const { folder, dir, lines, end } = await inFresh(call);
      const wrong =
        end === "SIGKILL" || end === 0
          ? await judge(path, dir, signer, lines).catch(
              (error: unknown) => `refused: ${error instanceof Error ? error.message : String(error)}`,
            )
          : `the run ended with ${String(end)}`;
      rmSync(folder, { recursive: true, force: true });
      return { killed: end === "SIGKILL", wrong };
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
    const whole = createStanding(() => true);
    for (const entry of journal.entries()) {
      whole.next(entry);
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
    if (warned !== "") return `a snapshot was refused: ${warned}`;
    if (canonicalize(whole.state()) !== canonicalize(standing.state()))
      return "the snapshot and what follows it say something else than the whole log";
    // As a restart does it: what was under way is closed as unknown, and nothing is carried out.
    const { unknown } = standing.restored(journal.ownSession, OPTIONS.clock());
    if (unknown.length > 0) await journal.append(unknown, []).durable;
    // Who waited for the sync goes on before what a restart needs is followed; a checkpoint waits for that.
    await journal.checkpoint();
    const again = standing.restored(journal.ownSession, OPTIONS.clock());
    if (again.unknown.length > 0) return `${again.unknown.length} calls are still open`;
  } finally {
    await journal.close();
  }
  const reading = readJournal(dir);
  verifyStore(reading.records(), () => verifierFromRaw(signer.publicKey), reading.live);
  return "";
}
