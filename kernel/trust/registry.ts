// The registry: which key had which role at which height, as what its own signed chain of events says. Replayed
// from genesis it always ends in the same state; an event whose author may not author it ends the replay.

import { ContractError, closed, hashFrom, oneOf, stringFrom, timestampFrom } from "../contracts/contracts.ts";
import type { Code, Hash, JsonObject, KeyId, SealedNode } from "../contracts/contracts.ts";
import type { Verifier } from "../crypto/crypto.ts";
import { verifySealed } from "../receipts/receipts.ts";
import { TRUST_EVENTS, parseAct, publishedKeyFrom, verifierOf } from "./acts.ts";
import type { ActType, PublishedKey, SignedAct, TrustEvent } from "./acts.ts";
import { freezeOrderFrom } from "./freezes.ts";
import type { KeyBook, Role, TrustRoots } from "./roots.ts";

/** What a guardian's key is bound to when the registrar publishes it. */
export interface Binding {
  readonly pod_uid: string;
  readonly service_account: string;
  readonly image: string;
  readonly bundle_hash: Hash;
}
export interface KeyRecord {
  readonly role: Role;
  readonly verifier: Verifier;
  /** In force at heights `from` ≤ h < `until`. */
  readonly from: number;
  readonly until: number;
  readonly end: "" | "rotated" | "revoked";
  /** Of a revoked key: the last checkpoint of it that is honoured, "" for none. */
  readonly honoured: Hash | "";
  readonly binding: Binding | undefined;
  /** The key that handed over to this one. */
  readonly after: KeyId | undefined;
}
export interface Freeze {
  readonly node: Hash;
  readonly scope: string;
  readonly reason: string;
}
export type Applied =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: Code; readonly reason: string };

export interface Registry extends KeyBook {
  /** Number of events that were applied, and the hash of the last. */
  readonly height: number;
  readonly head: Hash | "genesis";
  apply(event: SealedNode): Applied;
  /** The key in a role at a height: what may have signed a node whose checkpoint knew this height. */
  keyAt(role: Role, id: KeyId, height: number): Verifier | Code;
  record(id: KeyId): KeyRecord | undefined;
  guardianOf(podUid: string): KeyId | undefined;
  policyRevoked(bundleId: string, version: number, layer: "P0" | "P1"): boolean;
  freezes(): readonly Freeze[];
}

class Refused extends Error {
  readonly code: Code;
  constructor(code: Code, reason: string) {
    super(reason);
    this.code = code;
  }
}

