// The door of the ceremony: an escalated call becomes a challenge, signed answers come in, one call goes through.
//
// Time is the guardian's own: a monotonic clock of one boot. Another boot ends every approval as a timeout, because
// nobody can say how long the machine was off. Each step is in the journal before it counts.

import { canonicalize } from "../../canonicalize/canonicalize.ts";
import {
  ContractError,
  isObject,
  keyIdFrom,
  makeId,
  parseJson,
  timestampOf,
} from "../../contracts/contracts.ts";
import type {
  ApprovalId,
  Ceremony,
  Facts,
  Hash,
  Journal,
  JsonObject,
  JsonValue,
  KeyId,
  Policy,
  SealedNode,
  ToolCall,
} from "../../contracts/contracts.ts";
import { hashJson } from "../../crypto/crypto.ts";
import { decide, intentHash, parseChallenge, readAssertion, termsOf } from "../../guardian/guardian.ts";
import type { Assertion, Challenge } from "../../guardian/guardian.ts";
import type { Approval, ApprovalState, Ceremonies, Opened } from "./approval.ts";
import { GONE } from "./approval.ts";
import { reviewFault } from "./review.ts";
import { consequence } from "./words.ts";

export type { Answered, Approval, ApprovalState, Ceremonies, Opened } from "./approval.ts";
export { createKept } from "./kept.ts";
export type { KeptCeremonies } from "./kept.ts";
export { signAssertion, signOverride, signReview } from "./signing.ts";

export interface CeremonyOptions {
  readonly journal: Journal;
  readonly clock: {
    readonly now: () => number;
    /** Milliseconds of a clock that nobody can set, and the boot in which it counts. */
    readonly monotonic: () => number;
    readonly bootId: string;
  };
  readonly random: () => Uint8Array;
}

interface Entry {
  readonly id: ApprovalId;
  readonly raw: JsonObject;
  readonly challenge: Challenge;
  readonly ceremony: Ceremony;
  readonly policy: Policy;
  readonly escalated: { readonly bootId: string; readonly ms: number };
  readonly assertions: {
    readonly by: KeyId;
    readonly decision: Assertion["decision"];
    readonly raw: JsonObject;
  }[];
  node: Hash;
  /** Every node of it: an INTENT may name one that was not the last when it was written. */
  readonly nodes: Set<Hash>;
  ended: "rejected" | "expired" | "invalid" | "used" | null;
  reviewed: boolean;
}

const CODE_OF = {
  rejected: "APPROVAL_REJECTED",
  expired: "DENY_APPROVAL_TIMEOUT",
  invalid: "APPROVAL_INVALID",
} as const;

