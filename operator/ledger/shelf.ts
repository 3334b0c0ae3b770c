// One guardian's records as they are read on: what is verified, and the little that is kept to go on from the last
// checkpoint after a restart.

import {
  arrayFrom,
  closed,
  hashFrom,
  idFrom,
  integerFrom,
  isObject,
  parseJson,
} from "../../kernel/contracts/contracts.ts";
import type { Code, Hash, SessionId } from "../../kernel/contracts/contracts.ts";
import type { Verifier } from "../../kernel/crypto/crypto.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import { createGraphCheck } from "../../kernel/proofgraph/proofgraph.ts";
import { createSuccession, publishKey, publishedKeyFrom, verifierOf } from "../../kernel/trust/trust.ts";
import type { PublishedKey } from "../../kernel/trust/trust.ts";
import type { Head } from "../../kernel/receipts/receipts.ts";

export interface ShelfState {
  /** Number of records up to and with the last checkpoint; all that follows describes the log at that place. */
  readonly record: number;
  readonly checkpoint: Hash | "genesis";
  readonly size: number;
  readonly peaks: readonly Hash[];
  readonly heads: readonly Head[];
  /** The key that signed that checkpoint; undefined in what was written before keys followed one another. */
  readonly key: PublishedKey | undefined;
}
const EMPTY: ShelfState = { record: 0, checkpoint: "genesis", size: 0, peaks: [], heads: [], key: undefined };
const LIMITS = { bytes: 64 << 20, keys: 5_000_000, depth: 8 };

export const stateText = (s: ShelfState): string => JSON.stringify({ v: 1, ...s });
export function parseState(text: string): ShelfState {
  if (text === "") return EMPTY;
  const value = parseJson(text, LIMITS);
  const names = ["v", "record", "checkpoint", "size", "peaks", "heads"];
  const o = closed(value, "state", isObject(value) && "key" in value ? [...names, "key"] : names);
  return {
    record: integerFrom(o["record"], "record"),
    checkpoint: o["checkpoint"] === "genesis" ? "genesis" : hashFrom(o["checkpoint"], "checkpoint"),
    size: integerFrom(o["size"], "size"),
    peaks: arrayFrom(o["peaks"], "peaks").map((p) => hashFrom(p, "peaks")),
    key: o["key"] === undefined ? undefined : publishedKeyFrom(o["key"], "key"),
    heads: arrayFrom(o["heads"], "heads").map((h) => {
      const head = closed(h, "heads", ["session_id", "lamport", "hash"]);
      return {
        session_id: idFrom("ses", head["session_id"], "session_id"),
        lamport: integerFrom(head["lamport"], "lamport", 1),
        hash: hashFrom(head["hash"], "hash"),
      };
    }),
  };
}

export interface Fault {
  readonly code: Code;
  readonly reason: string;
}
export interface Reading {
  /** Number of the record that comes next. */
  readonly record: number;
  /** Takes the next record, or says why it cannot be. After a fault the reading is of no use any more. */
  next(line: string): Fault | null;
  state(): string;
}

export function beginShelf(text: string, keys: readonly Verifier[], published: boolean): Reading {
  let state = parseState(text);
  let record = state.record;
  const { key } = state;
  const succession = createSuccession({
    // From a checkpoint on the log is under the key that signed it.
    first: (id) => {
      if (key !== undefined && key.key_id !== id) return "TRUST_KEY_UNKNOWN";
      const found = keys.find((k) => k.keyId === id);
      return found ?? (key === undefined || published ? "TRUST_KEY_UNKNOWN" : verifierOf(key, "key"));
    },
    follows: (_, next) =>
      published && !keys.some((k) => k.keyId === next.key_id) ? "TRUST_KEY_UNKNOWN" : "",
    honoured: () => undefined,
  });
  const check = createGraphCheck({
    order: "journal",
    keyOf: (id, node, hash) => succession.keyOf(id, node, hash),
    ...(state.record === 0
      ? {}
      : {
          resume: {
            heads: state.heads,
            tree: { size: state.size, peaks: state.peaks },
            checkpoint: state.checkpoint,
          },
        }),
  });
  return {
    get record() {
      return record;
    },
    next(line) {
      try {
        const entry = readEntry(Buffer.from(line, "utf8"));
        if (entry.kind === "node") {
          const fault = check.next(entry.sealed);
          if (fault !== null) return { code: fault.code, reason: fault.reason };
          if (entry.sealed.node.kind === "CHECKPOINT")
            state = {
              record: record + 1,
              checkpoint: entry.sealed.hash,
              size: check.tree.size,
              peaks: check.tree.peaks(),
              heads: check.heads(),
              key: succession.current === undefined ? undefined : publishKey(succession.current),
            };
        }
        record++;
        return null;
      } catch (error) {
        return { code: "CHAIN_BROKEN", reason: error instanceof Error ? error.message : String(error) };
      }
    },
    state: () => stateText(state),
  };
}

/** Where the ledger's own chain ends. */
export interface OwnState {
  readonly session: SessionId | undefined;
  readonly lamport: number;
  readonly head: Hash | undefined;
  /** Of the leaves that the last checkpoint committed to. */
  readonly digest: string;
}
export const ownText = (s: {
  readonly session: SessionId;
  readonly lamport: number;
  readonly head: Hash;
  readonly digest: string;
}): string => JSON.stringify(s);
export function parseOwn(text: string): OwnState {
  if (text === "") return { session: undefined, lamport: 0, head: undefined, digest: "" };
  const o = closed(parseJson(text, LIMITS), "own", ["session", "lamport", "head", "digest"]);
  return {
    session: idFrom("ses", o["session"], "session"),
    lamport: integerFrom(o["lamport"], "lamport", 1),
    head: hashFrom(o["head"], "head"),
    digest: hashFrom(o["digest"], "digest"),
  };
}
