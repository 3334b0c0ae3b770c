// Reading a journal without writing it: for export, verification, and the guardian's own rebuilding.

import type { Code, Hash, KeyId, SealedNode, SessionId } from "../../kernel/contracts/contracts.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import type { Verifier } from "../../kernel/crypto/crypto.ts";
import { diskAt } from "./disk.ts";
import type { Disk } from "./disk.ts";
import { JournalRefused } from "./failures.ts";
import { HEAD, LIVE, readHead, readLive } from "./head.ts";
import type { Live, SessionHead } from "./head.ts";
import { readMeta } from "./meta.ts";
import type { Meta } from "./meta.ts";
import { readNode } from "../../kernel/receipts/receipts.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import type { Entry } from "../../kernel/evidence/evidence.ts";
import { linesOf, segmentName, segmentsOf } from "./segments.ts";

export interface StoredRecord {
  readonly segment: string;
  readonly number: number;
  readonly line: Uint8Array;
}

/** A place in the log, and the chains as they stand there. */
export interface Start {
  readonly segment: number;
  readonly at: number;
  readonly record: number;
  readonly sessions: readonly SessionHead[];
}

/** The records up to `count`, from the first or from a place on, each checked against its hash and its place in its chain. */
export function* readRecords(disk: Disk, count: number, from?: Start): Generator<Entry> {
  const heads = new Map<SessionId, { readonly lamport: number; readonly hash: Hash }>(
    (from?.sessions ?? []).map((s) => [s.session_id, s]),
  );
  let number = from?.record ?? 0;
  for (const { segment, line } of rawRecords(disk, from)) {
    if (number === count) return;
    let entry: Entry;
    try {
      entry = readEntry(line);
    } catch (error) {
      throw new JournalRefused("CHAIN_BROKEN", `\`${segment}\` record ${number}: ${String(error)}`);
    }
    if (entry.kind === "node") {
      const { node, hash } = entry.sealed;
      const head = heads.get(node.session_id);
      if (node.prev_hash !== (head?.hash ?? "genesis") || node.lamport !== (head?.lamport ?? 0) + 1)
        throw new JournalRefused("CHAIN_BROKEN", `\`${segment}\` record ${number} does not follow its chain`);
      heads.set(node.session_id, { lamport: node.lamport, hash });
    }
    number++;
    yield entry;
  }
  if (number < count)
    throw new JournalRefused("CHAIN_BROKEN", `the log ends after ${number} records of ${count}`);
}

/** Every whole line of the log in order, unjudged; the result says where a torn rest begins. */
export function* rawRecords(
  disk: Disk,
  from: Omit<Start, "sessions"> = { segment: 0, at: 0, record: 0 },
): Generator<StoredRecord, string | undefined> {
  let number = from.record;
  let torn: string | undefined;
  for (const first of segmentsOf(disk)) {
    if (first < from.segment) continue;
    const segment = segmentName(first);
    if (first !== (first === from.segment ? from.segment : number))
      throw new JournalRefused("CHAIN_BROKEN", `\`${segment}\` follows record ${number}`);
    const lines = linesOf(disk, segment, first === from.segment ? from.at : 0);
    for (let step = lines.next(); ; step = lines.next()) {
      if (step.done === true) {
        if (step.value.dirty) torn = `\`${segment}\` record ${number} at byte ${step.value.at} is torn`;
        break;
      }
      yield { segment, number, line: step.value.bytes };
      number++;
    }
  }
  return torn;
}

/** The records from a place to below record `until`, for who knows that they were verified. */
export function entriesBetween(disk: Disk, from: Omit<Start, "sessions">, until: number): readonly Entry[] {
  const entries: Entry[] = [];
  for (const { number, line } of rawRecords(disk, from)) {
    if (number >= until) break;
    entries.push(readEntry(line));
  }
  return entries;
}

/**
 * The last nodes, from the latest back, at most `count` of those that are wanted. Each is known by its hash: a head, or
 * what the node after it names, so nothing before it has to be read.
 */
export function* nodesBack(
  disk: Disk,
  heads: readonly SessionHead[],
  count: number,
  wanted: (node: SealedNode["node"]) => boolean,
): Generator<SealedNode> {
  const expected = new Set<string>(heads.map((head) => head.hash));
  let left = count;
  for (const first of [...segmentsOf(disk)].reverse()) {
    const lines = [...linesOf(disk, segmentName(first))];
    for (let i = lines.length - 1; i >= 0; i--) {
      const line = lines[i]?.bytes ?? new Uint8Array();
      if (!expected.delete(sha256(line))) continue;
      const sealed = readNode(line);
      expected.add(sealed.node.prev_hash);
      if (!wanted(sealed.node)) continue;
      yield sealed;
      if (--left === 0) return;
    }
  }
}

export interface StoreReading {
  readonly meta: Meta;
  readonly live: Live | undefined;
  records(): Generator<StoredRecord, string | undefined>;
}

/** A journal's folder, also while its writer goes on: the live head is read first, so what it names is there. */
export function readJournal(dir: string): StoreReading {
  const disk = diskAt(dir);
  const meta = readMeta(disk);
  if (meta === undefined) throw new JournalRefused("CHAIN_BROKEN", `\`${dir}\` holds no journal`);
  return { meta, live: readLive(disk), records: () => rawRecords(disk) };
}

/** That the two heads beside the log are whole, and the signed one by a key that `keyOf` knows. */
export function checkHeads(dir: string, keyOf: (id: KeyId) => Verifier | Code): void {
  const disk = diskAt(dir);
  if (disk.read(LIVE) !== undefined && readLive(disk) === undefined)
    throw new JournalRefused("CHAIN_BROKEN", `\`${LIVE}\` is damaged`);
  if (readHead(disk, keyOf) === undefined) throw new JournalRefused("CHAIN_BROKEN", `\`${HEAD}\` is missing`);
}