export function createCeremonies(o: CeremonyOptions): Ceremonies {
  const entries = new Map<ApprovalId, Entry>();
  /** The one approval that an identical call meets. */
  const current = new Map<Hash, ApprovalId>();
  const opening = new Map<Hash, Promise<Opened>>();
  const waiters = new Map<ApprovalId, Set<() => void>>();
  const asked = new Map<string, number[]>();

  const wake = (id: ApprovalId): void => waiters.get(id)?.forEach((w) => w());
  const waitedOf = (e: Entry): number => o.clock.monotonic() - e.escalated.ms;

  function stateOf(e: Entry): ApprovalState {
    if (e.ended === null && expired(e)) {
      e.ended = "expired";
      wake(e.id);
    }
    if (e.ended !== null) return e.ended;
    if (e.assertions.some((a) => a.decision === "override")) return "granted";
    const enough = e.assertions.length >= e.ceremony.quorum;
    const ripe =
      waitedOf(e) >= e.ceremony.timelockSeconds * 1000 && o.clock.now() >= Date.parse(e.challenge.eligibleAt);
    return enough && ripe ? "granted" : "pending";
  }
  const expired = (e: Entry): boolean =>
    e.escalated.bootId !== o.clock.bootId ||
    !(waitedOf(e) >= 0 && waitedOf(e) < e.ceremony.expiresSeconds * 1000) ||
    !(o.clock.now() < Date.parse(e.challenge.expiresAt));

  const viewOf = (e: Entry): Approval => ({
    id: e.id,
    challenge: e.raw,
    challengeHash: e.challenge.hash,
    ceremony: e.ceremony,
    principal: textOf(e.raw["principal"]),
    tool: textOf(e.raw["tool"]),
    expiresAt: e.challenge.expiresAt,
    state: stateOf(e),
    approvedBy: e.assertions.map((a) => a.by),
    reviewOpen: !e.reviewed && e.assertions.some((a) => a.decision === "override"),
    override: e.assertions.find((a) => a.decision === "override")?.raw ?? null,
  });
  const moment = (e: Entry): JsonObject => ({ boot_id: e.escalated.bootId, monotonic_ms: e.escalated.ms });
  const nowMoment = (): JsonObject => ({
    boot_id: o.clock.bootId,
    monotonic_ms: Math.floor(o.clock.monotonic()),
  });

  /** One node in the guardian's chain; its hash once it is durable. */
  async function record(
    e: Pick<Entry, "challenge">,
    body: JsonObject,
    parents: readonly Hash[],
  ): Promise<Hash> {
    const { nodes, durable } = o.journal.append(
      [
        {
          kind: "ATTESTATION",
          session_id: e.challenge.sessionId,
          parents: [...parents].sort(),
          issued_at: timestampOf(o.clock.now()),
          body,
        },
      ],
      [],
    );
    await durable;
    const [node] = nodes;
    if (node === undefined) throw new Error("the journal placed nothing");
    return node.hash;
  }

  async function openNew(
    call: ToolCall,
    facts: Facts,
    policy: Policy,
    ceremony: Ceremony,
    escalated: SealedNode,
    intent: Hash,
  ): Promise<Opened> {
    const now = o.clock.now();
    const hour = (asked.get(ceremony.name) ?? []).filter((t) => o.clock.monotonic() - t < 3_600_000);
    if (hour.length >= ceremony.maxPerHour)
      return {
        state: "limited",
        reason: `${ceremony.maxPerHour} an hour are allowed for \`${ceremony.name}\``,
      };
    asked.set(ceremony.name, [...hour, o.clock.monotonic()]);
    const id = makeId("apr", o.random());
    const p = facts.principal;
    const principal = p.state === "verified" ? p.id : "";
    const raw: JsonObject = {
      type: "atoll.dev/approval-challenge/v1",
      approval_id: id,
      session_id: facts.session.id,
      principal,
      tool: call.target,
      args_hash: call.argsHash,
      intent_hash: intent,
      shown: {
        tool: call.target,
        principal,
        arguments: policy.recording.blot(call.args),
        policy: policy.name,
        consequence: consequence(call.target, policy, ceremony),
      },
      policy_bundle_hash: policy.hash,
      p0_ceiling_hash: policy.ceilingHash,
      ceremony: termsOf(ceremony),
      nonce: hexOf(o.random()),
      created_at: timestampOf(now),
      eligible_at: timestampOf(now + ceremony.timelockSeconds * 1000),
      expires_at: timestampOf(now + ceremony.expiresSeconds * 1000),
    };
    const challenge = parseChallenge(raw);
    const escalatedAt = { bootId: o.clock.bootId, ms: Math.floor(o.clock.monotonic()) };
    const body: JsonObject = {
      type: "atoll.dev/escalation/v1",
      challenge: raw,
      boot_id: escalatedAt.bootId,
      monotonic_ms: escalatedAt.ms,
    };
    const node = await record({ challenge }, body, [escalated.hash]);
    const entry: Entry = {
      id,
      raw,
      challenge,
      ceremony,
      policy,
      escalated: escalatedAt,
      assertions: [],
      node,
      nodes: new Set([node]),
      ended: null,
      reviewed: false,
    };
    entries.set(id, entry);
    current.set(intent, id);
    return { state: "open", approval: viewOf(entry), fresh: true };
  }

  function count(e: Entry, assertion: Assertion, raw: JsonObject, node: Hash): void {
    e.assertions.push({ by: assertion.keyId, decision: assertion.decision, raw });
    e.node = node;
    e.nodes.add(node);
    if (assertion.decision === "reject") e.ended = "rejected";
    wake(e.id);
  }

  const api: Ceremonies = {
    fact(call, facts, policy) {
      if (current.size === 0) return { state: "none" };
      const id = current.get(intentOf(call, facts, policy));
      const e = id === undefined ? undefined : entries.get(id);
      if (e === undefined) return { state: "none" };
      const state = stateOf(e);
      switch (state) {
        case "pending":
          return { state: "pending", id: e.id };
        case "rejected":
        case "expired":
        case "invalid":
          return { state: "refused", id: e.id, code: CODE_OF[state] };
        case "used":
          return { state: "none" };
        case "granted":
          return {
            state: "granted",
            id: e.id,
            node: e.node,
            evidence: {
              challenge: e.raw,
              assertions: e.assertions.map((a) => a.raw),
              escalated: moment(e),
              now: nowMoment(),
            },
          };
      }
    },
    async open(call, facts, policy, ceremony, escalated) {
      const intent = intentOf(call, facts, policy);
      const known = current.get(intent);
      const before = known === undefined ? undefined : entries.get(known);
      if (before !== undefined && (stateOf(before) === "pending" || stateOf(before) === "granted"))
        return { state: "open", approval: viewOf(before), fresh: false };
      // Identical calls that escalate in one moment meet one challenge.
      const begun = opening.get(intent);
      if (begun !== undefined) {
        const opened = await begun;
        return opened.state === "open" ? { ...opened, fresh: false } : opened;
      }
      const fresh = openNew(call, facts, policy, ceremony, escalated, intent).finally(() =>
        opening.delete(intent),
      );
      opening.set(intent, fresh);
      return fresh;
    },
    async answer(id, value) {
      const e = entries.get(id);
      if (e === undefined) return { ok: false, reason: "there is no such approval" };
      const open = (): string | null => {
        const state = stateOf(e);
        return state === "pending" || state === "granted" ? null : `the approval is ${state}`;
      };
      const shut = open();
      if (shut !== null) return { ok: false, reason: shut };
      const raw = plainCopy(value);
      let assertion: Assertion | string;
      try {
        assertion = readAssertion(raw, e.challenge, e.ceremony, e.policy.keys);
      } catch (error) {
        if (!(error instanceof ContractError)) throw error;
        assertion = error.message;
      }
      if (typeof assertion === "string") return { ok: false, reason: assertion };
      const { keyId } = assertion;
      if (e.assertions.some((a) => a.by === keyId))
        return { ok: false, reason: "this key has answered already" };
      const node = await record(e, raw, [e.node]);
      // While it was being written another answer may have ended it, or the same key have answered.
      const late = open();
      if (late !== null) return { ok: false, reason: late };
      if (e.assertions.some((a) => a.by === keyId))
        return { ok: false, reason: "this key has answered already" };
      count(e, assertion, raw, node);
      return { ok: true, approval: viewOf(e) };
    },
    async review(id, value, policy) {
      const e = entries.get(id);
      const override = e?.assertions.find((a) => a.decision === "override");
      if (e === undefined || override === undefined)
        return { ok: false, reason: "there is no override to review" };
      const raw = plainCopy(value);
      const fault = reviewFault(raw, hashJson(override.raw), policy);
      if (fault !== null) return { ok: false, reason: fault };
      await record(e, raw, [e.node]);
      e.reviewed = true;
      return { ok: true, approval: viewOf(e) };
    },
    spend(id) {
      const e = entries.get(id);
      if (e === undefined || stateOf(e) !== "granted") throw new Error(`approval ${id} is not granted`);
      e.ended = "used";
      wake(id);
    },
    told(id) {
      const e = entries.get(id);
      if (e === undefined || current.get(e.challenge.intentHash) !== id) return;
      if (stateOf(e) !== "pending" && stateOf(e) !== "granted") current.delete(e.challenge.intentHash);
    },
    policyChanged(policy) {
      for (const e of entries.values())
        if (
          e.ended === null &&
          (e.policy.hash !== policy.hash || e.policy.ceilingHash !== policy.ceilingHash)
        ) {
          if (stateOf(e) === "pending" || stateOf(e) === "granted") e.ended = "invalid";
          wake(e.id);
        }
    },
    settled(id, ms, after) {
      const e = entries.get(id);
      if (e === undefined) return Promise.resolve(false);
      return new Promise((resolve) => {
        const cancels: (() => void)[] = [];
        const look = (over: boolean): void => {
          const state = stateOf(e);
          if (state === "pending" && !over) return;
          for (const cancel of cancels) cancel();
          waiters.get(id)?.delete(woken);
          resolve(state === "granted");
        };
        const woken = (): void => {
          look(false);
          // Enough have said yes before the timelock is over: look again when it is.
          const left = e.ceremony.timelockSeconds * 1000 - waitedOf(e);
          if (e.assertions.length >= e.ceremony.quorum && left > 0)
            cancels.push(after(left, () => look(false)));
        };
        const set = waiters.get(id) ?? new Set();
        waiters.set(id, set.add(woken));
        cancels.push(after(ms, () => look(true)));
        // Its end is heard when it comes, not when the waiting is over.
        const life = e.ceremony.expiresSeconds * 1000 - waitedOf(e);
        if (life < ms) cancels.push(after(Math.max(0, life) + 2, () => look(false)));
        woken();
      });
    },
    get: (id) => {
      const e = entries.get(id);
      return e === undefined ? undefined : viewOf(e);
    },
    get all() {
      return [...entries.values()].map(viewOf);
    },
    restore({ node, hash }, policy) {
      if (node.kind === "INTENT") {
        for (const e of entries.values()) if (node.parents.some((p) => e.nodes.has(p))) e.ended = "used";
        return;
      }
      if (node.kind !== "ATTESTATION") return;
      const { body } = node;
      if (body["type"] === "atoll.dev/escalation/v1") return restoreEscalation(body, hash, policy);
      const of = [...entries.values()].find((e) => e.challenge.hash === body["challenge_hash"]);
      if (of === undefined) {
        const reviewed = [...entries.values()].find((e) =>
          e.assertions.some((a) => a.decision === "override" && hashJson(a.raw) === body["override"]),
        );
        if (reviewed !== undefined && body["type"] === "atoll.dev/review/v1") reviewed.reviewed = true;
        return;
      }
      if (of.assertions.some((a) => a.by === body["key_id"])) return;
      const overridden = body["type"] === "atoll.dev/override/v1";
      if (of.ended !== null && !overridden) return;
      const assertion = readAssertion(body, of.challenge, of.ceremony, of.policy.keys);
      if (typeof assertion !== "string") count(of, assertion, body, hash);
      else if (overridden) {
        // Its key has gone, or the policy: nothing passes by it any more, and its review is owed all the same.
        count(of, { keyId: keyIdFrom(body["key_id"], "key_id"), decision: "override" }, body, hash);
        of.ended ??= "invalid";
      }
    },
  };

  function restoreEscalation(body: JsonObject, hash: Hash, policy: Policy): void {
    const raw = body["challenge"];
    if (!isObject(raw)) return;
    const challenge = parseChallenge(raw);
    const found = [...policy.ceremonies.values()].find(
      (c) => canonicalize(termsOf(c)) === canonicalize(challenge.ceremony),
    );
    // A ceremony that the policy has no more is kept for what was answered under it, and lets nothing pass.
    const terms = found ?? GONE;
    const same =
      found !== undefined &&
      challenge.policyHash === policy.hash &&
      challenge.ceilingHash === policy.ceilingHash;
    const bootId = body["boot_id"];
    const ms = body["monotonic_ms"];
    entries.set(challenge.approvalId, {
      id: challenge.approvalId,
      raw,
      challenge,
      ceremony: terms,
      policy,
      escalated: { bootId: typeof bootId === "string" ? bootId : "", ms: typeof ms === "number" ? ms : 0 },
      assertions: [],
      node: hash,
      nodes: new Set([hash]),
      ended: same ? null : "invalid",
      reviewed: false,
    });
    current.set(challenge.intentHash, challenge.approvalId);
  }
  return api;
}

/** The intent of a call under a policy; its effect class is what the guardian itself sees in it. */
function intentOf(call: ToolCall, facts: Facts, policy: Policy): Hash {
  const tool = policy.tools.get(call.target);
  const effect = tool?.effect ?? decide(call, policy, facts).effect;
  return intentHash({ call, facts, policy, effect });
}

const textOf = (v: JsonValue | undefined): string => (typeof v === "string" ? v : "");
const hexOf = (bytes: Uint8Array): string => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
/** What is judged is what is recorded: a copy that nobody else holds. */
function plainCopy(value: JsonValue): JsonObject {
  const text = canonicalize(value);
  const copy = parseJson(new TextEncoder().encode(text), { bytes: 65_536, keys: 1000, depth: 16 });
  if (!isObject(copy)) throw new ContractError("assertion", "expected an object");
  return copy;
}
