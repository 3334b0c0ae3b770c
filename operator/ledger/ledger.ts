// The door of the ledger: what guardians ship is verified record by record, stored in order and once, and committed
// to by a checkpoint of the ledger's own over all of them. It may withhold; it can neither forge nor widen anything.

import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Code, Hash } from "../../kernel/contracts/contracts.ts";
import type { Signer, Verifier } from "../../kernel/crypto/crypto.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { checkpointBody, createTree } from "../../kernel/proofgraph/proofgraph.ts";
import { createChains } from "../../kernel/receipts/receipts.ts";
import { embeddedStore } from "./embedded.ts";
import { REGISTRY } from "./registrar.ts";
import { beginShelf, ownText, parseOwn, parseState } from "./shelf.ts";
import type { Reading } from "./shelf.ts";
import type { LedgerStore } from "./store.ts";

export { auditLedger } from "./audit.ts";
export type { Audit } from "./audit.ts";
export { embeddedStore } from "./embedded.ts";
export { hostLedger } from "./hosted.ts";
export type { HostedLedger, HostOptions } from "./hosted.ts";
export { REGISTRY, createRegistrar, registryEvents } from "./registrar.ts";
export type { Registrar, RegistrarOptions, Revoked } from "./registrar.ts";
export { serveLedger } from "./server.ts";
export type { LedgerServer, ServeOptions } from "./server.ts";
export type { LedgerStore, Shelf } from "./store.ts";