export function createRegistry(roots: TrustRoots): Registry {
  const keys = new Map<KeyId, KeyRecord>();
  for (const { keyId, role, verifier } of roots.keys)
    keys.set(keyId, record(role, verifier, 0, undefined, undefined));
  const rootIds = new Set(keys.keys());
  const pods = new Map<string, KeyId>();
  const revokedPolicies = new Set<string>();
  const freezes = new Map<Hash, Freeze>();
  let height = 0;
  let head: SealedNode | undefined;

  function keyAt(role: Role | false, id: KeyId, h: number): Verifier | Code {
    const key = keys.get(id);
    if (key?.role !== role || h < key.from) return "TRUST_KEY_UNKNOWN";
    if (h < key.until) return key.verifier;
    return key.end === "revoked" ? "TRUST_KEY_REVOKED" : "TRUST_KEY_UNKNOWN";
  }

  /** The signed object in an event, if a key of one of `roles` has signed it now. */
  function actOf(
    body: JsonObject,
    member: string,
    type: ActType,
    roleFor: (act: SignedAct) => Role | false,
  ): SignedAct {
    const signed = parseAct(body[member], member, type);
    const key = keyAt(roleFor(signed), signed.key_id, height);
    if (typeof key === "string")
      throw new Refused(key, `${signed.key_id} has no say in this as ${roleFor(signed)}`);
    if (!signed.signedBy(key))
      throw new Refused("SIGNATURE_INVALID", `the signature in \`${member}\` does not verify`);
    return signed;
  }
  const byRoot = (signed: SignedAct): void => {
    if (!rootIds.has(signed.key_id))
      throw new Refused("TRUST_KEY_UNKNOWN", `${signed.key_id} is no trust root: it was itself granted`);
  };
  /** A key that has handed over can still be revoked: what it signed before may be backdated. */
  const known = (id: KeyId, revoking = false): KeyRecord => {
    const key = keys.get(id);
    if (key === undefined) throw new Refused("TRUST_KEY_UNKNOWN", `${id} was never published`);
    if (key.end !== "" && !(revoking && key.end === "rotated"))
      throw new Refused("TRUST_KEY_REVOKED", `${id} was ${key.end} at height ${key.until}`);
    return key;
  };
  const roleOfKnown = (id: KeyId, revoking = false): Role => known(id, revoking).role;

  function admit(key: PublishedKey, role: Role, binding?: Binding, after?: KeyId): void {
    if (keys.has(key.key_id)) throw new Refused("REPLAY_DETECTED", `${key.key_id} has a role already`);
    const verifier = verifierOf(key, "key.public_key");
    keys.set(key.key_id, record(role, verifier, height + 1, binding, after));
  }
  function close(id: KeyId, end: "rotated" | "revoked", honoured: Hash | ""): void {
    const key = known(id, end === "revoked");
    keys.set(id, { ...key, until: Math.min(key.until, height + 1), end, honoured });
  }

  const event = (body: JsonObject, ...members: string[]): JsonObject =>
    closed(body, "", ["type", "event", ...members]);

  function perform(name: TrustEvent, body: JsonObject, hash: Hash): void {
    switch (name) {
      case "KEY_PUBLISH": {
        const o = event(body, "key", "pod_uid", "service_account", "image", "bundle_hash");
        const binding = {
          pod_uid: stringFrom(o["pod_uid"], "pod_uid", 200),
          service_account: stringFrom(o["service_account"], "service_account", 300),
          image: stringFrom(o["image"], "image", 500),
          bundle_hash: hashFrom(o["bundle_hash"], "bundle_hash"),
        };
        if (pods.has(binding.pod_uid))
          throw new Refused("REPLAY_DETECTED", `pod ${binding.pod_uid} has published its key already`);
        const key = publishedKeyFrom(o["key"], "key");
        admit(key, "guardian", binding);
        pods.set(binding.pod_uid, key.key_id);
        return;
      }
      case "KEY_ROTATE": {
        event(body, "rotation");
        const signed = actOf(body, "rotation", "atoll.dev/key-rotation/v1", (s) => roleOfKnown(s.key_id));
        if (signed.act.type !== "atoll.dev/key-rotation/v1" || signed.act.old !== signed.key_id)
          throw new Refused("TRUST_KEY_UNKNOWN", "only the old key can name its successor");
        const old = known(signed.key_id);
        admit(signed.act.key, old.role, old.binding, signed.key_id);
        close(signed.key_id, "rotated", "");
        if (old.binding !== undefined) pods.set(old.binding.pod_uid, signed.act.key.key_id);
        return;
      }
      case "KEY_REVOKE":
        return revoke(body);
      case "ROLE_GRANT": {
        event(body, "grant");
        const signed = actOf(body, "grant", "atoll.dev/role-grant/v1", roleNamed);
        byRoot(signed);
        if (signed.act.type === "atoll.dev/role-grant/v1") admit(signed.act.key, signed.act.role);
        return;
      }
      case "ROLE_REVOKE": {
        event(body, "revocation");
        const signed = actOf(body, "revocation", "atoll.dev/role-revocation/v1", roleNamed);
        byRoot(signed);
        const { act } = signed;
        if (act.type !== "atoll.dev/role-revocation/v1" || roleOfKnown(act.key) !== act.role)
          throw new Refused("TRUST_KEY_UNKNOWN", "the key does not have the role that is revoked");
        close(act.key, "revoked", "");
        return;
      }
      case "POLICY_REVOKE": {
        event(body, "revocation");
        const { act } = actOf(body, "revocation", "atoll.dev/policy-revocation/v1", (s) =>
          s.act.type === "atoll.dev/policy-revocation/v1" && s.act.layer === "P0" ? "ceiling" : "policy",
        );
        if (act.type === "atoll.dev/policy-revocation/v1")
          revokedPolicies.add(policyKey(act.bundleId, act.version, act.layer));
        return;
      }
      case "FREEZE": {
        const { scope, reason } = freezeOrderFrom(body, "");
        freezes.set(hash, { node: hash, scope, reason });
        return;
      }
      case "UNFREEZE": {
        event(body, "unfreeze");
        const { act } = actOf(body, "unfreeze", "atoll.dev/unfreeze/v1", () => "approver");
        if (act.type !== "atoll.dev/unfreeze/v1" || !freezes.delete(act.freeze))
          throw new Refused("REPLAY_DETECTED", "names no freeze that is in force");
        return;
      }
      case "POLICY_ACTIVATE":
      case "DELEGATION_BIND":
      case "DELEGATION_REVOKE":
      case "BREAKER_TRIP":
      case "BREAKER_RESET":
      case "CLOCK_JUMP":
        throw new Refused(
          "TRUST_KEY_UNKNOWN",
          `${name} belongs to a guardian's own session, not into the registry`,
        );
    }
    return name satisfies never;
  }

  function revoke(body: JsonObject): void {
    if (Object.hasOwn(body, "revocation")) {
      event(body, "revocation");
      const signed = actOf(
        body,
        "revocation",
        "atoll.dev/key-revocation/v1",
        (s) => s.act.type === "atoll.dev/key-revocation/v1" && roleOfKnown(s.act.key, true),
      );
      byRoot(signed);
      if (signed.act.type === "atoll.dev/key-revocation/v1")
        close(signed.act.key, "revoked", signed.act.honoured);
      return;
    }
    const o = event(body, "key", "honoured", "reason", "at");
    const published = [...keys.keys()].find((id) => id === o["key"]);
    if (published === undefined) throw new Refused("TRUST_KEY_UNKNOWN", "the key was never published");
    if (roleOfKnown(published, true) !== "guardian")
      throw new Refused("TRUST_KEY_UNKNOWN", "the registrar revokes guardians' keys and no others");
    stringFrom(o["reason"], "reason", 500);
    timestampFrom(o["at"], "at");
    close(published, "revoked", o["honoured"] === "" ? "" : hashFrom(o["honoured"], "honoured"));
  }

  function check(sealed: SealedNode): TrustEvent {
    const { node } = sealed;
    if (node.kind !== "TRUST_EVENT")
      throw new Refused("CHAIN_BROKEN", "the registry holds trust events only");
    if (head !== undefined && node.session_id !== head.node.session_id)
      throw new Refused("CHAIN_BROKEN", "the event is of another chain");
    if (node.lamport !== height + 1 || node.prev_hash !== (head?.hash ?? "genesis"))
      throw new Refused("CHAIN_BROKEN", `event ${height + 1} after ${head?.hash ?? "genesis"} was expected`);
    const registrar = keyAt("registrar", node.key_id, height);
    if (typeof registrar === "string") throw new Refused(registrar, `${node.key_id} is no registrar`);
    if (!verifySealed(sealed, registrar))
      throw new Refused("SIGNATURE_INVALID", "the signature does not verify");
    oneOf(node.body["type"], "type", ["atoll.dev/trust-event/v1"]);
    return oneOf(node.body["event"], "event", TRUST_EVENTS);
  }

  return {
    get height() {
      return height;
    },
    get head() {
      return head?.hash ?? "genesis";
    },
    apply(sealed) {
      try {
        perform(check(sealed), sealed.node.body, sealed.hash);
      } catch (e) {
        if (e instanceof Refused) return { ok: false, code: e.code, reason: e.message };
        if (e instanceof ContractError) return { ok: false, code: "CHAIN_BROKEN", reason: e.message };
        throw e;
      }
      height++;
      head = sealed;
      return { ok: true };
    },
    keyAt,
    keyFor: (role, id) => keyAt(role, id, height),
    roleOf: (id) => keys.get(id)?.role,
    record: (id) => keys.get(id),
    guardianOf: (podUid) => pods.get(podUid),
    policyRevoked: (bundleId, version, layer) => revokedPolicies.has(policyKey(bundleId, version, layer)),
    freezes: () => [...freezes.values()],
  };
}

const record = (
  role: Role,
  verifier: Verifier,
  from: number,
  binding: Binding | undefined,
  after: KeyId | undefined,
): KeyRecord => ({ role, verifier, from, until: Infinity, end: "", honoured: "", binding, after });
const policyKey = (bundleId: string, version: number, layer: string): string =>
  `${layer} ${version} ${bundleId}`;
const roleNamed = (s: SignedAct): Role | false => "role" in s.act && s.act.role;
