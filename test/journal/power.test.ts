// A stop at every step of a run, with everything written kept (kill -9) and with what was not synced lost (power).
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { verifyStore } from "../../kernel/evidence/evidence.ts";
import { sha256, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { createStanding } from "../../sidecar/guard/standing.ts";
import { openJournal } from "../../sidecar/journal/journal.ts";
import type { Disk } from "../../sidecar/journal/journal.ts";
import { rawRecords } from "../../sidecar/journal/read.ts";
import { attestation, decisions, newSigner, session } from "./scene.ts";
import { dice, player, tape } from "./tape.ts";
import type { Files, Step, TapeOptions } from "./tape.ts";

const signer = newSigner();
const options = (disk: Disk) => ({
  dir: "/nowhere",
  signer,
  podUid: "pod-1",
  clock: () => 1_800_000_000_000,
  random: (n: number) => randomBytes(n),
  disk,
  lock: () => () => undefined,
  segmentBytes: 16 << 10,
  checkpointNodes: 20,
  checkpointMs: 3_600_000,
  // A snapshot at every other checkpoint.
  standing: createStanding(() => true),
  snapshotRecords: 60,
});
interface Run {
  readonly steps: readonly Step[];
  /** The log as it was in the end: which line has which hash. */
  readonly lines: readonly string[];
  readonly lineOf: ReadonlyMap<string, number>;
  /** Restarts that went on from a snapshot. */
  resumed: number;
  judged: number;
}
const linesOn = (disk: Disk): string[] =>
  [...rawRecords(disk)].map(({ line }) => Buffer.from(line).toString("utf8"));

/** Decisions on a taped disk: what was acknowledged stands on the tape where it was. */
async function run(count: number, more: TapeOptions = {}): Promise<Run> {
  const { disk, steps } = tape(more);
  const journal = await openJournal({
    ...options(disk),
    landed: ({ nodes }) => {
      for (const { hash } of nodes) steps.push({ op: "seen", what: "acknowledged", hash });
    },
  });
  await decisions(journal, count);
  await journal.close();
  // Verified once: a log that is a prefix of it, line by line, needs no second look.
  verifyStore(rawRecords(disk), () => verifierFromRaw(signer.publicKey));
  const lines = linesOn(disk);
  return { steps, lines, lineOf: new Map(lines.map((line, n) => [sha256(line), n])), resumed: 0, judged: 0 };
}

/** What is wrong with the journal that a stop left, "" when nothing is. */
async function judge(of: Run, files: Files, acknowledged: readonly string[]): Promise<string> {
  const after = tape({ files });
  try {
    const warned: string[] = [];
    const opened = options(after.disk);
    const journal = await openJournal({ ...opened, warn: (why) => warned.push(why) });
    const kept = journal.records;
    // Not at each point: the whole is read for it.
    if (of.judged++ % 4 === 0) {
      const whole = createStanding(() => true);
      for (const entry of journal.entries()) whole.next(entry);
      if (canonicalize(whole.state()) !== canonicalize(opened.standing.state()))
        return "the snapshot and what follows it are not the whole";
    }
    if (warned.length > 0) return warned.join("; ");
    if (journal.replayed < kept) of.resumed++;
    await journal.append([attestation(session(9), 1)], []).durable;
    await journal.close();
    const lines = linesOn(after.disk);
    for (let n = 0; n < kept; n++) if (lines[n] !== of.lines[n]) return `record ${n} is another`;
    for (const hash of acknowledged)
      if ((of.lineOf.get(hash) ?? kept) >= kept) return `lost ${hash}: ${kept} records are left`;
    return lines.length === kept + 2 ? "" : `${lines.length - kept} records came after`;
  } catch (error) {
    return `refused: ${error instanceof Error ? error.message : String(error)}`;
  }
}

interface Tally {
  points: number;
  readonly bad: string[];
}
async function everyStop(of: Run, how: "kill" | "power", { every = 1, seeds = 1 } = {}): Promise<Tally> {
  const p = player();
  const tally: Tally = { points: 0, bad: [] };
  for (const [k, step] of of.steps.entries()) {
    p.play(step);
    if (k % every !== 0) continue;
    for (let seed = 0; seed < (how === "kill" ? 1 : seeds); seed++) {
      const files = how === "kill" ? p.killed() : p.powerLost(dice(k * 1009 + seed));
      const said = await judge(
        of,
        files,
        p.seen.map((s) => s.hash),
      );
      tally.points++;
      if (said !== "") tally.bad.push(`${how} after step ${k} (${step.op}), seed ${seed}: ${said}`);
    }
  }
  return tally;
}

describe("a stop at every step (4.1, I1 to I6)", () => {
  test("kill -9: nothing acknowledged is lost and the store verifies", async () => {
    const of = await run(40);
    const tally = await everyStop(of, "kill");
    expect(tally.bad).toEqual([]);
    expect(of.resumed).toBeGreaterThan(30);
    expect(tally.points).toBeGreaterThan(200);
    console.log(`${tally.points} points of kill -9`);
  });

  test("loss of power: the same, whatever of the unsynced sectors survived", async () => {
    const of = await run(40);
    const tally = await everyStop(of, "power", { seeds: 2 });
    expect(tally.bad).toEqual([]);
    expect(of.resumed).toBeGreaterThan(30);
    expect(tally.points).toBeGreaterThan(400);
    console.log(`${tally.points} points of power loss`);
  });

  test("within recovery from either: a second stop finds no less", async () => {
    const of = await run(30);
    const p = player();
    let points = 0;
    const bad: string[] = [];
    for (const [k, step] of of.steps.entries()) {
      p.play(step);
      if (k % 11 !== 0) continue;
      const acknowledged = p.seen.map((s) => s.hash);
      const files = p.powerLost(dice(k));
      const again = tape({ files });
      await openJournal(options(again.disk));
      // The next segment's draft is made beside it.
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      const q = player();
      for (const [name, bytes] of files) {
        const file = -1 - [...files.keys()].indexOf(name);
        q.play({ op: "create", name, file });
        q.play({ op: "write", file, at: 0, bytes });
        q.play({ op: "sync", file });
      }
      q.play({ op: "syncNames" });
      const renumber = (s: Step): Step =>
        "file" in s && s.file < files.size ? { ...s, file: -1 - s.file } : s;
      for (const inner of again.steps) {
        q.play(renumber(inner));
        for (const left of [q.killed(), q.powerLost(dice(points))]) {
          points++;
          const said = await judge(of, left, acknowledged);
          if (said !== "") bad.push(`stop after step ${k}, then after ${inner.op}: ${said}`);
        }
      }
    }
    expect(bad).toEqual([]);
    expect(points).toBeGreaterThan(150);
    console.log(`${points} points within recovery`);
  });

  test("with a sync that does nothing the same test fails: it would see a journal that acknowledges too early", async () => {
    const tally = await everyStop(await run(30, { lyingSync: true }), "power", { every: 5 });
    expect(tally.bad.length).toBeGreaterThan(tally.points / 4);
  });
});
