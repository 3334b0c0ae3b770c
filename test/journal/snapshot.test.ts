// What a restart goes on from. However it was changed, exchanged or cut, it must say what the whole log says, or the
// journal does not open.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import { hashJson, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { receiptBody } from "../../kernel/receipts/receipts.ts";
import { createStanding } from "../../sidecar/guard/standing.ts";
import { diskAt, openJournal } from "../../sidecar/journal/journal.ts";
import type { Disk, JournalOptions } from "../../sidecar/journal/journal.ts";
import { readSnapshot } from "../../sidecar/journal/head.ts";
import { recover } from "../../sidecar/journal/recover.ts";
import { bringUp } from "../../sidecar/journal/resume.ts";
import { decisions, newFolder, newSigner, open, receipt, session } from "./scene.ts";
import { tape } from "./tape.ts";
import type { Files } from "./tape.ts";

const SNAPSHOT = "snapshot.json";
const onTape = (disk: Disk, signer: Signer, more: Partial<JournalOptions> = {}) =>
  openJournal({
    dir: "/nowhere",
    signer,
    podUid: "pod-1",
    clock: () => 1_800_000_000_000,
    random: (n: number) => randomBytes(n),
    disk,
    lock: () => () => undefined,
    segmentBytes: 32 << 10,
    checkpointNodes: 20,
    checkpointMs: 3_600_000,
    snapshotRecords: 60,
    ...more,
  });
const filesOf = (disk: Disk): Map<string, Uint8Array> =>
  new Map(disk.list().map((name) => [name, disk.read(name) ?? new Uint8Array()]));
const state = (standing: { state(): Parameters<typeof canonicalize>[0] }): string =>
  canonicalize(standing.state());

/** A log, its files while a call is under way, and what the whole of it says. */
async function logOf(signer: Signer, count: number, from = 0) {
  const { disk } = tape();
  const journal = await onTape(disk, signer, { standing: createStanding(() => true) });
  await decisions(journal, count, { from });
  await journal.append([intentOf(from)], []).durable;
  const files = filesOf(disk);
  const whole = createStanding(() => true);
  for (const entry of journal.entries()) whole.next(entry);
  const records = journal.records;
  await journal.close();
  return { files, closed: filesOf(disk), whole: state(whole), records };
}
const intentOf = (n: number) =>
  ({
    kind: "INTENT",
    session_id: session(1),
    parents: [],
    issued_at: timestampOf(1_800_000_000_000 + n),
    body: receiptBody(
      receipt(n + 77, {
        effect_id: makeId("eff", new Uint8Array(16).fill(n % 256)),
        usage: { ...receipt(0, {}).usage, calls: 1 },
      }),
    ),
  }) as const;

/** Opens a copy of the files: what its standing says, from where it read, and what it complained of. */
async function opened(files: Files, signer: Signer) {
  const standing = createStanding(() => true);
  const warned: string[] = [];
  const { disk } = tape({ files });
  const journal = await onTape(disk, signer, { standing, warn: (why) => warned.push(why) });
  return { says: state(standing), replayed: journal.replayed, records: journal.records, warned };
}
const withSnapshot = (files: Files, snapshot: Uint8Array | undefined): Files => {
  const copy = new Map(files);
  if (snapshot === undefined) copy.delete(SNAPSHOT);
  else copy.set(SNAPSHOT, snapshot);
  return copy;
};

describe("a restart", () => {
  test("goes on from the last snapshot and knows what the whole log says", async () => {
    const signer = newSigner();
    const dir = newFolder();
    const standing = createStanding((tool) => tool !== "tool:demo/tool3");
    const more = { dir, signer, checkpointNodes: 50, snapshotRecords: 200, lock: () => () => undefined };
    const first = await open({ ...more, standing });
    await decisions(first, 400);
    await first.append([intentOf(0)], []).durable;
    const again = createStanding((tool) => tool !== "tool:demo/tool3");
    const second = await open({ ...more, standing: again });
    expect(second.replayed).toBeGreaterThan(0);
    expect(second.replayed).toBeLessThan(second.records / 2);
    expect(state(again)).toBe(state(standing));
    const whole = createStanding((tool) => tool !== "tool:demo/tool3");
    for (const entry of second.entries()) whole.next(entry);
    expect(state(again)).toBe(state(whole));
    const { sessions, unknown, spent } = again.restored(second.ownSession, 0);
    expect(sessions).toHaveLength(3);
    expect(unknown).toHaveLength(1);
    expect(spent.open.size).toBe(1);
    expect(sessions.reduce((sum, s) => sum + s.calls, 0)).toBe(241);
  });

  test("after a clean end reads nothing again", async () => {
    const signer = newSigner();
    const { closed, whole } = await logOf(signer, 70);
    const after = await opened(closed, signer);
    expect(after).toMatchObject({ says: whole, replayed: 0, warned: [] });
  });

  test("without a snapshot reads everything and says nothing of it", async () => {
    const signer = newSigner();
    const { files, whole, records } = await logOf(signer, 70);
    const after = await opened(withSnapshot(files, undefined), signer);
    expect(after).toEqual({ says: whole, replayed: records, records, warned: [] });
  });

  test("finds the latest nodes from their heads, without reading what is before them", async () => {
    const signer = newSigner();
    const dir = newFolder();
    const journal = await open({ dir, signer });
    await decisions(journal, 300);
    const nodes = [...journal.entries()].flatMap((e) => (e.kind === "node" ? [e.sealed.hash] : []));
    const latest = [...journal.latest(100, () => true)].map((sealed) => sealed.hash);
    expect(latest.toReversed()).toEqual(nodes.slice(-100));
    await journal.close();
  });
});