/** `postgres://…`, or the folder of an embedded store. */
export async function openStore(place: string): Promise<LedgerStore> {
  if (!/^postgres(ql)?:\/\//.test(place)) return embeddedStore(place.replace(/^file:(\/\/)?/, ""));
  // The driver is loaded where it is used, and nowhere else.
  const { postgresStore } = await import("./postgres.ts");
  return postgresStore(place);
}

export interface LedgerOptions {
  readonly store: LedgerStore;
  /**
   * The keys that a pod's guardian has had, the first one first; empty when none was published. Its log begins under one of
   * them, and goes over to the next one where the old key says so.
   */
  readonly keysOf: (pod: string) => Promise<readonly Verifier[]>;
  /** A key that follows another has to be among `keysOf` before: there is a registrar. */
  readonly published?: boolean;
  /** Of role `ledger`. */
  readonly signer: Signer;
  readonly clock: () => number;
  readonly random: (bytes: number) => Uint8Array;
}

export type Accepted =
  | { readonly ok: true; readonly count: number }
  /** Not the next record: `count` says where to go on. */
  | { readonly ok: false; readonly problem: "gap"; readonly count: number }
  /** A record of this number is there, and it is another one. */
  | {
      readonly ok: false;
      readonly problem: "fork";
      readonly count: number;
      readonly record: number;
      readonly here: Hash;
      readonly there: Hash;
    }
  | {
      readonly ok: false;
      readonly problem: "refused";
      readonly count: number;
      readonly record: number;
      readonly code: Code;
      readonly reason: string;
    };

export interface PodStatus {
  readonly pod: string;
  readonly count: number;
  readonly tree_size: number;
  /** The last checkpoint of the guardian, and the tree it committed to. */
  readonly checkpoint: Hash | "genesis";
}

export interface Ledger {
  accept(pod: string, from: number, lines: readonly string[]): Promise<Accepted>;
  status(pod: string): Promise<PodStatus>;
  pods(): Promise<readonly PodStatus[]>;
  /** Commits to the latest checkpoint of every guardian; undefined when none is new. */
  checkpoint(): Promise<Hash | undefined>;
}

/** The shelf of the ledger's own chain. */
export const OWN = "";

export function createLedger(options: LedgerOptions): Ledger {
  const { store } = options;
  const readings = new Map<string, Reading>();
  const turns = new Map<string, Promise<unknown>>();

  /** One after the other for each pod. */
  function inTurn<T>(pod: string, work: () => Promise<T>): Promise<T> {
    const before = turns.get(pod) ?? Promise.resolve();
    const mine = before.then(work, work);
    const settled = mine.catch(() => undefined);
    turns.set(pod, settled);
    void settled.then(() => {
      if (turns.get(pod) === settled) turns.delete(pod);
    });
    return mine;
  }

  async function readingOf(pod: string): Promise<Reading> {
    const known = readings.get(pod);
    if (known !== undefined) return known;
    const shelf = await store.shelf(pod);
    const reading = beginShelf(shelf?.state ?? "", await options.keysOf(pod), options.published === true);
    // What came after the last checkpoint is read again: from there the verification goes on.
    for (let at = reading.record; at < (shelf?.count ?? 0); ) {
      const lines = await store.lines(pod, at, 1000);
      if (lines.length === 0) throw new Error(`the store has lost records of ${pod} from ${at} on`);
      for (const line of lines) {
        const fault = reading.next(line);
        if (fault !== null) throw new Error(`the store's record ${at} of ${pod}: ${fault.reason}`);
        at++;
      }
    }
    readings.set(pod, reading);
    return reading;
  }

  /** Reads them all, or says which one cannot be. */
  function read(reading: Reading, lines: readonly string[]) {
    for (const line of lines) {
      const record = reading.record;
      const fault = reading.next(line);
      if (fault !== null) return { record, ...fault };
    }
    return undefined;
  }

  async function accept(pod: string, from: number, lines: readonly string[]): Promise<Accepted> {
    if (pod === OWN || pod === REGISTRY) throw new RangeError("the ledger's own chains are not shipped");
    let reading = await readingOf(pod);
    const count = reading.record;
    if (from > count) return { ok: false, problem: "gap", count };
    const known = Math.min(lines.length, count - from);
    if (known > 0) {
      const stored = await store.lines(pod, from, known);
      for (let i = 0; i < known; i++)
        if (stored[i] !== lines[i])
          return {
            ok: false,
            problem: "fork",
            count,
            record: from + i,
            here: sha256(stored[i] ?? ""),
            there: sha256(lines[i] ?? ""),
          };
    }
    const fresh = lines.slice(known);
    if (fresh.length === 0) return { ok: true, count };
    let refused = read(reading, fresh);
    if (refused?.code === "TRUST_KEY_UNKNOWN") {
      // The key may have been published since this pod's last records.
      readings.delete(pod);
      reading = await readingOf(pod);
      refused = read(reading, fresh);
    }
    if (refused !== undefined) {
      readings.delete(pod);
      return { ok: false, problem: "refused", count, ...refused };
    }
    // Until the store has said yes, nothing that was read here counts.
    readings.delete(pod);
    if (!(await store.put(pod, count, fresh, reading.state()))) {
      const now = await readingOf(pod);
      return { ok: false, problem: "gap", count: now.record };
    }
    readings.set(pod, reading);
    return { ok: true, count: reading.record };
  }

  async function checkpoint(): Promise<Hash | undefined> {
    const own = await store.shelf(OWN);
    const last = parseOwn(own?.state ?? "");
    const leaves = (await store.shelves())
      .filter(({ pod }) => pod !== OWN && pod !== REGISTRY)
      .flatMap(({ pod, state }) => {
        const { checkpoint: hash } = parseState(state);
        return hash === "genesis" ? [] : [{ pod, checkpoint: hash }];
      })
      .sort((a, b) => (a.checkpoint < b.checkpoint ? -1 : 1));
    const digest = sha256(JSON.stringify(leaves));
    if (leaves.length === 0 || digest === last.digest) return undefined;
    const tree = createTree();
    for (const leaf of leaves) tree.append(leaf.checkpoint);
    const chains = createChains(options.signer);
    const session_id = last.session ?? makeId("ses", options.random(16));
    if (last.head !== undefined) chains.restore(session_id, last.lamport, last.head);
    const sealed = chains.seal({
      kind: "CHECKPOINT",
      session_id,
      parents: [],
      issued_at: timestampOf(options.clock()),
      body: checkpointBody({
        tree_size: tree.size,
        root_hash: tree.root(),
        prev_checkpoint: last.head ?? "genesis",
        trust_head: { height: 0, hash: "genesis" },
      }),
    });
    const about = JSON.stringify({ type: "atoll.dev/cluster-leaves/v1", checkpoint: sealed.hash, leaves });
    const state = ownText({ session: session_id, lamport: sealed.node.lamport, head: sealed.hash, digest });
    // Another replica may have been quicker; then its checkpoint stands.
    return (await store.put(OWN, own?.count ?? 0, [sealed.text, about], state)) ? sealed.hash : undefined;
  }

  const statusOf = (pod: string, count: number, state: string): PodStatus => {
    const { checkpoint: hash, size } = parseState(state);
    return { pod, count, tree_size: size, checkpoint: hash };
  };
  return {
    accept: (pod, from, lines) => inTurn(pod, () => accept(pod, from, lines)),
    async status(pod) {
      const shelf = await store.shelf(pod);
      return statusOf(pod, shelf?.count ?? 0, shelf?.state ?? "");
    },
    pods: async () =>
      (await store.shelves())
        .filter(({ pod }) => pod !== OWN && pod !== REGISTRY)
        .map(({ pod, count, state }) => statusOf(pod, count, state)),
    checkpoint: () => inTurn(OWN, checkpoint),
  };
}
