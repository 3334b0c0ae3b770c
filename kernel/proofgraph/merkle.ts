// The RFC 6962 tree over node hashes: leaf = SHA-256(00 ‖ the hash's 32 raw bytes), inner = SHA-256(01 ‖ left ‖ right).

import { ContractError, present } from "../contracts/contracts.ts";
import type { Hash } from "../contracts/contracts.ts";
import { bytesOfHash, hashOfBytes, sha256Bytes } from "../crypto/crypto.ts";

// Each is written anew before it is hashed, and nobody else sees it.
const LEAF = new Uint8Array(33);
const INNER = new Uint8Array(65).fill(1, 0, 1);

export function leafHash(node: Hash): Uint8Array {
  LEAF.set(bytesOfHash(node), 1);
  return sha256Bytes(LEAF);
}

function inner(left: Uint8Array, right: Uint8Array): Uint8Array {
  INNER.set(left, 1);
  INNER.set(right, 33);
  return sha256Bytes(INNER);
}

const EMPTY_ROOT = sha256Bytes(new Uint8Array(0));

/** The growing edge of a tree: enough to go on and to state the root, in space that grows with the logarithm. */
export interface Frontier {
  readonly size: number;
  append(node: Hash): void;
  root(): Hash;
  /** Roots of the complete subtrees, the largest first: with `size`, all that `createFrontier` needs to resume. */
  peaks(): readonly Hash[];
}

export function createFrontier(size = 0, peaks: readonly Hash[] = []): Frontier {
  if (!Number.isSafeInteger(size) || size < 0 || bitsOf(size) !== peaks.length)
    throw new ContractError(
      "peaks",
      `a tree of ${size} leaves has ${bitsOf(size)} peaks, found ${peaks.length}`,
    );
  const stack = peaks.map(bytesOfHash);
  let count = size;
  return {
    get size() {
      return count;
    },
    append(node) {
      let hash = leafHash(node);
      for (let n = count; n % 2 === 1; n = (n - 1) / 2) hash = inner(present(stack.pop()), hash);
      stack.push(hash);
      count++;
    },
    root: () => hashOfBytes(fold(stack)),
    peaks: () => stack.map(hashOfBytes),
  };
}

const fold = (peaks: readonly Uint8Array[]): Uint8Array =>
  peaks.length === 0 ? EMPTY_ROOT : peaks.reduceRight((right, left) => inner(left, right));

function bitsOf(n: number): number {
  let bits = 0;
  for (let rest = n; rest > 0; rest = Math.floor(rest / 2)) bits += rest % 2;
  return bits;
}

/** A tree that keeps every complete subtree and so can prove: 64 bytes a leaf. */
export interface Tree {
  readonly size: number;
  append(node: Hash): void;
  root(size?: number): Hash;
  /** The audit path of leaf `index` in the tree of `size` leaves, from the leaf's sibling up. */
  inclusion(index: number, size?: number): readonly Hash[];
  /** That the tree of `from` leaves is a prefix of the tree of `to` leaves. */
  consistency(from: number, to?: number): readonly Hash[];
}

export function createTree(): Tree {
  const levels: Row[] = [];
  const row = (level: number): Row => (levels[level] ??= createRow());
  const size = (): number => levels[0]?.count() ?? 0;

  // Root of the leaves [start, end): `start` is a multiple of the largest power of two below the width.
  function rootOf(start: number, end: number): Uint8Array {
    const width = end - start;
    if (width === 0) return EMPTY_ROOT;
    const level = Math.log2(width);
    if (Number.isInteger(level)) return row(level).get(start / width);
    const k = split(width);
    return inner(rootOf(start, start + k), rootOf(start + k, end));
  }

  function path(index: number, start: number, end: number): Uint8Array[] {
    if (end - start === 1) return [];
    const middle = start + split(end - start);
    return index < middle
      ? [...path(index, start, middle), rootOf(middle, end)]
      : [...path(index, middle, end), rootOf(start, middle)];
  }

  function subproof(from: number, start: number, end: number, whole: boolean): Uint8Array[] {
    if (from === end) return whole ? [] : [rootOf(start, end)];
    const middle = start + split(end - start);
    return from <= middle
      ? [...subproof(from, start, middle, whole), rootOf(middle, end)]
      : [...subproof(from, middle, end, false), rootOf(start, middle)];
  }

  const within = (n: number, min: number, max: number, name: string): number => {
    if (Number.isSafeInteger(n) && n >= min && n <= max) return n;
    throw new ContractError(name, `expected an integer from ${min} to ${max}, found ${n}`);
  };

  return {
    get size() {
      return size();
    },
    append(node) {
      let hash = leafHash(node);
      for (let level = 0; ; level++) {
        const at = row(level);
        at.push(hash);
        if (at.count() % 2 === 1) return;
        hash = inner(at.get(at.count() - 2), hash);
      }
    },
    root: (n = size()) => hashOfBytes(rootOf(0, within(n, 0, size(), "size"))),
    inclusion(index, n = size()) {
      within(n, 1, size(), "size");
      return path(within(index, 0, n - 1, "index"), 0, n).map(hashOfBytes);
    },
    consistency(from, to = size()) {
      within(to, 0, size(), "to");
      within(from, 0, to, "from");
      return from === 0 ? [] : subproof(from, 0, to, true).map(hashOfBytes);
    },
  };
}

