// The receipt: what an INTENT, an EFFECT and a verdict's ATTESTATION say. Every member is always present.

import {
  EFFECT_CLASSES,
  SOURCES,
  STATUSES,
  at,
  closed,
  ContractError,
  hashFrom,
  idFrom,
  integerFrom,
  isCode,
  must,
  oneOf,
  orEmpty,
  stringFrom,
  targetFrom,
  timestampFrom,
} from "../contracts/contracts.ts";
import type {
  CallId,
  Code,
  DecisionId,
  EffectClass,
  EffectId,
  GateName,
  Hash,
  JsonObject,
  JsonValue,
  Receipt,
  ReceiptId,
  Source,
  Status,
  Target,
  Timestamp,
  Usage,
} from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";

export const EMPTY_USAGE: Usage = {
  bytes_in: 0,
  bytes_out: 0,
  calls: 0,
  cost_microusd: 0,
  duration_ms: 0,
  gas: 0,
  gas_limit: 0,
  gas_schedule: 0,
  peak_pages: 0,
  tokens_in: 0,
  tokens_out: 0,
};

/** Hash of the gates that ran, in order; "" when none did. */
export function gatesHash(ran: readonly GateName[]): Hash | "" {
  if (ran.length === 0) return "";
  const names = ran.join(" ");
  let hash = gatesHashes.get(names);
  // The gates run in one order, so there are as many lists as gates.
  if (hash === undefined) gatesHashes.set(names, (hash = hashJson(ran)));
  return hash;
}
const gatesHashes = new Map<string, Hash>();
/** Hash of the sorted overlay hashes; "" without overlays. */
export const overlayHash = (overlays: readonly Hash[]): Hash | "" =>
  overlays.length === 0 ? "" : hashJson([...overlays].sort());

/** What a verdict leaves behind, whatever it was. */
export interface Judged {
  readonly receiptId: ReceiptId;
  readonly decisionId: DecisionId;
  readonly callId: CallId;
  readonly principal: string;
  readonly delegator: string;
  readonly tool: Target | "";
  readonly effectClass: EffectClass | "";
  readonly source: Source;
  readonly ruleId: string;
  readonly argsHash: Hash | "";
  readonly policyHash: Hash | "";
  readonly ceilingHash: Hash | "";
  readonly overlays: readonly Hash[];
  readonly gatesRan: readonly GateName[];
  readonly factsHash: Hash | "";
}

function judgedPart(j: Judged) {
  return {
    type: "atoll.dev/receipt/v1",
    receipt_id: j.receiptId,
    decision_id: j.decisionId,
    call_id: j.callId,
    principal: j.principal,
    delegator: j.delegator,
    tool: j.tool,
    effect_class: j.effectClass,
    source: j.source,
    rule_id: j.ruleId,
    args_hash: j.argsHash,
    output_hash: "",
    policy_hash: j.policyHash,
    ceiling_hash: j.ceilingHash,
    overlay_hash: overlayHash(j.overlays),
    gates_hash: gatesHash(j.gatesRan),
    facts_hash: j.factsHash,
  } as const;
}

/** Body of an INTENT, or of an ATTESTATION for what is permitted and not dispatched by us. */
export const permittedReceipt = (
  j: Judged,
  more: { readonly effectId: EffectId | ""; readonly expiresAt: Timestamp; readonly usage?: Usage },
): Receipt => ({
  ...judgedPart(j),
  effect_id: more.effectId,
  verdict: "ALLOW",
  reason_code: "",
  status: "PERMITTED",
  expires_at: more.expiresAt,
  usage: more.usage ?? EMPTY_USAGE,
});

/** Body of the ATTESTATION of a refusal. */
export const refusedReceipt = (
  j: Judged,
  verdict: "DENY" | "ESCALATE",
  code: Code,
  usage: Usage = EMPTY_USAGE,
): Receipt => ({
  ...judgedPart(j),
  effect_id: "",
  verdict,
  reason_code: code,
  status: verdict === "DENY" ? "DENIED" : "ESCALATED",
  expires_at: "",
  usage,
});

/** Body of the EFFECT that follows `intent`: what came of it. */
export const outcomeReceipt = (
  intent: Receipt,
  outcome: {
    readonly receiptId: ReceiptId;
    readonly status: "SUCCEEDED" | "FAILED" | "UNKNOWN";
    readonly code: Code | "";
    readonly outputHash: Hash | "";
    readonly usage: Usage;
  },
): Receipt => ({
  ...intent,
  receipt_id: outcome.receiptId,
  status: outcome.status,
  reason_code: outcome.code,
  output_hash: outcome.outputHash,
  usage: outcome.usage,
});

