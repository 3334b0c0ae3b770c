// The second implementation, in JavaScript alone: same names, same bytes, same verdicts as crypto.ts. It checks the
// platform in tests, and it is what the offline viewer runs where there is no node:crypto.

import { Point, etc, getPublicKey, hashes, sign as nobleSign } from "@noble/ed25519";
import { sha256 as nobleSha256, sha512 } from "@noble/hashes/sha2.js";
import { canonicalize } from "../canonicalize/canonicalize.ts";
import { hashFrom, keyIdFrom, signatureFrom } from "../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue, KeyId, Signature } from "../contracts/contracts.ts";
import type { Signer, Verifier } from "./crypto.ts";
import { isSoundPoint } from "./points.ts";

hashes.sha512 = sha512;
const utf8 = new TextEncoder();

export const sha256Bytes = (bytes: Uint8Array): Uint8Array => nobleSha256(bytes);
export const hashOfBytes = (raw: Uint8Array): Hash => hashFrom(`sha256:${etc.bytesToHex(raw)}`, "hash");
export const bytesOfHash = (h: Hash): Uint8Array => etc.hexToBytes(h.slice(7));
export const sha256 = (text: string | Uint8Array): Hash =>
  hashOfBytes(sha256Bytes(typeof text === "string" ? utf8.encode(text) : text));
export const hashJson = (value: JsonValue): Hash => sha256(canonicalize(value));
export const keyIdOf = (raw: Uint8Array): KeyId =>
  keyIdFrom(`ed25519:${etc.bytesToHex(sha256Bytes(raw)).slice(0, 16)}`, "key_id");

export function signerFromSeed(seed: Uint8Array): Signer {
  const publicKey = getPublicKey(seed);
  return {
    keyId: keyIdOf(publicKey),
    publicKey,
    sign: (text) => signatureFrom(etc.bytesToHex(nobleSign(utf8.encode(text), seed)), "sig"),
  };
}

export function verifierFromRaw(raw: Uint8Array): Verifier {
  if (!isSoundPoint(raw)) throw new Error("a public key of low order or in no canonical form");
  const negated = decode(raw)?.negate();
  return {
    keyId: keyIdOf(raw),
    publicKey: raw,
    verify: (text, sig) =>
      negated !== undefined && verify(raw, negated, utf8.encode(text), etc.hexToBytes(sig)),
  };
}

/** The same over bytes that need not be text. */
export function verifySignature(raw: Uint8Array, message: Uint8Array, sig: Signature): boolean {
  const point = isSoundPoint(raw) ? decode(raw) : undefined;
  return point !== undefined && verify(raw, point.negate(), message, etc.hexToBytes(sig));
}

const decode = (bytes: Uint8Array): Point | undefined => {
  try {
    return Point.fromBytes(bytes, false);
  } catch {
    return undefined;
  }
};

// The library multiplies by the cofactor and so accepts more than the platform, which compares the bytes of R with
// S·B − k·A. We do as the platform does.
function verify(key: Uint8Array, negated: Point, message: Uint8Array, sig: Uint8Array): boolean {
  const r = sig.subarray(0, 32);
  const s = little(sig.subarray(32));
  const order = Point.CURVE().n;
  if (!isSoundPoint(r) || s >= order) return false;
  const k = little(sha512(etc.concatBytes(r, key, message))) % order;
  const expected = multiple(Point.BASE, s).add(multiple(negated, k)).toBytes();
  return expected.every((b, i) => b === r[i]);
}

const multiple = (point: Point, n: bigint): Point => (n === 0n ? Point.ZERO : point.multiply(n, false));
const little = (bytes: Uint8Array): bigint => BigInt(`0x${etc.bytesToHex(Uint8Array.from(bytes).reverse())}`);

const SPKI = "302a300506032b6570032100";
const PKCS8 = "302e020100300506032b657004220420";

function raw32(pem: string, label: string, prefix: string): Uint8Array {
  const body = new RegExp(
    `^-----BEGIN ${label}-----\\s+([A-Za-z0-9+/=\\s]+)-----END ${label}-----\\s*$`,
  ).exec(pem);
  const der = Uint8Array.from(atob((body?.[1] ?? "").replace(/\s/g, "")), (c) => c.charCodeAt(0));
  if (der.length !== prefix.length / 2 + 32 || !etc.bytesToHex(der).startsWith(prefix))
    throw new Error(`expected an Ed25519 ${label.toLowerCase()}`);
  return der.subarray(-32);
}
export const verifierFromPem = (pem: string): Verifier => verifierFromRaw(raw32(pem, "PUBLIC KEY", SPKI));
export const signerFromPem = (pem: string): Signer => signerFromSeed(raw32(pem, "PRIVATE KEY", PKCS8));

export const signObject = <T extends JsonObject>(
  unsigned: T,
  signer: Signer,
): T & { readonly sig: Signature } => ({
  ...unsigned,
  sig: signer.sign(canonicalize(unsigned)),
});
