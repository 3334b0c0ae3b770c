// A key whose signature is a keyed hash: as binding as a real one to whoever holds no secret, and quick.

import { hash as digest } from "node:crypto";
import { keyIdFrom, signatureFrom } from "../kernel/contracts/contracts.ts";
import type { Signer, Verifier } from "../kernel/crypto/crypto.ts";

export function quickKey(name: string): Signer & Verifier {
  const sign = (text: string) => signatureFrom(digest("sha512", `${name}\n${text}`, "hex"), "sig");
  return {
    keyId: keyIdFrom(`ed25519:${digest("sha256", name, "hex").slice(0, 16)}`, "key_id"),
    publicKey: new Uint8Array(32),
    sign,
    verify: (text, sig) => sign(text) === sig,
  };
}
