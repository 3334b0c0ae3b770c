// A granted approval is looked at again by the gate: whatever in it does not fit this call, this policy, these people or
// this moment, it does not stand.

import { describe, expect, test } from "vitest";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { makeId, timestampFrom } from "../../kernel/contracts/contracts.ts";
import type { Facts, Hash, JsonObject, JsonValue, Policy } from "../../kernel/contracts/contracts.ts";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { confirmOf, decide, intentHash, parseChallenge, termsOf } from "../../kernel/guardian/guardian.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { trustRoots } from "../../kernel/trust/trust.ts";
import { callOf, factsOf, sampleDoc, session, someHash } from "./sample.ts";
import { quickKey } from "../quick-key.ts";

const [ann, bob, cyd, dan] = [quickKey("ann"), quickKey("bob"), quickKey("cyd"), quickKey("dan")] as const;
const [oda, eve] = [quickKey("oda"), quickKey("eve")] as const;
const keys = trustRoots([
  ...[ann, bob, cyd, dan].map((k) => ({ role: "approver" as const, keyId: k.keyId, verifier: k })),
  { role: "override", keyId: oda.keyId, verifier: oda },
]);
const approvers = [ann, bob, cyd].map((k) => k.keyId);
const two = {
  approvers,
  quorum: 2,
  timelockSeconds: 60,
  holdSeconds: 3,
  expiresSeconds: 900,
  waitSeconds: 5,
  maxPerHour: 6,
};
const doc = (over: JsonObject = {}, rules: readonly JsonObject[] = []): JsonObject => ({
  ...sampleDoc,
  approvals: {
    one: { ...two, ...over },
    wide: {
      approvers: [ann.keyId, bob.keyId, dan.keyId],
      quorum: 1,
      timelockSeconds: 90,
      holdSeconds: 9,
      expiresSeconds: 500,
      waitSeconds: 9,
      maxPerHour: 2,
      challenge: false,
    },
  },
  rules: [...sampleDoc.rules, ...rules],
});
const policy = compilePolicy(doc(), { keys });
const call = callOf("tool:github/create_release", { repo: "acme/web", title: "v1" });
const id = makeId("apr", new Uint8Array(16).fill(5));
const NOW = "2026-11-18T10:10:00.000Z";
const time = (t: string) => timestampFrom(t, "time");
const factsAt = (now: string, p: Policy = policy): Facts => factsOf(p, { now: time(now) });

interface Parts {
  readonly policy?: Policy;
  readonly challenge?: JsonObject;
  readonly assertions?: (challenge: JsonObject) => readonly JsonValue[];
  readonly escalated?: JsonValue;
  readonly now?: JsonValue;
  readonly at?: string;
  readonly id?: typeof id;
  readonly more?: JsonObject;
}
const intentOf = (p: Policy): Hash => intentHash({ call, policy: p, facts: factsAt(NOW, p), effect: "E3" });
function challengeOf(p: Policy = policy, over: JsonObject = {}): JsonObject {
  const one = p.ceremonies.get("one") ?? expect.fail("no ceremony");
  return {
    type: "atoll.dev/approval-challenge/v1",
    approval_id: id,
    session_id: session,
    principal: "serviceAccount:acme/triage-bot",
    tool: call.target,
    args_hash: call.argsHash,
    intent_hash: intentOf(p),
    shown: {},
    policy_bundle_hash: p.hash,
    p0_ceiling_hash: p.ceilingHash,
    ceremony: termsOf(one),
    nonce: "n",
    created_at: "2026-11-18T10:00:00.000Z",
    eligible_at: "2026-11-18T10:01:00.000Z",
    expires_at: "2026-11-18T10:15:00.000Z",
    ...over,
  };
}
function assertion(c: JsonObject, by: Signer, over: JsonObject = {}): JsonObject {
  const { hash, intentHash: intent } = parseChallenge(c);
  const unsigned: JsonObject = {
    type: "atoll.dev/approval/v1",
    challenge_hash: hash,
    confirm: confirmOf(intent, hash, by.keyId),
    key_id: by.keyId,
    decision: "approve",
    shown_at: "2026-11-18T10:02:00.000Z",
    at: "2026-11-18T10:02:03.000Z",
    ...over,
  };
  return { ...unsigned, sig: by.sign(canonicalize(unsigned)) };
}
function override(c: JsonObject, by: Signer = oda, over: JsonObject = {}): JsonObject {
  const { hash, intentHash: intent } = parseChallenge(c);
  const unsigned: JsonObject = {
    type: "atoll.dev/override/v1",
    challenge_hash: hash,
    confirm: confirmOf(intent, hash, by.keyId),
    key_id: by.keyId,
    reason: "the site is down",
    at: "2026-11-18T10:02:03.000Z",
    ...over,
  };
  return { ...unsigned, sig: by.sign(canonicalize(unsigned)) };
}
const both = (c: JsonObject): readonly JsonValue[] => [assertion(c, ann), assertion(c, bob)];
function judged(parts: Parts = {}): string {
  const p = parts.policy ?? policy;
  const challenge = challengeOf(p, parts.challenge ?? {});
  const facts = factsAt(parts.at ?? NOW, p);
  const evidence: JsonObject = {
    challenge,
    assertions: (parts.assertions ?? both)(challenge),
    escalated: parts.escalated ?? { boot_id: "boot", monotonic_ms: 1_000 },
    now: parts.now ?? { boot_id: "boot", monotonic_ms: 61_000 },
    ...parts.more,
  };
  const v = decide(call, p, {
    ...facts,
    approval: { state: "granted", id: parts.id ?? id, node: someHash, evidence },
  });
  if (v.verdict === "ALLOW") return "ALLOW";
  return v.code === "APPROVAL_INVALID" ? v.detail : `${v.code}: ${v.detail}`;
}
const by = (make: (c: JsonObject) => readonly JsonValue[]): Parts => ({ assertions: make });
const first = (over: JsonObject): Parts => by((c) => [assertion(c, ann, over), assertion(c, bob)]);

