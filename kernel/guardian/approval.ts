// Whether an approval stands for this very call. The ceremony's own states live elsewhere; here the kernel looks
// again at what is bound to what, so that a state alone grants nothing.

import { hashJson } from "../crypto/crypto.ts";
import type { ApprovalFact, Ceremony, Hash, JsonObject, KeyId } from "../contracts/contracts.ts";
import type { Question } from "./question.ts";

/** What an approval is bound to: no time, counter or call id, so that the repeated call is the same intent. */
export function intentHash(q: Pick<Question, "call" | "policy" | "facts" | "effect">): Hash {
  const { call, policy, facts } = q;
  const p = facts.principal;
  return hashJson({
    type: "atoll.dev/intent/v1",
    session_id: facts.session.id,
    principal: p.state === "verified" ? p.id : "",
    delegator: p.state === "verified" ? p.delegator : "",
    tool: call.target,
    effect_class: q.effect,
    args_hash: call.argsHash,
    policy_hash: policy.hash,
    ceiling_hash: policy.ceilingHash,
    overlay_hash: policy.overlayHash,
  });
}

/** One ceremony that satisfies all that are asked for: the strictest of each term, approvers common to all. */
export function composeCeremonies(all: readonly Ceremony[]): Ceremony | null {
  const distinct = [...new Set(all)];
  const [first, ...rest] = distinct;
  if (first === undefined) return null;
  return rest.reduce(stricter, first);
}
const common = (a: readonly KeyId[], b: readonly KeyId[]): readonly KeyId[] => a.filter((k) => b.includes(k));
const stricter = (a: Ceremony, b: Ceremony): Ceremony => ({
  name: `${a.name}+${b.name}`,
  approvers: common(a.approvers, b.approvers),
  quorum: Math.max(a.quorum, b.quorum),
  timelockSeconds: Math.max(a.timelockSeconds, b.timelockSeconds),
  holdSeconds: Math.max(a.holdSeconds, b.holdSeconds),
  expiresSeconds: Math.min(a.expiresSeconds, b.expiresSeconds),
  waitSeconds: Math.min(a.waitSeconds, b.waitSeconds),
  challenge: a.challenge || b.challenge,
  maxPerHour: Math.min(a.maxPerHour, b.maxPerHour),
});

type Granted = ApprovalFact & { readonly state: "granted" };

/** Null, or why the approval does not stand. */
export function approvalStands(a: Granted, _ceremony: Ceremony, q: Question): string | null {
  const e: JsonObject = a.evidence;
  return e["intent_hash"] === intentHash(q) ? null : "the approval is for another call";
}
