// Trust roots: the keys that are trusted because a person put them into a file, each in exactly one role.

import { ContractError, messageOf } from "../contracts/contracts.ts";
import type { Code, KeyId } from "../contracts/contracts.ts";
import { verifierFromPem } from "../crypto/crypto.ts";
import type { Verifier } from "../crypto/crypto.ts";

export const ROLES = [
  "policy",
  "ceiling",
  "approver",
  "override",
  "registrar",
  "ledger",
  "issuer",
  "guardian",
  "peer",
] as const;
export type Role = (typeof ROLES)[number];

export interface TrustedKey {
  readonly role: Role;
  readonly keyId: KeyId;
  readonly verifier: Verifier;
}

/** Whoever can say which key speaks in a role: the roots of a file, or a registry that grew from them. */
export interface KeyBook {
  keyFor(role: Role, id: KeyId): Verifier | Code;
  roleOf(id: KeyId): Role | undefined;
}

export interface TrustRoots extends KeyBook {
  readonly keys: readonly TrustedKey[];
}

export function trustRoots(keys: readonly TrustedKey[]): TrustRoots {
  const byId = new Map<KeyId, TrustedKey>();
  for (const key of keys) {
    const known = byId.get(key.keyId);
    if (known !== undefined)
      throw new ContractError(
        "roots",
        known.role === key.role
          ? `key ${key.keyId} stands there twice`
          : `key ${key.keyId} has two roles, ${known.role} and ${key.role}`,
      );
    byId.set(key.keyId, key);
  }
  return {
    keys,
    keyFor(role, id) {
      const key = byId.get(id);
      return key?.role === role ? key.verifier : "TRUST_KEY_UNKNOWN";
    },
    roleOf: (id) => byId.get(id)?.role,
  };
}

const BEGIN = "-----BEGIN PUBLIC KEY-----";
const END = "-----END PUBLIC KEY-----";

/** PEM blocks, each after its line `role: …`; empty lines and lines that begin with `#` are passed over. */
export function parseTrustRoots(text: string): TrustRoots {
  const keys: TrustedKey[] = [];
  let role: Role | undefined;
  let block: { readonly role: Role; readonly lines: string[] } | undefined;
  let number = 0;
  for (const raw of text.split("\n")) {
    number++;
    const line = raw.trimEnd();
    const fail = (reason: string) => new ContractError(`line ${number}`, reason);
    if (block !== undefined) {
      block.lines.push(line);
      if (line !== END) continue;
      const verifier = publicKey(block.lines.join("\n"), number);
      keys.push({ role: block.role, keyId: verifier.keyId, verifier });
      block = undefined;
    } else if (line === BEGIN) {
      if (role === undefined) throw fail("a key without a line `role: …` before it");
      block = { role, lines: [line] };
      role = undefined;
    } else if (line.startsWith("role:")) {
      if (role !== undefined) throw fail("a role without a key");
      const name = line.slice("role:".length).trim();
      role = ROLES.find((r) => r === name);
      if (role === undefined)
        throw fail(`expected one of ${ROLES.join(", ")}, found \`${name.slice(0, 40)}\``);
    } else if (line !== "" && !line.startsWith("#"))
      throw fail("expected `role: …`, a public key in PEM, or a comment");
  }
  if (block !== undefined) throw new ContractError(`line ${number}`, "a key without its last line");
  if (role !== undefined) throw new ContractError(`line ${number}`, "a role without a key");
  return trustRoots(keys);
}

function publicKey(pem: string, line: number): Verifier {
  try {
    return verifierFromPem(pem);
  } catch (e) {
    throw new ContractError(`line ${line}`, `not an Ed25519 public key: ${messageOf(e)}`);
  }
}
