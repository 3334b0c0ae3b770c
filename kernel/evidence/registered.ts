// The trust registry that a pack brings along: replayed from genesis with the keys of the reader, it says which guardian
// had which key, and what of a revoked key is honoured. Nothing of it is believed but what a registrar among those keys signed.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import { LIMITS, isObject } from "../contracts/contracts.ts";
import type { Code, Hash, JsonObject, JsonValue, KeyId, SealedNode } from "../contracts/contracts.ts";
import { sha256 } from "../crypto/crypto.ts";
import type { Verifier } from "../crypto/crypto.ts";
import type { TrustHead } from "../proofgraph/proofgraph.ts";
import { readNode } from "../receipts/receipts.ts";
import { createRegistry, isHandOver } from "../trust/trust.ts";
import type { KeyRecord, PublishedKey, Registry, Standing, TrustRoots } from "../trust/trust.ts";
import { broken, placed } from "./finding.ts";
import { linesOfFile, wholeFile } from "./lines.ts";
import type { PackFile } from "./tar.ts";

export const EVENTS = "trust/events.jsonl";
export const SNAPSHOT = "trust/snapshot.json";

/** Who may have signed what in a guardian's log, by roots and, where there is one, a registry that grew from them. */
export interface Registered {
  readonly standing: Standing;
  /** Where the registry ends that was at hand: what a registrar did after that, nobody here can know. */
  readonly head: TrustHead;
  /** A guardian's key that roots or registry name, wherever it stands in its log. */
  guardian(id: KeyId): Verifier | Code;
  /** What is wrong with a checkpoint's word about the registry; "" when nothing is, or when no registry is at hand. */
  checkpoint(head: TrustHead, id: KeyId): string;
}

export function registeredBy(roots: TrustRoots, events: Iterable<SealedNode> = []): Registered {
  const registry = createRegistry(roots);
  const hashes: Hash[] = [];
  for (const sealed of events) {
    const applied = registry.apply(sealed);
    if (!applied.ok) throw broken(EVENTS, hashes.length + 1, applied.reason, applied.code);
    hashes.push(sealed.hash);
  }
  const rootIds = new Set(roots.keys.map((key) => key.keyId));
  const guardian = (id: KeyId): Verifier | Code => {
    const found = registry.record(id);
    return found?.role === "guardian" ? found.verifier : "TRUST_KEY_UNKNOWN";
  };
  let lastHeight = 0;
  return {
    guardian,
    head: { height: registry.height, hash: registry.head },
    standing: {
      // A log that begins with a key to which another handed over has lost its beginning.
      first: (id) => (registry.record(id)?.after === undefined ? guardian(id) : "CHAIN_BROKEN"),
      follows: (old, next) => followFault(registry, rootIds, old, next),
      honoured: (id) => {
        const found = registry.record(id);
        return found?.end === "revoked" ? found.honoured : undefined;
      },
    },
    checkpoint(head, id) {
      if (hashes.length === 0) return "";
      const said = headFault(hashes, head) || keyFault(registry.record(id), head.height);
      if (said !== "" || head.height < lastHeight)
        return said === "" ? "names an older registry than the checkpoint before" : said;
      lastHeight = head.height;
      return "";
    },
  };
}

function followFault(
  registry: Registry,
  rootIds: ReadonlySet<KeyId>,
  old: KeyId,
  next: PublishedKey,
): Code | "" {
  const found = registry.record(next.key_id);
  if (found !== undefined) return found.role === "guardian" && found.after === old ? "" : "TRUST_KEY_UNKNOWN";
  // Whom the registry has published hands over there too; who stands in the roots alone, in its log alone.
  return registry.record(old) === undefined || rootIds.has(old) ? "" : "TRUST_KEY_UNKNOWN";
}
function headFault(hashes: readonly Hash[], { height, hash }: TrustHead): string {
  if (height > hashes.length)
    return `names event ${height} of the registry, which ends with ${hashes.length}`;
  return height === 0 || hashes[height - 1] === hash
    ? ""
    : `names another event ${height} than the registry's`;
}
function keyFault(key: KeyRecord | undefined, height: number): string {
  if (key === undefined) return "";
  if (height >= key.until) return `knows that its key was ${key.end} at ${key.until}`;
  return key.after !== undefined && height < key.from ? "its key had not been published where it stands" : "";
}

