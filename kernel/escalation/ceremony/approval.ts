// An approval as its readers know it, and what can be asked of all of them.

import type {
  ApprovalFact,
  ApprovalId,
  Ceremony,
  Facts,
  Hash,
  JsonObject,
  JsonValue,
  KeyId,
  Node,
  Policy,
  SealedNode,
  ToolCall,
} from "../../contracts/contracts.ts";

export type ApprovalState = "pending" | "granted" | "rejected" | "expired" | "invalid" | "used";
export interface Approval {
  readonly id: ApprovalId;
  readonly challenge: JsonObject;
  readonly challengeHash: Hash;
  readonly ceremony: Ceremony;
  readonly principal: string;
  readonly tool: string;
  readonly expiresAt: string;
  readonly state: ApprovalState;
  readonly approvedBy: readonly KeyId[];
  /** An override that nobody has reviewed yet. */
  readonly reviewOpen: boolean;
  /** The override as it was signed. */
  readonly override: JsonObject | null;
}
export type Answered =
  | { readonly ok: true; readonly approval: Approval }
  | { readonly ok: false; readonly reason: string };
export type Opened =
  | { readonly state: "open"; readonly approval: Approval; readonly fresh: boolean }
  | { readonly state: "limited"; readonly reason: string };

export interface Ceremonies {
  /** What the gates may know of this very call. A refusal is told until it is taken note of by `told`. */
  fact(call: ToolCall, facts: Facts, policy: Policy): ApprovalFact;
  /** Opens a challenge for an escalated call, or returns the one that waits for the identical call. */
  open(
    call: ToolCall,
    facts: Facts,
    policy: Policy,
    ceremony: Ceremony,
    escalated: SealedNode,
  ): Promise<Opened>;
  /** An assertion or an override as received. */
  answer(id: ApprovalId, assertion: JsonValue): Promise<Answered>;
  /** Signed by an approver who was not the one who overrode: `{type: "atoll.dev/review/v1", override, at, key_id, sig}`. */
  review(id: ApprovalId, review: JsonValue, policy: Policy): Promise<Answered>;
  /** Marks the approval of a permit used; throws when it is not granted any more. */
  spend(id: ApprovalId): void;
  /** The refused call has been told, so the next identical one starts anew. */
  told(id: ApprovalId): void;
  /** Another policy is in force: what waits under the old one ends. */
  policyChanged(policy: Policy): void;
  /** Resolves true when it is granted, false when it ended otherwise or the time is over. */
  settled(id: ApprovalId, ms: number, after: (ms: number, run: () => void) => () => void): Promise<boolean>;
  get(id: ApprovalId): Approval | undefined;
  readonly all: readonly Approval[];
  /** Reads a node again after a restart, in the order of the journal. */
  restore(sealed: { readonly node: Node; readonly hash: Hash }, policy: Policy): void;
}

/** The terms of a ceremony that the policy no longer has: nobody can meet them. */
export const GONE: Ceremony = {
  name: "",
  approvers: [],
  quorum: Number.MAX_SAFE_INTEGER,
  timelockSeconds: 0,
  holdSeconds: 0,
  expiresSeconds: 0,
  waitSeconds: 0,
  challenge: true,
  maxPerHour: 0,
};
