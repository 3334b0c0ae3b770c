import { generateKeyPairSync } from "node:crypto";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { makeId } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonObject, NodeKind, SealedNode } from "../../kernel/contracts/contracts.ts";
import { signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import {
  checkpointBody,
  createFrontier,
  createGraphCheck,
  readNote,
  writeNote,
} from "../../kernel/proofgraph/proofgraph.ts";
import {
  EMPTY_USAGE,
  createChains,
  outcomeReceipt,
  readNode,
  receiptBody,
} from "../../kernel/receipts/receipts.ts";
import { A, B, G, bytes, issued_at, permitted } from "./scene.ts";

const newSigner = () =>
  signerFromPem(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
const signer = newSigner();
const verifier = verifierFromRaw(signer.publicKey);
const outcomeOf = (n: number) =>
  outcomeReceipt(permitted(n), {
    receiptId: makeId("rcp", bytes(n + 100)),
    status: "SUCCEEDED",
    code: "",
    outputHash: "",
    usage: EMPTY_USAGE,
  });

/** Two sessions with a call each, interleaved, and two checkpoints of the guardian's own session. */
function journal(by = signer): SealedNode[] {
  const chains = createChains(by);
  const tree = createFrontier();
  const nodes: SealedNode[] = [];
  const add = (kind: NodeKind, session_id: typeof A, body: JsonObject, parents: readonly Hash[] = []) => {
    const sealed = chains.seal({ kind, session_id, parents, issued_at, body });
    tree.append(sealed.hash);
    nodes.push(sealed);
    return sealed;
  };
  const trust_head = { height: 0, hash: "genesis" } as const;
  const a1 = add("INTENT", A, receiptBody(permitted(1)));
  const b1 = add("INTENT", B, receiptBody(permitted(2)));
  const c1 = add(
    "CHECKPOINT",
    G,
    checkpointBody({ tree_size: 2, root_hash: tree.root(), prev_checkpoint: "genesis", trust_head }),
    [a1.hash, b1.hash],
  );
  const b2 = add("EFFECT", B, receiptBody(outcomeOf(2)), [b1.hash]);
  const a2 = add("EFFECT", A, receiptBody(outcomeOf(1)), [a1.hash]);
  add("ATTESTATION", A, { type: "atoll.dev/probe/v1", name: "x", target: "y", result: "z" });
  const a3 = nodes[5];
  add(
    "CHECKPOINT",
    G,
    checkpointBody({ tree_size: 6, root_hash: tree.root(), prev_checkpoint: c1.hash, trust_head }),
    [a3?.hash ?? a2.hash, b2.hash],
  );
  return nodes;
}
const check = (nodes: readonly SealedNode[], order: "journal" | "session" = "journal") => {
  const graph = createGraphCheck({
    order,
    keyOf: (id) => (id === verifier.keyId ? verifier : "TRUST_KEY_UNKNOWN"),
  });
  for (const node of nodes) {
    const fault = graph.next(node);
    if (fault !== null) return fault;
  }
  return graph;
};
const GOOD = journal();

test("a journal verifies in its own order, and each session's chain by itself", () => {
  expect(check(GOOD)).toMatchObject({ tree: { size: 7 } });
  const graph = check(
    GOOD.filter((s) => s.node.session_id === A),
    "session",
  );
  expect(graph).not.toHaveProperty("code");
  if ("missing" in graph) expect(graph.missing()).toEqual([]);
});

test("a dropped, doubled or swapped node is found and named", () => {
  for (let i = 0; i < GOOD.length; i++) {
    const dropped = check(GOOD.filter((_, n) => n !== i));
    if (i < GOOD.length - 1) expect(dropped).toMatchObject({ code: "CHAIN_BROKEN" });
    expect(check(GOOD.flatMap((s, n) => (n === i ? [s, s] : [s])))).toMatchObject({
      code: "CHAIN_BROKEN",
      index: i + 1,
    });
    for (let j = i + 1; j < GOOD.length; j++) {
      const swapped = GOOD.map((s, n) => (n === i ? GOOD[j] : n === j ? GOOD[i] : s) ?? s);
      expect(check(swapped)).toMatchObject({ code: "CHAIN_BROKEN" });
    }
  }
});

test("a node of another journal or of another key is found", () => {
  const other = journal(newSigner());
  for (let i = 0; i < GOOD.length; i++) {
    const spliced = GOOD.map((s, n) => (n === i ? (other[i] ?? s) : s));
    expect(check(spliced)).toMatchObject({
      index: i,
      code: expect.stringMatching(/CHAIN_BROKEN|TRUST_KEY_UNKNOWN/),
    });
  }
});

test("any flipped bit of any recorded line is found at its node", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), fc.nat({ max: 7 }), (pick, place, bit) => {
      const at = pick % GOOD.length;
      const line = Buffer.from(GOOD[at]?.text ?? "");
      const byte = place % line.length;
      line[byte] = (line[byte] ?? 0) ^ (1 << bit);
      let read: SealedNode;
      try {
        read = readNode(line);
      } catch {
        return;
      }
      expect(check(GOOD.map((s, n) => (n === at ? read : s)))).toMatchObject({
        index: expect.toSatisfy((i: number) => i >= at),
        code: expect.any(String),
      });
    }),
    { numRuns: 10_000 },
  );
});

