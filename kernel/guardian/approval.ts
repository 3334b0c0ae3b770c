// Whether an approval stands for this very call. The ceremony's states live elsewhere; here everything that a person
// signed is looked at again, so that a state alone grants nothing.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import {
  arrayFrom,
  closed,
  hashFrom,
  idFrom,
  integerFrom,
  isObject,
  keyIdFrom,
  oneOf,
  signatureFrom,
  stringFrom,
  timestampFrom,
} from "../contracts/contracts.ts";
import type {
  ApprovalFact,
  ApprovalId,
  Ceremony,
  EffectClass,
  Facts,
  Hash,
  JsonObject,
  JsonValue,
  KeyId,
  Policy,
  SessionId,
  SignatureCheck,
  Timestamp,
  ToolCall,
} from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";
import type { Question } from "./question.ts";

/** What an approval is bound to: no time, counter or call id, so that the repeated call is the same intent. */
export function intentHash(q: {
  readonly call: ToolCall;
  readonly policy: Policy;
  readonly facts: Facts;
  readonly effect: EffectClass | "";
}): Hash {
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
  const [first, ...rest] = new Set(all);
  return first === undefined ? null : rest.reduce(stricter, first);
}
const stricter = (a: Ceremony, b: Ceremony): Ceremony => ({
  name: `${a.name}+${b.name}`,
  approvers: a.approvers.filter((k) => b.approvers.includes(k)),
  quorum: Math.max(a.quorum, b.quorum),
  timelockSeconds: Math.max(a.timelockSeconds, b.timelockSeconds),
  holdSeconds: Math.max(a.holdSeconds, b.holdSeconds),
  expiresSeconds: Math.min(a.expiresSeconds, b.expiresSeconds),
  waitSeconds: Math.min(a.waitSeconds, b.waitSeconds),
  challenge: a.challenge || b.challenge,
  maxPerHour: Math.min(a.maxPerHour, b.maxPerHour),
});

/** The terms of a ceremony as the challenge states them. */
export const termsOf = (c: Ceremony): JsonObject => ({
  name: c.name,
  approvers: c.approvers,
  quorum: c.quorum,
  timelock_seconds: c.timelockSeconds,
  hold_seconds: c.holdSeconds,
  expires_seconds: c.expiresSeconds,
  confirm: c.challenge,
});

export interface Challenge {
  readonly approvalId: ApprovalId;
  readonly sessionId: SessionId;
  readonly argsHash: Hash;
  readonly intentHash: Hash;
  readonly policyHash: string;
  readonly ceilingHash: string;
  readonly ceremony: JsonObject;
  readonly createdAt: Timestamp;
  readonly eligibleAt: Timestamp;
  readonly expiresAt: Timestamp;
  readonly hash: Hash;
}
const CHALLENGE = [
  "type",
  "approval_id",
  "session_id",
  "principal",
  "tool",
  "args_hash",
  "intent_hash",
  "shown",
  "policy_bundle_hash",
  "p0_ceiling_hash",
  "ceremony",
  "nonce",
  "created_at",
  "eligible_at",
  "expires_at",
];

export function parseChallenge(value: JsonValue): Challenge {
  const o = closed(value, "challenge", CHALLENGE);
  oneOf(o["type"], "challenge.type", ["atoll.dev/approval-challenge/v1"]);
  return {
    approvalId: idFrom("apr", o["approval_id"], "challenge.approval_id"),
    sessionId: idFrom("ses", o["session_id"], "challenge.session_id"),
    argsHash: hashFrom(o["args_hash"], "challenge.args_hash"),
    intentHash: hashFrom(o["intent_hash"], "challenge.intent_hash"),
    policyHash: stringFrom(o["policy_bundle_hash"], "challenge.policy_bundle_hash"),
    ceilingHash: stringFrom(o["p0_ceiling_hash"], "challenge.p0_ceiling_hash"),
    ceremony: isObject(o["ceremony"]) ? o["ceremony"] : {},
    createdAt: timestampFrom(o["created_at"], "challenge.created_at"),
    eligibleAt: timestampFrom(o["eligible_at"], "challenge.eligible_at"),
    expiresAt: timestampFrom(o["expires_at"], "challenge.expires_at"),
    hash: hashJson(value),
  };
}

/** What an approver's tool derives from what was shown, so that nobody signs what they did not see. */
export const confirmOf = (intent: Hash, challenge: Hash, key: KeyId): Hash =>
  hashJson({ intent_hash: intent, challenge_hash: challenge, key_id: key });

export interface Assertion {
  readonly keyId: KeyId;
  readonly decision: "approve" | "reject" | "override";
}
const SKEW_MS = 60_000;

