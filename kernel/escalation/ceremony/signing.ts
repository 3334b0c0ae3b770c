// What a person's own tool signs: outside the guardian, with a key that the guardian never holds.

import { timestampOf } from "../../contracts/contracts.ts";
import type { JsonObject } from "../../contracts/contracts.ts";
import { hashJson, signObject } from "../../crypto/crypto.ts";
import type { Signer } from "../../crypto/crypto.ts";
import { confirmOf, parseChallenge } from "../../guardian/guardian.ts";

/** What an approver's tool signs after a person has seen what is shown. */
export function signAssertion(
  challenge: JsonObject,
  answer: { readonly decision: "approve" | "reject"; readonly shownAt: number; readonly at: number },
  signer: Signer,
): JsonObject {
  const c = parseChallenge(challenge);
  return signObject(
    {
      type: "atoll.dev/approval/v1",
      challenge_hash: c.hash,
      decision: answer.decision,
      confirm: confirmOf(c.intentHash, c.hash, signer.keyId),
      key_id: signer.keyId,
      shown_at: timestampOf(answer.shownAt),
      at: timestampOf(answer.at),
    },
    signer,
  );
}
export function signOverride(challenge: JsonObject, reason: string, at: number, signer: Signer): JsonObject {
  const c = parseChallenge(challenge);
  return signObject(
    {
      type: "atoll.dev/override/v1",
      challenge_hash: c.hash,
      confirm: confirmOf(c.intentHash, c.hash, signer.keyId),
      reason,
      key_id: signer.keyId,
      at: timestampOf(at),
    },
    signer,
  );
}
export function signReview(override: JsonObject, at: number, signer: Signer): JsonObject {
  return signObject(
    { type: "atoll.dev/review/v1", override: hashJson(override), key_id: signer.keyId, at: timestampOf(at) },
    signer,
  );
}
