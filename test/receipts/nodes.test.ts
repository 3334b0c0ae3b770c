import { expect, test } from "vitest";
import { ContractError, makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, NodeDraft } from "../../kernel/contracts/contracts.ts";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import {
  EMPTY_USAGE,
  createChains,
  gatesHash,
  nodeHash,
  parseNode,
  parseReceipt,
  permittedReceipt,
  readNode,
  receiptBody,
  refusedReceipt,
  verifyNode,
  verifySealed,
} from "../../kernel/receipts/receipts.ts";
import { newSigner } from "../journal/scene.ts";
import { judged } from "../proofgraph/scene.ts";

const session = makeId("ses", new Uint8Array(16).fill(1));
const draft = (body: JsonObject, session_id = session): NodeDraft => ({
  kind: "ATTESTATION",
  session_id,
  parents: [],
  issued_at: timestampOf(1_700_000_000_000),
  body,
});

test("sealed nodes form a chain per session, and each verifies", () => {
  const signer = newSigner();
  const verifier = verifierFromRaw(signer.publicKey);
  const chains = createChains(signer);
  const other = makeId("ses", new Uint8Array(16).fill(2));
  const a = chains.seal(draft({ n: 1 }));
  const b = chains.seal(draft({ n: 2 }));
  const c = chains.seal(draft({ n: 3 }, other));
  expect([a.node.lamport, b.node.lamport, c.node.lamport]).toEqual([1, 2, 1]);
  expect([a.node.prev_hash, b.node.prev_hash, c.node.prev_hash]).toEqual(["genesis", a.hash, "genesis"]);
  for (const sealed of [a, b, c]) {
    expect(verifyNode(sealed.node, verifier)).toBe(true);
    expect(verifySealed(readNode(sealed.text), verifier)).toBe(true);
    expect(nodeHash(parseNode(sealed.text))).toBe(sealed.hash);
    expect(verifyNode(sealed.node, verifierFromRaw(newSigner().publicKey))).toBe(false);
  }
  expect(verifyNode({ ...a.node, body: { n: 9 } }, verifier)).toBe(false);
});

test("a restored session goes on where it was and never back", () => {
  const signer = newSigner();
  const first = createChains(signer);
  const head = first.seal(draft({ n: 1 }));
  const chains = createChains(signer);
  chains.restore(session, head.node.lamport, head.hash);
  expect(chains.seal(draft({ n: 2 })).node).toMatchObject({ lamport: 2, prev_hash: head.hash });
  expect(() => chains.restore(session, 1, head.hash)).toThrow(ContractError);
  expect(chains.heads()).toHaveLength(1);
});

test("a node of another shape, or text that is not canonical, is refused with the path", () => {
  const sealed = createChains(newSigner()).seal(draft({ n: 1 }));
  expect(() => readNode(` ${sealed.text}`)).toThrow("canonical");
  const node = { ...sealed.node };
  expect(() => parseNode({ ...node, extra: 1 })).toThrow("extra: is not a known member");
  const { body: _, ...without } = node;
  expect(() => parseNode(without)).toThrow("body: is missing");
  expect(() => parseNode({ ...node, lamport: 0 })).toThrow("lamport");
  expect(() => parseNode({ ...node, lamport: 2 })).toThrow("genesis");
  expect(() => parseNode({ ...node, parents: [sealed.hash, sealed.hash] })).toThrow(
    "parents: are sorted and each named once",
  );
});

test("a receipt survives its parser and a changed one does not", () => {
  const permitted = permittedReceipt(judged(0), {
    effectId: makeId("eff", new Uint8Array(16)),
    expiresAt: timestampOf(1_700_000_030_000),
  });
  expect(parseReceipt(receiptBody(permitted))).toEqual(permitted);
  const refused = refusedReceipt(judged(0), "DENY", "DENY_RULE", { ...EMPTY_USAGE, calls: 3 });
  expect(parseReceipt(receiptBody(refused))).toEqual(refused);
  expect(refused.gates_hash).toBe(gatesHash(["freeze"]));
  expect(() => parseReceipt({ ...receiptBody(refused), status: "SUCCEEDED" })).toThrow("status");
  expect(() => parseReceipt({ ...receiptBody(refused), usage: { calls: 1 } })).toThrow("usage.bytes_in");
  expect(() => parseReceipt({ ...receiptBody(refused), reason_code: "DENY_BECAUSE" })).toThrow("reason_code");
});
