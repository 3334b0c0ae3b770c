import { createPublicKey, generateKeyPairSync, verify as platformVerify } from "node:crypto";
import { Point, etc } from "@noble/ed25519";
import { sha512 } from "@noble/hashes/sha2.js";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { isSignature } from "../../kernel/contracts/contracts.ts";
import * as platform from "../../kernel/crypto/crypto.ts";
import * as portable from "../../kernel/crypto/noble.ts";
import { isSoundPoint } from "../../kernel/crypto/points.ts";
import { expectVectors } from "./vectors.ts";

// The portable implementation takes milliseconds a signature; ATOLL_SIGNATURE_RUNS=10000 is for a long look: half a
// minute of processor time, and as much more as a busy machine takes.
const SIGNATURE_RUNS = Number(process.env["ATOLL_SIGNATURE_RUNS"] ?? 300);
const SIGNATURE_TIMEOUT = Math.max(300_000, SIGNATURE_RUNS * 200);
const both = [platform, portable];
const verdicts = (raw: Uint8Array, message: string, sig: string): boolean[] =>
  both.map(({ verifierFromRaw }) => {
    if (!isSignature(sig)) return false;
    try {
      return verifierFromRaw(raw).verify(message, sig);
    } catch {
      return false;
    }
  });
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

test(
  "both implementations sign the same bytes and accept each other's",
  () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.string({ unit: "grapheme" }),
        (seed, text) => {
          const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
          const pem = `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----\n`;
          const [a, b] = [platform.signerFromPem(pem), portable.signerFromPem(pem)];
          expect(hex(b.publicKey)).toBe(hex(a.publicKey));
          expect(b.keyId).toBe(a.keyId);
          const sig = a.sign(text);
          expect(b.sign(text)).toBe(sig);
          expect(verdicts(a.publicKey, text, sig)).toEqual([true, true]);
          const other = sig.replace(/./, (c) => (c === "0" ? "1" : "0"));
          expect(verdicts(a.publicKey, text, other)).toEqual([false, false]);
        },
      ),
      { numRuns: SIGNATURE_RUNS },
    );
  },
  SIGNATURE_TIMEOUT,
);

test("both implementations hash the same", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.uint8Array(), (text, bytes) => {
      const formed = text.toWellFormed();
      expect(portable.sha256(formed)).toBe(platform.sha256(formed));
      expect(portable.sha256(bytes)).toBe(platform.sha256(bytes));
      const raw = platform.sha256Bytes(bytes);
      expect(hex(portable.sha256Bytes(bytes))).toBe(hex(raw));
      for (const { hashOfBytes, bytesOfHash } of both)
        expect(hex(bytesOfHash(hashOfBytes(raw)))).toBe(hex(raw));
    }),
    { numRuns: 10_000 },
  );
});

test("the Ed25519 vectors: 151 of 151 by both", () => {
  // By the platform's own key where the bytes are no text.
  expectVectors({ ofText: verdicts, ofBytes: verdictsOfBytes });
});

function verdictsOfBytes(raw: Uint8Array, message: Uint8Array, sig: string): boolean[] {
  if (!isSignature(sig) || !isSoundPoint(raw) || !isSoundPoint(Buffer.from(sig.slice(0, 64), "hex")))
    return [false, false];
  return [
    platformVerify(null, message, spki(raw), Buffer.from(sig, "hex")),
    portable.verifySignature(raw, message, sig),
  ];
}
const spki = (raw: Uint8Array) =>
  createPublicKey({
    key: Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]),
    format: "der",
    type: "spki",
  });

// Every encoding of the eight points of low order, canonical or not, and the remaining y ≥ p.
const P = 2n ** 255n - 19n;
const encode = (y: bigint, sign: number): Uint8Array => {
  const bytes = new Uint8Array(32);
  for (let i = 0, rest = y; i < 32; i++, rest >>= 8n) bytes[i] = Number(rest & 255n);
  bytes[31] = (bytes[31] ?? 0) | (sign << 7);
  return bytes;
};
const eighth = Point.fromHex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");

test("no key and no R of low order or in no canonical form is taken, whatever the platform says", () => {
  let point = eighth;
  const bad: Uint8Array[] = [];
  for (let i = 0; i < 8; i++, point = point.add(eighth)) {
    const { y } = point.toAffine();
    for (const form of [y, y + P].filter((n) => n < 2n ** 255n)) bad.push(encode(form, 0), encode(form, 1));
  }
  for (let y = P; y < 2n ** 255n; y++) bad.push(encode(y, 0), encode(y, 1));
  expect(new Set(bad.map(hex)).size).toBeGreaterThanOrEqual(14);
  const signer = platform.signerFromPem(
    generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }),
  );
  for (const encoding of bad) {
    expect(isSoundPoint(encoding)).toBe(false);
    for (const { verifierFromRaw } of both) expect(() => verifierFromRaw(encoding)).toThrow("low order");
    expect(verdicts(signer.publicKey, "x", hex(encoding) + "0".repeat(64))).toEqual([false, false]);
  }
  expect(isSoundPoint(signer.publicKey)).toBe(true);
  expect(isSoundPoint(signer.publicKey.subarray(1))).toBe(false);
});

test("keys and nonces with a part of low order have one verdict with both", () => {
  // A = a·B + T and R = r·B + T': where the cofactor is multiplied away such signatures pass, else only by chance.
  const order = Point.CURVE().n;
  const seen = new Set<string>();
  for (let n = 1; n <= 200; n++) {
    const a = BigInt(n) * 7919n;
    const r = BigInt(n) * 104729n;
    const key = Point.BASE.multiply(a)
      .add(n % 3 === 0 ? Point.ZERO : eighth)
      .toBytes();
    const nonce = Point.BASE.multiply(r)
      .add(n % 2 === 0 ? Point.ZERO : eighth)
      .toBytes();
    const message = `message ${n}`;
    const digest = sha512(etc.concatBytes(nonce, key, new TextEncoder().encode(message)));
    const k = BigInt(`0x${hex(Uint8Array.from(digest).reverse())}`) % order;
    const s = (r + k * a) % order;
    const [one, two] = verdicts(key, message, hex(nonce) + hex(encode(s, 0)));
    expect(two).toBe(one);
    seen.add(`${one}`);
    // The same with S + L, which is another encoding of the same number.
    expect(verdicts(key, message, hex(nonce) + hex(encode(s + order, 0)))).toEqual([false, false]);
  }
  expect(seen.size).toBe(2);
});

test("only Ed25519 keys in PEM are read", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  for (const { signerFromPem, verifierFromPem } of both) {
    expect(() => signerFromPem(privateKey.export({ type: "pkcs8", format: "pem" }))).toThrow("Ed25519");
    expect(() => verifierFromPem(publicKey.export({ type: "spki", format: "pem" }))).toThrow("Ed25519");
    expect(() => verifierFromPem("nothing")).toThrow();
  }
  const own = generateKeyPairSync("ed25519");
  const pem = own.publicKey.export({ type: "spki", format: "pem" });
  expect(portable.verifierFromPem(pem).keyId).toBe(platform.verifierFromPem(pem).keyId);
  const signed = platform.signObject(
    { type: "x" },
    platform.signerFromPem(own.privateKey.export({ type: "pkcs8", format: "pem" })),
  );
  expect(
    portable.signObject(
      { type: "x" },
      portable.signerFromPem(own.privateKey.export({ type: "pkcs8", format: "pem" })),
    ),
  ).toEqual(signed);
});
