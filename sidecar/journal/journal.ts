// The journal: what is acknowledged here is on the disk. One writer, one chain per session, checkpoints over all.
// Whoever owns the disk can destroy the tail of the log; they can neither alter nor forge a record.

import { isCode, timestampOf } from "../../kernel/contracts/contracts.ts";
import type {
  Hash,
  Input,
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
import { createChains } from "../../kernel/receipts/receipts.ts";
import { createCheckpoints } from "./checkpoints.ts";
import { createCommitter } from "./commit.ts";
import type { Batch } from "./commit.ts";
import type { JournalOptions, JournalState, OpenJournal } from "./contract.ts";
import { diskAt } from "./disk.ts";
import type { Disk, OpenFile } from "./disk.ts";
import { JournalRefused, JournalUnavailable } from "./failures.ts";
import { EMPTY_HEAD, HEAD, headBytes, replaceFile } from "./head.ts";
import { createLive } from "./live.ts";
import { lockFolder } from "./lock.ts";
import { metaOf } from "./meta.ts";
import type { Meta } from "./meta.ts";
import { entriesBetween, nodesBack, readRecords } from "./read.ts";
import { WINDOW, inputText, messagesNamed } from "../../kernel/evidence/evidence.ts";
import type { Entry } from "../../kernel/evidence/evidence.ts";
import { recover } from "./recover.ts";
import type { Position, Recovered } from "./recover.ts";
import { createRemembered } from "./remembered.ts";
import { headOf } from "./pending.ts";
import type { PendingHead } from "./pending.ts";
import { bringUp } from "./resume.ts";
import { segmentName } from "./segments.ts";
import { createSpare } from "./spare.ts";
import { cursorAt, readTail } from "./tail.ts";

export type { Standing } from "./checkpoints.ts";
export type { JournalOptions, JournalState, Landed, OpenJournal } from "./contract.ts";
export { diskAt } from "./disk.ts";
export type { Disk, OpenFile } from "./disk.ts";
export { JournalRefused, JournalUnavailable } from "./failures.ts";
export { JournalLocked, lockFolder } from "./lock.ts";
export { replaceFile } from "./head.ts";
export { checkHeads, readJournal } from "./read.ts";
export type { StoredRecord, StoreReading } from "./read.ts";
export type { Cursor, Tail } from "./tail.ts";
export type { Entry } from "../../kernel/evidence/evidence.ts";

const SEGMENT_BYTES = 8 << 20;
/** The first is small: a start waits until it is there, and many a guardian never fills it. */
const FIRST_SEGMENT_BYTES = 512 << 10;
const MAX_WAITING = 64 << 20;
const SNAPSHOT_RECORDS = 5_000;

interface Extra {
  readonly nodes: SealedNode[];
  /** The records themselves, where something follows them. */
  readonly entries: Entry[];
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
  // What need not be written again: never more than a reader of the log remembers.
  const stored = createRemembered<Hash>(WINDOW.inputs, WINDOW.characters);
  let state: JournalState = { state: "closed" };
  let torn: string | undefined;
  let opened = false;
  let replayed = 0;
  let retry: NodeJS.Timeout | undefined;
  /** What is kept of durable batches for a restart, in their order, and not yet done. */
  const owed: (() => void)[] = [];
  let committer = newCommitter();
  const live = createLive(disk);
  const warn = options.warn ?? (() => undefined);
  const sizeOf = (first: number): number =>
    first === 0 ? Math.min(segmentBytes, FIRST_SEGMENT_BYTES) : segmentBytes;
  const spare = createSpare(disk);
  const checkpoints = createCheckpoints({
    disk,
    standing: options.standing,
    snapshotRecords: options.snapshotRecords ?? SNAPSHOT_RECORDS,
    failed,
    warn,
  });

  function setState(next: JournalState): void {
    state = next;
    options.stateChanged?.(next);
  }

  /** Both the first opening and the one after a failure: nothing but what is on the disk counts. */
  async function open(acknowledged: number): Promise<void> {
    const mine = signers.map((s) => verifierFromRaw(s.publicKey));
    const found = await recover(disk, [...mine, ...former], acknowledged);
    spare.reset();
    signer = inForce(found.key);
    followFound(found, [...mine, ...former]);
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
    live.since(found.check.heads().filter((head) => moved.has(head.session_id)));
    if (segments.length === 0) {
      spare.prepare(sizeOf(0));
      // The first head, before any record: where there is a record there is a head.
      await replaceFile(disk, HEAD, headBytes(EMPTY_HEAD, signer));
      await beginSegment(0);
    } else file = disk.open(segmentName(position.segment), "existing");
    await live.open({ record: position.record, tree_size: tree.size, root_hash: tree.root() });
    committer = newCommitter();
    lookAhead();
    setState({ state: "open" });
  }

  function inForce(key: KeyId | undefined): Signer {
    const held = key === undefined ? options.signer : signers.find((s) => s.keyId === key);
    if (held === undefined)
      throw new JournalRefused("TRUST_KEY_UNKNOWN", `the log goes on under ${key}, whose key is not here`);
    return held;
  }

  /** At the first opening all that the standing has not seen; after a failure what was on the disk and not reported. */
  function followFound(found: Recovered, keys: readonly Verifier[]): void {
    const { standing } = options;
    if (standing === undefined) return;
    // Recovery has just verified what was not reported: the head is never ahead of that.
    if (opened) return checkpoints.follow(entriesBetween(disk, position, found.position.record));
    replayed = found.position.record - bringUp(disk, standing, found, keys, warn);
    checkpoints.stands(found.position.record - replayed);
    opened = true;
  }

  async function beginSegment(first: number): Promise<OpenFile> {
    const name = segmentName(first);
    await spare.take(name, sizeOf(first));
    file?.close();
    file = undefined;
    file = disk.open(name, "existing");
    position = { segment: first, at: 0, record: first };
    segments = [...segments, first];
    return file;
  }
  /** The next segment is made while there is room in this one. */
  function lookAhead(): void {
    if (position.at > sizeOf(position.segment) / 2) spare.prepare(segmentBytes);
  }

  function newCommitter() {
    return createCommitter<Extra>({
      fresh: () => ({ nodes: [], entries: [], head: undefined, bytes: 0, end: undefined }),
      place(bytes) {
        if (file === undefined) throw new Error("no segment is open");
        if (position.at > 0 && position.at + bytes > sizeOf(position.segment))
          return beginSegment(position.record).then((begun) => ({ file: begun, at: 0 }));
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
    live.moved(batch.extra.nodes);
    const pending = batch.extra.head;
    if (pending !== undefined) {
      live.since([]);
      live.moved(batch.extra.nodes.slice(pending.nodes));
    }
    batch.resolve();
    if (batch.extra.end !== undefined)
      try {
        live.write(batch.extra.end);
      } catch (error) {
        failed(error);
      }
    options.landed?.({ records: batch.lines.length, nodes: batch.extra.nodes, milliseconds });
    const begun = segments;
    owed.push(() => keep(batch, before, begun));
    // Those who waited go on first, and what they append is on its way to the disk by then.
    if (owed.length === 1) setImmediate(() => setImmediate(settle));
  }
  function settle(): void {
    for (const next of owed.splice(0)) next();
  }
  /** What a restart knows of a durable batch besides the log. */
  function keep({ lines, extra }: Batch<Extra>, before: Position, begun: readonly number[]): void {
    const { head: pending, entries } = extra;
    const signed =
      pending === undefined
        ? undefined
        : { head: headOf(pending, lines, before, begun), by: pending.by, at: pending.line };
    if (signed !== undefined) checkpoints.head(signed);
    lookAhead();
    checkpoints.follow(entries, signed);
  }

  function failed(error: unknown): void {
    settle();
    if (state.state !== "open") return committer.stop(new JournalUnavailable(error));
    const failure = new JournalUnavailable(error);
    setState({ state: "unavailable", reason: failure.message });
    committer.stop(failure);
    shut();
    reopenIn(50);
  }
  function shut(): void {
    for (const handle of [file, live])
      try {
        handle?.close();
      } catch {
        // The descriptor is gone either way.
      }
    file = undefined;
  }
  function reopenIn(delay: number): void {
    retry = setTimeout(() => {
      if (state.state !== "unavailable") return;
      void checkpoints
        .idle()
        .then(() => spare.idle())
        .then(() => (state.state === "unavailable" ? open(position.record) : undefined))
        .catch((error: unknown) => {
          shut();
          if (error instanceof JournalRefused)
            setState({ state: "refused", code: error.code, reason: error.message });
          else reopenIn(Math.min(delay * 2, 1000));
        });
    }, delay);
    retry.unref();
  }

  function put(batch: Batch<Extra>, text: string, entry: Entry): void {
    batch.lines.push(`${text}\n`);
    if (options.standing !== undefined) batch.extra.entries.push(entry);
    batch.extra.bytes += text.length + 1;
    sealedRecords++;
  }
  function seal(batch: Batch<Extra>, draft: NodeDraft): SealedNode {
    const sealed = chains.seal(draft);
    tree.append(sealed.hash);
    put(batch, sealed.text, { kind: "node", sealed });
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
      by: signer,
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
    const batch = committer.open();
    if (batch.extra.bytes > MAX_WAITING)
      return refuse(new JournalUnavailable("too much waits to be written"));
    for (const input of inputs) {
      if (stored.has(input.hash)) continue;
      const text = inputText(input);
      put(batch, text, { kind: "input", input, text, refers: messagesNamed(input.value) });
      stored.add(input.hash, text.length);
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
    settle();
    await checkpoints.idle();
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
    latest: (count, wanted) => nodesBack(disk, chains.heads(), count, wanted),
    replayed,
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
        checkpoints.closing();
        if (state.state === "open") await writeCheckpoint();
      } finally {
        setState({ state: "closed" });
        committer.stop(new JournalUnavailable("it is closed"));
        await spare.idle();
        shut();
        unlock();
      }
    },
  };
}