/** The assertion, or why it does not count for this challenge. */
export function readAssertion(
  value: JsonValue,
  c: Challenge,
  terms: Ceremony,
  keys: Policy["keys"],
): Assertion | string {
  const override = isObject(value) && value["type"] === "atoll.dev/override/v1";
  const extra = override ? ["reason"] : ["decision", "shown_at"];
  const o = closed(value, "assertion", [
    "type",
    "challenge_hash",
    "confirm",
    "key_id",
    "at",
    "sig",
    ...extra,
  ]);
  oneOf(o["type"], "assertion.type", ["atoll.dev/approval/v1", "atoll.dev/override/v1"]);
  const keyId = keyIdFrom(o["key_id"], "assertion.key_id");
  if (hashFrom(o["challenge_hash"], "assertion.challenge_hash") !== c.hash)
    return "it is for another challenge";
  const key: SignatureCheck | null = override ? keys.override(keyId) : keys.approver(keyId);
  if (key === null || (!override && !terms.approvers.includes(keyId)))
    return `key ${keyId} may not ${override ? "override" : "approve here"}`;
  const { sig, ...unsigned } = o;
  if (!key.verify(canonicalize(unsigned), signatureFrom(sig, "assertion.sig")))
    return "the signature does not verify";
  if ((terms.challenge || override) && o["confirm"] !== confirmOf(c.intentHash, c.hash, keyId))
    return "the confirmation does not fit what was shown";
  const at = Date.parse(timestampFrom(o["at"], "assertion.at"));
  if (!(at >= Date.parse(c.createdAt) - SKEW_MS && at < Date.parse(c.expiresAt)))
    return "it was not signed in the time of the challenge";
  if (override)
    return stringFrom(o["reason"], "assertion.reason") === ""
      ? "it gives no reason"
      : { keyId, decision: "override" };
  const shownAt = Date.parse(timestampFrom(o["shown_at"], "assertion.shown_at"));
  const decision = oneOf(o["decision"], "assertion.decision", ["approve", "reject"]);
  // A no needs no time to think.
  if (decision === "approve" && !(at - shownAt >= terms.holdSeconds * 1000)) return "it was signed too soon";
  return { keyId, decision };
}

type Granted = ApprovalFact & { readonly state: "granted" };

/** Null, or why the approval does not stand for this call, now. */
export function approvalStands(a: Granted, terms: Ceremony, q: Question): string | null {
  const e = closed(a.evidence, "evidence", ["challenge", "assertions", "escalated", "now"]);
  const c = parseChallenge(e["challenge"] ?? null);
  if (c.approvalId !== a.id || c.sessionId !== q.facts.session.id) return "it belongs to another session";
  if (c.argsHash !== q.call.argsHash || c.intentHash !== intentHash(q)) return "it is for another call";
  if (c.policyHash !== q.policy.hash || c.ceilingHash !== q.policy.ceilingHash)
    return "the policy has changed";
  if (canonicalize(c.ceremony) !== canonicalize(termsOf(terms))) return "it was asked under other terms";
  const begun = moment(e["escalated"], "evidence.escalated");
  const now = moment(e["now"], "evidence.now");
  if (begun.bootId !== now.bootId) return "the machine was restarted since";
  const waited = now.ms - begun.ms;
  // Both clocks have to agree: the one nobody can set, and the one people see.
  if (!(waited >= 0 && waited < terms.expiresSeconds * 1000) || !(q.now < Date.parse(c.expiresAt)))
    return "it has expired";
  const seen = new Set<KeyId>();
  let overridden = false;
  for (const value of arrayFrom(e["assertions"], "evidence.assertions")) {
    const assertion = readAssertion(value, c, terms, q.policy.keys);
    if (typeof assertion === "string") return assertion;
    if (assertion.decision === "reject") return "it was rejected";
    if (seen.has(assertion.keyId)) return "one approver is counted twice";
    seen.add(assertion.keyId);
    if (assertion.decision === "override") overridden = true;
  }
  if (overridden) return null;
  if (seen.size < terms.quorum) return `${seen.size} of ${terms.quorum} have approved`;
  if (!(waited >= terms.timelockSeconds * 1000) || !(q.now >= Date.parse(c.eligibleAt)))
    return "the timelock has not elapsed";
  return null;
}

function moment(v: JsonValue | undefined, path: string): { readonly bootId: string; readonly ms: number } {
  const o = closed(v, path, ["boot_id", "monotonic_ms"]);
  return { bootId: stringFrom(o["boot_id"], path), ms: integerFrom(o["monotonic_ms"], path) };
}
