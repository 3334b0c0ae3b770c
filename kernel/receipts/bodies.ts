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

type End = Pick<Receipt, "effect_id" | "expires_at" | "reason_code" | "status" | "usage" | "verdict">;
/** Its members in canonical order, so that nothing has to be put into it. */
const receiptOf = (j: Judged, end: End): Receipt => ({
  args_hash: j.argsHash,
  call_id: j.callId,
  ceiling_hash: j.ceilingHash,
  decision_id: j.decisionId,
  delegator: j.delegator,
  effect_class: j.effectClass,
  effect_id: end.effect_id,
  expires_at: end.expires_at,
  facts_hash: j.factsHash,
  gates_hash: gatesHash(j.gatesRan),
  output_hash: "",
  overlay_hash: overlayHash(j.overlays),
  policy_hash: j.policyHash,
  principal: j.principal,
  reason_code: end.reason_code,
  receipt_id: j.receiptId,
  rule_id: j.ruleId,
  source: j.source,
  status: end.status,
  tool: j.tool,
  type: "atoll.dev/receipt/v1",
  usage: end.usage,
  verdict: end.verdict,
});

/** Body of an INTENT, or of an ATTESTATION for what is permitted and not dispatched by us. */
export const permittedReceipt = (
  j: Judged,
  more: { readonly effectId: EffectId | ""; readonly expiresAt: Timestamp; readonly usage?: Usage },
): Receipt =>
  receiptOf(j, {
    effect_id: more.effectId,
    expires_at: more.expiresAt,
    reason_code: "",
    status: "PERMITTED",
    usage: more.usage ?? EMPTY_USAGE,
    verdict: "ALLOW",
  });

/** Body of the ATTESTATION of a refusal. */
export const refusedReceipt = (
  j: Judged,
  verdict: "DENY" | "ESCALATE",
  code: Code,
  usage: Usage = EMPTY_USAGE,
): Receipt =>
  receiptOf(j, {
    effect_id: "",
    expires_at: "",
    reason_code: code,
    status: verdict === "DENY" ? "DENIED" : "ESCALATED",
    usage,
    verdict,
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

/** A receipt as the plain object that a node's body is. */
export const receiptBody = (receipt: Receipt): JsonObject => ({ ...receipt, usage: { ...receipt.usage } });

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
    args_hash: orEmpty(hashFrom, o["args_hash"], "args_hash"),
    call_id: idFrom("call", o["call_id"], "call_id"),
    ceiling_hash: orEmpty(hashFrom, o["ceiling_hash"], "ceiling_hash"),
    decision_id: idFrom("dec", o["decision_id"], "decision_id"),
    delegator: stringFrom(o["delegator"], "delegator"),
    effect_class: orEmpty((v, p) => oneOf(v, p, EFFECT_CLASSES), o["effect_class"], "effect_class"),
    effect_id: orEmpty((v, p) => idFrom("eff", v, p), o["effect_id"], "effect_id"),
    expires_at: orEmpty(timestampFrom, o["expires_at"], "expires_at"),
    facts_hash: orEmpty(hashFrom, o["facts_hash"], "facts_hash"),
    gates_hash: orEmpty(hashFrom, o["gates_hash"], "gates_hash"),
    output_hash: orEmpty(hashFrom, o["output_hash"], "output_hash"),
    overlay_hash: orEmpty(hashFrom, o["overlay_hash"], "overlay_hash"),
    policy_hash: orEmpty(hashFrom, o["policy_hash"], "policy_hash"),
    principal: stringFrom(o["principal"], "principal"),
    reason_code: orEmpty(codeFrom, o["reason_code"], "reason_code"),
    receipt_id: idFrom("rcp", o["receipt_id"], "receipt_id"),
    rule_id: stringFrom(o["rule_id"], "rule_id"),
    source: oneOf(o["source"], "source", SOURCES),
    status: oneOf(o["status"], "status", STATUSES),
    tool: orEmpty(targetFrom, o["tool"], "tool"),
    type: oneOf(o["type"], "type", ["atoll.dev/receipt/v1"]),
    usage: usageFrom(o["usage"]),
    verdict: oneOf(o["verdict"], "verdict", ["ALLOW", "DENY", "ESCALATE"]),
  };
  if (VERDICT_OF[receipt.status] !== receipt.verdict)
    throw new ContractError("status", `\`${receipt.status}\` does not go with verdict ${receipt.verdict}`);
  return receipt;
}

function usageFrom(value: JsonValue | undefined): Usage {
  const o = closed(value, "usage", USAGE_MEMBERS);
  const n = (name: keyof Usage): number => integerFrom(o[name], at("usage", name));
  return {
    bytes_in: n("bytes_in"),
    bytes_out: n("bytes_out"),
    calls: n("calls"),
    cost_microusd: n("cost_microusd"),
    duration_ms: n("duration_ms"),
    gas: n("gas"),
    gas_limit: n("gas_limit"),
    gas_schedule: n("gas_schedule"),
    peak_pages: n("peak_pages"),
    tokens_in: n("tokens_in"),
    tokens_out: n("tokens_out"),
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
