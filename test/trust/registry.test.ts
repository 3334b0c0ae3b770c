import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonObject } from "../../kernel/contracts/contracts.ts";
import { sha256, signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { createChains } from "../../kernel/receipts/receipts.ts";
import { createRegistry, publishKey, signAct, trustRoots } from "../../kernel/trust/trust.ts";
import type { Role } from "../../kernel/trust/trust.ts";

const newKey = () =>
  signerFromPem(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
const at = timestampOf(1_700_000_000_000);
const session = makeId("ses", new Uint8Array(16).fill(7));
const registrar = newKey();
const policy = newKey();
const ceiling = newKey();
const approver = newKey();
const asRoot = (role: Role, key: typeof policy) => ({
  role,
  keyId: key.keyId,
  verifier: verifierFromRaw(key.publicKey),
});
const roots = trustRoots([
  asRoot("registrar", registrar),
  asRoot("policy", policy),
  asRoot("ceiling", ceiling),
  asRoot("approver", approver),
]);

/** A registry and the pen of its registrar: `write` seals an event and applies it. */
function story(by = registrar) {
  const registry = createRegistry(roots);
  const chains = createChains(by);
  const seal = (event: string, body: JsonObject) =>
    chains.seal({
      kind: "TRUST_EVENT",
      session_id: session,
      parents: [],
      issued_at: at,
      body: { type: "atoll.dev/trust-event/v1", event, ...body },
    });
  return { registry, seal, write: (event: string, body: JsonObject) => registry.apply(seal(event, body)) };
}
const publish = (key: typeof policy, pod_uid = "pod-1"): JsonObject => ({
  key: { ...publishKey(key) },
  pod_uid,
  service_account: "ns/triage-bot",
  image: "guardian@sha256:1",
  bundle_hash: sha256("bundle"),
});

test("a published guardian is known from the next height on, and its rotation is one event", () => {
  const { registry, write } = story();
  const [g1, g2] = [newKey(), newKey()];
  expect(write("KEY_PUBLISH", publish(g1))).toEqual({ ok: true });
  expect(registry.keyFor("guardian", g1.keyId)).toHaveProperty("keyId", g1.keyId);
  expect(registry.keyAt("guardian", g1.keyId, 0)).toBe("TRUST_KEY_UNKNOWN");
  expect(registry.keyFor("policy", g1.keyId)).toBe("TRUST_KEY_UNKNOWN");
  const rotation = (signer: typeof g1, old = g1) =>
    signAct({ type: "atoll.dev/key-rotation/v1", old: old.keyId, key: publishKey(g2) }, at, signer);
  const { seal: sealElse } = story();
  expect(sealElse("x", {})).toBeDefined();
  expect(write("KEY_ROTATE", { rotation: rotation(g1) })).toEqual({ ok: true });
  expect(registry.guardianOf("pod-1")).toBe(g2.keyId);
  expect(registry.keyFor("guardian", g1.keyId)).toBe("TRUST_KEY_UNKNOWN");
  expect(registry.keyAt("guardian", g1.keyId, 1)).toHaveProperty("keyId", g1.keyId);
  expect(registry.keyAt("guardian", g2.keyId, 2)).toHaveProperty("keyId", g2.keyId);
});

test("a revoked key says nothing from then on, and what it may have said before is bounded by a checkpoint", () => {
  const { registry, write } = story();
  const g = newKey();
  write("KEY_PUBLISH", publish(g));
  const honoured: Hash = sha256("checkpoint");
  expect(write("KEY_REVOKE", { key: g.keyId, honoured, reason: "stolen", at })).toEqual({ ok: true });
  expect(registry.keyFor("guardian", g.keyId)).toBe("TRUST_KEY_REVOKED");
  expect(registry.keyAt("guardian", g.keyId, 1)).toHaveProperty("keyId", g.keyId);
  expect(registry.record(g.keyId)).toMatchObject({ honoured, end: "revoked", until: 2 });
});

test("policies, roles and freezes are revoked, granted and lifted by those who may", () => {
  const { registry, write, seal } = story();
  const second = newKey();
  const grant = signAct(
    { type: "atoll.dev/role-grant/v1", role: "policy", key: publishKey(second) },
    at,
    policy,
  );
  expect(write("ROLE_GRANT", { grant })).toEqual({ ok: true });
  expect(registry.keyFor("policy", second.keyId)).toHaveProperty("keyId", second.keyId);
  const revoked = {
    type: "atoll.dev/policy-revocation/v1",
    bundleId: "x",
    version: 2,
    layer: "P1",
    reason: "r",
  } as const;
  expect(write("POLICY_REVOKE", { revocation: signAct(revoked, at, second) })).toEqual({ ok: true });
  expect(registry.policyRevoked("x", 2, "P1")).toBe(true);
  expect(registry.policyRevoked("x", 2, "P0")).toBe(false);
  const revocation = signAct(
    { type: "atoll.dev/role-revocation/v1", role: "policy", key: second.keyId },
    at,
    policy,
  );
  expect(write("ROLE_REVOKE", { revocation })).toEqual({ ok: true });
  expect(registry.keyFor("policy", second.keyId)).toBe("TRUST_KEY_REVOKED");
  const keyRevocation = signAct(
    { type: "atoll.dev/key-revocation/v1", key: ceiling.keyId, reason: "r", honoured: "" },
    at,
    ceiling,
  );
  expect(write("KEY_REVOKE", { revocation: keyRevocation })).toEqual({ ok: true });
  expect(registry.keyFor("ceiling", ceiling.keyId)).toBe("TRUST_KEY_REVOKED");
  const freeze = seal("FREEZE", { scope: "pod/u-1", reason: "r", by: "alice", at });
  expect(registry.apply(freeze)).toEqual({ ok: true });
  expect(registry.freezes()).toMatchObject([{ scope: "pod/u-1", node: freeze.hash }]);
  const unfreeze = signAct({ type: "atoll.dev/unfreeze/v1", freeze: freeze.hash, reason: "r" }, at, approver);
  expect(write("UNFREEZE", { unfreeze })).toEqual({ ok: true });
  expect(registry.freezes()).toEqual([]);
  expect(write("UNFREEZE", { unfreeze })).toMatchObject({ ok: false, code: "REPLAY_DETECTED" });
});

test("an event whose author may not author it is refused, and changes nothing", () => {
  const [g, stranger] = [newKey(), newKey()];
  const grantBy = (key: typeof policy, role: Role = "policy") =>
    signAct({ type: "atoll.dev/role-grant/v1", role, key: publishKey(stranger) }, at, key);
  const low = { key_id: sha256("low"), public_key: `01${"00".repeat(31)}` };
  const cases: readonly [string, JsonObject, string][] = [
    ["KEY_PUBLISH", publish(policy, "pod-2"), "REPLAY_DETECTED"],
    ["KEY_PUBLISH", publish(stranger), "REPLAY_DETECTED"],
    ["KEY_PUBLISH", { ...publish(stranger, "pod-2"), key: low }, "CHAIN_BROKEN"],
    [
      "KEY_PUBLISH",
      { ...publish(stranger, "pod-2"), key: { ...publishKey(stranger), key_id: policy.keyId } },
      "CHAIN_BROKEN",
    ],
    ["KEY_PUBLISH", { ...publish(stranger, "pod-2"), extra: 1 }, "CHAIN_BROKEN"],
    [
      "KEY_ROTATE",
      {
        rotation: signAct(
          { type: "atoll.dev/key-rotation/v1", old: g.keyId, key: publishKey(stranger) },
          at,
          policy,
        ),
      },
      "TRUST_KEY_UNKNOWN",
    ],
    [
      "KEY_ROTATE",
      {
        rotation: signAct(
          { type: "atoll.dev/key-rotation/v1", old: stranger.keyId, key: publishKey(g) },
          at,
          stranger,
        ),
      },
      "TRUST_KEY_UNKNOWN",
    ],
    ["KEY_REVOKE", { key: policy.keyId, honoured: "", reason: "r", at }, "TRUST_KEY_UNKNOWN"],
    ["KEY_REVOKE", { key: stranger.keyId, honoured: "", reason: "r", at }, "TRUST_KEY_UNKNOWN"],
    [
      "KEY_REVOKE",
      {
        revocation: signAct(
          { type: "atoll.dev/key-revocation/v1", key: policy.keyId, reason: "r", honoured: "" },
          at,
          ceiling,
        ),
      },
      "TRUST_KEY_UNKNOWN",
    ],
    ["ROLE_GRANT", { grant: grantBy(ceiling) }, "TRUST_KEY_UNKNOWN"],
    ["ROLE_GRANT", { grant: grantBy(approver, "registrar") }, "TRUST_KEY_UNKNOWN"],
    ["ROLE_GRANT", { grant: { ...grantBy(policy), role: "ceiling" } }, "TRUST_KEY_UNKNOWN"],
    ["ROLE_GRANT", { grant: { ...grantBy(policy), at: timestampOf(0) } }, "SIGNATURE_INVALID"],
    [
      "ROLE_REVOKE",
      {
        revocation: signAct(
          { type: "atoll.dev/role-revocation/v1", role: "policy", key: ceiling.keyId },
          at,
          policy,
        ),
      },
      "TRUST_KEY_UNKNOWN",
    ],
    [
      "POLICY_REVOKE",
      {
        revocation: signAct(
          { type: "atoll.dev/policy-revocation/v1", bundleId: "x", version: 1, layer: "P0", reason: "r" },
          at,
          policy,
        ),
      },
      "TRUST_KEY_UNKNOWN",
    ],
    ["FREEZE", { scope: "everyone", reason: "r", by: "b", at }, "CHAIN_BROKEN"],
    [
      "UNFREEZE",
      { unfreeze: signAct({ type: "atoll.dev/unfreeze/v1", freeze: sha256("x"), reason: "r" }, at, policy) },
      "TRUST_KEY_UNKNOWN",
    ],
    [
      "UNFREEZE",
      {
        unfreeze: signAct({ type: "atoll.dev/unfreeze/v1", freeze: sha256("x"), reason: "r" }, at, approver),
      },
      "REPLAY_DETECTED",
    ],
    ["POLICY_ACTIVATE", {}, "TRUST_KEY_UNKNOWN"],
    ["CLOCK_JUMP", {}, "TRUST_KEY_UNKNOWN"],
    ["KEY_ESCROW", {}, "CHAIN_BROKEN"],
  ];
  for (const [event, body, code] of cases) {
    const { registry, write } = story();
    write("KEY_PUBLISH", publish(g));
    const before = registry.head;
    expect([event, code, write(event, body)]).toMatchObject([event, code, { ok: false, code }]);
    expect([registry.height, registry.head]).toEqual([1, before]);
    expect(registry.keyFor("guardian", g.keyId)).toHaveProperty("keyId", g.keyId);
    expect(registry.roleOf(stranger.keyId)).toBeUndefined();
  }
});

test("a granted key grants nothing further, and a grant does not outlive its giver's revocation of it", () => {
  const { write } = story();
  const [second, third] = [newKey(), newKey()];
  write("ROLE_GRANT", {
    grant: signAct({ type: "atoll.dev/role-grant/v1", role: "policy", key: publishKey(second) }, at, policy),
  });
  expect(
    write("ROLE_GRANT", {
      grant: signAct({ type: "atoll.dev/role-grant/v1", role: "policy", key: publishKey(third) }, at, second),
    }),
  ).toMatchObject({ ok: false, code: "TRUST_KEY_UNKNOWN", reason: expect.stringContaining("no trust root") });
});

test("the registry's chain is one chain of its registrar", () => {
  const { registry, seal } = story();
  const first = seal("KEY_PUBLISH", publish(newKey()));
  const second = seal("KEY_PUBLISH", publish(newKey(), "pod-2"));
  expect(registry.apply(second)).toMatchObject({ ok: false, code: "CHAIN_BROKEN" });
  expect(registry.apply(first)).toEqual({ ok: true });
  expect(registry.apply(first)).toMatchObject({ ok: false, code: "CHAIN_BROKEN" });
  expect(registry.apply({ ...second, node: { ...second.node, kind: "ATTESTATION" } })).toMatchObject({
    ok: false,
  });
  const otherSession = { ...second.node, session_id: makeId("ses", new Uint8Array(16)) };
  expect(registry.apply({ ...second, node: otherSession })).toMatchObject({
    ok: false,
    reason: expect.stringContaining("another chain"),
  });
  expect(registry.apply({ ...second, text: second.text.replace("pod-2", "pod-3") })).toMatchObject({
    code: "SIGNATURE_INVALID",
  });
  expect(registry.apply(second)).toEqual({ ok: true });
  const foreign = story(policy);
  expect(foreign.write("KEY_PUBLISH", publish(newKey()))).toMatchObject({
    ok: false,
    code: "TRUST_KEY_UNKNOWN",
  });
});

test("replayed from genesis the registry ends where it was", () => {
  const { registry, seal } = story();
  const events = [
    seal("KEY_PUBLISH", publish(newKey())),
    seal("FREEZE", { scope: "all", reason: "r", by: "b", at }),
    seal("KEY_PUBLISH", publish(newKey(), "pod-2")),
  ];
  const again = createRegistry(roots);
  for (const e of events) {
    expect(registry.apply(e)).toEqual({ ok: true });
    expect(again.apply(e)).toEqual({ ok: true });
  }
  expect([again.height, again.head, again.freezes()]).toEqual([
    registry.height,
    registry.head,
    registry.freezes(),
  ]);
});
