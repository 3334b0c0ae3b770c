// The bundle: a policy's content by its hash, signed by the keys of its layer, in a line of rising versions.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import {
  ContractError,
  arrayFrom,
  at,
  closed,
  epochOf,
  hashFrom,
  integerFrom,
  keyIdFrom,
  objectFrom,
  oneOf,
  orEmpty,
  signatureFrom,
  stringFrom,
  timestampFrom,
} from "../contracts/contracts.ts";
import type {
  Code,
  Hash,
  JsonObject,
  JsonValue,
  KeyId,
  Signature,
  Timestamp,
} from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";
import type { Signer } from "../crypto/crypto.ts";
import type { KeyBook, Role } from "../trust/trust.ts";

export const LEVELS = ["L1", "L2", "L3"] as const;
export type Level = (typeof LEVELS)[number];

/** What is signed. Times that do not apply are "". */
export interface BundleHead {
  readonly type: "atoll.dev/bundle/v1";
  readonly bundleId: string;
  readonly version: number;
  readonly layer: "P0" | "P1";
  readonly contentHash: Hash;
  readonly conformanceLevel: Level;
  readonly notBefore: Timestamp | "";
  readonly expiresAt: Timestamp | "";
}
export interface BundleSig {
  readonly key_id: KeyId;
  readonly sig: Signature;
}
export interface SignedBundle extends BundleHead {
  readonly sigs: readonly BundleSig[];
}
export type BundleSource =
  | { readonly configMap: { readonly namespace: string; readonly name: string; readonly key: string } }
  | { readonly oci: { readonly reference: string } }
  | { readonly url: { readonly url: string } };

/** A bundle as it travels: the signed object, and its content or the place where it lies. */
export interface Bundle {
  readonly signed: SignedBundle;
  readonly content: JsonObject | undefined;
  readonly source: BundleSource | undefined;
}

/** The canonical form of inline content may have this many bytes; what is larger lies in a ConfigMap. */
export const INLINE_LIMIT = 128 * 1024;
const BUNDLE_ID = /^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$/;

const headOf = (b: BundleHead): BundleHead => ({
  type: b.type,
  bundleId: b.bundleId,
  version: b.version,
  layer: b.layer,
  contentHash: b.contentHash,
  conformanceLevel: b.conformanceLevel,
  notBefore: b.notBefore,
  expiresAt: b.expiresAt,
});
const signingInput = (b: BundleHead): string => canonicalize({ ...headOf(b) });

/** What tells two bundles of one version apart: the hash of the signed object without its signatures. */
export const bundleDigest = (b: BundleHead): Hash => hashJson({ ...headOf(b) });

export function signBundle(
  bundle: BundleHead & { readonly sigs?: readonly BundleSig[] },
  signers: readonly Signer[],
): SignedBundle {
  const input = signingInput(bundle);
  const added = signers.map((s) => ({ key_id: s.keyId, sig: s.sign(input) }));
  const kept = (bundle.sigs ?? []).filter((old) => added.every((s) => s.key_id !== old.key_id));
  return { ...headOf(bundle), sigs: [...kept, ...added] };
}

/** The manifest that `kubectl apply` takes. */
export function bundleManifest(bundle: Bundle, name: string): JsonObject {
  const { type: _, notBefore, expiresAt, sigs, ...head } = bundle.signed;
  return {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "PolicyBundle",
    metadata: { name },
    spec: {
      ...head,
      ...(notBefore === "" ? {} : { notBefore }),
      ...(expiresAt === "" ? {} : { expiresAt }),
      sigs: sigs.map((s) => ({ ...s })),
      ...(bundle.content === undefined ? {} : { content: bundle.content }),
      ...(bundle.source === undefined ? {} : { source: sourceBody(bundle.source) }),
    },
  };
}
const sourceBody = (s: BundleSource): JsonObject =>
  "configMap" in s
    ? { configMap: { ...s.configMap } }
    : "oci" in s
      ? { oci: { ...s.oci } }
      : { url: { ...s.url } };

