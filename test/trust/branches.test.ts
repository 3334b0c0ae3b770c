// Trust events that nobody may author, keys that end twice, and who speaks next in a log.

import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, KeyId, Node } from "../../kernel/contracts/contracts.ts";
import { keyIdOf, sha256, signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { createChains } from "../../kernel/receipts/receipts.ts";
import {
  ROTATION,
  createRegistry,
  createSuccession,
  freezeBody,
  freezeLog,
  freezeOrder,
  handOverBody,
  parseAct,
  parseTrustRoots,
  publishKey,
  signAct,
  standingOf,
  successorIn,
  trustRoots,
} from "../../kernel/trust/trust.ts";
import type { PublishedKey, Role, Standing } from "../../kernel/trust/trust.ts";

const newKey = (): Signer =>
  signerFromPem(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
const at = timestampOf(1_700_000_000_000);
const session = makeId("ses", new Uint8Array(16).fill(7));
const verifier = (key: Signer) => verifierFromRaw(key.publicKey);
const asRoot = (role: Role, key: Signer) => ({ role, keyId: key.keyId, verifier: verifier(key) });
const [registrar, policy] = [newKey(), newKey()];
const roots = trustRoots([asRoot("registrar", registrar), asRoot("policy", policy)]);

function story() {
  const registry = createRegistry(roots);
  const chains = createChains(registrar);
  const write = (event: string, body: JsonObject) =>
    registry.apply(
      chains.seal({
        kind: "TRUST_EVENT",
        session_id: session,
        parents: [],
        issued_at: at,
        body: { type: "atoll.dev/trust-event/v1", event, ...body },
      }),
    );
  return { registry, write };
}
const publish = (key: PublishedKey, pod_uid = "pod-1"): JsonObject => ({
  key: { ...key },
  pod_uid,
  service_account: "ns/triage-bot",
  image: "guardian@sha256:1",
  bundle_hash: sha256("bundle"),
});
const rotation = (old: Signer, next: Signer, by = old): JsonObject =>
  signAct({ type: ROTATION, old: old.keyId, key: publishKey(next) }, at, by);
const revocation = (key: KeyId): JsonObject => ({ key, honoured: "", reason: "r", at });

test("a key that has handed over can be revoked and nothing else, and once", () => {
  const { registry, write } = story();
  const [g1, g2] = [newKey(), newKey()];
  expect(registry.head).toBe("genesis");
  expect(write("KEY_PUBLISH", publish(publishKey(g1)))).toEqual({ ok: true });
  expect(registry.head).not.toBe("genesis");
  expect(write("KEY_ROTATE", { rotation: rotation(g1, g2) })).toEqual({ ok: true });
  expect(write("KEY_REVOKE", revocation(g1.keyId))).toEqual({ ok: true });
  expect(registry.record(g1.keyId)).toMatchObject({ end: "revoked", honoured: "" });
  expect(write("KEY_REVOKE", revocation(g1.keyId))).toMatchObject({ ok: false, code: "TRUST_KEY_REVOKED" });
});
test("a root that hands over has no pod", () => {
  const { registry, write } = story();
  const next = newKey();
  expect(write("KEY_ROTATE", { rotation: rotation(policy, next) })).toEqual({ ok: true });
  expect(registry.keyFor("policy", next.keyId)).toHaveProperty("keyId", next.keyId);
  expect(registry.guardianOf("")).toBeUndefined();
});
test("a role is revoked as it was given", () => {
  const { write } = story();
  const second = newKey();
  const grant = signAct(
    { type: "atoll.dev/role-grant/v1", role: "policy", key: publishKey(second) },
    at,
    policy,
  );
  expect(write("ROLE_GRANT", { grant })).toEqual({ ok: true });
  const revoke = (key: KeyId) => ({
    revocation: signAct({ type: "atoll.dev/role-revocation/v1", role: "policy", key }, at, policy),
  });
  expect(write("ROLE_REVOKE", revoke(second.keyId))).toEqual({ ok: true });
  expect(write("ROLE_REVOKE", revoke(registrar.keyId))).toMatchObject({
    code: "TRUST_KEY_UNKNOWN",
    reason: "the key does not have the role that is revoked",
  });
});
test("a point of low order is no published key", () => {
  const { write } = story();
  const raw = Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 1 : 0));
  const low = { key_id: keyIdOf(raw), public_key: `01${"00".repeat(31)}` };
  expect(write("KEY_PUBLISH", publish(low))).toMatchObject({
    code: "CHAIN_BROKEN",
    reason: expect.stringContaining("low order"),
  });
});
test("a fault that is none of the event's is not taken for one", () => {
  const { registry } = story();
  expect(() => registry.apply({ node: null, hash: sha256("x"), text: "" } as never)).toThrow(TypeError);
});
test("each act is read as what it was signed as", () => {
  const trip = { type: "atoll.dev/breaker-reset/v1", trip: sha256("trip"), reason: "fixed" } as const;
  const signed = parseAct(signAct(trip, at, policy), "reset", trip.type);
  expect(signed.act).toEqual(trip);
  expect(signed.signedBy(verifier(policy))).toBe(true);
  expect(() => parseAct(signAct(trip, at, policy), "reset", "atoll.dev/unfreeze/v1")).toThrow("reset");
});
test("a freeze that is told twice stands once, by its first node", () => {
  const log = freezeLog();
  const body = freezeBody(freezeOrder("all", "odd", "alice", at));
  log.see(body, sha256("1"));
  log.see(body, sha256("2"));
  expect(log.inForce.map((f) => f.node)).toEqual([sha256("1")]);
});
test("what is no key in a trust-root file is refused with its line", () => {
  expect(() =>
    parseTrustRoots("role: policy\n-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
  ).toThrow("line 4: not an Ed25519 public key");
});

const node = (kind: Node["kind"], body: JsonObject = {}): Node => ({
  type: "atoll.dev/node/v1",
  kind,
  session_id: session,
  lamport: 1,
  prev_hash: "genesis",
  parents: [],
  issued_at: at,
  key_id: registrar.keyId,
  body,
  sig: "0".repeat(128) as never,
});
const plain = node("ATTESTATION");
const handOver = (old: Signer, next: Signer, by = old): Node =>
  node("TRUST_EVENT", handOverBody(rotation(old, next, by)));
const h = (n: number) => sha256(String(n));

test("one key after the other speaks in a log, and none that handed over", () => {
  const [a, b, c] = [newKey(), newKey(), newKey()];
  const log = createSuccession(standingOf([verifier(a)]));
  expect([log.current, log.known(a.keyId)]).toEqual([undefined, undefined]);
  expect(log.keyOf(b.keyId, plain, h(0))).toBe("TRUST_KEY_UNKNOWN");
  expect(log.keyOf(a.keyId, plain, h(1))).toHaveProperty("keyId", a.keyId);
  expect(log.keyOf(b.keyId, plain, h(2))).toBe("TRUST_KEY_UNKNOWN");
  expect(log.keyOf(a.keyId, handOver(a, a), h(3))).toBe("REPLAY_DETECTED");
  expect(log.keyOf(a.keyId, handOver(a, b, c), h(4))).toBe("TRUST_KEY_UNKNOWN");
  expect(log.keyOf(a.keyId, node("TRUST_EVENT", { event: "KEY_ROTATE" }), h(5))).toBe("CHAIN_BROKEN");
  const forged = handOver(a, b);
  const other = { ...forged, body: { ...forged.body, rotation: { ...rotation(a, b), at: timestampOf(0) } } };
  expect(log.keyOf(a.keyId, other, h(6))).toBe("SIGNATURE_INVALID");
  expect(log.keyOf(a.keyId, handOver(a, b), h(7))).toHaveProperty("keyId", a.keyId);
  expect(log.current).toHaveProperty("keyId", b.keyId);
  expect(log.keyOf(a.keyId, plain, h(8))).toBe("TRUST_KEY_REVOKED");
  expect(log.known(a.keyId)).toHaveProperty("keyId", a.keyId);
  expect(log.known(b.keyId)).toHaveProperty("keyId", b.keyId);
  expect(log.keyOf(b.keyId, handOver(b, a), h(9))).toBe("REPLAY_DETECTED");
  expect(log.keyOf(b.keyId, handOver(b, c), h(10))).toHaveProperty("keyId", b.keyId);
  expect(log.keyOf(c.keyId, plain, h(11))).toHaveProperty("keyId", c.keyId);
  expect(log.unproved()).toBeUndefined();
});
test("of a revoked key only what lies under its honoured checkpoint counts", () => {
  const a = newKey();
  const standing = (honoured: ReturnType<Standing["honoured"]>): Standing => ({
    ...standingOf([verifier(a)]),
    honoured: () => honoured,
  });
  const none = createSuccession(standing(""));
  expect(none.keyOf(a.keyId, plain, h(1))).toBe("TRUST_KEY_REVOKED");
  const log = createSuccession(standing(h(3)));
  expect(log.keyOf(a.keyId, plain, h(1))).toHaveProperty("keyId", a.keyId);
  expect(log.keyOf(a.keyId, plain, h(2))).toHaveProperty("keyId", a.keyId);
  expect(log.unproved()?.hash).toBe(h(1));
  expect(log.keyOf(a.keyId, plain, h(3))).toHaveProperty("keyId", a.keyId);
  expect(log.unproved()?.hash).toBe(h(1));
  expect(log.keyOf(a.keyId, node("CHECKPOINT"), h(3))).toHaveProperty("keyId", a.keyId);
  expect(log.unproved()).toBeUndefined();
  expect(log.keyOf(a.keyId, plain, h(4))).toBe("TRUST_KEY_REVOKED");
});
test("who stands outside the log has a say in who follows", () => {
  const [a, b] = [newKey(), newKey()];
  const log = createSuccession({ ...standingOf([verifier(a)]), follows: () => "TRUST_KEY_REVOKED" });
  expect(log.keyOf(a.keyId, handOver(a, b), h(1))).toBe("TRUST_KEY_REVOKED");
  expect(log.current).toHaveProperty("keyId", a.keyId);
});
test("a fault of the verifier is no answer about the successor", () => {
  const [a, b] = [newKey(), newKey()];
  const broken = {
    ...verifier(a),
    verify(): boolean {
      throw new TypeError("broken");
    },
  };
  expect(() => successorIn(handOverBody(rotation(a, b)), broken)).toThrow(TypeError);
});
