import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { hashFrom } from "../../kernel/contracts/contracts.ts";
import type { Hash } from "../../kernel/contracts/contracts.ts";
import { hashOfBytes, sha256Bytes } from "../../kernel/crypto/crypto.ts";
import {
  createFrontier,
  createTree,
  leafHash,
  verifyConsistency,
  verifyInclusion,
  verifyLeafInclusion,
} from "../../kernel/proofgraph/proofgraph.ts";
import { vectorsFolder } from "../vectors.ts";
import { node, treeOf } from "./scene.ts";

/** The definition of RFC 6962, 2.1, word by word. */
function slowRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256Bytes(new Uint8Array());
  const [only] = leaves;
  if (leaves.length === 1 && only !== undefined) return only;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha256Bytes(Buffer.concat([Buffer.of(1), slowRoot(leaves.slice(0, k)), slowRoot(leaves.slice(k))]));
}

test("tree and frontier have the root of the definition at every size up to 130", () => {
  const tree = createTree();
  const leaves: Uint8Array[] = [];
  let frontier = createFrontier();
  for (let n = 0; n <= 130; n++) {
    const expected = hashOfBytes(slowRoot(leaves));
    expect(tree.root()).toBe(expected);
    expect(frontier.root()).toBe(expected);
    frontier = createFrontier(frontier.size, frontier.peaks());
    tree.append(node(n));
    frontier.append(node(n));
    leaves.push(leafHash(node(n)));
  }
  expect(tree.root(77)).toBe(hashOfBytes(slowRoot(leaves.slice(0, 77))));
  expect(() => createFrontier(3, [])).toThrow("peaks");
});

test("every inclusion and consistency proof up to 40 leaves verifies, and no other claim does", () => {
  const tree = treeOf(40);
  for (let size = 1; size <= 40; size++) {
    const root = tree.root(size);
    for (let index = 0; index < size; index++) {
      const proof = { node_hash: node(index), index, size, path: tree.inclusion(index, size), root };
      expect(verifyInclusion(proof)).toBe(true);
      expect(verifyInclusion({ ...proof, index: (index + 1) % size })).toBe(size === 1);
      expect(verifyInclusion({ ...proof, size: index })).toBe(false);
      expect(verifyInclusion({ ...proof, path: [...proof.path, root] })).toBe(false);
      if (size > 1) expect(verifyInclusion({ ...proof, path: proof.path.slice(1) })).toBe(false);
    }
    for (let from = 0; from <= size; from++) {
      const proof = {
        from,
        to: size,
        fromRoot: tree.root(from),
        toRoot: root,
        path: tree.consistency(from, size),
      };
      expect(verifyConsistency(proof)).toBe(true);
      expect(verifyConsistency({ ...proof, path: [...proof.path, root] })).toBe(false);
      // The empty tree is a prefix of whatever is claimed.
      expect(verifyConsistency({ ...proof, toRoot: node(99) })).toBe(from === 0);
      expect(verifyConsistency({ ...proof, fromRoot: node(99) })).toBe(false);
      if (proof.path.length > 0)
        expect(verifyConsistency({ ...proof, path: proof.path.slice(1) })).toBe(false);
    }
  }
});

test("a proof with any bit flipped proves nothing", () => {
  const tree = treeOf(100);
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 100 }),
      fc.nat(),
      fc.nat(),
      fc.nat({ max: 255 }),
      (size, pick, step, bit) => {
        const index = pick % size;
        const path = [...tree.inclusion(index, size)];
        const at = step % path.length;
        const bytes = Buffer.from((path[at] ?? "").slice(7), "hex");
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        path[at] = hashFrom(`sha256:${bytes.toString("hex")}`, "step");
        expect(verifyInclusion({ node_hash: node(index), index, size, path, root: tree.root(size) })).toBe(
          false,
        );
      },
    ),
    { numRuns: 10_000 },
  );
});

test("the third-party proofs verify, and fail when damaged", () => {
  const folder = vectorsFolder();
  if (folder === undefined) return;
  const all = (kind: string) =>
    readdirSync(join(folder, "merkle", kind)).map((d) =>
      JSON.parse(readFileSync(join(folder, "merkle", kind, d, "happy-path.json"), "utf8")),
    );
  const hash = (b64: string): Hash => hashOfBytes(Buffer.from(b64, "base64"));
  const inclusions = all("inclusion");
  const consistencies = all("consistency");
  expect([inclusions.length, consistencies.length]).toEqual([5, 5]);
  for (const v of inclusions) {
    const leaf: Uint8Array = Buffer.from(v.leafHash, "base64");
    const proof = {
      index: v.leafIdx,
      size: v.treeSize,
      path: (v.proof ?? []).map(hash),
      root: hash(v.root),
      leaf,
    };
    expect(verifyLeafInclusion(proof)).toBe(true);
    expect(verifyLeafInclusion({ ...proof, root: node(1) })).toBe(false);
    expect(verifyLeafInclusion({ ...proof, index: proof.index + 1 })).toBe(false);
    expect(verifyLeafInclusion({ ...proof, path: [...proof.path, node(1)] })).toBe(false);
  }
  for (const v of consistencies) {
    const proof = {
      from: v.size1,
      to: v.size2,
      fromRoot: hash(v.root1),
      toRoot: hash(v.root2),
      path: (v.proof ?? []).map(hash),
    };
    expect(verifyConsistency(proof)).toBe(true);
    expect(verifyConsistency({ ...proof, toRoot: node(1) })).toBe(false);
    expect(verifyConsistency({ ...proof, path: [...proof.path, node(1)] })).toBe(false);
    expect(verifyConsistency({ ...proof, path: proof.path.map(() => node(2)) })).toBe(
      proof.path.length === 0,
    );
  }
});