describe("a snapshot that is not this log's", () => {
  test("with any one byte changed is not used, and the whole log is read", async () => {
    const signer = newSigner();
    const { files, whole, records } = await logOf(signer, 70);
    const good = files.get(SNAPSHOT) ?? new Uint8Array();
    const { disk } = tape({ files });
    const keyOf = () => verifierFromRaw(signer.publicKey);
    const found = await recover(disk, [keyOf()], records);
    expect(found.position.record).toBe(records);
    const tried = (bytes: Uint8Array) => {
      const warned: string[] = [];
      const standing = createStanding(() => true);
      const view: Disk = { ...disk, read: (name) => (name === SNAPSHOT ? bytes : disk.read(name)) };
      const from = bringUp(view, standing, found, [keyOf()], (why) => warned.push(why));
      return { from, says: state(standing), warned };
    };
    expect(tried(good)).toMatchObject({ says: whole, warned: [] });
    expect(tried(good).from).toBeGreaterThan(0);
    expect(good.byteLength).toBeGreaterThan(2000);
    const flipped = (at: number): Uint8Array => {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ (1 << (at % 8));
      return bad;
    };
    for (let at = 0; at < good.byteLength; at++) {
      const bad = flipped(at);
      const view: Disk = { ...disk, read: () => bad };
      expect(() => readSnapshot(view, keyOf), `byte ${at}`).toThrow();
    }
    for (let at = 0; at < good.byteLength; at += 401) {
      const { from, says, warned } = tried(flipped(at));
      expect([at, from, warned.length, says === whole]).toEqual([at, 0, 1, true]);
    }
    for (const cut of [0, 1, good.byteLength >> 1, good.byteLength - 1])
      expect(tried(good.subarray(0, cut))).toMatchObject({ from: 0, says: whole });
  });

  test("but an older one of it: more is read, and nothing is known otherwise", async () => {
    const signer = newSigner();
    const { disk } = tape();
    const standing = createStanding(() => true);
    const journal = await onTape(disk, signer, { standing });
    await decisions(journal, 40);
    await journal.checkpoint();
    const older = disk.read(SNAPSHOT);
    await decisions(journal, 60, { from: 1000 });
    await journal.append([intentOf(5)], []).durable;
    await journal.checkpoint();
    const files = filesOf(disk);
    const fresh = await opened(files, signer);
    const late = await opened(withSnapshot(files, older), signer);
    expect(older).not.toEqual(disk.read(SNAPSHOT));
    expect(late.replayed).toBeGreaterThan(fresh.replayed);
    expect(late).toMatchObject({ says: state(standing), warned: [] });
    expect(fresh).toMatchObject({ says: state(standing), warned: [] });
  });

  test("of another journal is not used: of the same key, of another, of a shorter log", async () => {
    const signer = newSigner();
    const mine = await logOf(signer, 90);
    const same = await logOf(signer, 40);
    const other = await logOf(newSigner(), 40);
    for (const [snapshot, why] of [
      [same.files.get(SNAPSHOT), /does not hold the last checkpoint|is missing|ends before|at byte/],
      [other.files.get(SNAPSHOT), /not this guardian's key/],
    ] as const) {
      const after = await opened(withSnapshot(mine.files, snapshot), signer);
      expect(after.says).toBe(mine.whole);
      expect(after.replayed).toBe(mine.records);
      expect(after.warned).toEqual([expect.stringMatching(why)]);
    }
  });

  test("of a state that is none is not used, although it is signed", async () => {
    const signer = newSigner();
    const { disk } = tape();
    const broken = { ...createStanding(() => true), state: () => ({ sessions: [] }) };
    const journal = await onTape(disk, signer, { standing: broken });
    await decisions(journal, 70);
    const after = await opened(filesOf(disk), signer);
    expect(after.replayed).toBe(after.records);
    expect(after.warned).toEqual([expect.stringContaining("is not used")]);
  });

  test("that is ahead of the log shows that the log was cut: the journal does not open", async () => {
    const signer = newSigner();
    const { disk } = tape();
    const journal = await onTape(disk, signer, { standing: createStanding(() => true) });
    await decisions(journal, 40);
    await journal.checkpoint();
    const before = filesOf(disk);
    await decisions(journal, 60, { from: 1000 });
    await journal.close();
    const cut = withSnapshot(before, disk.read(SNAPSHOT));
    await expect(opened(cut, signer)).rejects.toThrow("was made after");
  });
});

describe("between an older snapshot and the last checkpoint", () => {
  test("two nodes of different sessions that have changed places are seen", async () => {
    const signer = newSigner();
    const { disk } = tape();
    const journal = await onTape(disk, signer, {
      segmentBytes: 1 << 20,
      standing: createStanding(() => true),
    });
    await decisions(journal, 40);
    await journal.checkpoint();
    const older = disk.read(SNAPSHOT);
    await decisions(journal, 60, { from: 1000 });
    await journal.checkpoint();
    const files = new Map(withSnapshot(filesOf(disk), older));
    expect((await opened(files, signer)).warned).toEqual([]);
    const [name] = [...files.keys()].filter((n) => n.endsWith(".jsonl"));
    const text = Buffer.from(files.get(name ?? "") ?? []).toString("latin1");
    const lines = text.split("\n");
    const from = lines.length - 60;
    const sessionAt = (i: number) => /"session_id":"([^"]+)"/.exec(lines[i] ?? "")?.[1];
    let at = from;
    // Neighbours of the same length keep every byte position after them.
    while (!(isAttestation(lines[at]) && isAttestation(lines[at + 3]) && sessionAt(at) !== sessionAt(at + 3)))
      at++;
    [lines[at], lines[at + 3]] = [lines[at + 3] ?? "", lines[at] ?? ""];
    files.set(name ?? "", Buffer.from(lines.join("\n"), "latin1"));
    await expect(opened(files, signer)).rejects.toThrow(/not the one that its head was written for|at byte/);
  });

  test("facts that were taken out taint their session", async () => {
    const standing = createStanding(() => true);
    const signer = newSigner();
    const { disk } = tape();
    const journal = await onTape(disk, signer, { standing });
    await decisions(journal, 20, { sessions: 2 });
    expect(standing.restored(journal.ownSession, 0).sessions.map((s) => s.tainted)).toEqual([false, false]);
    const without = createStanding(() => true);
    let dropped = 0;
    for (const entry of journal.entries()) {
      if (entry.kind === "input" && entry.input.hash === receipt(4, {}).facts_hash && ++dropped > 0) continue;
      without.next(entry);
    }
    expect(dropped).toBe(1);
    expect(without.restored(journal.ownSession, 0).sessions.map((s) => s.tainted)).toEqual([true, false]);
  });
});

