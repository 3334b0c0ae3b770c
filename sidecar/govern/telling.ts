// What the executor's results mean to a client.

import type { Code, Policy, ToolCall } from "../../kernel/contracts/contracts.ts";
import type { Result } from "../../kernel/executor/executor.ts";
import type { Refusal, Stamp } from "../surfaces/surfaces.ts";
import type { Approvals, Told } from "./ask.ts";
import { stampOf } from "./reading.ts";

const REFUSED_APPROVAL: ReadonlySet<string> = new Set([
  "APPROVAL_REJECTED",
  "DENY_APPROVAL_TIMEOUT",
  "APPROVAL_INVALID",
]);

/** A refusal without a record: there is none, or there could be none. */
export const refusedWith = (code: Code, detail: string, more: Partial<Refusal> = {}): Told => ({
  kind: "refused",
  refusal: { code, detail, stamp: undefined, begun: false, ...more },
  receipt: null,
  output: null,
});
export const flooded = (): Told => refusedWith("RATE_LIMIT_EXCEEDED", "too many denials", { retryAfter: 1 });
export const overloaded = (detail: string): Told => refusedWith("OVERLOADED", detail, { retryAfter: 1 });

interface Standing {
  /** The record of the call's INTENT, where one was heard. */
  readonly intent: Stamp | undefined;
  readonly begun: boolean;
  readonly policy: Policy;
  readonly approvals: Approvals | undefined;
}

export async function toldOf(
  result: Result,
  call: ToolCall,
  { intent, begun, policy, approvals }: Standing,
): Promise<Told> {
  switch (result.kind) {
    case "done":
      return {
        kind: "done",
        output: result.output,
        stamp: intent ?? { ...stampOf(result.receipt, result.node), receiptId: result.intent },
        receipt: result.receipt,
        forgotten: result.forgotten === true,
      };
    case "failed": {
      const stamp =
        intent ??
        (result.receipt !== null && result.node !== null
          ? { ...stampOf(result.receipt, result.node), receiptId: result.intent }
          : undefined);
      return {
        kind: "refused",
        refusal: {
          code: result.code,
          detail: result.detail,
          stamp: stamp === undefined ? undefined : { ...stamp, reason: result.code },
          begun: begun || result.node !== null,
        },
        receipt: result.receipt,
        output: null,
      };
    }
    case "denied": {
      const stamp =
        result.receipt !== null && result.node !== null ? stampOf(result.receipt, result.node) : undefined;
      const wait =
        result.code === "RATE_LIMIT_EXCEEDED"
          ? { retryAfter: result.detail.includes("minute") ? 60 : 1 }
          : {};
      const refused = /\bapr_[0-9a-f]{32}\b/.exec(result.detail)?.[0];
      if (refused !== undefined && REFUSED_APPROVAL.has(result.code)) approvals?.told(refused);
      return {
        kind: "refused",
        refusal: { code: result.code, detail: result.detail, stamp, begun: false, ...wait },
        receipt: result.receipt,
        output: null,
      };
    }
    case "escalated": {
      const stamp = stampOf(result.receipt, result.node);
      const told = (refusal: Refusal): Told => ({
        kind: "refused",
        refusal,
        receipt: result.receipt,
        output: null,
      });
      const refusal = { code: result.code, detail: result.verdict.detail, stamp, begun: false };
      const opened = await approvals
        ?.open(result, call, policy)
        .catch(() => ({ limited: "the approval could not be recorded" }));
      if (opened === undefined) return told(refusal);
      if ("limited" in opened)
        return told({ ...refusal, code: "RATE_LIMIT_EXCEEDED", detail: opened.limited });
      return told({ ...refusal, approval: opened.object });
    }
  }
}