/** A receipt as the plain object that a node's body is, its members in canonical order. */
export const receiptBody = (r: Receipt): JsonObject => ({
  args_hash: r.args_hash,
  call_id: r.call_id,
  ceiling_hash: r.ceiling_hash,
  decision_id: r.decision_id,
  delegator: r.delegator,
  effect_class: r.effect_class,
  effect_id: r.effect_id,
  expires_at: r.expires_at,
  facts_hash: r.facts_hash,
  gates_hash: r.gates_hash,
  output_hash: r.output_hash,
  overlay_hash: r.overlay_hash,
  policy_hash: r.policy_hash,
  principal: r.principal,
  reason_code: r.reason_code,
  receipt_id: r.receipt_id,
  rule_id: r.rule_id,
  source: r.source,
  status: r.status,
  tool: r.tool,
  type: r.type,
  usage: { ...r.usage },
  verdict: r.verdict,
});

const USAGE_MEMBERS = Object.keys(EMPTY_USAGE);
const MEMBERS = [
  "type",
  "receipt_id",
  "decision_id",
  "effect_id",
  "call_id",
  "principal",
  "delegator",
  "tool",
  "effect_class",
  "source",
  "verdict",
  "reason_code",
  "rule_id",
  "status",
  "args_hash",
  "output_hash",
  "policy_hash",
  "ceiling_hash",
  "overlay_hash",
  "gates_hash",
  "facts_hash",
  "expires_at",
  "usage",
] as const;

const codeFrom = (v: JsonValue | undefined, path: string): Code => must(v, isCode, path, "a known code");

export function parseReceipt(value: JsonValue): Receipt {
  const o = closed(value, "", MEMBERS);
  const receipt: Receipt = {
    type: oneOf(o["type"], "type", ["atoll.dev/receipt/v1"]),
    receipt_id: idFrom("rcp", o["receipt_id"], "receipt_id"),
    decision_id: idFrom("dec", o["decision_id"], "decision_id"),
    effect_id: orEmpty((v, p) => idFrom("eff", v, p), o["effect_id"], "effect_id"),
    call_id: idFrom("call", o["call_id"], "call_id"),
    principal: stringFrom(o["principal"], "principal"),
    delegator: stringFrom(o["delegator"], "delegator"),
    tool: orEmpty(targetFrom, o["tool"], "tool"),
    effect_class: orEmpty((v, p) => oneOf(v, p, EFFECT_CLASSES), o["effect_class"], "effect_class"),
    source: oneOf(o["source"], "source", SOURCES),
    verdict: oneOf(o["verdict"], "verdict", ["ALLOW", "DENY", "ESCALATE"]),
    reason_code: orEmpty(codeFrom, o["reason_code"], "reason_code"),
    rule_id: stringFrom(o["rule_id"], "rule_id"),
    status: oneOf(o["status"], "status", STATUSES),
    args_hash: orEmpty(hashFrom, o["args_hash"], "args_hash"),
    output_hash: orEmpty(hashFrom, o["output_hash"], "output_hash"),
    policy_hash: orEmpty(hashFrom, o["policy_hash"], "policy_hash"),
    ceiling_hash: orEmpty(hashFrom, o["ceiling_hash"], "ceiling_hash"),
    overlay_hash: orEmpty(hashFrom, o["overlay_hash"], "overlay_hash"),
    gates_hash: orEmpty(hashFrom, o["gates_hash"], "gates_hash"),
    facts_hash: orEmpty(hashFrom, o["facts_hash"], "facts_hash"),
    expires_at: orEmpty(timestampFrom, o["expires_at"], "expires_at"),
    usage: usageFrom(o["usage"]),
  };
  if (VERDICT_OF[receipt.status] !== receipt.verdict)
    throw new ContractError("status", `\`${receipt.status}\` does not go with verdict ${receipt.verdict}`);
  return receipt;
}

function usageFrom(value: JsonValue | undefined): Usage {
  const o = closed(value, "usage", USAGE_MEMBERS);
  const n = (name: keyof Usage): number => integerFrom(o[name], at("usage", name));
  return {
    calls: n("calls"),
    tokens_in: n("tokens_in"),
    tokens_out: n("tokens_out"),
    cost_microusd: n("cost_microusd"),
    bytes_in: n("bytes_in"),
    bytes_out: n("bytes_out"),
    duration_ms: n("duration_ms"),
    gas: n("gas"),
    gas_limit: n("gas_limit"),
    gas_schedule: n("gas_schedule"),
    peak_pages: n("peak_pages"),
  };
}

const VERDICT_OF = {
  PERMITTED: "ALLOW",
  SUCCEEDED: "ALLOW",
  FAILED: "ALLOW",
  UNKNOWN: "ALLOW",
  DENIED: "DENY",
  ESCALATED: "ESCALATE",
} as const satisfies Record<Status, Receipt["verdict"]>;
