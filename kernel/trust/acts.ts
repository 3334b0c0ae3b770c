// Acts of people and keys other than the author of a node: signed objects that lie in the body of a trust event.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import {
  ContractError,
  at,
  closed,
  hashFrom,
  integerFrom,
  keyIdFrom,
  messageOf,
  oneOf,
  orEmpty,
  signatureFrom,
  stringFrom,
  timestampFrom,
} from "../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue, KeyId, Signature, Timestamp } from "../contracts/contracts.ts";
import { keyIdOf, verifierFromRaw } from "../crypto/crypto.ts";
import type { Signer, Verifier } from "../crypto/crypto.ts";
import { ROLES } from "./roots.ts";
import type { Role } from "./roots.ts";

export const TRUST_EVENTS = [
  "KEY_PUBLISH",
  "KEY_ROTATE",
  "KEY_REVOKE",
  "POLICY_ACTIVATE",
  "POLICY_REVOKE",
  "ROLE_GRANT",
  "ROLE_REVOKE",
  "DELEGATION_BIND",
  "DELEGATION_REVOKE",
  "FREEZE",
  "UNFREEZE",
  "BREAKER_TRIP",
  "BREAKER_RESET",
  "CLOCK_JUMP",
] as const;
export type TrustEvent = (typeof TRUST_EVENTS)[number];

/** A public key inside an event: published there, and trusted only for what the event's author may grant. */
export interface PublishedKey {
  readonly key_id: KeyId;
  readonly public_key: string;
}

export type Act =
  | { readonly type: "atoll.dev/key-rotation/v1"; readonly old: KeyId; readonly key: PublishedKey }
  | {
      readonly type: "atoll.dev/key-revocation/v1";
      readonly key: KeyId;
      readonly reason: string;
      /** Of a guardian's key: its last checkpoint that is honoured; "" for none. */
      readonly honoured: Hash | "";
    }
  | { readonly type: "atoll.dev/role-grant/v1"; readonly role: Role; readonly key: PublishedKey }
  | { readonly type: "atoll.dev/role-revocation/v1"; readonly role: Role; readonly key: KeyId }
  | {
      readonly type: "atoll.dev/policy-revocation/v1";
      readonly bundleId: string;
      readonly version: number;
      readonly layer: "P0" | "P1";
      readonly reason: string;
    }
  | { readonly type: "atoll.dev/unfreeze/v1"; readonly freeze: Hash; readonly reason: string }
  | { readonly type: "atoll.dev/breaker-reset/v1"; readonly trip: Hash; readonly reason: string };

export type ActType = Act["type"];

export interface SignedAct<A extends Act = Act> {
  readonly act: A;
  readonly at: Timestamp;
  readonly key_id: KeyId;
  /** Whether `key` has signed it. */
  signedBy(key: Verifier): boolean;
}

const MEMBERS = {
  "atoll.dev/key-rotation/v1": ["old", "key"],
  "atoll.dev/key-revocation/v1": ["key", "reason", "honoured"],
  "atoll.dev/role-grant/v1": ["role", "key"],
  "atoll.dev/role-revocation/v1": ["role", "key"],
  "atoll.dev/policy-revocation/v1": ["bundleId", "version", "layer", "reason"],
  "atoll.dev/unfreeze/v1": ["freeze", "reason"],
  "atoll.dev/breaker-reset/v1": ["trip", "reason"],
} as const satisfies Record<ActType, readonly string[]>;

export function signAct(act: Act, time: Timestamp, signer: Signer): JsonObject & { readonly sig: Signature } {
  const unsigned: JsonObject = { ...memberOf(act), at: time, key_id: signer.keyId };
  return { ...unsigned, sig: signer.sign(canonicalize(unsigned)) };
}
const memberOf = (act: Act): JsonObject =>
  "key" in act && typeof act.key !== "string" ? { ...act, key: { ...act.key } } : jsonOf(act);
const jsonOf = (act: object): JsonObject => Object.fromEntries(Object.entries(act));

export function parseAct(value: JsonValue | undefined, path: string, type: ActType): SignedAct {
  const o = closed(value, path, ["type", "at", "key_id", "sig", ...MEMBERS[type]]);
  oneOf(o["type"], at(path, "type"), [type]);
  const { sig, ...unsigned } = o;
  const signature = signatureFrom(sig, at(path, "sig"));
  return {
    act: actFrom(o, path, type),
    at: timestampFrom(o["at"], at(path, "at")),
    key_id: keyIdFrom(o["key_id"], at(path, "key_id")),
    signedBy: (key) => key.verify(canonicalize(unsigned), signature),
  };
}

function actFrom(o: JsonObject, path: string, type: ActType): Act {
  const text = (name: string) => stringFrom(o[name], at(path, name), 500);
  const keyId = (name: string) => keyIdFrom(o[name], at(path, name));
  switch (type) {
    case "atoll.dev/key-rotation/v1":
      return { type, old: keyId("old"), key: publishedKeyFrom(o["key"], at(path, "key")) };
    case "atoll.dev/key-revocation/v1":
      return {
        type,
        key: keyId("key"),
        reason: text("reason"),
        honoured: orEmpty(hashFrom, o["honoured"], at(path, "honoured")),
      };
    case "atoll.dev/role-grant/v1":
      return {
        type,
        role: roleFrom(o["role"], at(path, "role")),
        key: publishedKeyFrom(o["key"], at(path, "key")),
      };
    case "atoll.dev/role-revocation/v1":
      return { type, role: roleFrom(o["role"], at(path, "role")), key: keyId("key") };
    case "atoll.dev/policy-revocation/v1":
      return {
        type,
        bundleId: text("bundleId"),
        version: integerFrom(o["version"], at(path, "version"), 1),
        layer: oneOf(o["layer"], at(path, "layer"), ["P0", "P1"]),
        reason: text("reason"),
      };
    case "atoll.dev/unfreeze/v1":
      return { type, freeze: hashFrom(o["freeze"], at(path, "freeze")), reason: text("reason") };
    case "atoll.dev/breaker-reset/v1":
      return { type, trip: hashFrom(o["trip"], at(path, "trip")), reason: text("reason") };
  }
  return type satisfies never;
}

const roleFrom = (v: JsonValue | undefined, path: string): Role => oneOf(v, path, ROLES);

export function publishedKeyFrom(value: JsonValue | undefined, path: string): PublishedKey {
  const o = closed(value, path, ["key_id", "public_key"]);
  const published = {
    key_id: keyIdFrom(o["key_id"], at(path, "key_id")),
    public_key: stringFrom(o["public_key"], at(path, "public_key"), 64),
  };
  if (!/^[0-9a-f]{64}$/.test(published.public_key) || keyIdOf(rawOf(published)) !== published.key_id)
    throw new ContractError(at(path, "public_key"), "is not the 32 bytes in hex of which key_id is the id");
  return published;
}

const rawOf = (key: PublishedKey): Uint8Array =>
  Uint8Array.from({ length: 32 }, (_, i) => Number.parseInt(key.public_key.slice(2 * i, 2 * i + 2), 16));
export const publishKey = (key: Verifier | Signer): PublishedKey => ({
  key_id: key.keyId,
  public_key: [...key.publicKey].map((b) => b.toString(16).padStart(2, "0")).join(""),
});

export function verifierOf(key: PublishedKey, path: string): Verifier {
  try {
    return verifierFromRaw(rawOf(key));
  } catch (e) {
    throw new ContractError(path, messageOf(e));
  }
}
