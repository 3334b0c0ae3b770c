// Reads nodes one by one and names the first that does not belong: signature, chain, links, checkpoints.

import { ContractError } from "../contracts/contracts.ts";
import type { Code, Hash, KeyId, Node, Receipt, SealedNode, SessionId } from "../contracts/contracts.ts";
import type { Verifier } from "../crypto/crypto.ts";
import { parseReceipt, verifySealed } from "../receipts/receipts.ts";
import type { Head } from "../receipts/receipts.ts";
import { parseCheckpoint } from "./checkpoint.ts";
import { createHashSet } from "./hashset.ts";
import { createFrontier } from "./merkle.ts";
import type { Frontier } from "./merkle.ts";

/** The first thing that is wrong: `index` counts what was read, from 0. */
export interface Break {
  readonly index: number;
  readonly code: Code;
  readonly reason: string;
  readonly session_id: SessionId;
  readonly lamport: number;
  readonly hash: Hash;
}

/** What stands in the place of a condensed node. */
export interface CondensedLink {
  readonly node_hash: Hash;
  readonly prev_hash: Hash | "genesis";
  readonly lamport: number;
}

export interface GraphOptions {
  /** The key that may have signed this node, or the code that says why there is none. */
  keyOf(id: KeyId, node: Node, hash: Hash): Verifier | Code;
  /**
   * "journal": every node in the order in which it was written, so that each parent is already known and
   * each checkpoint's tree is the tree of what was read. "session": chains one after another; then parents
   * may come later (`missing` says which never came) and checkpoints' trees are not looked at.
   */
  readonly order: "journal" | "session";
  /** Where a reading goes on that began earlier: parents from before are then taken on trust. */
  readonly resume?: {
    readonly heads: readonly Head[];
    readonly tree: { readonly size: number; readonly peaks: readonly Hash[] };
    readonly checkpoint: Hash | "genesis";
  };
}

export interface GraphCheck {
  next(sealed: SealedNode): Break | null;
  condensed(session: SessionId, link: CondensedLink): Break | null;
  heads(): readonly Head[];
  /** Parents that no node read so far answers to. */
  missing(): readonly Hash[];
  readonly tree: Frontier;
}

type Fault = { readonly code: Code; readonly reason: string };
const broken = (reason: string): Fault => ({ code: "CHAIN_BROKEN", reason });