/** The pack's registry; without one the roots alone count. */
export function readRegistered(files: ReadonlyMap<string, PackFile>, roots: TrustRoots): Registered {
  const file = files.get(EVENTS);
  const snapshot = files.get(SNAPSHOT);
  if (file === undefined) {
    if (snapshot !== undefined) throw broken(SNAPSHOT, 0, "is there without the events it is of");
    return registeredBy(roots);
  }
  if (file.size > LIMITS.policy.bytes * 16) throw broken(EVENTS, 0, "is too long");
  const events = [...linesOfFile(file)].map(({ number, bytes }) =>
    placed(EVENTS, number, () => readNode(bytes)),
  );
  const registered = registeredBy(roots, events);
  if (snapshot === undefined) throw broken(SNAPSHOT, 0, "is missing");
  if (sha256(wholeFile(snapshot, LIMITS.policy.bytes)) !== sha256(snapshotText(events)))
    throw broken(SNAPSHOT, 0, "is not what the events end in");
  return registered;
}

interface Line {
  readonly pod_uid: JsonValue;
  readonly key_id: JsonValue;
  readonly public_key: JsonValue;
  readonly from: number;
  /** 0 while the key is in force. */
  until: number;
  end: "" | "rotated" | "revoked";
  honoured: JsonValue;
}
/** Guardians' keys as a registry's events leave them. Only their form is read: the signatures are `registeredBy`'s. */
export function snapshotText(events: readonly SealedNode[]): string {
  const lines: Line[] = [];
  const member = (o: JsonValue | undefined, name: string): JsonValue => (isObject(o) ? (o[name] ?? "") : "");
  const add = (pod_uid: JsonValue, key: JsonValue, from: number): void => {
    lines.push({
      pod_uid,
      key_id: member(key, "key_id"),
      public_key: member(key, "public_key"),
      from,
      until: 0,
      end: "",
      honoured: "",
    });
  };
  const close = (
    id: JsonValue,
    at: number,
    end: "rotated" | "revoked",
    honoured: JsonValue,
  ): Line | undefined => {
    const line = lines.find((l) => l.key_id === id);
    if (line === undefined) return undefined;
    line.until ||= at;
    line.end = end;
    line.honoured = honoured;
    return line;
  };
  events.forEach(({ node }, i) => {
    const { body } = node;
    const at = i + 1;
    if (isHandOver(node)) {
      const act = body["rotation"];
      const old = close(member(act, "old"), at, "rotated", "");
      add(old?.pod_uid ?? "", member(act, "key"), at);
    } else if (body["event"] === "KEY_PUBLISH") add(member(body, "pod_uid"), body["key"] ?? "", at);
    else if (body["event"] === "KEY_REVOKE") {
      const from: JsonObject = isObject(body["revocation"]) ? body["revocation"] : body;
      close(member(from, "key"), at, "revoked", member(from, "honoured"));
    }
  });
  return canonicalize({
    type: "atoll.dev/trust-snapshot/v1",
    height: events.length,
    head: events.at(-1)?.hash ?? "genesis",
    guardians: lines.map((line) => ({ ...line })),
  });
}

/** The two files of a pack that tell of a registry. */
export function registryFiles(
  events: readonly SealedNode[],
): readonly { readonly path: string; readonly text: string }[] {
  if (events.length === 0) return [];
  return [
    { path: EVENTS, text: events.map((e) => `${e.text}\n`).join("") },
    { path: SNAPSHOT, text: snapshotText(events) },
  ];
}