test("a snapshot that cannot be written stops nothing and is told", async () => {
  const signer = newSigner();
  const warned: string[] = [];
  let full = true;
  const { disk } = tape({
    fault: (step) => {
      if (full && step.op === "create" && step.name.startsWith(SNAPSHOT)) throw new Error("ENOSPC: no space");
    },
  });
  const journal = await onTape(disk, signer, {
    standing: createStanding(() => true),
    warn: (why) => warned.push(why),
  });
  await decisions(journal, 70);
  expect(journal.state().state).toBe("open");
  expect(warned[0]).toContain("no space");
  expect(disk.read(SNAPSHOT)).toBeUndefined();
  full = false;
  await decisions(journal, 70, { from: 500 });
  await journal.close();
  expect(disk.read(SNAPSHOT)).toBeDefined();
});

test("a snapshot is signed by the guardian's own key and bound to a checkpoint", async () => {
  const signer = newSigner();
  const dir = newFolder();
  const journal = await open({ dir, signer, standing: createStanding(() => true) });
  await decisions(journal, 100);
  await journal.close();
  const o = JSON.parse(readFileSync(join(dir, SNAPSHOT), "utf8"));
  expect(o).toMatchObject({ type: "atoll.dev/snapshot/v1", key_id: signer.keyId });
  expect(o.head.root_hash).toMatch(/^sha256:/);
  expect(diskAt(dir).list()).not.toContain(`${SNAPSHOT}.draft`);
  expect(hashJson(o.state)).toMatch(/^sha256:/);
});

const isAttestation = (line: string | undefined): boolean => line?.includes('"kind":"ATTESTATION"') === true;
