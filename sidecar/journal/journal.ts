// The journal: what is acknowledged here is on the disk. One writer, one chain per session, checkpoints over all.
// Whoever owns the disk can destroy the tail of the log; they can neither alter nor forge a record.

import { isCode, makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type {
  Hash,
  Input,
  Journal,
  JsonObject,
  KeyId,
  NodeDraft,
  SealedNode,
  SessionId,
} from "../../kernel/contracts/contracts.ts";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Signer, Verifier } from "../../kernel/crypto/crypto.ts";
import { handOverBody } from "../../kernel/trust/trust.ts";
import { checkpointBody, createFrontier } from "../../kernel/proofgraph/proofgraph.ts";
import type { TrustHead } from "../../kernel/proofgraph/proofgraph.ts";
import { createChains } from "../../kernel/receipts/receipts.ts";
import { createCommitter } from "./commit.ts";
import type { Batch } from "./commit.ts";
import { diskAt } from "./disk.ts";
import type { Disk, OpenFile } from "./disk.ts";
import { JournalRefused, JournalUnavailable } from "./failures.ts";
import { HEAD, LIVE, META, headBytes, liveBytes, metaBytes, readMeta, replaceFile } from "./head.ts";
import type { Head, Meta, SessionHead } from "./head.ts";
import { lockFolder } from "./lock.ts";
import { readRecords } from "./read.ts";
import { inputText } from "../../kernel/evidence/evidence.ts";
import type { Entry } from "../../kernel/evidence/evidence.ts";
import { recover } from "./recover.ts";
import type { Position } from "./recover.ts";
import { segmentName } from "./segments.ts";
import { cursorAt, readTail } from "./tail.ts";
import type { Cursor, Tail } from "./tail.ts";

export { diskAt } from "./disk.ts";
export type { Disk, OpenFile } from "./disk.ts";
export { JournalRefused, JournalUnavailable } from "./failures.ts";
export { JournalLocked, lockFolder } from "./lock.ts";
export { replaceFile } from "./head.ts";
export { checkHeads, readJournal } from "./read.ts";
export type { StoredRecord, StoreReading } from "./read.ts";
export type { Cursor, Tail } from "./tail.ts";
export type { Entry } from "../../kernel/evidence/evidence.ts";

export interface JournalOptions {
  readonly dir: string;
  readonly signer: Signer;
  /** Without one the journal keeps a UUID that it makes when it is made. */
  readonly podUid?: string;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  readonly random: (bytes: number) => Uint8Array;
  /** What a checkpoint signed by this key says of the registry. */
  readonly trustHead?: (key: KeyId) => TrustHead;
  /** Earlier keys of this guardian, whose nodes are in the log. */
  readonly formerKeys?: readonly Verifier[];
  /** The key that may have been handed over to before the last stop: the log says whether it was. */
  readonly nextKey?: Signer;
  readonly checkpointNodes?: number;
  readonly checkpointMs?: number;
  readonly segmentBytes?: number;
  /** After each sync. Can not fail a call. */
  readonly landed?: (what: Landed) => void;
  readonly stateChanged?: (state: JournalState) => void;
  readonly disk?: Disk;
  readonly lock?: (dir: string) => () => void;
}
export interface Landed {
  readonly records: number;
  readonly nodes: readonly SealedNode[];
  readonly milliseconds: number;
}
export type JournalState =
  | { readonly state: "open" }
  | { readonly state: "unavailable"; readonly reason: string }
  | { readonly state: "refused"; readonly code: string; readonly reason: string }
  | { readonly state: "closed" };

