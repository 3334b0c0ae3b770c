// Keys of a JSON Web Key Set (RFC 7517) that verify tokens: public, asymmetric, one algorithm each.

import { createPublicKey, verify as platformVerify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { ContractError, isObject, messageOf, present } from "../contracts/contracts.ts";
import type { JsonValue } from "../contracts/contracts.ts";

export interface TokenKey {
  readonly kid: string;
  readonly alg: "EdDSA" | "ES256" | "RS256";
  verify(input: Uint8Array, signature: Uint8Array): boolean;
}

/** The key, or a ContractError: a set that holds what cannot be used is no pinned set. */
export function tokenKey(value: JsonValue): TokenKey {
  if (!isObject(value)) throw new ContractError("jwks.keys", "expected objects");
  if (value["d"] !== undefined) throw new ContractError("jwks.keys", "a private key does not belong here");
  if (value["use"] !== undefined && value["use"] !== "sig")
    throw new ContractError("jwks.keys.use", "expected `sig`");
  const text = (name: string): string => {
    const found = value[name];
    return typeof found === "string" ? found : "";
  };
  let key: KeyObject;
  try {
    key = createPublicKey({
      format: "jwk",
      key: { kty: text("kty"), crv: text("crv"), x: text("x"), y: text("y"), n: text("n"), e: text("e") },
    });
  } catch (error) {
    throw new ContractError("jwks.keys", messageOf(error));
  }
  const alg = algorithmOf(key);
  if (value["alg"] !== undefined && value["alg"] !== alg)
    throw new ContractError("jwks.keys.alg", `expected \`${alg}\` for this key`);
  return {
    kid: text("kid"),
    alg,
    verify(input, signature) {
      if (alg === "EdDSA") return platformVerify(null, input, key, signature);
      // The signature of ES256 is the two numbers themselves, nothing else.
      if (alg === "ES256" && signature.length !== 64) return false;
      return platformVerify(
        "sha256",
        input,
        alg === "ES256" ? { key, dsaEncoding: "ieee-p1363" } : key,
        signature,
      );
    },
  };
}

function algorithmOf(key: KeyObject): TokenKey["alg"] {
  const details = present(key.asymmetricKeyDetails);
  if (key.asymmetricKeyType === "ed25519") return "EdDSA";
  if (key.asymmetricKeyType === "ec" && details.namedCurve === "prime256v1") return "ES256";
  if (key.asymmetricKeyType === "rsa" && present(details.modulusLength) >= 2048) return "RS256";
  throw new ContractError("jwks.keys", "expected Ed25519, P-256 or RSA of 2048 bits and more");
}