/** A PolicyBundle manifest, its `spec`, or the bare signed object; `status` and unknown metadata are passed over. */
export function parseBundle(value: JsonValue): Bundle {
  const outer = objectFrom(value, "");
  if (!Object.hasOwn(outer, "kind")) return parseSpec(outer, "");
  oneOf(outer["apiVersion"], "apiVersion", ["atoll.dev/v1alpha1"]);
  oneOf(outer["kind"], "kind", ["PolicyBundle"]);
  return parseSpec(outer["spec"], "spec");
}

function parseSpec(value: JsonValue | undefined, path: string): Bundle {
  const required = ["bundleId", "version", "layer", "contentHash", "conformanceLevel", "sigs"];
  const o = closed(value, path, required, ["type", "notBefore", "expiresAt", "content", "source"]);
  const p = (name: string) => at(path, name);
  if (o["type"] !== undefined) oneOf(o["type"], p("type"), ["atoll.dev/bundle/v1"]);
  const bundleId = stringFrom(o["bundleId"], p("bundleId"), 128);
  if (!BUNDLE_ID.test(bundleId)) throw new ContractError(p("bundleId"), `does not match ${BUNDLE_ID.source}`);
  const sigs = arrayFrom(o["sigs"], p("sigs")).map((s, i) => sigFrom(s, at(p("sigs"), i)));
  if (new Set(sigs.map((s) => s.key_id)).size !== sigs.length)
    throw new ContractError(p("sigs"), "one key signs once");
  const notBefore = orEmpty(timestampFrom, o["notBefore"] ?? "", p("notBefore"));
  const expiresAt = orEmpty(timestampFrom, o["expiresAt"] ?? "", p("expiresAt"));
  if (notBefore !== "" && expiresAt !== "" && notBefore >= expiresAt)
    throw new ContractError(p("expiresAt"), "does not lie after notBefore");
  return {
    signed: {
      type: "atoll.dev/bundle/v1",
      bundleId,
      version: integerFrom(o["version"], p("version"), 1),
      layer: oneOf(o["layer"], p("layer"), ["P0", "P1"]),
      contentHash: hashFrom(o["contentHash"], p("contentHash")),
      conformanceLevel: oneOf(o["conformanceLevel"], p("conformanceLevel"), LEVELS),
      notBefore,
      expiresAt,
      sigs,
    },
    content: o["content"] === undefined ? undefined : objectFrom(o["content"], p("content")),
    source: o["source"] === undefined ? undefined : sourceFrom(o["source"], p("source")),
  };
}

function sigFrom(value: JsonValue, path: string): BundleSig {
  const o = closed(value, path, ["key_id", "sig"]);
  return {
    key_id: keyIdFrom(o["key_id"], at(path, "key_id")),
    sig: signatureFrom(o["sig"], at(path, "sig")),
  };
}

function sourceFrom(value: JsonValue, path: string): BundleSource {
  const o = closed(value, path, [], ["configMap", "oci", "url"]);
  const [kind, ...more] = Object.keys(o);
  if (kind === undefined || more.length > 0) throw new ContractError(path, "names exactly one place");
  const place = (names: readonly string[]) => {
    const inner = closed(o[kind], at(path, kind), names);
    return (name: string) => stringFrom(inner[name], at(at(path, kind), name), 2048);
  };
  if (kind === "configMap") {
    const get = place(["namespace", "name", "key"]);
    return { configMap: { namespace: get("namespace"), name: get("name"), key: get("key") } };
  }
  return kind === "oci"
    ? { oci: { reference: place(["reference"])("reference") } }
    : { url: { url: place(["url"])("url") } };
}

export type BundleProblem =
  | "malformed"
  | "content-missing"
  | "hash"
  | "unsigned"
  | "signature"
  | "role"
  | "not-yet"
  | "expired"
  | "no-expiry"
  | "level"
  | "rollback"
  | "equivocation"
  | "revoked";

export type BundleVerdict =
  | {
      readonly ok: true;
      readonly signed: SignedBundle;
      readonly content: JsonObject;
      readonly digest: Hash;
      /** Keys of the layer's role whose signature holds; empty only where none is required. */
      readonly signedBy: readonly KeyId[];
    }
  | { readonly ok: false; readonly code: Code; readonly problem: BundleProblem; readonly reason: string };

