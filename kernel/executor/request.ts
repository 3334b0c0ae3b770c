// What the executor is given and what it answers.

import type {
  ApprovalId,
  Code,
  Facts,
  Input,
  Journal,
  JsonValue,
  Policy,
  Receipt,
  ReceiptId,
  SealedNode,
  SessionId,
  ToolCall,
  Usage,
} from "../contracts/contracts.ts";
import type { Permit, Verdict } from "../guardian/guardian.ts";
import type { Repeats } from "./repeats.ts";
import type { Throttle } from "./throttle.ts";

export interface Clock {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Runs once after that many milliseconds; the answer cancels it. */
  readonly after: (ms: number, run: () => void) => () => void;
}

/** What the executor tells of every reservation; amounts and periods are the budget's own business. */
export interface Reservations {
  /** Takes what the permit reserves, synchronously, or throws; `key` names it from then on. */
  reserve(key: string, permit: Permit): void;
  /** The real usage of what happened. */
  settle(key: string, usage: Usage): void;
  /** Nothing happened. */
  release(key: string): void;
}

/** Marks the approval of a permit used, synchronously, or throws when it already is. */
export type SpendApproval = (permit: Permit) => void;

export interface ExecutorOptions {
  readonly journal: Journal;
  readonly clock: Clock;
  /** 16 random bytes. */
  readonly random: () => Uint8Array;
  readonly budget?: Reservations;
  readonly spendApproval?: SpendApproval;
  /** Hears that a refused approval has been told to the call that it was for. */
  readonly refusalTold?: (id: ApprovalId) => void;
  /** Shared with whoever records refusals beside the executor. */
  readonly throttle?: Throttle;
  /** The keys of calls that were made, as a restart found them. */
  readonly repeats?: Repeats;
  /** Hears of every verdict and outcome after it is recorded; it cannot fail a call. */
  readonly listen?: (entry: Entry) => void;
}
export interface Entry {
  readonly node: SealedNode;
  readonly receipt: Receipt;
  readonly verdict: Verdict;
}

export type Outcome =
  | {
      readonly status: "succeeded";
      readonly output: JsonValue;
      /** What the pinned output schema describes, where it is not the whole output. */
      readonly checked?: JsonValue;
      readonly usage?: Partial<Usage>;
    }
  | {
      readonly status: "failed";
      readonly code: Code;
      readonly detail?: string;
      readonly usage?: Partial<Usage>;
    }
  | { readonly status: "unknown"; readonly detail?: string; readonly usage?: Partial<Usage> };

/** Does the thing. What it throws leaves the outcome unknown; a refusal before anything happened is `failed`. */
export type Dispatch = (permit: Permit, signal: AbortSignal) => Promise<Outcome>;

export interface CallRequest {
  readonly call: ToolCall;
  /** The policy that is active at the moment it is asked. */
  readonly policy: () => Policy;
  /** Reads counters and states, synchronously, in the same turn in which they are judged and changed. */
  readonly gather: () => Facts;
  readonly dispatch: Dispatch;
  /** What goes into the journal with the INTENT, in one append with it and before it. */
  readonly beside?: (intent: ReceiptId) => readonly Input[];
}

export interface Refusal {
  readonly kind: "denied";
  readonly code: Code;
  readonly detail: string;
  readonly receipt: Receipt | null;
  readonly node: SealedNode | null;
}
export type Result =
  | Refusal
  | {
      readonly kind: "done";
      readonly receipt: Receipt;
      readonly node: SealedNode;
      /** Receipt of the INTENT. */
      readonly intent: ReceiptId;
      readonly output: JsonValue;
      /** A repeat of a call of which the output is not kept. */
      readonly forgotten?: true;
    }
  | {
      readonly kind: "failed";
      readonly code: Code;
      readonly detail: string;
      readonly intent: ReceiptId;
      readonly receipt: Receipt | null;
      readonly node: SealedNode | null;
    }
  | {
      readonly kind: "escalated";
      readonly code: "DENY_APPROVAL_REQUIRED";
      readonly verdict: Verdict & { readonly verdict: "ESCALATE" };
      readonly facts: Facts;
      readonly receipt: Receipt;
      readonly node: SealedNode;
    };

export interface Executor {
  /** Judges, records, dispatches, records. Never rejects. */
  run(request: CallRequest): Promise<Result>;
  /** Aborts what is under way, in one session or in all. */
  abort(session?: SessionId): void;
  /** False after an EFFECT could not be made durable: the process has to be restarted. */
  readonly healthy: boolean;
  readonly underWay: number;
}

export const refusal = (code: Code, detail: string): Refusal => ({
  kind: "denied",
  code,
  detail,
  receipt: null,
  node: null,
});
