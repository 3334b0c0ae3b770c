// Emergency overrides in a graph, and which of them nobody has reviewed. The guardian took down only reviews that it had
// verified, so that what lies in its nodes counts.

import { isHash } from "../contracts/contracts.ts";
import type { Hash, Node } from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";

export interface Reviews {
  note(node: Node): void;
  /** Hashes of the overrides that are open. */
  open(): readonly Hash[];
}

export function createReviews(): Reviews {
  const overrides = new Set<Hash>();
  return {
    note({ kind, body }) {
      if (kind !== "ATTESTATION") return;
      if (body["type"] === "atoll.dev/override/v1") overrides.add(hashJson(body));
      const { override } = body;
      if (body["type"] === "atoll.dev/review/v1" && isHash(override)) overrides.delete(override);
    },
    open: () => [...overrides],
  };
}