describe("a granted approval", () => {
  test("stands for its call, by two of three", () => {
    expect(judged()).toBe("ALLOW");
    expect(judged(by((c) => [assertion(c, cyd), assertion(c, ann), assertion(c, bob)]))).toBe("ALLOW");
  });
  test.each<[string, string, Parts]>([
    ["another id", "it belongs to another session", { id: makeId("apr", new Uint8Array(16).fill(6)) }],
    [
      "another session",
      "it belongs to another session",
      { challenge: { session_id: makeId("ses", new Uint8Array(16).fill(9)) } },
    ],
    ["other arguments", "it is for another call", { challenge: { args_hash: someHash } }],
    ["another intent", "it is for another call", { challenge: { intent_hash: someHash } }],
    ["another policy", "the policy has changed", { challenge: { policy_bundle_hash: someHash } }],
    ["another ceiling", "the policy has changed", { challenge: { p0_ceiling_hash: someHash } }],
    ["other terms", "it was asked under other terms", { challenge: { ceremony: { name: "one" } } }],
    ["terms that are none", "it was asked under other terms", { challenge: { ceremony: "one" } }],
    [
      "a restart between",
      "the machine was restarted since",
      { now: { boot_id: "other", monotonic_ms: 61_000 } },
    ],
    ["a clock that went back", "it has expired", { now: { boot_id: "boot", monotonic_ms: 999 } }],
    ["the machine's clock at the end", "it has expired", { now: { boot_id: "boot", monotonic_ms: 901_000 } }],
    ["the machine's clock before the end", "ALLOW", { now: { boot_id: "boot", monotonic_ms: 900_999 } }],
    ["the wall's clock at the end", "it has expired", { at: "2026-11-18T10:15:00.000Z" }],
    ["the wall's clock before the end", "ALLOW", { at: "2026-11-18T10:14:59.999Z" }],
    [
      "the machine's timelock",
      "the timelock has not elapsed",
      { now: { boot_id: "boot", monotonic_ms: 60_999 } },
    ],
    ["the wall's timelock", "the timelock has not elapsed", { at: "2026-11-18T10:00:59.999Z" }],
    ["the wall's timelock at its end", "ALLOW", { at: "2026-11-18T10:01:00.000Z" }],
    ["one approver", "1 of 2 have approved", by((c) => [assertion(c, ann)])],
    ["nobody", "0 of 2 have approved", by(() => [])],
    [
      "one approver twice",
      "one approver is counted twice",
      by((c) => [assertion(c, ann), assertion(c, ann)]),
    ],
    ["a rejection", "it was rejected", by((c) => [...both(c), assertion(c, cyd, { decision: "reject" })])],
    [
      "an approver of another ceremony",
      `key ${dan.keyId} may not approve here`,
      by((c) => [assertion(c, ann), assertion(c, dan)]),
    ],
    [
      "a key nobody trusts",
      `key ${eve.keyId} may not approve here`,
      by((c) => [assertion(c, ann), assertion(c, eve)]),
    ],
    [
      "an overrider as an approver",
      `key ${oda.keyId} may not approve here`,
      by((c) => [assertion(c, oda), assertion(c, ann)]),
    ],
    [
      "an assertion for another challenge",
      "it is for another challenge",
      first({ challenge_hash: someHash }),
    ],
    ["another's confirmation", "the confirmation does not fit what was shown", first({ confirm: someHash })],
    [
      "another's name under the signature",
      "the signature does not verify",
      by((c) => [{ ...assertion(c, ann), key_id: cyd.keyId }, assertion(c, bob)]),
    ],
    ["an assertion signed too soon", "it was signed too soon", first({ at: "2026-11-18T10:02:02.999Z" })],
    [
      "an assertion that takes back time",
      "it was signed too soon",
      first({ shown_at: "2026-11-18T10:02:04.000Z" }),
    ],
    [
      "an assertion a minute before",
      "ALLOW",
      first({ shown_at: "2026-11-18T09:58:00.000Z", at: "2026-11-18T09:59:00.000Z" }),
    ],
    [
      "an assertion more than a minute before",
      "it was not signed in the time of the challenge",
      first({ shown_at: "2026-11-18T09:58:00.000Z", at: "2026-11-18T09:58:59.999Z" }),
    ],
    [
      "an assertion at the end",
      "it was not signed in the time of the challenge",
      first({ at: "2026-11-18T10:15:00.000Z" }),
    ],
    ["an override", "ALLOW", by((c) => [override(c)])],
    [
      "an override before any timelock",
      "ALLOW",
      { ...by((c) => [override(c)]), now: { boot_id: "boot", monotonic_ms: 1_000 } },
    ],
    ["an override by an approver", `key ${ann.keyId} may not override`, by((c) => [override(c, ann)])],
    ["an override without a reason", "it gives no reason", by((c) => [override(c, oda, { reason: "" })])],
    [
      "an override with another's confirmation",
      "the confirmation does not fit what was shown",
      by((c) => [override(c, oda, { confirm: someHash })]),
    ],
    [
      "an override beside a rejection",
      "it was rejected",
      by((c) => [override(c), assertion(c, ann, { decision: "reject" })]),
    ],
  ])("with %s: %s", (_what, expected, parts) => expect(judged(parts)).toBe(expected));

  test.each<[string, string, Parts]>([
    [
      "no evidence of the escalation",
      "evidence.escalated: expected an object, found null",
      { more: { escalated: null } },
    ],
    ["a moment without its boot", "evidence.now.boot_id: is missing", { more: { now: { monotonic_ms: 1 } } }],
    [
      "a moment that is no number",
      "evidence.now: expected an integer",
      { more: { now: { boot_id: "boot", monotonic_ms: -1 } } },
    ],
    [
      "a moment of no name",
      "evidence.now: expected a string",
      { more: { now: { boot_id: 1, monotonic_ms: 1 } } },
    ],
    ["a member more", "evidence.more: is not a known member", { more: { more: 1 } }],
    ["no challenge", "challenge: expected an object", { more: { challenge: null } }],
    ["assertions that are no list", "evidence.assertions: expected an array", { more: { assertions: {} } }],
    ["an assertion that is none", "assertion: expected an object", by(() => ["x"])],
    [
      "an assertion of another type",
      "assertion.type: expected one of",
      first({ type: "atoll.dev/approval/v2" }),
    ],
    ["an assertion with a member more", "assertion.more: is not a known member", first({ more: 1 })],
    ["an assertion of no key", "assertion.key_id: expected", first({ key_id: "ann" })],
    ["an assertion of no challenge", "assertion.challenge_hash: expected", first({ challenge_hash: "x" })],
    ["an assertion at no time", "assertion.at: expected", first({ at: "now" })],
    ["an assertion shown at no time", "assertion.shown_at: expected", first({ shown_at: "now" })],
    [
      "an assertion that decides nothing",
      "assertion.decision: expected one of approve, reject",
      first({ decision: "maybe" }),
    ],
    [
      "an assertion without a signature",
      "assertion.sig: expected",
      by((c) => [{ ...assertion(c, ann), sig: "x" }]),
    ],
    [
      "an override whose reason is no text",
      "assertion.reason: expected a string",
      by((c) => [override(c, oda, { reason: 1 })]),
    ],
  ])("with %s cannot be judged", (_what, expected, parts) =>
    expect(judged(parts)).toContain(`POLICY_EVALUATION_ERROR: ${expected}`),
  );

  const challenge = challengeOf();
  test.each<[string, JsonValue, string]>([
    ["type", "x", "challenge.type: expected one of"],
    ["approval_id", "x", "challenge.approval_id: expected"],
    ["session_id", "x", "challenge.session_id: expected"],
    ["args_hash", "x", "challenge.args_hash: expected"],
    ["intent_hash", "x", "challenge.intent_hash: expected"],
    ["policy_bundle_hash", 1, "challenge.policy_bundle_hash: expected a string"],
    ["p0_ceiling_hash", 1, "challenge.p0_ceiling_hash: expected a string"],
    ["created_at", "x", "challenge.created_at: expected"],
    ["eligible_at", "x", "challenge.eligible_at: expected"],
    ["expires_at", "x", "challenge.expires_at: expected"],
    ["more", 1, "challenge.more: is not a known member"],
  ])("a challenge with %s %j is none", (name, value, reason) =>
    expect(() => parseChallenge({ ...challenge, [name]: value })).toThrow(reason),
  );
  test.each(Object.keys(challenge))("a challenge without %s is none", (name) =>
    expect(() =>
      parseChallenge(Object.fromEntries(Object.entries(challenge).filter(([k]) => k !== name))),
    ).toThrow(`challenge.${name}: is missing`),
  );
  test("a challenge is known by its hash", () =>
    expect(parseChallenge(challenge).hash).toBe(hashJson(challenge)));
});

