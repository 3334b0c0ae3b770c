// Where the nodes of a pack of some sessions stood in their log, as its proofs say.

import { LIMITS } from "../contracts/contracts.ts";
import type { Code, Hash, SealedNode } from "../contracts/contracts.ts";
import type { Verifier } from "../crypto/crypto.ts";
import type { GraphOptions } from "../proofgraph/proofgraph.ts";
import { readNode } from "../receipts/receipts.ts";
import { isHandOver } from "../trust/trust.ts";
import { placed } from "./finding.ts";
import { canonicalValue, linesOfFile, wholeFile } from "./lines.ts";
import { isCondensed, parseInclusion } from "./manifest.ts";
import type { Inclusion } from "./manifest.ts";
import type { PackFile } from "./tar.ts";

export const inclusionIn = (file: PackFile): Inclusion =>
  placed(file.path, 0, () => parseInclusion(canonicalValue(wholeFile(file, LIMITS.node.bytes), LIMITS.node)));

/**
 * In a pack of some sessions the order of writing is in the proofs: each node's key by its place in the tree. That the
 * places are true is shown when the proofs are verified.
 */
export function keysByPlace(
  files: ReadonlyMap<string, PackFile>,
  keyOf: GraphOptions["keyOf"],
): ReadonlyMap<Hash, Verifier | Code> {
  const places = new Map<Hash, number>();
  for (const file of files.values())
    if (file.path.startsWith("proofs/")) {
      const { node_hash, index } = inclusionIn(file);
      places.set(node_hash, index);
    }
  const nodes: { readonly sealed: SealedNode; readonly place: number }[] = [];
  for (const file of files.values()) {
    if (!file.path.startsWith("nodes/")) continue;
    for (const { number, bytes } of linesOfFile(file)) {
      const value = placed(file.path, number, () => canonicalValue(bytes, LIMITS.node));
      if (placed(file.path, number, () => isCondensed(value))) continue;
      const sealed = placed(file.path, number, () => readNode(bytes));
      // The anchor has no proof: it is the checkpoint after all of them.
      const node = isHandOver(sealed.node) ? sealed.node : { ...sealed.node, body: {} };
      nodes.push({
        sealed: { node, hash: sealed.hash, text: "" },
        place: places.get(sealed.hash) ?? Number.MAX_SAFE_INTEGER,
      });
    }
  }
  const keys = new Map<Hash, Verifier | Code>();
  for (const { sealed } of nodes.sort((a, b) => a.place - b.place))
    keys.set(sealed.hash, keyOf(sealed.node.key_id, sealed.node, sealed.hash));
  return keys;
}

export const INPUTS = "replay/inputs.jsonl";
