// From what lies on the disk to where writing goes on: the longest valid prefix, and never less than the heads say.
// Recovery changes no record. What a stop left torn behind the last whole record is moved to a file of its own.

import type { Hash, KeyId, SessionId } from "../../kernel/contracts/contracts.ts";
import type { Verifier } from "../../kernel/crypto/crypto.ts";
import { createSuccession, standingOf } from "../../kernel/trust/trust.ts";
import { createGraphCheck } from "../../kernel/proofgraph/proofgraph.ts";
import type { GraphCheck } from "../../kernel/proofgraph/proofgraph.ts";
import type { Disk } from "./disk.ts";
import { JournalRefused } from "./failures.ts";
import { HEAD, readHead, readLive } from "./head.ts";
import type { Head, Live } from "./head.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import { linesOf, segmentName, segmentsOf } from "./segments.ts";

/** Most bytes that one commit writes, so most that a stop can leave torn. */
export const MAX_BATCH = 80 << 20;
const PAGE = 4096;

export interface Position {
  /** Number of the first record of the segment, the byte in it, and the number of the record that goes there. */
  readonly segment: number;
  readonly at: number;
  readonly record: number;
}
export interface Recovered {
  readonly position: Position;
  readonly segments: readonly number[];
  readonly check: GraphCheck;
  readonly checkpoint: Hash | "genesis";
  /** Nodes after the last checkpoint, and the sessions they moved. */
  readonly since: number;
  readonly moved: ReadonlySet<SessionId>;
  /** The file that a torn tail was moved to. */
  readonly torn: string | undefined;
  /** The key under which the log goes on; undefined while it has no node. */
  readonly key: KeyId | undefined;
}

/** `acknowledged`: number of records that this very process has reported as durable. */
export async function recover(
  disk: Disk,
  verifiers: readonly Verifier[],
  acknowledged: number,
): Promise<Recovered> {
  const head = readHead(disk, (id) => verifiers.find((v) => v.keyId === id) ?? "TRUST_KEY_UNKNOWN");
  const live = readLive(disk);
  const segments = segmentsOf(disk);
  checkSegments(segments, head, live);
  const signed =
    head === undefined || head.checkpoint === "genesis" ? undefined : checkCheckpointLine(disk, head);
  const found = scan(disk, segments, verifiers, head, live, signed);
  const least = Math.max(acknowledged, live?.record ?? 0, head?.record ?? 0);
  if (least > found.position.record) throw shorter(found.position.record, least, found.reason);
  const from = head?.segment === found.position.segment ? head.at : 0;
  const torn = await settle(disk, found.position, from, found.dirty);
  return { ...found, segments, torn };
}

const shorter = (has: number, had: number, reason: string): JournalRefused =>
  new JournalRefused(
    "CHAIN_BROKEN",
    `the log ends after ${has} records and ${had} were acknowledged${reason === "" ? "" : `: ${reason}`}`,
  );

function checkSegments(segments: readonly number[], head: Head | undefined, live: Live | undefined): void {
  for (const first of head?.segments ?? [])
    if (!segments.includes(first))
      throw new JournalRefused("CHAIN_BROKEN", `segment \`${segmentName(first)}\` is missing`);
  if (segments.length > 0 && segments[0] !== 0)
    throw new JournalRefused("CHAIN_BROKEN", `segment \`${segmentName(0)}\` is missing`);
  if (segments.length === 0 && live !== undefined && live.record > 0) throw shorter(0, live.record, "");
}

/** The log at the head's place is the log that the head was written for. */
export function checkCheckpointLine(disk: Disk, head: Head): KeyId {
  const name = segmentName(head.segment);
  const length = head.at - head.checkpoint_at;
  const line = disk.readAt(name, head.checkpoint_at, length);
  if (line.byteLength < length) throw shorter(0, head.record, `\`${name}\` ends before the last checkpoint`);
  const entry = reading(name, head.checkpoint_at, () => readEntry(line.subarray(0, -1)));
  if (entry.kind !== "node" || entry.sealed.hash !== head.checkpoint)
    throw new JournalRefused(
      "CHAIN_BROKEN",
      `\`${name}\` does not hold the last checkpoint at byte ${head.checkpoint_at}`,
    );
  return entry.sealed.node.key_id;
}

function reading<T>(name: string, at: number, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new JournalRefused("CHAIN_BROKEN", `\`${name}\` at byte ${at}: ${error.message}`);
  }
}

type Found = Omit<Recovered, "segments" | "torn"> & { readonly dirty: boolean; readonly reason: string };

