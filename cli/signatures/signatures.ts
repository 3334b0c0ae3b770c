// Who checks the signatures of nodes for the command line: libsodium where it is installed, in half the platform's
// time, and the platform where it is not. The verdict is the same; what is trusted to write receipts has none of it.

import { createRequire } from "node:module";
import { isSoundPoint, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Verifier } from "../../kernel/crypto/crypto.ts";

type Check = (signature: Uint8Array, message: Uint8Array, key: Uint8Array) => boolean;

export interface Signatures {
  readonly by: "libsodium" | "platform";
  /** The same key, with which this library checks. */
  readonly of: (key: Verifier) => Verifier;
}

/** In the words of a report. */
export const BY: Readonly<Record<Signatures["by"], string>> = {
  libsodium: "libsodium",
  platform: "the platform's Ed25519",
};
export const PLATFORM: Signatures = { by: "platform", of: (key) => key };

export function signatures(load: () => unknown = library): Signatures {
  const check = checkOf(attempt(load));
  return check !== undefined && agrees(check) ? signaturesBy(check) : PLATFORM;
}

export function signaturesBy(check: Check): Signatures {
  const made = new WeakMap<Verifier, Verifier>();
  return {
    by: "libsodium",
    of(key) {
      let found = made.get(key);
      if (found === undefined) made.set(key, (found = verifierBy(check, key)));
      return found;
    },
  };
}

// The points are judged before either library is asked, as the platform's verifier does it; the key was when it was
// made. Both then refuse an S that is not below the order and compare the bytes of R with S·B − k·A, no cofactor
// multiplied away: so a point with a part of low order has one verdict too. `agrees` holds a loaded library to that.
function verifierBy(check: Check, { keyId, publicKey }: Verifier): Verifier {
  return {
    keyId,
    publicKey,
    verify(text, sig) {
      const bytes = Buffer.from(sig, "hex");
      return (
        bytes.length === 64 &&
        isSoundPoint(bytes.subarray(0, 32)) &&
        check(bytes, Buffer.from(text, "utf8"), publicKey)
      );
    },
  };
}

const KEY = "195c1daee82b0ed84c78bb7d17adeb74d29f0bc210ec7fbc8fea27aa4ab5cf9b";
const GOOD =
  "7ea638f278de030844114d0e31a131e543705f28850f0e4dfe96e1f3bef4d41ded1441a9c02e403f3befc85c61d1eddba1d0c220ab6029c033807d72a3354b01";
const REFUSED = [
  // R with a part of low order: holds where the cofactor is multiplied away.
  "0216db8d1b4b85d7b148ad7a47d4be8a9047b4af4b0e673b67615c828012b6ea6f6e649262b7c1d250804735aafd63a2803de698b90648f0c57611e14cecc909",
  // The good one's S and the order on top.
  "7ea638f278de030844114d0e31a131e543705f28850f0e4dfe96e1f3bef4d41ddae83606db915297118cc0ff3fcbccf0a1d0c220ab6029c033807d72a3354b11",
  // Another R.
  "7da638f278de030844114d0e31a131e543705f28850f0e4dfe96e1f3bef4d41ded1441a9c02e403f3befc85c61d1eddba1d0c220ab6029c033807d72a3354b01",
];

/** Whether a library judges as the platform does where libraries differ. One that does not is not used. */
export function agrees(check: Check): boolean {
  const key = verifierFromRaw(Buffer.from(KEY, "hex")).publicKey;
  const holds = (sig: string, text = "atoll"): boolean =>
    check(Buffer.from(sig, "hex"), Buffer.from(text, "utf8"), key);
  return holds(GOOD) && !holds(GOOD, "atolls") && !REFUSED.some((sig) => holds(sig));
}

/** A bundle of the command carries no library and looks for none beside itself. */
function library(): unknown {
  return import.meta.url.endsWith("/cli/signatures/signatures.ts")
    ? createRequire(import.meta.url)("sodium-native")
    : undefined;
}

function attempt(load: () => unknown): unknown {
  try {
    return load();
  } catch {
    return undefined;
  }
}

function checkOf(loaded: unknown): Check | undefined {
  if (typeof loaded !== "object" || loaded === null || !("crypto_sign_verify_detached" in loaded))
    return undefined;
  const found = loaded.crypto_sign_verify_detached;
  return typeof found === "function"
    ? (signature, message, key) => found(signature, message, key) === true
    : undefined;
}
