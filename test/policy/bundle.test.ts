import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import {
  bundleDigest,
  bundleManifest,
  parseBundle,
  signBundle,
  verifyBundle,
} from "../../kernel/policy/bundle.ts";
import type { BundleHead } from "../../kernel/policy/bundle.ts";
import { trustRoots } from "../../kernel/trust/trust.ts";

const newSigner = () =>
  signerFromPem(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
const [policy, ceiling, stranger] = [newSigner(), newSigner(), newSigner()];
const key = (role: "policy" | "ceiling", s: typeof policy) => ({
  role,
  keyId: s.keyId,
  verifier: verifierFromRaw(s.publicKey),
});
const roots = trustRoots([key("policy", policy), key("ceiling", ceiling)]);
const now = timestampOf(1_700_000_000_000);
const content: JsonObject = { apiVersion: "atoll.dev/policy/v1", name: "x", layer: "P1" };
const head: BundleHead = {
  type: "atoll.dev/bundle/v1",
  bundleId: "x",
  version: 3,
  layer: "P1",
  contentHash: hashJson(content),
  conformanceLevel: "L1",
  notBefore: "",
  expiresAt: "",
};
const made = (over: Partial<BundleHead> = {}, by = [policy], body: JsonObject = content) =>
  bundleManifest({ signed: signBundle({ ...head, ...over }, by), content: body, source: undefined }, "x");
const verify = (m: JsonObject, more: object = {}) =>
  verifyBundle(m, roots, { now, requireSignature: true, ...more });

test("a bundle signed by a key of its layer verifies and gives its content", () => {
  expect(verify(made())).toMatchObject({
    ok: true,
    content,
    signedBy: [policy.keyId],
    digest: bundleDigest(head),
  });
  expect(parseBundle(made()).signed.sigs).toHaveLength(1);
});

test("each way in which a bundle can be wrong has its own answer", () => {
  const later = timestampOf(1_700_000_000_001);
  const cases: readonly [JsonObject, object, string, string][] = [
    [made({}, [policy], { ...content, name: "y" }), {}, "POLICY_HASH_MISMATCH", "hash"],
    [made({}, []), {}, "POLICY_SIGNATURE_INVALID", "unsigned"],
    [made({}, [stranger]), {}, "POLICY_SIGNATURE_INVALID", "unsigned"],
    [made({}, [ceiling]), {}, "POLICY_SIGNATURE_INVALID", "role"],
    [made({ notBefore: later }), {}, "POLICY_NOT_READY", "not-yet"],
    [made({ expiresAt: now }), {}, "POLICY_STALE", "expired"],
    [made({ conformanceLevel: "L2" }), {}, "POLICY_SIGNATURE_INVALID", "no-expiry"],
    [made(), { conformanceLevel: "L2" }, "POLICY_NOT_READY", "level"],
    [made(), { highWater: { version: 4, digest: bundleDigest(head) } }, "REPLAY_DETECTED", "rollback"],
    [made(), { highWater: { version: 3, digest: hashJson({}) } }, "REPLAY_DETECTED", "equivocation"],
    [made(), { revoked: () => true }, "POLICY_NOT_READY", "revoked"],
    [{ ...made(), kind: "Pod" }, {}, "POLICY_SIGNATURE_INVALID", "malformed"],
  ];
  for (const [manifest, more, code, problem] of cases)
    expect(verify(manifest, more)).toMatchObject({ ok: false, code, problem });
});

test("what is signed cannot be changed, and a signature is not asked for because one is there", () => {
  const signed = signBundle(head, [policy]);
  for (const [name, value] of [
    ["bundleId", "y"],
    ["version", 4],
    ["expiresAt", timestampOf(1_800_000_000_000)],
  ] as const) {
    const changed = bundleManifest({ signed: { ...signed, [name]: value }, content, source: undefined }, "x");
    expect(verify(changed)).toMatchObject({ ok: false, problem: "signature" });
    expect(verify(changed, { requireSignature: false })).toMatchObject({ ok: false, problem: "signature" });
  }
  expect(verify(made({}, []), { requireSignature: false })).toMatchObject({ ok: true, signedBy: [] });
});

test("an added signature keeps the digest, and a key signs once", () => {
  const twice = signBundle(signBundle(head, [policy]), [policy, stranger]);
  expect(twice.sigs.map((s) => s.key_id)).toEqual([policy.keyId, stranger.keyId]);
  expect(bundleDigest(twice)).toBe(bundleDigest(head));
  const [sig] = twice.sigs;
  if (sig === undefined) throw new Error("unsigned");
  expect(
    verify(bundleManifest({ signed: { ...twice, sigs: [sig, sig] }, content, source: undefined }, "x")),
  ).toMatchObject({
    problem: "malformed",
  });
});

test("content may lie elsewhere and is then brought along", () => {
  const source = { configMap: { namespace: "atoll-system", name: "x", key: "policy.json.gz" } };
  const manifest = bundleManifest({ signed: signBundle(head, [policy]), content: undefined, source }, "x");
  expect(verify(manifest)).toMatchObject({ ok: false, problem: "content-missing" });
  expect(verify(manifest, { content })).toMatchObject({ ok: true, content });
  expect(parseBundle(manifest).source).toEqual(source);
  expect(() => parseBundle({ ...manifest, spec: { ...head, sigs: [], source: {} } })).toThrow("spec.source");
});