function scan(
  disk: Disk,
  segments: readonly number[],
  verifiers: readonly Verifier[],
  head: Head | undefined,
  live: Live | undefined,
  /** The key that was in force at the head. */
  signed: KeyId | undefined,
): Found {
  const keys = createSuccession(
    standingOf(signed === undefined ? verifiers : verifiers.filter((v) => v.keyId === signed)),
  );
  const check = createGraphCheck({
    order: "journal",
    keyOf: (id, node, hash) => keys.keyOf(id, node, hash),
    ...(head === undefined || head.record === 0
      ? {}
      : {
          resume: {
            heads: head.sessions,
            tree: { size: head.tree_size, peaks: head.peaks },
            checkpoint: head.checkpoint,
          },
        }),
  });
  if (head !== undefined && check.tree.root() !== head.root_hash)
    throw new JournalRefused("CHAIN_BROKEN", "the head's peaks do not make its root");
  const moved = new Set<SessionId>();
  let checkpoint: Hash | "genesis" = head?.checkpoint ?? "genesis";
  let since = 0;
  let position: Position = head ?? { segment: 0, at: 0, record: 0 };
  let dirty = false;
  let reason = "";

  const compareWithLive = (): void => {
    if (live !== undefined && live.tree_size === check.tree.size && live.root_hash !== check.tree.root())
      throw new JournalRefused("CHAIN_BROKEN", "the log is not the one that the live head was written for");
  };
  /** Why this line is not the next record, or "" when it is. */
  const take = (line: Uint8Array): string => {
    try {
      const entry = readEntry(line);
      if (entry.kind === "input") return "";
      const { node, hash } = entry.sealed;
      const fault = check.next(entry.sealed);
      if (fault !== null) return `${fault.code}: ${fault.reason}`;
      compareWithLive();
      if (node.kind === "CHECKPOINT") {
        checkpoint = hash;
        since = 0;
        moved.clear();
      } else {
        since++;
        moved.add(node.session_id);
      }
      return "";
    } catch (error) {
      if (error instanceof JournalRefused || !(error instanceof Error)) throw error;
      return error.message;
    }
  };

  compareWithLive();
  const rest = segments.filter((first) => first >= position.segment);
  for (const first of rest) {
    const name = segmentName(first);
    if (reason !== "" || dirty) {
      if (isEmpty(disk, name)) continue;
      throw new JournalRefused("CHAIN_BROKEN", `${reason}; \`${name}\` follows it`);
    }
    if (first !== position.segment) {
      if (first !== position.record)
        throw new JournalRefused("CHAIN_BROKEN", `\`${name}\` follows record ${position.record}`);
      position = { segment: first, at: 0, record: first };
    }
    const lines = linesOf(disk, name, position.at);
    for (let step = lines.next(); ; step = lines.next()) {
      if (step.done === true) {
        dirty ||= step.value.dirty;
        break;
      }
      if (reason !== "") continue;
      const wrong = take(step.value.bytes);
      if (wrong === "")
        position = {
          ...position,
          at: step.value.at + step.value.bytes.byteLength + 1,
          record: position.record + 1,
        };
      else {
        reason = `\`${name}\` record ${position.record} at byte ${step.value.at}: ${wrong}`;
        dirty = true;
      }
    }
    if (dirty && reason === "") reason = `\`${name}\` record ${position.record} is torn`;
    if (dirty && disk.size(name) - position.at > MAX_BATCH)
      throw new JournalRefused("CHAIN_BROKEN", `${reason}, and more follows it than one commit writes`);
  }
  if (head === undefined && (position.record > 0 || dirty))
    throw new JournalRefused("CHAIN_BROKEN", `the log has records and \`${HEAD}\` is missing`);
  return { position, check, checkpoint, since, moved, dirty, reason, key: keys.current?.keyId ?? signed };
}

function isEmpty(disk: Disk, name: string): boolean {
  const first = linesOf(disk, name).next();
  return first.done === true && !first.value.dirty;
}

/**
 * Makes the prefix durable: what was read may only be in the system's cache, or be there after a sync that failed.
 * What follows the last checkpoint is written again, so that the sync that follows covers it. A stop in here is
 * harmless: the torn tail is zeroed only after its copy is durable, and a second run does the same again.
 */
async function settle(
  disk: Disk,
  position: Position,
  from: number,
  dirty: boolean,
): Promise<string | undefined> {
  const name = segmentName(position.segment);
  if (!disk.list().includes(name)) return undefined;
  const size = disk.size(name);
  let moved: string | undefined;
  const file = disk.open(name, "existing");
  try {
    if (dirty) {
      const tail = disk.readAt(name, position.at, size - position.at);
      moved = tornName(disk, position);
      const aside = disk.open(moved, "new");
      try {
        await aside.write(tail, 0);
        await aside.sync();
      } finally {
        aside.close();
      }
      await disk.syncNames();
      await file.write(Buffer.alloc(tail.byteLength), position.at);
    }
    const page = from - (from % PAGE);
    await file.write(disk.readAt(name, page, position.at - page), page);
    await file.sync();
  } finally {
    file.close();
  }
  await disk.syncNames();
  return moved;
}

function tornName(disk: Disk, position: Position): string {
  const taken = disk.list();
  const stem = `torn-${segmentName(position.segment).slice(0, 16)}-${position.at}`;
  for (let n = 0; ; n++) {
    const name = n === 0 ? stem : `${stem}-${n}`;
    if (!taken.includes(name)) return name;
  }
}