export interface HighWater {
  readonly version: number;
  readonly digest: Hash;
}
export interface BundleExpectations {
  readonly now: Timestamp;
  /** The level of the GuardianSidecar; a bundle below it is refused. */
  readonly conformanceLevel?: Level;
  /** The highest version that was committed, per bundleId. */
  readonly highWater?: HighWater;
  /** Configuration says whether a signature is needed; the artifact never does. */
  readonly requireSignature: boolean;
  /** Content that was fetched from the bundle's source. */
  readonly content?: JsonObject;
  readonly revoked?: (bundleId: string, version: number, layer: "P0" | "P1") => boolean;
}

const ROLE_OF_LAYER = { P0: "ceiling", P1: "policy" } as const satisfies Record<string, Role>;

export function verifyBundle(value: JsonValue, keys: KeyBook, expected: BundleExpectations): BundleVerdict {
  const no = (code: Code, problem: BundleProblem, reason: string): BundleVerdict => ({
    ok: false,
    code,
    problem,
    reason,
  });
  let bundle: Bundle;
  try {
    bundle = parseBundle(value);
  } catch (e) {
    if (!(e instanceof ContractError)) throw e;
    return no("POLICY_SIGNATURE_INVALID", "malformed", e.message);
  }
  const { signed } = bundle;
  const content = bundle.content ?? expected.content;
  if (content === undefined) return no("POLICY_NOT_READY", "content-missing", "the content is not at hand");
  if (hashJson(content) !== signed.contentHash)
    return no("POLICY_HASH_MISMATCH", "hash", "the content does not have the hash that is signed");

  const role = ROLE_OF_LAYER[signed.layer];
  const input = signingInput(signed);
  const signedBy: KeyId[] = [];
  for (const { key_id, sig } of signed.sigs) {
    const key = keys.keyFor(role, key_id);
    if (typeof key !== "string") {
      if (!key.verify(input, sig))
        return no("POLICY_SIGNATURE_INVALID", "signature", `the signature of ${key_id} does not verify`);
      signedBy.push(key_id);
      continue;
    }
    const other = keys.roleOf(key_id);
    if (other !== undefined && other !== role)
      return no(
        "POLICY_SIGNATURE_INVALID",
        "role",
        `${key_id} is a key of role ${other}; ${signed.layer} needs ${role}`,
      );
    if (key === "TRUST_KEY_REVOKED")
      return no("TRUST_KEY_REVOKED", "signature", `the key ${key_id} was revoked`);
  }
  if (expected.requireSignature && signedBy.length === 0)
    return no("POLICY_SIGNATURE_INVALID", "unsigned", `no key of role ${role} has signed`);

  if (signed.conformanceLevel !== "L1" && signed.expiresAt === "")
    return no(
      "POLICY_SIGNATURE_INVALID",
      "no-expiry",
      `expiresAt is mandatory at level ${signed.conformanceLevel}`,
    );
  const now = epochOf(expected.now);
  if (signed.notBefore !== "" && now < epochOf(signed.notBefore))
    return no("POLICY_NOT_READY", "not-yet", `not active before ${signed.notBefore}`);
  if (signed.expiresAt !== "" && now >= epochOf(signed.expiresAt))
    return no("POLICY_STALE", "expired", `expired at ${signed.expiresAt}`);
  const least = expected.conformanceLevel ?? "L1";
  if (signed.conformanceLevel < least)
    return no("POLICY_NOT_READY", "level", `level ${signed.conformanceLevel} is below ${least}`);
  if (expected.revoked?.(signed.bundleId, signed.version, signed.layer) === true)
    return no("POLICY_NOT_READY", "revoked", `version ${signed.version} was revoked`);

  const digest = bundleDigest(signed);
  const high = expected.highWater;
  if (high !== undefined) {
    if (signed.version < high.version)
      return no(
        "REPLAY_DETECTED",
        "rollback",
        `version ${signed.version} is below ${high.version}, which was active`,
      );
    if (signed.version === high.version && digest !== high.digest)
      return no("REPLAY_DETECTED", "equivocation", `version ${signed.version} was seen with another digest`);
  }
  return { ok: true, signed, content, digest, signedBy };
}
