// One dispatch, from the last look before it to what is known of it after.

import { messageOf } from "../contracts/contracts.ts";
import type { Code, Hash, JsonValue, SessionId, Usage } from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";
import { isPermit } from "../guardian/guardian.ts";
import type { Permit } from "../guardian/guardian.ts";
import { EMPTY_USAGE } from "../receipts/receipts.ts";
import type { CallRequest, Clock, Outcome } from "./request.ts";

export interface Flight {
  readonly session: SessionId;
  readonly abort: AbortController;
}

interface Ended {
  readonly detail: string;
  readonly usage: Partial<Usage>;
  /** Whether anything happened: what failed without is released, the rest is settled. */
  readonly begun: boolean;
}
interface Output {
  readonly value: JsonValue;
  readonly hash: Hash | "";
}
/** What came of a dispatch, or why it was not begun. */
export type Known =
  | (Ended & { readonly status: "SUCCEEDED"; readonly code: ""; readonly output: Output })
  | (Ended & { readonly status: "FAILED" | "UNKNOWN"; readonly code: Code; readonly output: Output | null });

const none = (status: "FAILED" | "UNKNOWN", code: Code, detail: string): Known => ({
  status,
  code,
  detail,
  output: null,
  usage: {},
  begun: status === "UNKNOWN",
});

export async function fly(
  request: CallRequest,
  permit: Permit,
  flight: Flight,
  clock: Clock,
): Promise<Known> {
  const { signal } = flight.abort;
  let timedOut = false;
  let cancel = (): void => {};
  try {
    if (!isPermit(permit)) return none("FAILED", "POLICY_EVALUATION_ERROR", "no permit of the guardian");
    if (!(clock.now() < permit.expiresAtMs)) return none("FAILED", "DECISION_EXPIRED", "not dispatched");
    if (request.policy().hash !== permit.policy.hash)
      return none("FAILED", "POLICY_EPOCH_CHANGED", "not dispatched");
    if (signal.aborted) return none("FAILED", "SYSTEM_FROZEN", "not dispatched");
    if (permit.tool !== null)
      cancel = clock.after(permit.tool.timeoutMs, () => {
        timedOut = true;
        flight.abort.abort();
      });
    const aborted = new Promise<"aborted">((resolve) => {
      signal.addEventListener("abort", () => resolve("aborted"), { once: true });
    });
    const outcome = await Promise.race([request.dispatch(permit, signal), aborted]);
    if (outcome !== "aborted") return knownOf(outcome, permit);
    return none(
      "UNKNOWN",
      timedOut ? "ERR_CONNECTOR_TIMEOUT" : "ERR_OUTCOME_UNKNOWN",
      "aborted while under way",
    );
  } catch (error) {
    return none("UNKNOWN", "ERR_OUTCOME_UNKNOWN", messageOf(error));
  } finally {
    cancel();
  }
}

function knownOf(outcome: Outcome, permit: Permit): Known {
  const usage = outcome.usage ?? {};
  switch (outcome.status) {
    case "unknown":
      return { ...none("UNKNOWN", "ERR_OUTCOME_UNKNOWN", outcome.detail ?? ""), usage };
    case "failed":
      return {
        ...none("FAILED", outcome.code, outcome.detail ?? ""),
        usage,
        begun: outcome.usage !== undefined,
      };
    case "succeeded":
      return drift(outcome, permit, usage);
  }
}

/** The output against its pin. What has no canonical form cannot be recorded, so it is no output either. */
function drift(outcome: Outcome & { status: "succeeded" }, permit: Permit, usage: Partial<Usage>): Known {
  const drifted = { status: "FAILED", code: "ERR_CONNECTOR_CONTRACT_DRIFT", usage, begun: true } as const;
  let hash: Hash | "" = "";
  try {
    // What a connection carried is opaque.
    if (!permit.call.target.startsWith("net:")) hash = hashJson(outcome.output);
  } catch (error) {
    return { ...drifted, detail: messageOf(error), output: null };
  }
  const output = { value: outcome.output, hash };
  const fault = permit.tool?.output?.validate(outcome.checked ?? outcome.output) ?? null;
  if (fault !== null) return { ...drifted, detail: `${fault.path}: ${fault.message}`, output };
  return { status: "SUCCEEDED", code: "", detail: "", output, usage, begun: true };
}

/** Numbers that a receipt can hold: whole, never below 0. */
export function usageOf(part: Partial<Usage>, calls: 0 | 1, durationMs: number): Usage {
  const whole = (n: number | undefined): number =>
    n === undefined || !(n > 0) ? 0 : Math.min(Math.ceil(n), Number.MAX_SAFE_INTEGER);
  return {
    ...EMPTY_USAGE,
    calls,
    tokens_in: whole(part.tokens_in),
    tokens_out: whole(part.tokens_out),
    cost_microusd: whole(part.cost_microusd),
    bytes_in: whole(part.bytes_in),
    bytes_out: whole(part.bytes_out),
    duration_ms: whole(part.duration_ms ?? Math.round(durationMs)),
    gas: whole(part.gas),
    gas_limit: whole(part.gas_limit),
    gas_schedule: whole(part.gas_schedule),
    peak_pages: whole(part.peak_pages),
  };
}
