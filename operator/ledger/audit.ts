// A ledger looked at from outside, with keys of one's own: every guardian's records from the first on, and the
// ledger's own checkpoints against them. What was edited, reordered, forked or taken away shows here.

import {
  closed,
  arrayFrom,
  hashFrom,
  isObject,
  parseJson,
  stringFrom,
} from "../../kernel/contracts/contracts.ts";
import type { Hash } from "../../kernel/contracts/contracts.ts";
import { PackInvalid, broken, createStoreCheck, registeredBy } from "../../kernel/evidence/evidence.ts";
import type { CheckedBy, Finding, StoreReport } from "../../kernel/evidence/evidence.ts";
import { createTree, parseCheckpoint } from "../../kernel/proofgraph/proofgraph.ts";
import { readNode, verifySealed } from "../../kernel/receipts/receipts.ts";
import { createSuccession } from "../../kernel/trust/trust.ts";
import type { TrustRoots } from "../../kernel/trust/trust.ts";
import { REGISTRY, registryEvents } from "./registrar.ts";
import type { LedgerStore } from "./store.ts";

export type Audit =
  | {
      readonly ok: true;
      readonly pods: readonly (StoreReport & { readonly pod: string })[];
      /** Checkpoints of the ledger itself. */
      readonly checkpoints: number;
    }
  | { readonly ok: false; readonly finding: Finding };

const LIMITS = { bytes: 64 << 20, keys: 5_000_000, depth: 8 };
const MOST = 2000;

export async function auditLedger(store: LedgerStore, roots: TrustRoots, by?: CheckedBy): Promise<Audit> {
  try {
    const known = new Map<string, Set<Hash>>();
    const pods: (StoreReport & { readonly pod: string })[] = [];
    // Where there is a registrar the registry says which guardians there were; keys that the roots name go without it.
    const events = await registryEvents(store);
    for (const { pod, count } of await store.shelves()) {
      if (pod === "" || pod === REGISTRY) continue;
      const keys = registeredBy(roots, events);
      const checkpoints = new Set<Hash>();
      const check = createStoreCheck(createSuccession(keys.standing), undefined, undefined, by);
      let read = 0;
      for await (const text of linesOf(store, pod)) {
        const entry = check.next({ segment: `pod ${pod}`, number: read++, line: Buffer.from(text, "utf8") });
        if (entry.kind === "node" && entry.sealed.node.kind === "CHECKPOINT")
          checkpoints.add(entry.sealed.hash);
      }
      if (read < count) throw broken(`pod ${pod}`, read, `${count} records were stored, ${read} are there`);
      pods.push({ pod, ...check.end() });
      known.set(pod, checkpoints);
    }
    return { ok: true, pods, checkpoints: await ownChain(store, roots, known) };
  } catch (error) {
    if (error instanceof PackInvalid) return { ok: false, finding: error.finding };
    throw error;
  }
}

/** The ledger's checkpoints: each follows the one before, and every leaf is a checkpoint that is still there. */
async function ownChain(
  store: LedgerStore,
  roots: TrustRoots,
  known: ReadonlyMap<string, ReadonlySet<Hash>>,
): Promise<number> {
  const lines: string[] = [];
  for await (const line of linesOf(store, "")) lines.push(line);
  const where = "the ledger's own chain";
  let prev: Hash | "genesis" = "genesis";
  let lamport = 0;
  for (let at = 0; at < lines.length; at += 2) {
    const fail = (reason: string, code: Finding["code"] = "CHAIN_BROKEN"): PackInvalid =>
      broken(where, at, reason, code);
    const sealed = attempt(() => readNode(lines[at] ?? ""));
    if (sealed === undefined) throw fail("is no node");
    const key = roots.keyFor("ledger", sealed.node.key_id);
    if (typeof key === "string") throw fail(`${sealed.node.key_id} is no ledger's key`, key);
    if (!verifySealed(sealed, key)) throw fail("the signature does not verify", "SIGNATURE_INVALID");
    if (sealed.node.prev_hash !== prev || sealed.node.lamport !== ++lamport)
      throw fail("does not follow the checkpoint before");
    prev = sealed.hash;
    const leaves = leavesIn(lines[at + 1] ?? "", sealed.hash);
    if (leaves === undefined) throw fail("is not followed by its leaves");
    const tree = createTree();
    for (const leaf of leaves) {
      tree.append(leaf.checkpoint);
      if (known.get(leaf.pod)?.has(leaf.checkpoint) !== true)
        throw fail(`checkpoint ${leaf.checkpoint} of ${leaf.pod} was there and is not: withheld or forked`);
    }
    const body = parseCheckpoint(sealed.node.body);
    if (body.tree_size !== tree.size || body.root_hash !== tree.root())
      throw fail("its root is not that of its leaves");
  }
  return lines.length / 2;
}

function leavesIn(text: string, checkpoint: Hash) {
  return attempt(() => {
    const value = parseJson(text, LIMITS);
    if (!isObject(value) || value["checkpoint"] !== checkpoint) return undefined;
    return arrayFrom(value["leaves"], "leaves").map((leaf) => {
      const o = closed(leaf, "leaf", ["pod", "checkpoint"]);
      return { pod: stringFrom(o["pod"], "pod"), checkpoint: hashFrom(o["checkpoint"], "checkpoint") };
    });
  });
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** A guardian's records may be more than fits into memory. */
async function* linesOf(store: LedgerStore, pod: string): AsyncGenerator<string> {
  for (let from = 0; ; ) {
    const more = await store.lines(pod, from, MOST);
    if (more.length === 0) return;
    yield* more;
    from += more.length;
  }
}
