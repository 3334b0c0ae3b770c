// SHA-256 and Ed25519 by the platform: the only file of the kernel's hot path that touches node:crypto.

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  hash,
  sign as platformSign,
  verify as platformVerify,
} from "node:crypto";
import type { KeyObject } from "node:crypto";
import { canonicalize } from "../canonicalize/canonicalize.ts";
import { hashFrom, keyIdFrom, signatureFrom } from "../contracts/contracts.ts";
import { isSoundPoint } from "./points.ts";
import type { Hash, JsonObject, JsonValue, KeyId, Signature } from "../contracts/contracts.ts";

export { tokenKey } from "./jwk.ts";
export { isSoundPoint } from "./points.ts";
export type { TokenKey } from "./jwk.ts";

export const sha256 = (text: string | Uint8Array): Hash =>
  hashFrom(`sha256:${hash("sha256", text, "hex")}`, "hash");
/** The 32 raw bytes of a hash, and back. */
export const bytesOfHash = (h: Hash): Uint8Array => Buffer.from(h.slice(7), "hex");
export const hashOfBytes = (raw: Uint8Array): Hash =>
  hashFrom(`sha256:${Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString("hex")}`, "hash");
export const sha256Bytes = (bytes: Uint8Array): Uint8Array => hash("sha256", bytes, "buffer");
/** The hash of a text that is too long to hold. */
export function sha256Chunks(chunks: Iterable<Uint8Array>): Hash {
  const state = createHash("sha256");
  for (const chunk of chunks) state.update(chunk);
  return hashFrom(`sha256:${state.digest("hex")}`, "hash");
}
export const hashJson = (value: JsonValue): Hash => sha256(canonicalize(value));

/** A key that signs; made once, used for the process's life. */
export interface Signer {
  readonly keyId: KeyId;
  readonly publicKey: Uint8Array;
  sign(text: string): Signature;
}
/** A key that verifies, of a known role to whoever holds it. */
export interface Verifier {
  readonly keyId: KeyId;
  readonly publicKey: Uint8Array;
  verify(text: string, sig: Signature): boolean;
}

const rawOf = (key: KeyObject): Uint8Array =>
  new Uint8Array(key.export({ type: "spki", format: "der" }).subarray(-32));
export const keyIdOf = (raw: Uint8Array): KeyId =>
  keyIdFrom(`ed25519:${hash("sha256", raw, "hex").slice(0, 16)}`, "key_id");

export function signerFromPem(pem: string): Signer {
  const key = createPrivateKey(pem);
  if (key.asymmetricKeyType !== "ed25519")
    throw new Error(`expected an Ed25519 private key, found ${String(key.asymmetricKeyType)}`);
  const publicKey = rawOf(createPublicKey(key));
  const keyId = keyIdOf(publicKey);
  return {
    keyId,
    publicKey,
    sign: (text) => signatureFrom(platformSign(null, Buffer.from(text, "utf8"), key).toString("hex"), "sig"),
  };
}

export function verifierFromPem(pem: string): Verifier {
  return verifierFrom(createPublicKey(pem));
}

export function verifierFromRaw(raw: Uint8Array): Verifier {
  const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]);
  return verifierFrom(createPublicKey({ key: spki, format: "der", type: "spki" }));
}

function verifierFrom(key: KeyObject): Verifier {
  if (key.asymmetricKeyType !== "ed25519")
    throw new Error(`expected an Ed25519 public key, found ${String(key.asymmetricKeyType)}`);
  const publicKey = rawOf(key);
  if (!isSoundPoint(publicKey)) throw new Error("a public key of low order or in no canonical form");
  return {
    keyId: keyIdOf(publicKey),
    publicKey,
    verify(text, sig) {
      const bytes = Buffer.from(sig, "hex");
      return (
        isSoundPoint(bytes.subarray(0, 32)) && platformVerify(null, Buffer.from(text, "utf8"), key, bytes)
      );
    },
  };
}

/** The object with its `sig`: the signing input is the canonical form without it. */
export function signObject<T extends JsonObject>(
  unsigned: T,
  signer: Signer,
): T & { readonly sig: Signature } {
  return { ...unsigned, sig: signer.sign(canonicalize(unsigned)) };
}
