// What a journal is asked for and what it answers.

import type {
  Input,
  Journal,
  JsonObject,
  KeyId,
  NodeDraft,
  SealedNode,
  SessionId,
} from "../../kernel/contracts/contracts.ts";
import type { Signer, Verifier } from "../../kernel/crypto/crypto.ts";
import type { Entry } from "../../kernel/evidence/evidence.ts";
import type { TrustHead } from "../../kernel/proofgraph/proofgraph.ts";
import type { Standing } from "./checkpoints.ts";
import type { Disk } from "./disk.ts";
import type { SessionHead } from "./head.ts";
import type { Cursor, Tail } from "./tail.ts";

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
  /** What follows the log; a restart goes on from its last snapshot. */
  readonly standing?: Standing;
  /** Records between two snapshots; 5,000. */
  readonly snapshotRecords?: number;
  /** What does not stop the journal and somebody should know. */
  readonly warn?: (why: string) => void;
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
  /** The last durable nodes of those that are wanted, at most `count`, from the latest back. */
  latest(count: number, wanted: (node: SealedNode["node"]) => boolean): Iterable<SealedNode>;
  /** Records that this start had to read besides those after the last checkpoint. */
  readonly replayed: number;
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
