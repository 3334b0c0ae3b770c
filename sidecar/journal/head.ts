// What the log must at least hold, kept apart from it: the head at the last checkpoint, signed and synced, and the
// live head, written after each sync and not synced itself. A log shorter than either is a rollback. Beside them the
// snapshot, signed like the head: what a restart knows without reading the log from its beginning.

import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import {
  arrayFrom,
  at,
  closed,
  hashFrom,
  idFrom,
  integerFrom,
  keyIdFrom,
  objectFrom,
  oneOf,
  parseJson,
  signatureFrom,
} from "../../kernel/contracts/contracts.ts";
import type {
  Code,
  Hash,
  JsonObject,
  JsonValue,
  KeyId,
  SessionId,
} from "../../kernel/contracts/contracts.ts";
import { sha256, signObject } from "../../kernel/crypto/crypto.ts";
import type { Signer, Verifier } from "../../kernel/crypto/crypto.ts";
import { createFrontier } from "../../kernel/proofgraph/proofgraph.ts";
import type { Disk } from "./disk.ts";
import { JournalRefused } from "./failures.ts";

export const HEAD = "head.json";
export const LIVE = "head.live.json";
export const SNAPSHOT = "snapshot.json";
const LIMIT = { bytes: 64 << 20, keys: 5_000_000, depth: 64 };

export interface SessionHead {
  readonly session_id: SessionId;
  readonly lamport: number;
  readonly hash: Hash;
}
/** The head at a checkpoint: all that recovery needs to go on from there. */
export interface Head {
  readonly segment: number;
  readonly at: number;
  readonly record: number;
  readonly checkpoint: Hash | "genesis";
  readonly checkpoint_at: number;
  readonly sessions: readonly SessionHead[];
  readonly peaks: readonly Hash[];
  readonly tree_size: number;
  readonly root_hash: Hash;
  readonly segments: readonly number[];
}
/** Of a journal without a record. */
export const EMPTY_HEAD: Head = {
  segment: 0,
  at: 0,
  record: 0,
  checkpoint: "genesis",
  checkpoint_at: 0,
  sessions: [],
  peaks: [],
  tree_size: 0,
  root_hash: createFrontier().root(),
  segments: [],
};
/** What follows the log besides its chains, as it stood at a checkpoint. */
export interface Snapshot {
  readonly head: Head;
  readonly state: JsonObject;
}
export interface Live {
  readonly record: number;
  readonly tree_size: number;
  readonly root_hash: Hash;
  readonly sessions: readonly SessionHead[];
}

export const bytes = (value: JsonValue): Uint8Array => Buffer.from(`${canonicalize(value)}\n`, "utf8");
const plain = (s: SessionHead): JsonObject => ({
  hash: s.hash,
  lamport: s.lamport,
  session_id: s.session_id,
});

const headObject = (head: Head): JsonObject => ({ ...head, sessions: head.sessions.map(plain) });
export const headBytes = (head: Head, signer: Signer): Uint8Array =>
  bytes(signObject({ type: "atoll.dev/head/v1", key_id: signer.keyId, ...headObject(head) }, signer));
export const snapshotBytes = ({ head, state }: Snapshot, signer: Signer): Uint8Array =>
  bytes(
    signObject(
      { type: "atoll.dev/snapshot/v1", key_id: signer.keyId, head: headObject(head), state },
      signer,
    ),
  );
export function liveBytes(live: Live): Uint8Array {
  const { record, root_hash, tree_size } = live;
  const sessions = live.sessions.map(plain);
  const type = "atoll.dev/head-live/v1";
  const sum = sha256(canonicalize({ record, root_hash, sessions, tree_size, type }));
  return bytes({ record, root_hash, sessions, sum, tree_size, type });
}

const HEAD_MEMBERS = [
  "segment",
  "at",
  "record",
  "checkpoint",
  "checkpoint_at",
  "sessions",
  "peaks",
  "tree_size",
  "root_hash",
  "segments",
] as const;
type KeyOf = (id: KeyId) => Verifier | Code;

/** The signed head. Absent is a value; present and not ours stops the store. */
export function readHead(disk: Disk, keyOf: KeyOf): Head | undefined {
  const o = readSigned(disk, HEAD, "atoll.dev/head/v1", HEAD_MEMBERS, keyOf);
  return o === undefined ? undefined : headFrom(o);
}

/** The same for the snapshot. Says nothing of whether it belongs to this log. */
export function readSnapshot(disk: Disk, keyOf: KeyOf): Snapshot | undefined {
  const o = readSigned(disk, SNAPSHOT, "atoll.dev/snapshot/v1", ["head", "state"], keyOf);
  if (o === undefined) return undefined;
  return {
    head: headFrom(closed(o["head"], "head", HEAD_MEMBERS)),
    state: objectFrom(o["state"], "state"),
  };
}

