// A journal as it lies on the disk, checked from the first record to the last.

import type { Hash } from "../contracts/contracts.ts";
import { createGraphCheck } from "../proofgraph/proofgraph.ts";
import type { GraphOptions } from "../proofgraph/proofgraph.ts";
import type { Succession } from "../trust/trust.ts";
import { PackInvalid, broken, placed } from "./finding.ts";
import { faultIn, textOf } from "./inputs.ts";
import { createTexts, isModelCall } from "./messages.ts";
import { readEntry } from "./record.ts";
import type { Entry } from "./record.ts";
import type { CheckedBy, KnownTree } from "./verify.ts";
import { createReviews } from "./reviews.ts";

export interface StoreRecord {
  readonly segment: string;
  readonly number: number;
  readonly line: Uint8Array;
}
export interface StoreReport {
  readonly records: number;
  readonly nodes: number;
  readonly inputs: number;
  readonly redacted: number;
  readonly sessions: number;
  readonly checkpoints: number;
  readonly uncovered: number;
  /** Emergency overrides that nobody has reviewed. */
  readonly open_reviews: readonly Hash[];
  readonly tree_size: number;
  readonly root_hash: Hash;
}

type Keys = GraphOptions["keyOf"] | Pick<Succession, "keyOf" | "unproved">;
interface Least {
  readonly tree_size: number;
  readonly root_hash: Hash;
  readonly record: number;
}
const ALL = { has: () => true };

/** Throws PackInvalid at the first break. The iteration's result, if any, says where a torn rest begins. */
export function verifyStore(
  records: Iterator<StoreRecord, string | undefined>,
  keys: Keys,
  least?: Least,
  known?: KnownTree,
  by?: CheckedBy,
): StoreReport {
  const check = createStoreCheck(keys, least, known, by);
  for (let step = records.next(); ; step = records.next()) {
    if (step.done === true) return check.end(step.value);
    check.next(step.value);
  }
}

/** The same for records that come one by one. Each call throws PackInvalid at a break. */
export interface StoreCheck {
  next(record: StoreRecord): Entry;
  /** `torn` says where a rest begins that is no record. */
  end(torn?: string): StoreReport;
}

export function createStoreCheck(
  keys: Keys,
  least?: Least,
  known?: KnownTree,
  by: CheckedBy = (key) => key,
): StoreCheck {
  const check = createGraphCheck({
    order: "journal",
    keyOf(id, node, hash) {
      const key = typeof keys === "function" ? keys(id, node, hash) : keys.keyOf(id, node, hash);
      return typeof key === "string" ? key : by(key);
    },
  });
  const reviews = createReviews();
  let last = "nothing";
  let count = 0;
  let inputs = 0;
  let redacted = 0;
  let checkpoints = 0;
  let uncovered = 0;
  const compare = (): void => {
    if (least !== undefined && least.tree_size === check.tree.size && least.root_hash !== check.tree.root())
      throw broken("head.live.json", 0, `its root is not that of the first ${least.tree_size} nodes`);
    if (known !== undefined && known.size === check.tree.size && known.root !== check.tree.root())
      throw broken(last, 0, `the first ${known.size} nodes are others than those known`);
  };
  const texts = createTexts();
  // Redacted arguments that name a message which is not before them; the node that follows says whether they refer.
  let doubtful: { fault: string; hash: Hash; segment: string; number: number } | undefined;
  compare();
  function next({ segment, number, line }: StoreRecord): Entry {
    const entry = readAfter(segment, number, last, line);
    count++;
    if (entry.kind === "input") {
      inputs++;
      if (entry.input.redacted) redacted++;
      const fault = faultIn(entry, ALL, (hash) => texts.take(hash));
      if (fault !== "" && !entry.input.redacted)
        throw broken(segment, number, `the record after ${last}: ${fault}`);
      if (fault !== "") doubtful = { fault, hash: entry.input.hash, segment, number };
      texts.put(entry.input.hash, textOf(entry));
      return entry;
    }
    const { node, hash } = entry.sealed;
    const fault = check.next(entry.sealed);
    if (fault !== null)
      throw broken(
        segment,
        number,
        `${node.session_id} lamport ${node.lamport}, after ${last}: ${fault.reason}`,
        fault.code,
      );
    reviews.note(node);
    if (doubtful !== undefined && isModelCall(node.body["tool"]) && node.body["args_hash"] === doubtful.hash)
      throw broken(doubtful.segment, doubtful.number, `the record after ${last}: ${doubtful.fault}`);
    doubtful = undefined;
    // Facts are no message, and most of what is read.
    texts.drop(node.body["facts_hash"]);
    texts.settle();
    last = `${node.session_id} lamport ${node.lamport} ${hash}`;
    if (node.kind === "CHECKPOINT") {
      checkpoints++;
      uncovered = 0;
    } else uncovered++;
    compare();
    return entry;
  }
  function end(torn?: string): StoreReport {
    if (torn !== undefined) throw broken(torn, 0, `is torn or damaged, after ${last}`);
    const unproved = typeof keys === "function" ? undefined : keys.unproved();
    if (unproved !== undefined)
      throw broken(
        `${unproved.node.session_id} lamport ${unproved.node.lamport}`,
        0,
        `${unproved.node.key_id} was revoked, and no checkpoint of it that is honoured covers this node`,
        "TRUST_KEY_REVOKED",
      );
    if (least !== undefined && count < least.record)
      throw broken(
        "head.live.json",
        0,
        `the log ends after ${count} records, ${last}; ${least.record} were acknowledged`,
      );
    if (known !== undefined && check.tree.size < known.size)
      throw broken(
        last,
        0,
        `the tree has ${check.tree.size} nodes and had ${known.size}: nodes were withheld`,
      );
    return {
      records: count,
      nodes: check.tree.size,
      inputs,
      redacted,
      sessions: check.heads().length,
      checkpoints,
      uncovered,
      open_reviews: reviews.open(),
      tree_size: check.tree.size,
      root_hash: check.tree.root(),
    };
  }
  return { next, end };
}

function readAfter(segment: string, number: number, last: string, line: Uint8Array) {
  try {
    return placed(segment, number, () => readEntry(line));
  } catch (error) {
    if (!(error instanceof PackInvalid)) throw error;
    throw broken(segment, number, `the record after ${last}: ${error.finding.reason}`);
  }
}
