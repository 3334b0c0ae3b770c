// Proofs that add up to the root and are still too short or too long for the sizes they name.

import { expect, test } from "vitest";
import type { Hash } from "../../kernel/contracts/contracts.ts";
import { bytesOfHash, hashOfBytes, sha256, sha256Bytes } from "../../kernel/crypto/crypto.ts";
import { verifyConsistency, verifyLeafInclusion } from "../../kernel/proofgraph/proofgraph.ts";

const [a, b, c, y] = ["a", "b", "c", "y"].map((text) => bytesOfHash(sha256(text))) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
  Uint8Array,
];
const inner = (left: Uint8Array, right: Uint8Array): Uint8Array =>
  sha256Bytes(Uint8Array.of(1, ...left, ...right));
const of = (bytes: Uint8Array): Hash => hashOfBytes(bytes);

test("inclusion: a path is as long as the tree is high, whatever it comes to", () => {
  const at = (index: number, size: number, path: readonly Uint8Array[], root: Uint8Array): boolean =>
    verifyLeafInclusion({ leaf: a, index, size, path: path.map(of), root: of(root) });
  expect(at(0, 1, [], a)).toBe(true);
  expect(at(0, 2, [], a)).toBe(false);
  expect(at(0, 2, [b], inner(a, b))).toBe(true);
  expect(at(1, 2, [b], inner(b, a))).toBe(true);
  expect(at(0, 1, [b], inner(b, a))).toBe(false);
  expect(at(0, 1, [b], inner(a, b))).toBe(false);
  expect(at(1, 2, [b, c], inner(c, inner(b, a)))).toBe(false);
  expect(at(2, 3, [b], inner(b, a))).toBe(true);
  expect(at(2, 3, [b, c], inner(c, inner(b, a)))).toBe(false);
  expect(at(0, 3, [b], inner(a, b))).toBe(false);
});
test("consistency: a path is as long as the trees are high, whatever it comes to", () => {
  const grown = (path: readonly Uint8Array[], older: Uint8Array, newer: Uint8Array): boolean =>
    verifyConsistency({ from: 3, to: 4, path: path.map(of), fromRoot: of(older), toRoot: of(newer) });
  const [three, four] = [inner(c, a), inner(c, inner(a, b))];
  expect(grown([a, b, c], three, four)).toBe(true);
  expect(grown([a, b, c, y], inner(y, three), inner(y, four))).toBe(false);
  expect(grown([a, b], a, inner(a, b))).toBe(false);
  expect(grown([a], a, a)).toBe(false);
  expect(grown([], a, a)).toBe(false);
});
