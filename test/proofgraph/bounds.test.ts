// Where sizes, places and texts end: trees, their proofs and notes at their limits and one beyond.

import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { hashJson, sha256Bytes, signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import {
  checkpointBody,
  createFrontier,
  createTree,
  leafHash,
  parseCheckpoint,
  readNote,
  verifyConsistency,
  verifyInclusion,
  verifyLeafInclusion,
  writeNote,
} from "../../kernel/proofgraph/proofgraph.ts";
import { node, treeOf } from "./scene.ts";

const said = (run: () => unknown): string => {
  try {
    run();
    return "";
  } catch (error) {
    return String(error instanceof Error ? error.message : error);
  }
};
const [root, other] = [hashJson("root"), hashJson("other")];

test("a leaf is hashed with a zero before it, and a pair with a one", () => {
  const raw = Buffer.from(root.slice(7), "hex");
  expect(Buffer.from(leafHash(root))).toEqual(Buffer.from(sha256Bytes(Buffer.concat([Buffer.of(0), raw]))));
  const pair = Buffer.concat([Buffer.of(1), leafHash(node(0)), leafHash(node(1))]);
  expect(treeOf(2).root()).toBe(`sha256:${Buffer.from(sha256Bytes(pair)).toString("hex")}`);
});

test("a frontier goes on from a size that its peaks can have, and from no other", () => {
  for (const [size, peaks] of [
    [-1, []],
    [Number.NaN, []],
    [0, [root]],
    [1, []],
    [3, [root]],
    [4, [root, root]],
    [2 ** 53, [root]],
  ] as const)
    expect(
      said(() => createFrontier(size, peaks)),
      String(size),
    ).toMatch(/^peaks: a tree of /);
  for (const [size, peaks] of [
    [0, []],
    [3, [root, root]],
    [4, [root]],
    [2 ** 52, [root]],
  ] as const) {
    const frontier = createFrontier(size, peaks);
    expect([frontier.size, frontier.peaks()]).toEqual([size, peaks]);
    frontier.append(node(0));
    expect(frontier.size).toBe(size + 1);
  }
});

describe("a tree of five", () => {
  const tree = treeOf(5);
  test("says how many it holds, and has a root of each size up to that", () => {
    expect([createTree().size, tree.size]).toEqual([0, 5]);
    for (let n = 0; n <= 5; n++) expect(tree.root(n)).toBe(treeOf(n).root());
    for (const n of [-1, 6, 0.5, Number.NaN])
      expect(said(() => tree.root(n))).toBe(`size: expected an integer from 0 to 5, found ${n}`);
  });
  test("proves a leaf that it has in a size that it has had", () => {
    for (let size = 1; size <= 5; size++)
      for (let index = 0; index < size; index++)
        expect(tree.inclusion(index, size)).toEqual(treeOf(size).inclusion(index));
    for (const n of [0, 6, 0.5])
      expect(said(() => tree.inclusion(0, n))).toBe(`size: expected an integer from 1 to 5, found ${n}`);
    for (const n of [-1, 3, 0.5])
      expect(said(() => tree.inclusion(n, 3))).toBe(`index: expected an integer from 0 to 2, found ${n}`);
  });
  test("proves that it grew from a size that it has had to another", () => {
    for (let to = 0; to <= 5; to++)
      for (let from = 0; from <= to; from++)
        expect(tree.consistency(from, to)).toEqual(treeOf(to).consistency(from));
    expect(tree.consistency(0, 0)).toEqual([]);
    for (const n of [-1, 6, 0.5])
      expect(said(() => tree.consistency(0, n))).toBe(`to: expected an integer from 0 to 5, found ${n}`);
    for (const n of [-1, 4, 0.5])
      expect(said(() => tree.consistency(n, 3))).toBe(`from: expected an integer from 0 to 3, found ${n}`);
  });
});

test("a proof of a leaf holds for its own index, size, root and steps, and for no number beside them", () => {
  for (let size = 1; size <= 17; size++) {
    const tree = treeOf(size);
    for (let index = 0; index < size; index++) {
      const path = tree.inclusion(index);
      const proof = { node_hash: node(index), index, size, path, root: tree.root() };
      expect(verifyInclusion(proof)).toBe(true);
      expect(verifyLeafInclusion({ ...proof, leaf: leafHash(node(index)) })).toBe(true);
      expect(verifyLeafInclusion({ ...proof, leaf: leafHash(node(99)) })).toBe(false);
      for (const wrong of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, size, size + 1, index + 0.5])
        expect(verifyInclusion({ ...proof, index: wrong }), `${index} as ${wrong}`).toBe(false);
      for (const wrong of [-1, 0, 0.5, index, index + 0.5, Number.NaN, 2 ** 53])
        expect(verifyInclusion({ ...proof, size: wrong }), `${size} as ${wrong}`).toBe(false);
      expect(verifyInclusion({ ...proof, root: other })).toBe(false);
      expect(verifyInclusion({ ...proof, path: [...path, other] })).toBe(false);
      if (path.length > 0) expect(verifyInclusion({ ...proof, path: path.slice(0, -1) })).toBe(false);
    }
  }
});

