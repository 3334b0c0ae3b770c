// The nodes of which a restart makes the ceremonies anew, without the thousands between them: each escalation with its
// answers, the call that it let through, and the review of an override.

import { canonicalize } from "../../canonicalize/canonicalize.ts";
import { arrayFrom, isObject, objectFrom } from "../../contracts/contracts.ts";
import type { Hash, JsonValue, SealedNode } from "../../contracts/contracts.ts";
import { hashJson } from "../../crypto/crypto.ts";
import { parseChallenge } from "../../guardian/guardian.ts";
import { readNode } from "../../receipts/receipts.ts";

export interface KeptCeremonies {
  /** Keeps a node that belongs to a ceremony, in the order of the journal. */
  note(sealed: SealedNode): void;
  /** What is kept, each ceremony's nodes in their order. */
  nodes(): readonly SealedNode[];
  state(): JsonValue;
}

interface Kept {
  readonly nodes: SealedNode[];
  readonly hashes: Set<Hash>;
  readonly challenge: Hash;
  readonly expiresAtMs: number;
  override: Hash | "";
  used: boolean;
}

/** Ceremonies that are kept although they are over: what was approved lately is still shown. */
const KEPT = 200;

export function createKept(state?: JsonValue): KeptCeremonies {
  const kept: Kept[] = [];
  const add = (to: Kept, sealed: SealedNode): void => {
    to.nodes.push(sealed);
    to.hashes.add(sealed.hash);
  };
  const note = (sealed: SealedNode): void => {
    const { kind, body, parents, issued_at } = sealed.node;
    if (kind === "INTENT") {
      if (parents.length === 0) return;
      const of = kept.find((k) => parents.some((p) => k.hashes.has(p)));
      if (of === undefined || of.used) return;
      of.used = true;
      // Its own successors are no part of the ceremony.
      of.nodes.push(sealed);
      return;
    }
    if (kind !== "ATTESTATION") return;
    if (body["type"] === "atoll.dev/escalation/v1") {
      if (!isObject(body["challenge"])) return;
      const { hash, expiresAt } = parseChallenge(body["challenge"]);
      const fresh: Kept = {
        nodes: [],
        hashes: new Set(),
        challenge: hash,
        expiresAtMs: Date.parse(expiresAt),
        override: "",
        used: false,
      };
      add(fresh, sealed);
      kept.push(fresh);
      forget(Date.parse(issued_at));
      return;
    }
    const answered = kept.find((k) => k.challenge === body["challenge_hash"]);
    if (answered !== undefined) {
      add(answered, sealed);
      if (body["type"] === "atoll.dev/override/v1") answered.override = hashJson(body);
      return;
    }
    if (body["type"] !== "atoll.dev/review/v1") return;
    const reviewed = kept.find((k) => k.override !== "" && k.override === body["override"]);
    if (reviewed === undefined) return;
    add(reviewed, sealed);
    reviewed.override = "";
  };
  /** Forgets the oldest that are over. A call under a forgotten approval escalates anew. */
  function forget(nowMs: number): void {
    for (let i = 0; kept.length > KEPT && i < kept.length; i++) {
      const one = kept[i];
      // A review that is owed stays owed.
      if (one === undefined || one.override !== "" || one.expiresAtMs >= nowMs) continue;
      kept.splice(i--, 1);
    }
  }

  for (const node of state === undefined ? [] : arrayFrom(state, "ceremonies"))
    note(readNode(canonicalize(objectFrom(node, "ceremonies"))));
  return {
    note,
    nodes: () => kept.flatMap((k) => k.nodes),
    state: () => kept.flatMap((k) => k.nodes.map(({ node }) => ({ ...node }))),
  };
}