function readSigned(
  disk: Disk,
  name: string,
  type: string,
  members: readonly string[],
  keyOf: KeyOf,
): JsonObject | undefined {
  const found = disk.read(name);
  if (found === undefined) return undefined;
  const o = closed(canonical(found, name), name, ["type", "key_id", "sig", ...members]);
  oneOf(o["type"], "type", [type]);
  const { sig, ...unsigned } = o;
  const keyId = keyIdFrom(o["key_id"], "key_id");
  const verifier = keyOf(keyId);
  if (typeof verifier === "string")
    throw new JournalRefused(verifier, `\`${name}\` is signed by ${keyId}, which is not this guardian's key`);
  if (!verifier.verify(canonicalize(unsigned), signatureFrom(sig, "sig")))
    throw new JournalRefused("SIGNATURE_INVALID", `the signature of \`${name}\` does not verify`);
  return o;
}

const headFrom = (o: JsonObject): Head => ({
  segment: integerFrom(o["segment"], "segment"),
  at: integerFrom(o["at"], "at"),
  record: integerFrom(o["record"], "record"),
  checkpoint: o["checkpoint"] === "genesis" ? "genesis" : hashFrom(o["checkpoint"], "checkpoint"),
  checkpoint_at: integerFrom(o["checkpoint_at"], "checkpoint_at"),
  sessions: sessionsFrom(o["sessions"]),
  peaks: arrayFrom(o["peaks"], "peaks").map((v, i) => hashFrom(v, at("peaks", i))),
  tree_size: integerFrom(o["tree_size"], "tree_size"),
  root_hash: hashFrom(o["root_hash"], "root_hash"),
  segments: arrayFrom(o["segments"], "segments").map((v, i) => integerFrom(v, at("segments", i))),
});

/** The live head; undefined when it is absent or was torn by a stop, which it may be. */
export function readLive(disk: Disk): Live | undefined {
  const found = disk.read(LIVE);
  if (found === undefined) return undefined;
  try {
    const o = closed(canonical(found, LIVE), LIVE, [
      "type",
      "record",
      "tree_size",
      "root_hash",
      "sessions",
      "sum",
    ]);
    const { sum, ...body } = o;
    if (sha256(canonicalize(body)) !== sum) return undefined;
    return {
      record: integerFrom(o["record"], "record"),
      tree_size: integerFrom(o["tree_size"], "tree_size"),
      root_hash: hashFrom(o["root_hash"], "root_hash"),
      sessions: sessionsFrom(o["sessions"]),
    };
  } catch {
    return undefined;
  }
}

export function canonical(found: Uint8Array, name: string): JsonValue {
  const end = found.indexOf(0x0a);
  const line = found.subarray(0, end < 0 ? 0 : end);
  const beyond = found.subarray(end + 1).some((byte) => byte !== 0);
  const value = end < 0 ? null : parseOrNull(line);
  if (value === null || beyond || Buffer.compare(Buffer.from(canonicalize(value), "utf8"), line) !== 0)
    throw new JournalRefused("CHAIN_BROKEN", `\`${name}\` is damaged`);
  return value;
}

function parseOrNull(line: Uint8Array): JsonValue {
  try {
    return parseJson(line, LIMIT);
  } catch {
    return null;
  }
}

const sessionsFrom = (v: JsonValue | undefined): readonly SessionHead[] =>
  arrayFrom(v, "sessions").map((entry, i) => {
    const path = at("sessions", i);
    const o = closed(entry, path, ["session_id", "lamport", "hash"]);
    return {
      session_id: idFrom("ses", o["session_id"], at(path, "session_id")),
      lamport: integerFrom(o["lamport"], at(path, "lamport"), 1),
      hash: hashFrom(o["hash"], at(path, "hash")),
    };
  });

/** So few bytes are handed to the system in less time than a thread is asked to. */
const AT_ONCE = 64 << 10;

/** Replaces a small file so that a stop at any point leaves the old one or the new one. */
export async function replaceFile(disk: Disk, name: string, content: Uint8Array): Promise<void> {
  const draft = `${name}.draft`;
  if (disk.list().includes(draft)) await disk.remove(draft);
  const file = disk.open(draft, "new");
  try {
    if (content.byteLength <= AT_ONCE) file.writeNow(content, 0);
    else await file.write(content, 0);
    await file.sync();
  } finally {
    file.close();
  }
  await disk.rename(draft, name);
  await disk.syncNames();
}
