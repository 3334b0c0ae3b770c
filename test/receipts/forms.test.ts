// The node's parser, member by member, and the places where a size or a name decides.

import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { LIMITS, keyIdFrom, makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue, NodeDraft } from "../../kernel/contracts/contracts.ts";
import { sha256, signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import {
  createChains,
  parseNode,
  parseReceipt,
  readNode,
  verifyNode,
} from "../../kernel/receipts/receipts.ts";

const { privateKey } = generateKeyPairSync("ed25519");
const signer = signerFromPem(privateKey.export({ type: "pkcs8", format: "pem" }));
const session = makeId("ses", new Uint8Array(16).fill(1));
const draft = (body: JsonObject, parents: NodeDraft["parents"] = []): NodeDraft => ({
  kind: "ATTESTATION",
  session_id: session,
  parents,
  issued_at: timestampOf(1_700_000_000_000),
  body,
});
const sealed = createChains(signer).seal(draft({ n: 1 }));
const said = (run: () => unknown): string => {
  try {
    run();
    return "";
  } catch (error) {
    return String(error instanceof Error ? error.message : error);
  }
};

describe("a node", () => {
  test.each<[string, JsonValue, RegExp]>([
    ["type", "atoll.dev/node/v2", /^type: expected one of/],
    ["kind", "VERDICT", /^kind: expected one of/],
    ["session_id", "ses_1", /^session_id: expected/],
    ["lamport", 0, /^lamport: expected/],
    ["lamport", 2, /^prev_hash: `genesis` belongs to lamport 1/],
    ["prev_hash", sealed.hash, /^prev_hash: `genesis` belongs to lamport 1/],
    ["parents", {}, /^parents: expected/],
    ["parents", [sealed.hash, "sha256:1"], /^parents\[1\]: expected/],
    ["parents", [sealed.hash, sealed.hash], /^parents: are sorted and each named once$/],
    ["issued_at", "2026-11-18", /^issued_at: expected/],
    ["key_id", "ed25519:1", /^key_id: expected/],
    ["body", [], /^body: expected/],
    ["sig", "00", /^sig: expected/],
    ["more", 1, /^more: is not a known member$/],
  ])("with %s %j is refused and the place named", (name, value, reason) => {
    expect(said(() => parseNode({ ...sealed.node, [name]: value }))).toMatch(reason);
  });
  test("after the first names the one before by its hash and nothing else", () => {
    const later = { ...sealed.node, lamport: 2 };
    expect(parseNode({ ...later, prev_hash: sealed.hash })).toMatchObject({ prev_hash: sealed.hash });
    expect(said(() => parseNode({ ...later, prev_hash: "before" }))).toMatch(/^prev_hash: expected `sha256:/);
  });
  test("has its parents in order", () => {
    const [a = sealed.hash, b = sealed.hash] = [sha256("a"), sha256("b")].sort();
    expect(parseNode({ ...sealed.node, parents: [a, b] }).parents).toEqual([a, b]);
    expect(said(() => parseNode({ ...sealed.node, parents: [b, a] }))).toMatch(/^parents: are sorted/);
    const chains = createChains(signer);
    expect(chains.seal(draft({}, [b, a])).node.parents).toEqual([a, b]);
    expect(chains.seal(draft({}, [b, b])).node.parents).toEqual([b]);
    expect(chains.seal(draft({}, [b, a, b])).node.parents).toEqual([a, b]);
    expect(chains.seal(draft({}, [b])).node.parents).toEqual([b]);
  });
  test("is read alike from text, from bytes and from an object", () => {
    const bytes = new TextEncoder().encode(sealed.text);
    for (const node of [sealed.text, bytes, { ...sealed.node }]) expect(parseNode(node)).toEqual(sealed.node);
    for (const line of [sealed.text, bytes]) expect(readNode(line)).toEqual(sealed);
    expect(said(() => readNode(new TextEncoder().encode(`${sealed.text} `)))).toBe(
      "node: is not in canonical form",
    );
  });
  test("that was text with half a character is not the node that its bytes would be", () => {
    const whole = createChains(signer).seal(draft({ name: "\ufffd" }));
    expect(readNode(whole.text)).toEqual(whole);
    expect(said(() => readNode(whole.text.replace("\ufffd", "\ud800")))).toBe(
      "node: is not in canonical form",
    );
  });
});

test("a node may be as long as the limit and not longer, counted in bytes", () => {
  const length = (text: string): number => new TextEncoder().encode(text).length;
  const room = LIMITS.node.bytes - length(createChains(signer).seal(draft({ fill: "" })).text);
  for (const [unit, bytes] of [
    ["x", 1],
    ["é", 2],
  ] as const) {
    const fill = unit.repeat(Math.floor(room / bytes)) + "x".repeat(room % bytes);
    expect(length(createChains(signer).seal(draft({ fill })).text)).toBe(LIMITS.node.bytes);
    expect(said(() => createChains(signer).seal(draft({ fill: `${fill}x` })))).toBe(
      `node: longer than ${LIMITS.node.bytes} bytes`,
    );
  }
});

test("a session goes on from a height that it has not reached, and from no other", () => {
  const chains = createChains(signer);
  expect(said(() => chains.restore(session, 0, sealed.hash))).toMatch(/^lamport: expected an integer/);
  chains.restore(session, 4, sealed.hash);
  expect(said(() => chains.restore(session, 4, sealed.hash))).toBe(
    `lamport: session ${session} is already at 4`,
  );
  expect(said(() => chains.restore(session, 3, sealed.hash))).toMatch(/is already at 4$/);
  chains.restore(session, 5, sealed.hash);
  expect(chains.heads()).toEqual([{ session_id: session, lamport: 5, hash: sealed.hash }]);
});

test("a signature holds for the key that the node names alone", () => {
  const keyId = keyIdFrom(`ed25519:${"0".repeat(16)}`, "key");
  const verifier = verifierFromRaw(signer.publicKey);
  const named = createChains({ ...signer, keyId, sign: (text) => signer.sign(text) }).seal(draft({ n: 1 }));
  expect([verifyNode(sealed.node, verifier), verifyNode(named.node, verifier)]).toEqual([true, false]);
});

test("a member that a receipt lacks is named as it stands", () => {
  expect(said(() => parseReceipt({}))).toBe("type: is missing");
});
