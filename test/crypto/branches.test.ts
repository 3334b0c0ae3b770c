// Keys that verify tokens, and signatures under points that are not sound.

import { createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { expect, test } from "vitest";
import { signatureFrom } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { signerFromPem, tokenKey, verifierFromPem } from "../../kernel/crypto/crypto.ts";
import { verifySignature } from "../../kernel/crypto/noble.ts";

const jwk = (key: KeyObject): JsonObject => JSON.parse(JSON.stringify(key.export({ format: "jwk" })));
const pairs = {
  EdDSA: generateKeyPairSync("ed25519"),
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
};
const input = Buffer.from("head.body");

test("each kind of key verifies its own algorithm", () => {
  for (const [alg, { publicKey, privateKey }] of Object.entries(pairs)) {
    const key = tokenKey({ ...jwk(publicKey), kid: "k", use: "sig", alg });
    expect([key.kid, key.alg]).toEqual(["k", alg]);
    const signed =
      alg === "EdDSA"
        ? sign(null, input, privateKey)
        : sign(
            "sha256",
            input,
            alg === "ES256" ? { key: privateKey, dsaEncoding: "ieee-p1363" } : privateKey,
          );
    expect(key.verify(input, signed)).toBe(true);
    expect(key.verify(Buffer.from("other"), signed)).toBe(false);
    expect(key.verify(input, signed.subarray(1))).toBe(false);
  }
});
test("a signature of ES256 in another form is none", () => {
  const key = tokenKey(jwk(pairs.ES256.publicKey));
  expect(key.verify(input, sign("sha256", input, pairs.ES256.privateKey))).toBe(false);
});
test("what no pinned set may hold is refused", () => {
  const { publicKey, privateKey } = pairs.EdDSA;
  const small = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey;
  const curve = generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey;
  const refused: readonly (readonly [unknown, string])[] = [
    ["key", "expected objects"],
    [jwk(privateKey), "a private key"],
    [{ ...jwk(publicKey), use: "enc" }, "expected `sig`"],
    [{ ...jwk(publicKey), alg: "RS256" }, "expected `EdDSA`"],
    [{ kty: "OKP", crv: "Ed25519", x: "AA" }, "jwks.keys: "],
    [jwk(small), "RSA of 2048 bits"],
    [jwk(curve), "P-256"],
  ];
  for (const [value, message] of refused) expect(() => tokenKey(value as JsonObject)).toThrow(message);
});
test("keys of another kind neither sign nor verify", () => {
  const { publicKey, privateKey } = pairs.ES256;
  expect(() => signerFromPem(privateKey.export({ type: "pkcs8", format: "pem" }))).toThrow("found ec");
  expect(() => verifierFromPem(publicKey.export({ type: "spki", format: "pem" }))).toThrow("found ec");
});
test("nothing is signed under a point of low order", () => {
  const { privateKey, publicKey } = pairs.EdDSA;
  const raw = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  const sig = signatureFrom(
    sign(null, input, createPrivateKey(privateKey.export({ type: "pkcs8", format: "pem" }))).toString("hex"),
    "sig",
  );
  expect(verifySignature(raw, input, sig)).toBe(true);
  expect(verifySignature(new Uint8Array(32), input, sig)).toBe(false);
  expect(verifySignature(raw.subarray(1), input, sig)).toBe(false);
});