test("an effect needs its own open intent", () => {
  const chains = createChains(signer);
  const seal = (kind: NodeKind, body: JsonObject, parents: readonly Hash[] = []) =>
    chains.seal({ kind, session_id: A, parents, issued_at, body });
  const intent = seal("INTENT", receiptBody(permitted(1)));
  const effect = seal("EFFECT", receiptBody(outcomeOf(1)), [intent.hash]);
  const again = seal("EFFECT", receiptBody(outcomeOf(1)), [intent.hash]);
  expect(check([intent, effect])).not.toHaveProperty("code");
  expect(check([intent, effect, again])).toMatchObject({
    index: 2,
    reason: expect.stringContaining("INTENT"),
  });
  const denied = createChains(signer).seal({
    kind: "INTENT",
    session_id: A,
    parents: [],
    issued_at,
    body: receiptBody(outcomeOf(1)),
  });
  expect(check([denied])).toMatchObject({ reason: expect.stringContaining("PERMITTED") });
});

test("a checkpoint with another size, root, predecessor or parents is found", () => {
  const chains = createChains(signer);
  const tree = createFrontier();
  const first = chains.seal({
    kind: "ATTESTATION",
    session_id: A,
    parents: [],
    issued_at,
    body: { type: "atoll.dev/probe/v1" },
  });
  tree.append(first.hash);
  const good = {
    tree_size: 1,
    root_hash: tree.root(),
    prev_checkpoint: "genesis",
    trust_head: { height: 0, hash: "genesis" },
  } as const;
  const sealWith = (body: Parameters<typeof checkpointBody>[0], parents: readonly Hash[]) =>
    createChains(signer).seal({
      kind: "CHECKPOINT",
      session_id: G,
      parents,
      issued_at,
      body: checkpointBody(body),
    });
  expect(check([first, sealWith(good, [first.hash])])).not.toHaveProperty("code");
  const cases: [string, SealedNode][] = [
    ["tree_size", sealWith({ ...good, tree_size: 2 }, [first.hash])],
    ["root_hash", sealWith({ ...good, root_hash: first.hash }, [first.hash])],
    ["prev_checkpoint", sealWith({ ...good, prev_checkpoint: first.hash }, [first.hash])],
    ["parents", sealWith(good, [])],
  ];
  for (const [word, node] of cases)
    expect(check([first, node])).toMatchObject({ index: 1, reason: expect.stringContaining(word) });
});

test("reading goes on from a checkpoint with the heads and the tree it had", () => {
  const head = check(GOOD.slice(0, 3));
  if (!("heads" in head)) throw new Error(head.reason);
  const graph = createGraphCheck({
    order: "journal",
    keyOf: () => verifier,
    resume: {
      heads: head.heads(),
      tree: { size: head.tree.size, peaks: head.tree.peaks() },
      checkpoint: GOOD[2]?.hash ?? "genesis",
    },
  });
  for (const node of GOOD.slice(3)) expect(graph.next(node)).toBeNull();
});

test("a condensed link holds a node's place in the chain and in the tree", () => {
  const graph = createGraphCheck({ order: "journal", keyOf: () => verifier });
  for (const { node, hash } of GOOD.slice(0, 2))
    expect(
      graph.condensed(node.session_id, { node_hash: hash, prev_hash: node.prev_hash, lamport: node.lamport }),
    ).toBeNull();
  for (const node of GOOD.slice(2)) expect(graph.next(node)).toBeNull();
  const [first] = GOOD;
  if (first !== undefined)
    expect(graph.condensed(A, { node_hash: first.hash, prev_hash: "genesis", lamport: 9 })).toMatchObject({
      code: "CHAIN_BROKEN",
    });
});

test("a note says what was signed, to the key and origin that signed it", () => {
  const body = { origin: "atoll.dev/pod-1", size: 7, root: createFrontier().root() };
  const note = writeNote(body, signer);
  expect(readNote(note, body.origin, verifier)).toEqual(body);
  expect(() => readNote(note, "atoll.dev/pod-2", verifier)).toThrow("origin");
  expect(() => readNote(note.replace("\n7\n", "\n8\n"), body.origin, verifier)).toThrow("signature");
  expect(() => readNote(note, body.origin, verifierFromRaw(newSigner().publicKey))).toThrow("not signed");
  expect(() => readNote(note.slice(0, -1), body.origin, verifier)).toThrow("note");
  expect(() => writeNote({ ...body, origin: "a b" }, signer)).toThrow("origin");
});