export interface OpenJournal extends Journal {
  /** `end`: number of the record after the last of this append. */
  append(
    drafts: readonly NodeDraft[],
    inputs: readonly Input[],
  ): { readonly nodes: readonly SealedNode[]; readonly durable: Promise<void>; readonly end: number };
  readonly podUid: string;
  /** The guardian's own session: checkpoints, trust events, probes. */
  readonly ownSession: SessionId;
  /** The file that a torn tail was moved to when the journal was opened. */
  readonly torn: string | undefined;
  state(): JournalState;
  /** Heads of all sessions, tree and record count, as sealed. */
  heads(): readonly SessionHead[];
  readonly treeSize: number;
  /** Records that are durable. */
  readonly records: number;
  /** Everything durable from the first record on, in order; hashes and chains are checked, signatures not again. */
  entries(): Iterable<Entry>;
  /** For who copies the log: the place of a durable record, and the durable lines from a place on. */
  cursor(record: number): Cursor;
  tail(from: Cursor, mostBytes: number): Tail;
  /** The key that signs now. */
  readonly signer: Signer;
  /**
   * The key that signs now names `next` in an event of the guardian's own session, and is not used again from there on.
   * `act` is its signature of that. Rejects when the event did not become durable: then the journal, open again, is under
   * the old key.
   */
  handOver(next: Signer, act: JsonObject): Promise<SealedNode>;
  /** Signs nothing any more, for good: the key was revoked. */
  withdraw(reason: string): void;
  /** Resolves when the checkpoint and the head it names are durable; writes none when nothing was added. */
  checkpoint(): Promise<void>;
  /** Checkpoint, then give back the lock. */
  close(): Promise<void>;
}

const SEGMENT_BYTES = 8 << 20;
const MAX_WAITING = 64 << 20;
const REMEMBERED_INPUTS = 16_384;
const DRAFT = "next.draft";

type PendingHead = Omit<Head, "segment" | "at" | "checkpoint_at" | "segments"> & {
  /** Where in its batch the checkpoint stands: its line, and the number of nodes up to and with it. */
  readonly line: number;
  readonly nodes: number;
};
interface Extra {
  readonly nodes: SealedNode[];
  head: PendingHead | undefined;
  bytes: number;
  /** As of the last record of the batch. */
  end: { readonly record: number; readonly tree_size: number; readonly root_hash: Hash } | undefined;
}

