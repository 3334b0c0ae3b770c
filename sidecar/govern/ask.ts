// What is asked of the governor, what it answers, and what it is given to work with.

import type {
  Amounts,
  ApprovalFact,
  Facts,
  Input,
  Journal,
  JsonObject,
  JsonValue,
  Policy,
  Receipt,
  ReceiptId,
  SessionId,
  Source,
  Timestamp,
  ToolCall,
} from "../../kernel/contracts/contracts.ts";
import type {
  Outcome,
  Repeats,
  Reservations,
  Result,
  SpendApproval,
} from "../../kernel/executor/executor.ts";
import type { Scan } from "../../kernel/threat/threat.ts";
import type { Refusal, Stamp } from "../surfaces/surfaces.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { RestoredSession } from "./sessions.ts";

/** `sid`: the session that a token names; without one the principal has a single session. */
export type Caller = Facts["principal"] & { readonly sid?: string };

/** The policy that is in force and where it came from. */
export interface Active {
  readonly policy: Policy;
  readonly version: string;
  readonly expiresAt: Timestamp | "";
  readonly document: JsonValue;
  /** The P0 document above it, where there is one. */
  readonly ceiling?: JsonValue;
}

/** Budgets as the guardian counts them: what was used, and the reservations of the executor. */
export interface Spending extends Reservations {
  used(session: SessionId, nowMs: number): { readonly session: Amounts; readonly daily: Amounts };
}
/** Approvals as the guardian keeps them. */
export interface Approvals {
  fact(call: ToolCall, facts: Facts, policy: Policy): ApprovalFact;
  readonly spend: SpendApproval;
  /** Opens the ceremony for an escalated call, or returns the one that is already open. */
  open(
    escalated: Result & { readonly kind: "escalated" },
    call: ToolCall,
    policy: Policy,
  ): Promise<{ readonly object: JsonObject } | { readonly limited: string }>;
  /** The refusal of an approval has been told: the next identical call starts anew. */
  told(id: string): void;
  /** True when the approval is decided, one way or the other; false when the time is over or the client gone. */
  settled(id: string, ms: number, signal: AbortSignal): Promise<boolean>;
}

export interface GovernOptions {
  readonly journal: Journal;
  readonly telemetry: Telemetry;
  readonly active: () => Active;
  readonly pod: Facts["pod"] & { readonly uid: string };
  readonly heartbeatAgeMs: () => Facts["context"]["heartbeatAgeMs"];
  readonly frozen: () => Facts["freeze"];
  readonly guardianSession: SessionId;
  readonly restored: readonly RestoredSession[];
  readonly spending?: Spending;
  readonly repeats?: Repeats;
  readonly approvals?: () => Approvals | undefined;
  readonly now?: () => number;
}

export interface Ask {
  readonly target: string;
  readonly source: Source;
  readonly args: JsonObject;
  readonly caller: Caller;
  /** What was scanned elsewhere; without it the texts of the arguments are. */
  readonly scan?: Scan;
  readonly estimate?: Amounts;
  readonly idempotencyKey?: string;
  readonly definition?: Facts["definition"];
  /** Whether the call would leave over TLS, where no connector's address says so. */
  readonly tls?: boolean;
  /** Whether the call counts among those under way; one that the agent itself runs does not. */
  readonly open?: boolean;
  /** What goes into the journal with the INTENT. */
  readonly beside?: (intent: ReceiptId) => readonly Input[];
  readonly dispatch: (signal: AbortSignal, stamp: Stamp) => Promise<Outcome>;
}
export type Told =
  | {
      readonly kind: "done";
      readonly output: JsonValue;
      readonly stamp: Stamp;
      readonly receipt: Receipt;
      /** A repeat of a call of which the output is not kept. */
      readonly forgotten: boolean;
    }
  | {
      readonly kind: "refused";
      readonly refusal: Refusal;
      readonly receipt: Receipt | null;
      readonly output: JsonValue | null;
    };
