// What a pack says of itself. Nothing here is believed: every line of it is recomputed, and the signature that
// covers it is by a key the verifier brought along.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import {
  arrayFrom,
  at,
  closed,
  hashFrom,
  idFrom,
  integerFrom,
  keyIdFrom,
  objectFrom,
  oneOf,
  signatureFrom,
  stringFrom,
} from "../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue, KeyId, SessionId, Signature } from "../contracts/contracts.ts";
import { sha256, signObject } from "../crypto/crypto.ts";
import type { Signer, Verifier } from "../crypto/crypto.ts";

export const SPEC = "atoll.dev/evidence-spec/1";
export const PACK_LIMITS = { bytes: 256 << 20, keys: 20_000_000, depth: 64 };

export interface ManifestEntry {
  readonly path: string;
  readonly sha256: Hash;
  readonly size: number;
}
export interface Manifest {
  readonly sessions: readonly SessionId[];
  readonly entries: readonly ManifestEntry[];
  readonly tree_size: number;
  readonly root_hash: Hash;
  readonly trust_root_ids: readonly KeyId[];
}
export interface ManifestSig {
  readonly manifest_hash: Hash;
  readonly key_id: KeyId;
  readonly sig: Signature;
}

/** `manifest.json` and `manifest.sig`, each its canonical form and nothing else. */
export function writeManifest(
  manifest: Manifest,
  signer: Signer,
): { readonly json: string; readonly sig: string } {
  const json = canonicalize({
    type: "atoll.dev/evidence/v1",
    sessions: manifest.sessions,
    entries: manifest.entries.map((e) => ({ path: e.path, sha256: e.sha256, size: e.size })),
    tree_size: manifest.tree_size,
    root_hash: manifest.root_hash,
    trust_root_ids: manifest.trust_root_ids,
    spec: SPEC,
  });
  const unsigned = { type: "atoll.dev/manifest-sig/v1", manifest_hash: sha256(json), key_id: signer.keyId };
  return { json, sig: canonicalize(signObject(unsigned, signer)) };
}

export function parseManifest(value: JsonValue): Manifest {
  const o = closed(value, "", [
    "type",
    "sessions",
    "entries",
    "tree_size",
    "root_hash",
    "trust_root_ids",
    "spec",
  ]);
  oneOf(o["type"], "type", ["atoll.dev/evidence/v1"]);
  oneOf(o["spec"], "spec", [SPEC]);
  return {
    sessions: arrayFrom(o["sessions"], "sessions").map((s, i) => idFrom("ses", s, at("sessions", i))),
    entries: arrayFrom(o["entries"], "entries").map((entry, i) => {
      const path = at("entries", i);
      const e = closed(entry, path, ["path", "sha256", "size"]);
      return {
        path: stringFrom(e["path"], at(path, "path"), 100),
        sha256: hashFrom(e["sha256"], at(path, "sha256")),
        size: integerFrom(e["size"], at(path, "size")),
      };
    }),
    tree_size: integerFrom(o["tree_size"], "tree_size"),
    root_hash: hashFrom(o["root_hash"], "root_hash"),
    trust_root_ids: arrayFrom(o["trust_root_ids"], "trust_root_ids").map((k, i) =>
      keyIdFrom(k, at("trust_root_ids", i)),
    ),
  };
}

export function parseManifestSig(value: JsonValue): ManifestSig {
  const o = closed(value, "", ["type", "manifest_hash", "key_id", "sig"]);
  oneOf(o["type"], "type", ["atoll.dev/manifest-sig/v1"]);
  return {
    manifest_hash: hashFrom(o["manifest_hash"], "manifest_hash"),
    key_id: keyIdFrom(o["key_id"], "key_id"),
    sig: signatureFrom(o["sig"], "sig"),
  };
}
export const manifestSigHolds = (s: ManifestSig, verifier: Verifier): boolean =>
  verifier.verify(
    canonicalize({ type: "atoll.dev/manifest-sig/v1", manifest_hash: s.manifest_hash, key_id: s.key_id }),
    s.sig,
  );

/** One line of `checkpoints.jsonl`: the order in which the sessions' nodes were written up to a checkpoint. */
export interface OrderLine {
  /** The CHECKPOINT node with which the line ends; "" for the nodes after the last one. */
  readonly checkpoint: Hash | "";
  /** Runs of nodes of one session, each as many as its number; empty in a pack of some sessions. */
  readonly order: readonly (readonly [SessionId, number])[];
  readonly tree_size: number;
  readonly root_hash: Hash;
}
export const orderLineText = (line: OrderLine): string =>
  canonicalize({ type: "atoll.dev/checkpoint-line/v1", ...line });
export function parseOrderLine(value: JsonValue): OrderLine {
  const o = closed(value, "", ["type", "checkpoint", "order", "tree_size", "root_hash"]);
  oneOf(o["type"], "type", ["atoll.dev/checkpoint-line/v1"]);
  return {
    checkpoint: o["checkpoint"] === "" ? "" : hashFrom(o["checkpoint"], "checkpoint"),
    order: arrayFrom(o["order"], "order").map((run, i) => {
      const path = at("order", i);
      const pair = arrayFrom(run, path);
      return [idFrom("ses", pair[0], at(path, 0)), integerFrom(pair[1], at(path, 1), 1)] as const;
    }),
    tree_size: integerFrom(o["tree_size"], "tree_size"),
    root_hash: hashFrom(o["root_hash"], "root_hash"),
  };
}

/** `proofs/<hex>.json`: that a node is a leaf of the tree to which a checkpoint commits. */
export interface Inclusion {
  readonly node_hash: Hash;
  readonly index: number;
  readonly checkpoint: Hash;
  readonly path: readonly Hash[];
}
export const inclusionText = (proof: Inclusion): string =>
  canonicalize({ type: "atoll.dev/inclusion/v1", ...proof });
export function parseInclusion(value: JsonValue): Inclusion {
  const o = closed(value, "", ["type", "node_hash", "index", "checkpoint", "path"]);
  oneOf(o["type"], "type", ["atoll.dev/inclusion/v1"]);
  return {
    node_hash: hashFrom(o["node_hash"], "node_hash"),
    index: integerFrom(o["index"], "index"),
    checkpoint: hashFrom(o["checkpoint"], "checkpoint"),
    path: arrayFrom(o["path"], "path").map((h, i) => hashFrom(h, at("path", i))),
  };
}

/** What stands in the place of a condensed node. */
export interface Condensed {
  readonly node_hash: Hash;
  readonly prev_hash: Hash | "genesis";
  readonly lamport: number;
}
export const condensedText = (c: Condensed): string => canonicalize({ type: "atoll.dev/condensed/v1", ...c });
export function parseCondensed(value: JsonValue): Condensed {
  const o = closed(value, "", ["type", "node_hash", "prev_hash", "lamport"]);
  oneOf(o["type"], "type", ["atoll.dev/condensed/v1"]);
  return {
    node_hash: hashFrom(o["node_hash"], "node_hash"),
    prev_hash: o["prev_hash"] === "genesis" ? "genesis" : hashFrom(o["prev_hash"], "prev_hash"),
    lamport: integerFrom(o["lamport"], "lamport", 1),
  };
}
export const isCondensed = (value: JsonValue): value is JsonObject =>
  objectFrom(value, "")["type"] === "atoll.dev/condensed/v1";
