// A call that the agent carries out stays open over a restart of the guardian: what the agent will call it, and until when
// it may tell of its outcome, lie in the journal beside its INTENT and are durable before the call is released.

import { randomBytes } from "node:crypto";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { epochOf, isObject, isTimestamp, makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type {
  Input,
  Journal,
  JsonObject,
  JsonValue,
  NodeDraft,
  Policy,
  Receipt,
  SealedNode,
} from "../../kernel/contracts/contracts.ts";
import { hashJson, sha256 } from "../../kernel/crypto/crypto.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import { EMPTY_USAGE, outcomeReceipt, receiptBody } from "../../kernel/receipts/receipts.ts";
import type { Spending, Told } from "./ask.ts";
import type { Outcomes } from "./outcomes.ts";
import { stampOf } from "./reading.ts";

export interface Release {
  readonly receiptId: string;
  readonly callId: string;
  readonly untilMs: number;
}

export function releaseInput(r: Release): Input {
  const value: JsonObject = {
    receipt_id: r.receiptId,
    tool_call_id: r.callId,
    type: "atoll.dev/release/v1",
    until: timestampOf(r.untilMs),
  };
  const text = canonicalize(value);
  return { hash: sha256(text), redacted: false, value, text };
}

export function releaseFrom(value: JsonValue | null): Release | undefined {
  if (!isObject(value) || value["type"] !== "atoll.dev/release/v1") return undefined;
  const { receipt_id: receiptId, tool_call_id: callId, until } = value;
  return typeof receiptId === "string" && typeof callId === "string" && isTimestamp(until)
    ? { receiptId, callId, untilMs: epochOf(until) }
    : undefined;
}

export interface OpenIntent {
  readonly sealed: SealedNode;
  readonly receipt: Receipt;
  readonly release: Release;
}

/** The end of a call as a node: what came of it, or that nobody knows. */
export function effectDraft(
  { sealed, receipt }: Pick<OpenIntent, "sealed" | "receipt">,
  nowMs: number,
  end: {
    readonly status: "SUCCEEDED" | "FAILED" | "UNKNOWN";
    readonly code: Receipt["reason_code"];
    readonly output?: JsonValue;
  },
): NodeDraft {
  return {
    kind: "EFFECT",
    session_id: sealed.node.session_id,
    parents: [sealed.hash],
    issued_at: timestampOf(nowMs),
    body: receiptBody(
      outcomeReceipt(receipt, {
        receiptId: makeId("rcp", randomBytes(16)),
        status: end.status,
        code: end.code,
        outputHash: end.output === undefined ? "" : hashJson(end.output),
        usage: { ...EMPTY_USAGE, calls: 1 },
      }),
    ),
  };
}

/** Opens a call again after a restart: the agent's word ends it, or the time that it had. */
export function reopen(
  open: OpenIntent,
  deps: {
    readonly journal: Journal;
    readonly outcomes: Outcomes;
    readonly spending: Spending;
    readonly policy: () => Policy;
    readonly now: () => number;
  },
): void {
  const { receipt, release, sealed } = open;
  const tool = deps.policy().tools.get(receipt.tool);
  let tell: (outcome: Outcome) => void = () => {};
  const told = new Promise<Outcome>((resolve) => {
    tell = resolve;
    const left = Math.max(0, release.untilMs - deps.now());
    setTimeout(() => resolve({ status: "unknown" }), Math.min(left, 2 ** 31 - 1)).unref();
  }).then(async (outcome): Promise<Told> => {
    const unknown = { status: "UNKNOWN", code: "ERR_OUTCOME_UNKNOWN" } as const;
    const drifted =
      outcome.status === "succeeded" &&
      (tool?.output?.validate(outcome.checked ?? outcome.output) ?? null) !== null;
    const end =
      outcome.status === "unknown"
        ? unknown
        : outcome.status === "failed"
          ? ({ status: "FAILED", code: outcome.code } as const)
          : drifted
            ? ({ status: "FAILED", code: "ERR_CONNECTOR_CONTRACT_DRIFT", output: outcome.output } as const)
            : ({ status: "SUCCEEDED", code: "", output: outcome.output } as const);
    const draft = effectDraft(open, deps.now(), end);
    // An outcome that nobody knows keeps its reservation.
    if (end.status !== "UNKNOWN") deps.spending.settle(receipt.effect_id, { ...EMPTY_USAGE, calls: 1 });
    const stamp = stampOf(receipt, sealed);
    const refused = (code: Receipt["reason_code"]): Told => ({
      kind: "refused",
      refusal: { code: code === "" ? "ERR_OUTCOME_UNKNOWN" : code, detail: "", stamp, begun: true },
      receipt,
      output: null,
    });
    try {
      await deps.journal.append([draft], []).durable;
    } catch {
      return refused("ERR_RECEIPT_UNSEALED");
    }
    return end.status === "SUCCEEDED"
      ? { kind: "done", output: end.output, stamp, receipt, forgotten: false }
      : refused(end.code);
  });
  deps.outcomes.open(sealed.node.session_id, release.callId, {
    target: receipt.tool,
    trusted: tool?.trusted ?? false,
    structured: tool?.output !== null && tool?.output !== undefined,
    tell,
    told,
  });
}