interface Row {
  count(): number;
  push(hash: Uint8Array): void;
  get(index: number): Uint8Array;
}
const GROWTH = 1 << 18;
function createRow(): Row {
  let bytes = new Uint8Array(1024);
  let used = 0;
  return {
    count: () => used / 32,
    push(hash) {
      if (used === bytes.length) {
        const wider = new Uint8Array(bytes.length + GROWTH);
        wider.set(bytes);
        bytes = wider;
      }
      bytes.set(hash, used);
      used += 32;
    },
    get: (index) => bytes.subarray(index * 32, index * 32 + 32),
  };
}

/** The largest power of two below `n`, for n ≥ 2. */
function split(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

export interface InclusionProof {
  readonly node_hash: Hash;
  readonly index: number;
  readonly size: number;
  readonly path: readonly Hash[];
  readonly root: Hash;
}

const isCount = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;

/** RFC 9162, 2.1.3.2, over the leaf's own hash. */
export function verifyInclusion(p: InclusionProof): boolean {
  return verifyLeafInclusion({ ...p, leaf: leafHash(p.node_hash) });
}
export function verifyLeafInclusion(
  p: Omit<InclusionProof, "node_hash"> & { readonly leaf: Uint8Array },
): boolean {
  if (!isCount(p.index) || !isCount(p.size) || p.index >= p.size) return false;
  let fn = p.index;
  let sn = p.size - 1;
  let hash = p.leaf;
  for (const step of p.path) {
    if (sn === 0) return false;
    const sibling = bytesOfHash(step);
    if (fn % 2 === 1 || fn === sn) {
      hash = inner(sibling, hash);
      while (fn % 2 === 0 && fn !== 0) {
        fn /= 2;
        sn = Math.floor(sn / 2);
      }
    } else hash = inner(hash, sibling);
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 && hashOfBytes(hash) === p.root;
}

export interface ConsistencyProof {
  readonly from: number;
  readonly to: number;
  readonly fromRoot: Hash;
  readonly toRoot: Hash;
  readonly path: readonly Hash[];
}

/** RFC 9162, 2.1.4.2. The empty tree is a prefix of every tree, with an empty proof. */
export function verifyConsistency(p: ConsistencyProof): boolean {
  if (!isCount(p.from) || !isCount(p.to) || p.from > p.to) return false;
  if (p.from === p.to) return p.path.length === 0 && p.fromRoot === p.toRoot;
  if (p.from === 0) return p.path.length === 0 && p.fromRoot === hashOfBytes(EMPTY_ROOT);
  let fn = p.from - 1;
  let sn = p.to - 1;
  while (fn % 2 === 1) {
    fn = (fn - 1) / 2;
    sn = Math.floor(sn / 2);
  }
  // A complete first tree is itself the first step, and is left out of the proof.
  const steps = fn === 0 ? [p.fromRoot, ...p.path] : p.path;
  const first = steps[0];
  if (first === undefined) return false;
  let older = bytesOfHash(first);
  let newer = older;
  for (const step of steps.slice(1)) {
    if (sn === 0) return false;
    const sibling = bytesOfHash(step);
    if (fn % 2 === 1 || fn === sn) {
      older = inner(sibling, older);
      newer = inner(sibling, newer);
      while (fn % 2 === 0 && fn !== 0) {
        fn /= 2;
        sn = Math.floor(sn / 2);
      }
    } else newer = inner(newer, sibling);
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 && hashOfBytes(older) === p.fromRoot && hashOfBytes(newer) === p.toRoot;
}
