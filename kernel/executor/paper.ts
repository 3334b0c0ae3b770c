// What goes into the record of a call, and what is answered where there is none.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import type {
  Code,
  DecisionId,
  Facts,
  Hash,
  Input,
  JsonValue,
  Policy,
  Receipt,
  ReceiptId,
  SealedNode,
  ToolCall,
} from "../contracts/contracts.ts";
import { sha256 } from "../crypto/crypto.ts";
import type { Verdict } from "../guardian/guardian.ts";
import type { Judged } from "../receipts/receipts.ts";
import { refusal } from "./request.ts";
import type { Result } from "./request.ts";

/** One call as it was judged. */
export interface Case {
  readonly call: ToolCall;
  readonly policy: Policy;
  readonly facts: Facts;
}

export const judgedOf = (
  { call, policy, facts }: Case,
  verdict: Verdict,
  factsHash: Hash,
  ids: { readonly receiptId: ReceiptId; readonly decisionId: DecisionId },
): Judged => ({
  ...ids,
  callId: call.callId,
  principal: facts.principal.state === "verified" ? facts.principal.id : "",
  delegator: facts.principal.state === "verified" ? facts.principal.delegator : "",
  tool: call.target,
  effectClass: verdict.effect,
  source: call.source,
  ruleId: verdict.ruleId,
  argsHash: call.argsHash,
  policyHash: policy.hash,
  ceilingHash: verdict.gates.includes("ceiling") ? policy.ceilingHash : "",
  overlays: [],
  gatesRan: verdict.gates,
  factsHash,
});

/** Facts as they are hashed, and with the arguments as the policy lets them be written down. */
export function written({ call, policy, facts }: Case): {
  readonly factsHash: Hash;
  readonly inputs: readonly Input[];
} {
  const value: JsonValue = { ...facts };
  const text = canonicalize(value);
  const factsHash = sha256(text);
  const { args, facts: recorded } = policy.recording;
  return {
    factsHash,
    inputs: [...args(call), recorded(factsHash, value, text)],
  };
}

/** The same judgement with another end. */
export const denied = (
  verdict: Verdict,
  code: Code,
  detail: string,
): Verdict & { readonly verdict: "DENY" } => ({
  gates: verdict.gates,
  ruleId: verdict.ruleId,
  effect: verdict.effect,
  shadows: verdict.shadows,
  profile: verdict.profile,
  verdict: "DENY",
  code,
  detail,
});

export const unavailable = (): Result =>
  refusal("JOURNAL_UNAVAILABLE", "the record could not be made durable");
export const unsealed = (intent: Receipt, node: SealedNode | null): Result & { readonly kind: "failed" } => ({
  kind: "failed",
  code: "ERR_RECEIPT_UNSEALED",
  detail: "the call has happened and its record is not durable",
  intent: intent.receipt_id,
  receipt: intent,
  node,
});