test("a no needs no time to think, and a ceremony without a challenge no confirmation", () => {
  const quick = compilePolicy(doc({ challenge: false, holdSeconds: 0 }), { keys });
  const loose = (c: JsonObject) => [
    assertion(c, ann, { confirm: someHash }),
    assertion(c, bob, { at: "2026-11-18T10:02:00.000Z" }),
  ];
  expect(judged({ policy: quick, assertions: loose })).toBe("ALLOW");
  expect(judged({ policy: quick, assertions: (c) => [override(c, oda, { confirm: someHash })] })).toBe(
    "the confirmation does not fit what was shown",
  );
  expect(judged(by((c) => [assertion(c, ann, { decision: "reject", at: "2026-11-18T10:02:00.000Z" })]))).toBe(
    "it was rejected",
  );
});

test("ceremonies of several rules come to the strictest of each term, with the approvers of all", () => {
  const more = { id: "also", tools: ["tool:github/create_release"], then: "escalate", approval: "wide" };
  const p = compilePolicy(doc({}, [more]), { keys });
  const v = decide(call, p, factsAt(NOW, p));
  expect(v.verdict === "ESCALATE" && v.ceremony).toEqual({
    name: "one+wide",
    approvers: [ann.keyId, bob.keyId],
    quorum: 2,
    timelockSeconds: 90,
    holdSeconds: 9,
    expiresSeconds: 500,
    waitSeconds: 5,
    challenge: true,
    maxPerHour: 2,
  });
  expect(v.verdict === "ESCALATE" && termsOf(v.ceremony)).toEqual({
    name: "one+wide",
    approvers: [ann.keyId, bob.keyId],
    quorum: 2,
    timelock_seconds: 90,
    hold_seconds: 9,
    expires_seconds: 500,
    confirm: true,
  });
});