export function createGraphCheck(options: GraphOptions): GraphCheck {
  const { resume } = options;
  const heads = new Map<SessionId, Head>((resume?.heads ?? []).map((h) => [h.session_id, h]));
  const tree = createFrontier(resume?.tree.size, resume?.tree.peaks);
  const seen = createHashSet();
  const wanted = new Set<Hash>();
  const condensedNodes = new Set<Hash>();
  // INTENTs whose EFFECT has not come yet.
  const open = new Map<Hash, Receipt & { readonly session: SessionId }>();
  const moved = new Map<SessionId, Hash>();
  let lastCheckpoint: Hash | "genesis" = resume?.checkpoint ?? "genesis";
  let onlyCheckpoints = true;
  let index = 0;

  function chainFault(session: SessionId, lamport: number, prev: Hash | "genesis"): Fault | null {
    const head = heads.get(session);
    const place = (head?.lamport ?? 0) + 1;
    if (lamport !== place) return broken(`lamport ${place} was expected, found ${lamport}`);
    if (prev !== (head?.hash ?? "genesis")) return broken("prev_hash is not the hash of the node before");
    return null;
  }

  function signatureFault(sealed: SealedNode): Fault | null {
    const key = options.keyOf(sealed.node.key_id, sealed.node, sealed.hash);
    if (typeof key === "string") return { code: key, reason: `no key for \`${sealed.node.key_id}\`` };
    if (!verifySealed(sealed, key))
      return { code: "SIGNATURE_INVALID", reason: "the signature does not verify" };
    return null;
  }

  function parentFault({ node }: SealedNode): Fault | null {
    for (const parent of node.parents) {
      if (seen.has(parent)) continue;
      if (options.order === "journal" && resume === undefined) return broken(`parent ${parent} is unknown`);
      wanted.add(parent);
    }
    return null;
  }

  function bodyFault(sealed: SealedNode): Fault | null {
    const { node, hash } = sealed;
    switch (node.kind) {
      case "INTENT": {
        const receipt = parseReceipt(node.body);
        if (receipt.status !== "PERMITTED") return broken("an INTENT's receipt is PERMITTED");
        open.set(hash, { ...receipt, session: node.session_id });
        return null;
      }
      case "EFFECT":
        return effectFault(node, parseReceipt(node.body));
      case "ATTESTATION": {
        if (node.body["type"] !== "atoll.dev/receipt/v1") return null;
        const { status } = parseReceipt(node.body);
        const verdictOnly = status === "DENIED" || status === "ESCALATED" || status === "PERMITTED";
        return verdictOnly ? null : broken("an ATTESTATION's receipt states a verdict, not an outcome");
      }
      case "CHECKPOINT":
        return checkpointFault(sealed);
      case "TRUST_EVENT":
        return null;
    }
    return node.kind satisfies never;
  }

  function effectFault(node: Node, receipt: Receipt): Fault | null {
    if (receipt.status !== "SUCCEEDED" && receipt.status !== "FAILED" && receipt.status !== "UNKNOWN")
      return broken("an EFFECT's receipt states an outcome");
    for (const parent of node.parents) {
      const intent = open.get(parent);
      if (intent === undefined) continue;
      if (intent.session !== node.session_id || intent.effect_id !== receipt.effect_id) continue;
      open.delete(parent);
      return null;
    }
    const elsewhere = node.parents.some(
      (p) => condensedNodes.has(p) || (resume !== undefined && !seen.has(p)),
    );
    return elsewhere ? null : broken("no open INTENT of this effect is among the parents");
  }

  function checkpointFault({ node }: SealedNode): Fault | null {
    const body = parseCheckpoint(node.body);
    if (options.order === "session") return null;
    if (body.tree_size !== tree.size)
      return broken(`tree_size ${tree.size} was expected, found ${body.tree_size}`);
    if (body.root_hash !== tree.root()) return broken("root_hash is not the root of the nodes before");
    if (body.prev_checkpoint !== lastCheckpoint)
      return broken("prev_checkpoint is not the checkpoint before");
    if (onlyCheckpoints) return broken("nothing was added since the checkpoint before");
    const others = [...moved].filter(([session]) => session !== node.session_id);
    const expected = others.map(([, head]) => head).sort();
    if (expected.join() !== node.parents.join())
      return broken("parents are not the heads of the other sessions that moved");
    return null;
  }

  function take(session_id: SessionId, lamport: number, hash: Hash): void {
    heads.set(session_id, { session_id, lamport, hash });
    tree.append(hash);
    seen.add(hash);
    wanted.delete(hash);
    moved.set(session_id, hash);
    index++;
  }

  function attempt(check: () => Fault | null): Fault | null {
    try {
      return check();
    } catch (e) {
      if (e instanceof ContractError) return broken(`body: ${e.message}`);
      throw e;
    }
  }

  return {
    next(sealed) {
      const { node, hash } = sealed;
      const fault =
        chainFault(node.session_id, node.lamport, node.prev_hash) ??
        signatureFault(sealed) ??
        parentFault(sealed) ??
        attempt(() => bodyFault(sealed));
      if (fault !== null)
        return { ...fault, index, session_id: node.session_id, lamport: node.lamport, hash };
      take(node.session_id, node.lamport, hash);
      if (node.kind === "CHECKPOINT") {
        lastCheckpoint = hash;
        onlyCheckpoints = true;
        moved.clear();
      } else onlyCheckpoints = false;
      return null;
    },
    condensed(session_id, link) {
      const fault = chainFault(session_id, link.lamport, link.prev_hash);
      if (fault !== null) return { ...fault, index, session_id, lamport: link.lamport, hash: link.node_hash };
      take(session_id, link.lamport, link.node_hash);
      condensedNodes.add(link.node_hash);
      onlyCheckpoints = false;
      return null;
    },
    heads: () => [...heads.values()],
    missing: () => [...wanted],
    tree,
  };
}
