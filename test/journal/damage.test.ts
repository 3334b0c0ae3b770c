// Records torn, cut off and flipped: the longest valid prefix is kept, and what is damaged is named.
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import { createGraphCheck } from "../../kernel/proofgraph/proofgraph.ts";
import { JournalRefused, openJournal } from "../../sidecar/journal/journal.ts";
import type { Disk } from "../../sidecar/journal/journal.ts";
import { rawRecords } from "../../sidecar/journal/read.ts";
import { decisions, newSigner } from "./scene.ts";
import { player, tape } from "./tape.ts";
import type { Files } from "./tape.ts";

/**
 * Bytes and bits between two places that are tried. ATOLL_DAMAGE_STRIDE=1 tries every one, in a store of 200 nodes for
 * the bits: some twenty minutes.
 */
const STRIDE = Number(process.env["ATOLL_DAMAGE_STRIDE"] ?? 0);
const signer = newSigner();
const opened = (disk: Disk, checkpointNodes = 1_000_000, segmentBytes = 64 << 10) =>
  openJournal({
    dir: "/nowhere",
    signer,
    podUid: "pod",
    clock: () => 1_800_000_000_000,
    random: (n: number) => randomBytes(n),
    disk,
    lock: () => () => undefined,
    segmentBytes,
    checkpointNodes,
    checkpointMs: 3_600_000,
  });
const SEGMENT = "0000000000000000.jsonl";
const LIVE = "head.live.json";

/** A journal of one segment that was killed before its first checkpoint; its bytes, and where each record ends. */
async function killed(count: number, segmentBytes?: number) {
  const t = tape();
  const journal = await opened(t.disk, 1_000_000, segmentBytes);
  await decisions(journal, count);
  const p = player();
  for (const step of t.steps) p.play(step);
  const files = new Map(p.killed());
  const bytes = Buffer.from(files.get(SEGMENT) ?? []);
  const ends: number[] = [];
  let at = 0;
  for (const { line } of rawRecords(t.disk)) ends.push((at += line.byteLength + 1));
  return { files, bytes, ends };
}
const withSegment = (files: Files, bytes: Uint8Array, live: boolean): Files =>
  new Map(
    [...files].filter(([name]) => live || name !== LIVE).map(([n, b]) => [n, n === SEGMENT ? bytes : b]),
  );
async function recordsAfter(files: Files): Promise<number | string> {
  try {
    return (await opened(tape({ files }).disk)).records;
  } catch (error) {
    if (!(error instanceof JournalRefused)) throw error;
    return error.code;
  }
}

describe("a log that was cut or torn (4.1)", () => {
  test("keeps the longest valid prefix wherever it ends, and refuses to be shorter than its live head", async () => {
    const { files, bytes, ends } = await killed(8);
    const used = ends.at(-1) ?? 0;
    const wrong: string[] = [];
    const step = STRIDE || 1009;
    const places = new Set(ends.flatMap((e) => [e - 1, e, e + 1]));
    for (let cut = 0; cut < used; cut += step) places.add(cut);
    for (const cut of places) {
      const whole = ends.filter((end) => end <= cut).length;
      for (const tail of [Buffer.alloc(0), Buffer.alloc(600), Buffer.from("{x")]) {
        const left = Buffer.concat([bytes.subarray(0, cut), tail]);
        const without = await recordsAfter(withSegment(files, left, false));
        if (without !== whole) wrong.push(`cut at ${cut}: ${without} records, expected ${whole}`);
        const withLive = await recordsAfter(withSegment(files, left, true));
        const expected = whole === ends.length ? whole : "CHAIN_BROKEN";
        if (withLive !== expected) wrong.push(`cut at ${cut} with its live head: ${withLive}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("takes no record of which a part is missing, whatever stands in its place", async () => {
    const { files, bytes, ends } = await killed(6);
    const wrong: string[] = [];
    for (const [n, end] of ends.entries()) {
      const begin = ends[n - 1] ?? 0;
      for (let split = begin; split < end - 1; split += STRIDE || 307)
        for (const fill of [0x00, 0x20, 0x0a]) {
          const torn = Buffer.from(bytes.subarray(0, end));
          torn.fill(fill, split, end);
          const left = await recordsAfter(withSegment(files, torn, false));
          if (left !== n) wrong.push(`record ${n} torn at ${split - begin} with ${fill}: ${left} records`);
        }
    }
    expect(wrong).toEqual([]);
  });

  test("refuses damage in the middle and leaves everything as it is", async () => {
    const t = tape();
    const journal = await opened(t.disk, 10);
    await decisions(journal, 30);
    await journal.close();
    const p = player();
    for (const step of t.steps) p.play(step);
    const files = p.killed();
    const bytes = Buffer.from(files.get(SEGMENT) ?? []);
    bytes.writeUInt8((bytes[900] ?? 0) ^ 1, 900);
    const damaged = new Map([...files].map(([n, b]) => [n, n === SEGMENT ? bytes : b]));
    // The part before the last checkpoint is read when the log is: by the guardian's rebuilding, and by verify.
    const again = await opened(tape({ files: damaged }).disk);
    expect(() => [...again.entries()]).toThrow(JournalRefused);
  });
});

describe("a bit that was flipped", () => {
  test("anywhere in a log is found, in the record where it is", async () => {
    const { bytes, ends } = await killed(STRIDE === 1 ? 100 : 30, 8 << 20);
    const verifier = verifierFromRaw(signer.publicKey);
    let flips = 0;
    let at = 0;
    let resume: Parameters<typeof createGraphCheck>[0]["resume"];
    const missed: string[] = [];
    for (const [n, end] of ends.entries()) {
      const line = bytes.subarray(at, end - 1);
      const judge = (candidate: Uint8Array): boolean => {
        try {
          const entry = readEntry(candidate);
          if (entry.kind === "input") return true;
          const check = createGraphCheck({
            order: "journal",
            keyOf: (id) => (id === verifier.keyId ? verifier : "TRUST_KEY_UNKNOWN"),
            ...(resume === undefined ? {} : { resume }),
          });
          return check.next(entry.sealed) === null;
        } catch {
          return false;
        }
      };
      if (!judge(line)) missed.push(`record ${n} is not valid unflipped`);
      // A stride that is prime to eight and to a record's parts.
      const step = STRIDE || 211;
      for (let bit = n % step; bit < line.byteLength * 8; bit += step) {
        const flipped = Buffer.from(line);
        const byte = bit >> 3;
        flipped[byte] = (flipped[byte] ?? 0) ^ (1 << (bit & 7));
        flips++;
        // A new end of line leaves what is before it as the record.
        if (judge(flipped[byte] === 0x0a ? flipped.subarray(0, byte) : flipped))
          missed.push(`record ${n} bit ${bit}`);
      }
      const entry = readEntry(line);
      if (entry.kind === "node") {
        const check = createGraphCheck({
          order: "journal",
          keyOf: () => verifier,
          ...(resume === undefined ? {} : { resume }),
        });
        check.next(entry.sealed);
        resume = {
          heads: check.heads(),
          tree: { size: check.tree.size, peaks: check.tree.peaks() },
          checkpoint: "genesis",
        };
      }
      at = end;
    }
    expect(missed).toEqual([]);
    expect(flips).toBeGreaterThan(2_000);
    console.log(`${flips} bits flipped`);
  });
});