test("a proof of growth holds for its own sizes, roots and steps, and for no number beside them", () => {
  for (let to = 0; to <= 17; to++) {
    const tree = treeOf(to);
    for (let from = 0; from <= to; from++) {
      const path = tree.consistency(from);
      const proof = { from, to, fromRoot: tree.root(from), toRoot: tree.root(), path };
      expect(verifyConsistency(proof)).toBe(true);
      for (const wrong of [-1, 0.5, Number.NaN, to + 1])
        expect(verifyConsistency({ ...proof, from: wrong }), `${from} as ${wrong}`).toBe(false);
      for (const wrong of [-1, from - 1, from + 0.5, Number.NaN, 2 ** 53])
        expect(verifyConsistency({ ...proof, to: wrong }), `${to} as ${wrong}`).toBe(false);
      expect(verifyConsistency({ ...proof, fromRoot: other })).toBe(false);
      // The empty tree is a prefix of whatever is claimed.
      expect(verifyConsistency({ ...proof, toRoot: other })).toBe(from === 0 && to > 0);
      expect(verifyConsistency({ ...proof, path: [...path, other] })).toBe(false);
      if (path.length > 0) expect(verifyConsistency({ ...proof, path: path.slice(0, -1) })).toBe(false);
      if (path.length > 0) expect(verifyConsistency({ ...proof, path: [] })).toBe(false);
      if (from > 0 && from < to) expect(verifyConsistency({ ...proof, from: 0, path: [] })).toBe(false);
    }
  }
});

test("a checkpoint's trust head names a hash where it has a height", () => {
  const good = checkpointBody({
    tree_size: 7,
    root_hash: root,
    prev_checkpoint: other,
    trust_head: { height: 3, hash: other },
  });
  expect(said(() => parseCheckpoint({ ...good, trust_head: { height: 3, hash: "x" } }))).toMatch(
    /^trust_head\.hash: expected `sha256:/,
  );
  expect(said(() => parseCheckpoint({}))).toBe("type: is missing");
});

describe("a note", () => {
  const { privateKey } = generateKeyPairSync("ed25519");
  const signer = signerFromPem(privateKey.export({ type: "pkcs8", format: "pem" }));
  const verifier = verifierFromRaw(signer.publicKey);
  const origin = "atoll.dev/pod-1";
  const base64 = Buffer.from(root.slice(7), "hex").toString("base64");
  const id = (name: string): Buffer => {
    const line = writeNote({ origin: name, size: 1, root }, signer).split("\n\n")[1] ?? "";
    return Buffer.from(line.trim().split(" ")[2] ?? "", "base64").subarray(0, 4);
  };
  const signedAs = (name: string, key: Buffer, text: string): string =>
    `— ${name} ${Buffer.concat([key, Buffer.from(signer.sign(text), "hex")]).toString("base64")}\n`;
  const text = `${origin}\n7\n${base64}\n`;
  const own = signedAs(origin, id(origin), text);
  test("may be a million characters long and not one more", () => {
    const frame = `${text}\n\n${own}`.length;
    for (const [length, fault] of [
      [1_000_000, ""],
      [1_000_001, "note: longer than 1000000 characters"],
    ] as const) {
      const long = `${text}${"x".repeat(length - frame)}\n`;
      const note = `${long}\n${signedAs(origin, id(origin), long)}`;
      expect(note.length).toBe(length);
      expect(said(() => readNote(note, origin, verifier))).toBe(fault);
    }
  });
  test("that begins with its signatures has another origin than any", () => {
    expect(said(() => readNote(`\n\n${own}`, origin, verifier))).toMatch(/^origin: expected/);
  });
  test("is not signed by a line of another name with the key's own number, nor by one of which that is near", () => {
    expect(readNote(`${text}\n${own}`, origin, verifier)).toEqual({ origin, size: 7, root });
    const unsigned = "note: is not signed by the key";
    expect(said(() => readNote(`${text}\n${signedAs("witness", id(origin), text)}`, origin, verifier))).toBe(
      unsigned,
    );
    for (let i = 0; i < 4; i++) {
      const near = Buffer.from(id(origin));
      near[i] = (near[i] ?? 0) ^ 1;
      const line = signedAs(origin, near, text);
      expect(said(() => readNote(`${text}\n${line}`, origin, verifier))).toBe(unsigned);
      expect(readNote(`${text}\n${line}${own}`, origin, verifier)).toEqual({ origin, size: 7, root });
    }
  });
});