test("an intent is the same at another time and other for every part that it binds", () => {
  const of = (over: Partial<Parameters<typeof intentHash>[0]> = {}): Hash =>
    intentHash({ call, policy, facts: factsAt(NOW), effect: "E3", ...over });
  const facts = factsAt(NOW);
  expect(of({ facts: factsOf(policy, { now: time("2026-11-19T00:00:00.000Z"), idempotencyKey: "k" }) })).toBe(
    of(),
  );
  const others = [
    of({ call: callOf("tool:github/create_issue", call.args) }),
    of({ call: callOf(call.target, { repo: "acme/web", title: "v2" }) }),
    of({ policy: { ...policy, hash: someHash } }),
    of({ policy: { ...policy, ceilingHash: someHash } }),
    of({ policy: { ...policy, overlayHash: someHash } }),
    of({ effect: "E4" }),
    of({ facts: { ...facts, session: { ...facts.session, id: makeId("ses", new Uint8Array(16)) } } }),
    of({ facts: { ...facts, principal: { ...facts.principal, id: "x" } as Facts["principal"] } }),
    of({ facts: { ...facts, principal: { ...facts.principal, delegator: "x" } as Facts["principal"] } }),
    of({ facts: { ...facts, principal: { state: "refused", code: "AUTH_INVALID", detail: "" } } }),
  ];
  expect(new Set([of(), ...others]).size).toBe(11);
  expect(of({ facts: { ...facts, principal: { state: "refused", code: "AUTH_INVALID", detail: "" } } })).toBe(
    hashJson({
      type: "atoll.dev/intent/v1",
      session_id: session,
      principal: "",
      delegator: "",
      tool: call.target,
      effect_class: "E3",
      args_hash: call.argsHash,
      policy_hash: policy.hash,
      ceiling_hash: "",
      overlay_hash: "",
    }),
  );
});
