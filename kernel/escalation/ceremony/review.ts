// Whether a review closes an override: signed by an approver, for exactly that override.

import { canonicalize } from "../../canonicalize/canonicalize.ts";
import { keyIdFrom, signatureFrom } from "../../contracts/contracts.ts";
import type { Hash, JsonObject, Policy } from "../../contracts/contracts.ts";

/** Null, or why it does not. */
export function reviewFault(raw: JsonObject, override: Hash, policy: Policy): string | null {
  const { sig, ...unsigned } = raw;
  if (raw["type"] !== "atoll.dev/review/v1" || raw["override"] !== override)
    return "it is no review of this override";
  const keyId = raw["key_id"];
  const key = typeof keyId === "string" ? approverKey(keyId, policy) : null;
  if (key === null) return "the key may not review";
  return typeof sig === "string" && key.verify(canonicalize(unsigned), asSignature(sig))
    ? null
    : "the signature does not verify";
}
const approverKey = (id: string, policy: Policy) => policy.keys.approver(keyIdFrom(id, "review.key_id"));
const asSignature = (s: string) => signatureFrom(s, "review.sig");
