// How a verdict looks over HTTP: status, headers and the error object, the same on every surface.

import { CODES } from "../../kernel/contracts/contracts.ts";
import type { Code, JsonObject } from "../../kernel/contracts/contracts.ts";

/** What a reply says of the record behind it. */
export interface Stamp {
  readonly receiptId: string;
  readonly verdict: "ALLOW" | "DENY" | "ESCALATE";
  readonly reason: Code | "";
  readonly policyHash: string;
  readonly lamport: number;
}

/** A refusal on its way to the client. */
export interface Refusal {
  readonly code: Code;
  readonly detail: string;
  readonly stamp: Stamp | undefined;
  readonly approval?: JsonObject;
  /** Whether an INTENT exists: after it a repetition could pay or act twice. */
  readonly begun: boolean;
  readonly retryAfter?: number;
  /** REST and model requests answer an escalation with 409. */
  readonly status?: number;
}

const STATUS: Partial<Record<Code, number>> = {
  DENY_APPROVAL_REQUIRED: 409,
  DENY_BUDGET_EXCEEDED: 429,
  RATE_LIMIT_EXCEEDED: 429,
  DENY_MALFORMED_CALL: 400,
  AUTH_NOT_CONFIGURED: 401,
  AUTH_INVALID: 401,
  ERR_CONNECTOR_FAILED: 502,
  ERR_CONNECTOR_CONTRACT_DRIFT: 502,
  ERR_CONNECTOR_TIMEOUT: 504,
  JOURNAL_UNAVAILABLE: 503,
  POLICY_NOT_READY: 503,
  POLICY_STALE: 503,
  OVERLOADED: 503,
  ERR_RECEIPT_UNSEALED: 500,
  ERR_OUTCOME_UNKNOWN: 500,
};

export function statusOf(code: Code): number {
  return STATUS[code] ?? (code.startsWith("ERR_COMPUTE_") ? 502 : 403);
}

export function mayRetry(r: Refusal, status: number): boolean {
  if (r.begun) return false;
  if (r.code === "OVERLOADED" || r.code === "POLICY_NOT_READY") return true;
  return status === 429 && r.retryAfter !== undefined;
}

export function stampHeaders(stamp: Stamp | undefined): Record<string, string> {
  if (stamp === undefined) return {};
  return {
    "x-atoll-receipt": stamp.receiptId,
    "x-atoll-verdict": stamp.verdict,
    "x-atoll-reason": stamp.reason,
    "x-atoll-policy": stamp.policyHash,
    "x-atoll-lamport": String(stamp.lamport),
  };
}

export interface ErrorReply {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: JsonObject;
}

export function errorReply(r: Refusal, shape: "openai" | "anthropic" = "openai"): ErrorReply {
  const status = r.status ?? statusOf(r.code);
  const headers: Record<string, string> = {
    ...stampHeaders(r.stamp),
    "x-should-retry": String(mayRetry(r, status)),
  };
  if (r.retryAfter !== undefined) headers["retry-after"] = String(Math.max(1, Math.ceil(r.retryAfter)));
  const message = messageOf(r);
  const more: JsonObject = {
    receipt_id: r.stamp?.receiptId ?? "",
    ...(r.approval === undefined ? {} : { approval: r.approval }),
  };
  if (shape === "anthropic")
    return {
      status,
      headers,
      body: { type: "error", error: { type: anthropicType(status), message, code: r.code, ...more } },
    };
  return {
    status,
    headers,
    body: { error: { message, type: typeOf(status), param: null, code: r.code, ...more } },
  };
}

export const messageOf = (r: Pick<Refusal, "code" | "detail">): string =>
  `${r.code}: ${CODES[r.code]}${r.detail === "" ? "" : ` (${r.detail})`}`;

function typeOf(status: number): string {
  if (status === 400) return "invalid_request_error";
  if (status === 401) return "authentication_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "permission_error";
}
function anthropicType(status: number): string {
  if (status === 400) return "invalid_request_error";
  if (status === 401) return "authentication_error";
  if (status === 403 || status === 409) return "permission_error";
  if (status === 429) return "rate_limit_error";
  return status === 503 ? "overloaded_error" : "api_error";
}

/** What stands in the assistant's words in place of a tool call that does not reach the agent. */
export function replacementText(name: string, code: Code, receiptId: string, approvalId: string): string {
  const shown = /^[A-Za-z0-9_.:/-]{1,128}$/.test(name) ? `\`${name}\`` : "a tool";
  const base = `The call of ${shown} was not carried out: ${code} (${CODES[code]}). Receipt ${receiptId}.`;
  return approvalId === ""
    ? base
    : `${base} Approval ${approvalId} is needed; once it is granted, the identical call passes once.`;
}
