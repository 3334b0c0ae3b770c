// Which policy is in force, as an event of the guardian's own session, with the documents beside it: whoever has the
// log can judge each call again.

import { isObject, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Input, Journal, JsonValue, SessionId } from "../../kernel/contracts/contracts.ts";
import type { Active } from "../govern/govern.ts";

/** Resolves when the event is durable. A policy judges nothing before. */
export async function recordActivation(
  journal: Journal,
  session: SessionId,
  active: Active,
  nowMs: number,
): Promise<void> {
  const { policy } = active;
  const at = timestampOf(nowMs);
  const inputs: Input[] = [];
  const add = (hash: typeof policy.hash, value: JsonValue | undefined): void => {
    if (hash !== "" && isObject(value)) inputs.push({ hash, redacted: false, value });
  };
  add(policy.hash, active.document);
  add(policy.ceilingHash, active.ceiling);
  await journal.append(
    [
      {
        kind: "TRUST_EVENT",
        session_id: session,
        parents: [],
        issued_at: at,
        body: {
          type: "atoll.dev/trust-event/v1",
          event: "POLICY_ACTIVATE",
          policy_hash: policy.hash,
          ceiling_hash: policy.ceilingHash,
          version: active.version,
          expires_at: active.expiresAt,
          at,
        },
      },
    ],
    inputs,
  ).durable;
}
