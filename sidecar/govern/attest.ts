// What is judged here and carried out elsewhere, or nowhere: one ATTESTATION, with no budget and no approval spent.

import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type {
  Facts,
  Input,
  Policy,
  Receipt,
  SealedNode,
  SessionId,
  ToolCall,
} from "../../kernel/contracts/contracts.ts";
import { judgedOf, written } from "../../kernel/executor/executor.ts";
import type { createThrottle } from "../../kernel/executor/executor.ts";
import type { Verdict } from "../../kernel/guardian/guardian.ts";
import {
  EMPTY_USAGE,
  permittedReceipt,
  receiptBody,
  refusedReceipt,
} from "../../kernel/receipts/receipts.ts";
import type { GovernOptions, Told } from "./ask.ts";
import { sixteen } from "./chance.ts";
import { stampOf } from "./reading.ts";
import { refusedWith } from "./telling.ts";

interface Attester {
  readonly journal: GovernOptions["journal"];
  readonly throttle: ReturnType<typeof createThrottle>;
  readonly nowMs: number;
  readonly heard: (node: SealedNode, receipt: Receipt, verdict: Verdict) => void;
}

export interface Judged {
  readonly call: ToolCall;
  readonly policy: Policy;
  readonly facts: Facts;
}

/** Records a verdict that leads to no dispatch of ours, and says what to tell the client. */
export async function attest(
  { journal, throttle, nowMs, heard }: Attester,
  { call, policy, facts }: Judged,
  verdict: Verdict,
): Promise<Told> {
  const passed = verdict.verdict !== "DENY";
  const stood = passed ? 1 : throttle.refusal(facts.session.id, nowMs);
  const paper = written({ call, policy, facts });
  const judged = judgedOf({ call, policy, facts }, verdict, paper.factsHash, {
    receiptId: makeId("rcp", sixteen()),
    decisionId: makeId("dec", sixteen()),
  });
  const receipt = passed
    ? permittedReceipt(judged, { effectId: "", expiresAt: timestampOf(nowMs + policy.lifetimeMs) })
    : stood > 1
      ? refusedReceipt(judged, "DENY", "RATE_LIMIT_EXCEEDED", { ...EMPTY_USAGE, calls: stood })
      : refusedReceipt(judged, "DENY", verdict.code);
  const node = await record(journal, receipt, facts.session.id, paper.inputs, nowMs);
  if (node === null) return refusedWith("JOURNAL_UNAVAILABLE", "the record could not be made durable");
  heard(node, receipt, verdict);
  const stamp = stampOf(receipt, node);
  if (passed) return { kind: "done", output: null, stamp, receipt, forgotten: false };
  return {
    kind: "refused",
    refusal: { code: verdict.code, detail: verdict.detail, stamp, begun: false },
    receipt,
    output: null,
  };
}

async function record(
  journal: GovernOptions["journal"],
  receipt: Receipt,
  session: SessionId,
  inputs: readonly Input[],
  nowMs: number,
): Promise<SealedNode | null> {
  try {
    const { nodes, durable } = journal.append(
      [
        {
          kind: "ATTESTATION",
          session_id: session,
          parents: [],
          issued_at: timestampOf(nowMs),
          body: receiptBody(receipt),
        },
      ],
      inputs,
    );
    await durable;
    return nodes[0] ?? null;
  } catch {
    return null;
  }
}
