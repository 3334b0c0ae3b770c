// A chain goes on under the key that it was handed over to.

import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import { signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { createChains, verifySealed } from "../../kernel/receipts/receipts.ts";

const signer = () =>
  signerFromPem(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));

test("what is sealed after a hand-over is signed by the next key, and the chain is one", () => {
  const [old, next] = [signer(), signer()];
  const chains = createChains(old);
  const session_id = makeId("ses", new Uint8Array(16).fill(1));
  const seal = () =>
    chains.seal({
      kind: "TRUST_EVENT",
      session_id,
      parents: [],
      issued_at: timestampOf(1_700_000_000_000),
      body: {},
    });
  const first = seal();
  chains.handOver(next);
  const second = seal();
  expect([first.node.key_id, second.node.key_id]).toEqual([old.keyId, next.keyId]);
  expect([second.node.lamport, second.node.prev_hash]).toEqual([2, first.hash]);
  expect([
    verifySealed(first, verifierFromRaw(old.publicKey)),
    verifySealed(second, verifierFromRaw(next.publicKey)),
  ]).toEqual([true, true]);
  expect(verifySealed(second, verifierFromRaw(old.publicKey))).toBe(false);
});
