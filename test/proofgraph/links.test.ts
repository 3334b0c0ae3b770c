// One wrong link at a time: every kind of node in its place, and the reason when it is out of it.

import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { makeId } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonObject, NodeKind, SealedNode, SessionId } from "../../kernel/contracts/contracts.ts";
import { sha256, signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { checkpointBody, createFrontier, createGraphCheck } from "../../kernel/proofgraph/proofgraph.ts";
import type { Break } from "../../kernel/proofgraph/proofgraph.ts";
import {
  EMPTY_USAGE,
  createChains,
  outcomeReceipt,
  receiptBody,
  refusedReceipt,
} from "../../kernel/receipts/receipts.ts";
import { A, B, G, bytes, issued_at, judged, permitted } from "./scene.ts";

const { privateKey } = generateKeyPairSync("ed25519");
const signer = signerFromPem(privateKey.export({ type: "pkcs8", format: "pem" }));
const verifier = verifierFromRaw(signer.publicKey);
const outcome = (n: number, status: "SUCCEEDED" | "FAILED" | "UNKNOWN" = "SUCCEEDED"): JsonObject =>
  receiptBody(
    outcomeReceipt(permitted(n), {
      receiptId: makeId("rcp", bytes(n + 100)),
      status,
      code: "",
      outputHash: "",
      usage: EMPTY_USAGE,
    }),
  );
const intent = (n: number): JsonObject => receiptBody(permitted(n));
const probe: JsonObject = { type: "atoll.dev/probe/v1", name: "x", target: "y", result: "z" };

/** Writes nodes as a guardian would, or as it never would. */
function writer() {
  const chains = createChains(signer);
  const tree = createFrontier();
  const nodes: SealedNode[] = [];
  let checkpoint: Hash | "genesis" = "genesis";
  const add = (
    kind: NodeKind,
    session_id: SessionId,
    body: JsonObject,
    parents: readonly Hash[] = [],
  ): SealedNode => {
    const sealed = chains.seal({ kind, session_id, parents, issued_at, body });
    tree.append(sealed.hash);
    nodes.push(sealed);
    return sealed;
  };
  const bodyNow = (): JsonObject =>
    checkpointBody({
      tree_size: tree.size,
      root_hash: tree.root(),
      prev_checkpoint: checkpoint,
      trust_head: { height: 0, hash: "genesis" },
    });
  return {
    nodes,
    add,
    bodyNow,
    checkpoint(parents: readonly Hash[], session = G): SealedNode {
      const sealed = add("CHECKPOINT", session, bodyNow(), parents);
      checkpoint = sealed.hash;
      return sealed;
    },
  };
}
type Options = Partial<Parameters<typeof createGraphCheck>[0]>;
function read(nodes: readonly SealedNode[], options: Options = {}): Break | null {
  const graph = createGraphCheck({ order: "journal", keyOf: () => verifier, ...options });
  for (const node of nodes) {
    const fault = graph.next(node);
    if (fault !== null) return fault;
  }
  return null;
}
const why = (nodes: readonly SealedNode[], options: Options = {}): string => {
  const fault = read(nodes, options);
  return fault === null ? "" : `${fault.code} ${fault.index} ${fault.reason}`;
};

describe("a node out of its place", () => {
  test("by its height, though it follows the node before it", () => {
    const chains = createChains(signer);
    const first = chains.seal({ kind: "TRUST_EVENT", session_id: A, parents: [], issued_at, body: {} });
    const skipped = createChains(signer);
    skipped.restore(A, 4, first.hash);
    const fifth = skipped.seal({ kind: "TRUST_EVENT", session_id: A, parents: [], issued_at, body: {} });
    expect(why([first])).toBe("");
    expect(why([first, fifth])).toBe("CHAIN_BROKEN 1 lamport 2 was expected, found 5");
    const graph = createGraphCheck({ order: "journal", keyOf: () => verifier });
    const link = { node_hash: first.hash, prev_hash: "genesis", lamport: 2 } as const;
    expect(graph.condensed(A, link)).toEqual({
      code: "CHAIN_BROKEN",
      reason: "lamport 1 was expected, found 2",
      index: 0,
      session_id: A,
      lamport: 2,
      hash: first.hash,
    });
  });
  test("by the hash of the one before", () => {
    const w = writer();
    const first = w.add("TRUST_EVENT", A, {});
    const second = w.add("TRUST_EVENT", A, {});
    const other = writer();
    other.add("TRUST_EVENT", A, { other: 1 });
    expect(why([first, second])).toBe("");
    expect(why([...other.nodes, second])).toBe("CHAIN_BROKEN 1 prev_hash is not the hash of the node before");
  });
  test("by a signature that does not verify, or a key that nobody knows", () => {
    const w = writer();
    const { node, hash, text } = w.add("TRUST_EVENT", A, { n: 1 });
    const forged = { node: { ...node, body: { n: 2 } }, hash, text: text.replace('"n":1', '"n":2') };
    expect(read([forged])).toEqual({
      code: "SIGNATURE_INVALID",
      reason: "the signature does not verify",
      index: 0,
      session_id: A,
      lamport: 1,
      hash,
    });
    expect(why(w.nodes, { keyOf: () => "TRUST_KEY_REVOKED" })).toBe(
      `TRUST_KEY_REVOKED 0 no key for \`${signer.keyId}\``,
    );
  });
});

describe("a parent that was not read", () => {
  const strange = sha256("strange");
  test("breaks a journal, and is only wanted in a chain read by itself, until it comes", () => {
    const w = writer();
    const known = w.add("TRUST_EVENT", B, {});
    const child = writer().add("TRUST_EVENT", A, {}, [known.hash, strange].sort());
    expect(why([known, child])).toBe(`CHAIN_BROKEN 1 parent ${strange} is unknown`);
    const graph = createGraphCheck({ order: "session", keyOf: () => verifier });
    expect([graph.next(child), graph.missing().toSorted()]).toEqual([null, [known.hash, strange].sort()]);
    expect([graph.next(known), graph.missing()]).toEqual([null, [strange]]);
  });
  test("is taken on trust where reading goes on, and wanted", () => {
    const graph = createGraphCheck({
      order: "journal",
      keyOf: () => verifier,
      resume: { heads: [], tree: { size: 0, peaks: [] }, checkpoint: "genesis" },
    });
    expect(graph.next(writer().add("TRUST_EVENT", A, {}, [strange]))).toBeNull();
    expect(graph.missing()).toEqual([strange]);
  });
});

describe("a body that its kind does not allow", () => {
  test.each([
    ["INTENT", intent(1), ""],
    ["INTENT", outcome(1), "an INTENT's receipt is PERMITTED"],
    ["INTENT", {}, "body: type: is missing"],
    ["ATTESTATION", probe, ""],
    ["ATTESTATION", intent(1), ""],
    ["ATTESTATION", receiptBody(refusedReceipt(judged(1), "DENY", "DENY_RULE")), ""],
    ["ATTESTATION", receiptBody(refusedReceipt(judged(1), "ESCALATE", "DENY_APPROVAL_REQUIRED")), ""],
    ["ATTESTATION", outcome(1), "an ATTESTATION's receipt states a verdict, not an outcome"],
    ["ATTESTATION", outcome(1, "FAILED"), "an ATTESTATION's receipt states a verdict, not an outcome"],
    ["ATTESTATION", { type: "atoll.dev/receipt/v1" }, "body: receipt_id: is missing"],
    ["EFFECT", {}, "body: type: is missing"],
    ["EFFECT", intent(1), "an EFFECT's receipt states an outcome"],
    [
      "EFFECT",
      receiptBody(refusedReceipt(judged(1), "DENY", "DENY_RULE")),
      "an EFFECT's receipt states an outcome",
    ],
    ["EFFECT", outcome(1), "no open INTENT of this effect is among the parents"],
    ["TRUST_EVENT", {}, ""],
    ["CHECKPOINT", {}, "body: type: is missing"],
  ] as const)("%s %#", (kind, body, reason) => {
    const w = writer();
    w.add(kind, A, body);
    expect(why(w.nodes)).toBe(reason === "" ? "" : `CHAIN_BROKEN 0 ${reason}`);
  });
});

describe("an effect", () => {
  const none = "no open INTENT of this effect is among the parents";
  test.each(["SUCCEEDED", "FAILED", "UNKNOWN"] as const)("that %s ends its intent, once", (status) => {
    const w = writer();
    const { hash } = w.add("INTENT", A, intent(1));
    w.add("EFFECT", A, outcome(1, status), [hash]);
    expect(why(w.nodes)).toBe("");
    w.add("EFFECT", A, outcome(1, status), [hash]);
    expect(why(w.nodes)).toBe(`CHAIN_BROKEN 2 ${none}`);
  });
  test("of another session, or of another intent, is none of that one", () => {
    for (const [session, n] of [
      [B, 1],
      [A, 2],
      [B, 2],
    ] as const) {
      const w = writer();
      const { hash } = w.add("INTENT", A, intent(1));
      w.add("EFFECT", session, outcome(n), [hash]);
      expect(why(w.nodes)).toBe(`CHAIN_BROKEN 1 ${none}`);
    }
  });
  test("finds its intent among several parents", () => {
    const w = writer();
    const parents = [
      w.add("TRUST_EVENT", G, {}),
      w.add("INTENT", A, intent(2)),
      w.add("INTENT", A, intent(1)),
    ];
    w.add("EFFECT", A, outcome(1), parents.map((p) => p.hash).sort());
    w.add("EFFECT", A, outcome(2), parents.map((p) => p.hash).sort());
    expect(why(w.nodes)).toBe("");
  });
  test("whose intent was condensed, or read before, is let stand; one that has its intent nowhere is not", () => {
    const w = writer();
    const known = w.add("TRUST_EVENT", G, {});
    const begun = w.add("INTENT", A, intent(1));
    const effect = w.add("EFFECT", A, outcome(1), [begun.hash, known.hash].sort());
    const graph = createGraphCheck({ order: "journal", keyOf: () => verifier });
    expect(graph.next(known)).toBeNull();
    expect(
      graph.condensed(A, { node_hash: begun.hash, prev_hash: begun.node.prev_hash, lamport: 1 }),
    ).toBeNull();
    expect(graph.next(effect)).toBeNull();
    const resume = {
      heads: [{ session_id: A, lamport: 1, hash: begun.hash }],
      tree: { size: 0, peaks: [] },
      checkpoint: "genesis",
    } as const;
    expect(why([known, effect], { resume })).toBe("");
    const lost = writer();
    const seen = lost.add("TRUST_EVENT", A, {});
    lost.add("EFFECT", A, outcome(1), [seen.hash]);
    const fresh = { heads: [], tree: { size: 0, peaks: [] }, checkpoint: "genesis" } as const;
    expect(why(lost.nodes, { resume: fresh })).toBe(`CHAIN_BROKEN 1 ${none}`);
    const strange = writer();
    strange.add("EFFECT", A, outcome(1), [sha256("strange")]);
    expect(why(strange.nodes, { order: "session" })).toBe(`CHAIN_BROKEN 0 ${none}`);
  });
});

describe("a checkpoint", () => {
  test("without anything before it, or after another one, commits to nothing", () => {
    const w = writer();
    w.checkpoint([]);
    expect(why(w.nodes)).toBe("CHAIN_BROKEN 0 nothing was added since the checkpoint before");
    const twice = writer();
    const { hash } = twice.add("TRUST_EVENT", A, {});
    twice.checkpoint([hash]);
    expect(why(twice.nodes)).toBe("");
    twice.checkpoint([]);
    expect(why(twice.nodes)).toBe("CHAIN_BROKEN 2 nothing was added since the checkpoint before");
  });
  test("after a condensed link commits to that", () => {
    const w = writer();
    const first = w.add("TRUST_EVENT", A, {});
    const point = w.checkpoint([first.hash]);
    const graph = createGraphCheck({ order: "journal", keyOf: () => verifier });
    expect(graph.condensed(A, { node_hash: first.hash, prev_hash: "genesis", lamport: 1 })).toBeNull();
    expect(graph.next(point)).toBeNull();
    expect(graph.heads()).toEqual([
      { session_id: A, lamport: 1, hash: first.hash },
      { session_id: G, lamport: 1, hash: point.hash },
    ]);
  });
  test("names the heads of the other sessions that moved, in their order, and no other node", () => {
    const sessions = Array.from({ length: 9 }, (_, n) => makeId("ses", bytes(20 + n)));
    const w = writer();
    const heads = sessions.map((s) => w.add("TRUST_EVENT", s, {}).hash);
    w.add("TRUST_EVENT", G, {});
    w.checkpoint([...heads].sort());
    const { hash } = w.add("TRUST_EVENT", A, {});
    w.checkpoint([hash]);
    expect(why(w.nodes)).toBe("");
    const wrong = "parents are not the heads of the other sessions that moved";
    const own = writer();
    const [a, b] = [own.add("TRUST_EVENT", A, {}).hash, own.add("TRUST_EVENT", B, {}).hash];
    const g = own.add("TRUST_EVENT", G, {}).hash;
    for (const parents of [[], [a], [b], [a, g], [a, b, g], [g]]) {
      const body = own.bodyNow();
      const chains = createChains(signer);
      chains.restore(G, 1, g);
      const point = chains.seal({ kind: "CHECKPOINT", session_id: G, parents, issued_at, body });
      expect(why([...own.nodes, point])).toBe(`CHAIN_BROKEN 3 ${wrong}`);
    }
  });
  test("in a chain read by itself has no tree to be held against", () => {
    const w = writer();
    const { hash } = w.add("TRUST_EVENT", A, {});
    const point = w.checkpoint([hash]);
    expect(why([point], { order: "session" })).toBe("");
    expect(why([point])).toContain(`parent ${hash} is unknown`);
  });
});

test("what is no fault of a body is not taken for one", () => {
  const w = writer();
  const sealed = w.add("ATTESTATION", A, probe);
  const torn = { ...sealed, node: { ...sealed.node, body: null as never } };
  expect(() => read([torn])).toThrow(TypeError);
});
