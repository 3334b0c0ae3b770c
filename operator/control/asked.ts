// ApprovalRequests as the operator sees them: what people have answered, which goes to the guardian that asked, and what it
// made of that, which goes into the status. Nothing here is believed by anybody who decides.

import { isMap } from "../kinds/kinds.ts";
import type { Condition, Json, JsonMap } from "../kinds/kinds.ts";
import type { ApprovalReport, StreamEvent } from "./control.ts";

export interface Asked {
  readonly podUid: string;
  readonly id: string;
  readonly assertions: readonly Json[];
  readonly reviews: readonly Json[];
  readonly answered: boolean;
  /** What was written of the guardian's last report. */
  readonly told: string;
  readonly conditions: readonly Condition[];
}
const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
const list = (v: Json | undefined): readonly Json[] => (Array.isArray(v) ? v : []);

export function asked(object: JsonMap): Asked {
  const spec = isMap(object["spec"]) ? object["spec"] : {};
  const status = isMap(object["status"]) ? object["status"] : {};
  const assertions = list(status["assertions"]);
  const reviews = list(status["reviews"]);
  const conditions = list(status["conditions"]) as unknown as readonly Condition[];
  return {
    podUid: text(spec["podUid"]),
    id: text(spec["approvalId"]),
    assertions,
    reviews,
    answered: assertions.length > 0 || reviews.length > 0,
    told: JSON.stringify([
      text(status["state"]),
      list(status["counted"]),
      list(status["refused"]).map((r) => (isMap(r) ? [text(r["key_id"]), text(r["message"])] : [])),
      conditions.find((c) => c.type === "ReviewDue")?.status ?? "",
    ]),
    conditions,
  };
}

export const approvalEvent = (value: Asked): StreamEvent => ({
  event: "approval",
  data: { approval_id: value.id, assertions: value.assertions, reviews: value.reviews },
});

/** The status to write; undefined when it says that already. */
export function statusOf(report: ApprovalReport, known: Asked, now: number): JsonMap | undefined {
  const state = `${report.state.charAt(0).toUpperCase()}${report.state.slice(1)}`;
  const before = known.conditions.find((c) => c.type === "ReviewDue");
  const due = report.reviewOpen ? "True" : before === undefined ? "" : "False";
  const told = JSON.stringify([state, report.counted, report.refused.map((r) => [r.key, r.message]), due]);
  if (told === known.told) return undefined;
  return {
    state,
    counted: report.counted,
    refused: report.refused.map(({ key, message }) => ({ key_id: key, message })),
    ...(due === ""
      ? {}
      : {
          conditions: [
            {
              type: "ReviewDue",
              status: due,
              reason: report.reviewOpen ? "Overridden" : "Reviewed",
              message: report.reviewOpen
                ? "an override let the call through: an approver has to review it (atoll review)"
                : "the override was reviewed",
              lastTransitionTime:
                before?.status === due ? before.lastTransitionTime : new Date(now).toISOString(),
            },
          ],
        }),
  };
}
