// Reading a journal without writing it: for export, verification, and the guardian's own rebuilding.

import type { Code, Hash, KeyId, SessionId } from "../../kernel/contracts/contracts.ts";
import type { Verifier } from "../../kernel/crypto/crypto.ts";
import { diskAt } from "./disk.ts";
import type { Disk } from "./disk.ts";
import { JournalRefused } from "./failures.ts";
import { HEAD, LIVE, readHead, readLive, readMeta } from "./head.ts";
import type { Live, Meta } from "./head.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import type { Entry } from "../../kernel/evidence/evidence.ts";
import { linesOf, segmentName, segmentsOf } from "./segments.ts";

export interface StoredRecord {
  readonly segment: string;
  readonly number: number;
  readonly line: Uint8Array;
}

/** The first `count` records, each checked against its hash and its place in its chain. */
export function* readRecords(disk: Disk, count: number): Generator<Entry> {
  const heads = new Map<SessionId, { readonly lamport: number; readonly hash: Hash }>();
  let number = 0;
  for (const { segment, line } of rawRecords(disk)) {
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
export function* rawRecords(disk: Disk): Generator<StoredRecord, string | undefined> {
  let number = 0;
  let torn: string | undefined;
  for (const first of segmentsOf(disk)) {
    const segment = segmentName(first);
    if (first !== number) throw new JournalRefused("CHAIN_BROKEN", `\`${segment}\` follows record ${number}`);
    const lines = linesOf(disk, segment);
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