export async function openJournal(options: JournalOptions): Promise<OpenJournal> {
  const disk = options.disk ?? diskAt(options.dir);
  const unlock = (options.lock ?? lockFolder)(options.dir);
  try {
    const meta = await metaOf(disk, options);
    return await start(disk, options, meta, unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

async function metaOf(disk: Disk, options: JournalOptions): Promise<Meta> {
  const found = readMeta(disk);
  if (found !== undefined) {
    if (options.podUid !== undefined && options.podUid !== found.pod_uid)
      throw new JournalRefused("CONTEXT_MISMATCH", `the journal belongs to pod \`${found.pod_uid}\``);
    return found;
  }
  if (disk.list().some((name) => name.endsWith(".jsonl") || name === HEAD))
    throw new JournalRefused("CHAIN_BROKEN", `\`${META}\` is missing`);
  const made = {
    pod_uid: options.podUid ?? uuid(options.random(16)),
    session_id: makeId("ses", options.random(16)),
    created_at: timestampOf(options.clock()),
  };
  await replaceFile(disk, META, metaBytes(made));
  return made;
}

function uuid(random: Uint8Array): string {
  const bytes = Buffer.from(random);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

async function start(
  disk: Disk,
  options: JournalOptions,
  meta: Meta,
  unlock: () => void,
): Promise<OpenJournal> {
  let signers = [options.signer, ...(options.nextKey === undefined ? [] : [options.nextKey])];
  const former = [...(options.formerKeys ?? [])];
  let signer = options.signer;
  const every = options.checkpointNodes ?? 100;
  const segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;

  let chains = createChains(signer);
  let tree = createFrontier();
  let checkpoint: Hash | "genesis" = "genesis";
  let since = 0;
  let moved = new Set<SessionId>();
  let sealedRecords = 0;
  let position: Position = { segment: 0, at: 0, record: 0 };
  let segments: readonly number[] = [];
  let file: OpenFile | undefined;
  let live: OpenFile | undefined;
  let liveLength = 0;
  const movedSince = new Map<SessionId, SessionHead>();
  const stored = new Set<Hash>();
  let state: JournalState = { state: "closed" };
  let torn: string | undefined;
  let spare: Promise<void> = Promise.resolve();
  let headWriting: Promise<void> = Promise.resolve();
  let headNext: Head | undefined;
  let retry: NodeJS.Timeout | undefined;
  let committer = newCommitter();

  function setState(next: JournalState): void {
    state = next;
    options.stateChanged?.(next);
  }

  /** Both the first opening and the one after a failure: nothing but what is on the disk counts. */
  async function open(acknowledged: number): Promise<void> {
    const mine = signers.map((s) => verifierFromRaw(s.publicKey));
    const found = await recover(disk, [...mine, ...former], acknowledged);
    signer = inForce(found.key);
    chains = createChains(signer);
    for (const head of found.check.heads()) chains.restore(head.session_id, head.lamport, head.hash);
    tree = createFrontier(found.check.tree.size, found.check.tree.peaks());
    checkpoint = found.checkpoint;
    since = found.since;
    moved = new Set(found.moved);
    sealedRecords = found.position.record;
    position = found.position;
    segments = found.segments;
    torn = found.torn ?? torn;
    stored.clear();
    movedSince.clear();
    for (const head of found.check.heads())
      if (moved.has(head.session_id)) movedSince.set(head.session_id, head);
    if (segments.length === 0) {
      // The first head, before any record: where there is a record there is a head.
      await replaceFile(disk, HEAD, headBytes(emptyHead(), signer));
      await makeDraft();
      await beginSegment(0);
    } else file = disk.open(segmentName(position.segment), "existing");
    const names = disk.list();
    live = disk.open(LIVE, names.includes(LIVE) ? "existing" : "new");
    if (!names.includes(LIVE)) await disk.syncNames();
    liveLength = Math.max(liveLength, names.includes(LIVE) ? disk.size(LIVE) : 0);
    writeLive({ record: position.record, tree_size: tree.size, root_hash: tree.root() });
    committer = newCommitter();
    prepareSpare();
    setState({ state: "open" });
  }

  function inForce(key: KeyId | undefined): Signer {
    const held = key === undefined ? options.signer : signers.find((s) => s.keyId === key);
    if (held === undefined)
      throw new JournalRefused("TRUST_KEY_UNKNOWN", `the log goes on under ${key}, whose key is not here`);
    return held;
  }
  const emptyHead = (): Head => ({
    segment: 0,
    at: 0,
    record: 0,
    checkpoint: "genesis",
    checkpoint_at: 0,
    sessions: [],
    peaks: [],
    tree_size: 0,
    root_hash: tree.root(),
    segments: [],
  });
  /** The next segment's blocks are allocated and zeroed ahead, so that a record's sync has no metadata to write. */
  async function makeDraft(): Promise<void> {
    if (disk.list().includes(DRAFT)) await disk.remove(DRAFT);
    const draft = disk.open(DRAFT, "new");
    try {
      const zeros = Buffer.alloc(Math.min(segmentBytes, 1 << 20));
      for (let at = 0; at < segmentBytes; at += zeros.byteLength)
        await draft.write(zeros.subarray(0, Math.min(zeros.byteLength, segmentBytes - at)), at);
      await draft.sync();
    } finally {
      draft.close();
    }
  }
  function prepareSpare(): void {
    spare = makeDraft();
    spare.catch(() => undefined);
  }
  /** A stop before the rename leaves a draft, which is thrown away; after it an empty segment, which is written to. */
  async function beginSegment(first: number): Promise<OpenFile> {
    const name = segmentName(first);
    await disk.rename(DRAFT, name);
    await disk.syncNames();
    file?.close();
    file = undefined;
    file = disk.open(name, "existing");
    position = { segment: first, at: 0, record: first };
    segments = [...segments, first];
    return file;
  }
  async function rotate(): Promise<{ file: OpenFile; at: number }> {
    // A spare that failed is tried once more: the disk may have room again.
    await spare.catch(makeDraft);
    const begun = await beginSegment(position.record);
    prepareSpare();
    return { file: begun, at: 0 };
  }

  function newCommitter() {
    return createCommitter<Extra>({
      fresh: () => ({ nodes: [], head: undefined, bytes: 0, end: undefined }),
      place(bytes) {
        if (file === undefined) throw new Error("no segment is open");
        if (position.at > 0 && position.at + bytes > segmentBytes) return rotate();
        return { file, at: position.at };
      },
      closed(batch) {
        batch.extra.end = { record: sealedRecords, tree_size: tree.size, root_hash: tree.root() };
      },
      landed,
      failed,
    });
  }

  function landed(batch: Batch<Extra>, bytes: number, milliseconds: number): void {
    const before = position;
    position = { ...before, at: before.at + bytes, record: before.record + batch.lines.length };
    batch.extra.nodes.forEach(noteMoved);
    if (batch.extra.head !== undefined) writeHead(batch, batch.extra.head, before);
    batch.resolve();
    if (batch.extra.end !== undefined)
      try {
        writeLive(batch.extra.end);
      } catch (error) {
        failed(error);
      }
    options.landed?.({ records: batch.lines.length, nodes: batch.extra.nodes, milliseconds });
  }

  function noteMoved({ node, hash }: SealedNode): void {
    movedSince.set(node.session_id, { session_id: node.session_id, lamport: node.lamport, hash });
  }
  function writeLive(end: {
    readonly record: number;
    readonly tree_size: number;
    readonly root_hash: Hash;
  }): void {
    const text = liveBytes({ ...end, sessions: [...movedSince.values()] });
    const padded = Buffer.alloc(Math.max(text.byteLength, liveLength));
    padded.set(text);
    liveLength = text.byteLength;
    live?.writeNow(padded, 0);
  }

  function writeHead(batch: Batch<Extra>, pending: PendingHead, before: Position): void {
    const { line, nodes: _, ...rest } = pending;
    const lengthOf = (lines: readonly string[]): number =>
      lines.reduce((sum, text) => sum + Buffer.byteLength(text, "utf8"), 0);
    const checkpointAt = before.at + lengthOf(batch.lines.slice(0, line));
    headNext = {
      ...rest,
      segment: before.segment,
      checkpoint_at: checkpointAt,
      at: checkpointAt + lengthOf(batch.lines.slice(line, line + 1)),
      segments,
    };
    movedSince.clear();
    for (const sealed of batch.extra.nodes.slice(pending.nodes)) noteMoved(sealed);
    headWriting = headWriting.then(async () => {
      const head = headNext;
      headNext = undefined;
      if (head === undefined) return;
      try {
        await replaceFile(disk, HEAD, headBytes(head, signer));
      } catch (error) {
        failed(error);
      }
    });
  }

  function failed(error: unknown): void {
    if (state.state !== "open") return committer.stop(new JournalUnavailable(error));
    const failure = new JournalUnavailable(error);
    setState({ state: "unavailable", reason: failure.message });
    committer.stop(failure);
    for (const handle of [file, live])
      try {
        handle?.close();
      } catch {
        // The descriptor is gone either way.
      }
    file = undefined;
    live = undefined;
    reopenIn(50);
  }
  function reopenIn(delay: number): void {
    retry = setTimeout(() => {
      if (state.state !== "unavailable") return;
      void headWriting
        .then(() => spare.catch(() => undefined))
        .then(() => (state.state === "unavailable" ? open(position.record) : undefined))
        .catch((error: unknown) => {
          file?.close();
          live?.close();
          file = undefined;
          live = undefined;
          if (error instanceof JournalRefused)
            setState({ state: "refused", code: error.code, reason: error.message });
          else reopenIn(Math.min(delay * 2, 1000));
        });
    }, delay);
    retry.unref();
  }

  function put(batch: Batch<Extra>, text: string): void {
    batch.lines.push(`${text}\n`);
    batch.extra.bytes += text.length + 1;
    sealedRecords++;
  }
  function seal(batch: Batch<Extra>, draft: NodeDraft): SealedNode {
    const sealed = chains.seal(draft);
    tree.append(sealed.hash);
    put(batch, sealed.text);
    batch.extra.nodes.push(sealed);
    return sealed;
  }
  function sealCheckpoint(): Promise<void> {
    const batch = committer.open();
    const heads = new Map(chains.heads().map((head) => [head.session_id, head.hash]));
    const parents = [...moved].flatMap((id) => (id === meta.session_id ? [] : (heads.get(id) ?? [])));
    const sealed = seal(batch, {
      kind: "CHECKPOINT",
      session_id: meta.session_id,
      parents,
      issued_at: timestampOf(options.clock()),
      body: checkpointBody({
        tree_size: tree.size,
        root_hash: tree.root(),
        prev_checkpoint: checkpoint,
        trust_head: options.trustHead?.(signer.keyId) ?? { height: 0, hash: "genesis" },
      }),
    });
    checkpoint = sealed.hash;
    since = 0;
    moved.clear();
    batch.extra.head = {
      line: batch.lines.length - 1,
      nodes: batch.extra.nodes.length,
      record: sealedRecords,
      checkpoint: sealed.hash,
      sessions: chains.heads(),
      peaks: tree.peaks(),
      tree_size: tree.size,
      root_hash: tree.root(),
    };
    return batch.done;
  }

  const unavailable = (): Error =>
    state.state === "refused"
      ? new JournalRefused(isCode(state.code) ? state.code : "CHAIN_BROKEN", state.reason)
      : new JournalUnavailable(state.state === "unavailable" ? state.reason : "it is closed");
  const refuse = (error: Error) => {
    const durable = Promise.reject(error);
    durable.catch(() => undefined);
    return { nodes: [], durable, end: sealedRecords };
  };

  function append(drafts: readonly NodeDraft[], inputs: readonly Input[]) {
    if (state.state !== "open") return refuse(unavailable());
    const texts = inputs.filter((input) => !stored.has(input.hash)).map(inputText);
    const batch = committer.open();
    if (batch.extra.bytes > MAX_WAITING)
      return refuse(new JournalUnavailable("too much waits to be written"));
    for (const text of texts) put(batch, text);
    for (const input of inputs) stored.add(input.hash);
    for (const oldest of stored) {
      if (stored.size <= REMEMBERED_INPUTS) break;
      stored.delete(oldest);
    }
    // A draft that cannot be sealed throws here; those before it in the call are sealed and stay.
    const nodes: SealedNode[] = [];
    for (const draft of drafts) {
      nodes.push(seal(batch, draft));
      since++;
      moved.add(draft.session_id);
    }
    const end = sealedRecords;
    if (since >= every) void sealCheckpoint();
    return { nodes, durable: batch.done, end };
  }

  async function handOver(next: Signer, act: JsonObject): Promise<SealedNode> {
    if (state.state !== "open") throw unavailable();
    const batch = committer.open();
    const sealed = seal(batch, {
      kind: "TRUST_EVENT",
      session_id: meta.session_id,
      parents: [],
      issued_at: timestampOf(options.clock()),
      body: handOverBody(act),
    });
    since++;
    moved.add(meta.session_id);
    const old = signer;
    signers = [old, next];
    // In the same turn: nothing is sealed between the two keys, and what follows is not read without the event before it.
    signer = next;
    chains.handOver(next);
    await batch.done;
    former.push(verifierFromRaw(old.publicKey));
    signers = [next];
    return sealed;
  }

  async function writeCheckpoint(): Promise<void> {
    if (state.state !== "open") throw unavailable();
    if (since > 0) await sealCheckpoint();
    await committer.idle();
    await headWriting;
    if (state.state !== "open") throw unavailable();
  }

  await open(0);
  const timer = setInterval(() => {
    if (state.state === "open" && since > 0) void sealCheckpoint();
  }, options.checkpointMs ?? 10_000);
  timer.unref();

  return {
    podUid: meta.pod_uid,
    ownSession: meta.session_id,
    torn,
    state: () => state,
    heads: () => chains.heads(),
    get treeSize() {
      return tree.size;
    },
    get records() {
      return position.record;
    },
    entries: () => readRecords(disk, position.record),
    cursor: (record) => cursorAt(disk, record),
    tail: (from, most) => readTail(disk, from, position.record, most),
    append,
    get signer() {
      return signer;
    },
    handOver,
    withdraw(reason) {
      if (state.state === "closed") return;
      setState({ state: "refused", code: "TRUST_KEY_REVOKED", reason });
    },
    checkpoint: writeCheckpoint,
    async close() {
      if (state.state === "closed") return;
      clearInterval(timer);
      clearTimeout(retry);
      try {
        if (state.state === "open") await writeCheckpoint();
      } finally {
        setState({ state: "closed" });
        committer.stop(new JournalUnavailable("it is closed"));
        await spare.catch(() => undefined);
        file?.close();
        live?.close();
        file = undefined;
        live = undefined;
        unlock();
      }
    },
  };
}
