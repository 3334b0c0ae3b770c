// What passes between the parts: a call, the facts it is judged by, the verdict, and the record it leaves.
// Everything here is a plain JSON value, so that it can be hashed, recorded and judged again.

import type { Code } from "./codes.ts";
import type {
  ApprovalId,
  CallId,
  DecisionId,
  EffectId,
  Hash,
  KeyId,
  ReceiptId,
  SessionId,
  Signature,
  Target,
  Timestamp,
} from "./ids.ts";
import type { JsonObject, JsonValue } from "./json.ts";

export const SOURCES = ["openai", "anthropic", "mcp", "rest", "connect", "wasm", "a2a"] as const;
export type Source = (typeof SOURCES)[number];
export const EFFECT_CLASSES = ["E0", "E1", "E2", "E3", "E4"] as const;
export type EffectClass = (typeof EFFECT_CLASSES)[number];
export const SIDE_EFFECTS = ["read_only", "write_limited", "full", "destructive"] as const;
export type SideEffect = (typeof SIDE_EFFECTS)[number];
export const SANDBOXES = ["restricted", "isolated", "native"] as const;
export type Sandbox = (typeof SANDBOXES)[number];
export const THREAT_LEVELS = ["NONE", "LOW", "MEDIUM", "HIGH", "CRITICAL"] as const;
export type ThreatLevel = (typeof THREAT_LEVELS)[number];

export const GATES = [
  "freeze",
  "context",
  "identity",
  "egress",
  "threat",
  "delegation",
  "ceiling",
  "surface",
  "schema",
  "rules",
  "requirements",
  "budget",
  "approval",
] as const;
export type GateName = (typeof GATES)[number];

/** One attempt to do something. What is judged is what is dispatched: `argsText`, the canonical text. */
export interface ToolCall {
  readonly callId: CallId;
  readonly target: Target;
  readonly source: Source;
  readonly args: JsonObject;
  readonly argsText: string;
  readonly argsHash: Hash;
}

/** Amounts of one budget: integers, never negative. */
export type Amounts = {
  readonly calls: number;
  readonly tokens: number;
  readonly costMicroUsd: number;
};

/**
 * Everything the gates read, gathered once before the decision. Absent is a variant, never undefined.
 * The object is hashed (facts_hash) and recorded, so that a replay judges the same.
 */
export type Facts = {
  readonly type: "atoll.dev/facts/v1";
  readonly now: Timestamp;
  readonly freeze:
    | { readonly state: "clear" }
    | { readonly state: "frozen"; readonly node: Hash; readonly reason: string };
  /** Where the call arrived and for whom this guardian speaks; the context gate compares the two. */
  readonly context: {
    readonly podUid: string;
    readonly guardianPodUid: string;
    readonly policyHash: Hash | "";
    /** Age of the last heartbeat of the control stream; "unbound" = no stream exists here (atoll guard), "never" = none yet. */
    readonly heartbeatAgeMs: number | "never" | "unbound";
    readonly policyExpiresAt: Timestamp | "";
    /** Whether the call would leave the guardian over TLS, or not leave it at all. */
    readonly tls: boolean;
    /** Calls under way in this guardian, this one not counted. */
    readonly concurrent: number;
  };
  readonly session: {
    readonly id: SessionId;
    readonly principal: string;
    readonly openedAt: Timestamp;
    readonly calls: number;
    readonly tainted: boolean;
  };
  readonly principal:
    | {
        readonly state: "verified";
        readonly id: string;
        readonly serviceAccount: string;
        readonly namespace: string;
        readonly roles: readonly string[];
        readonly tenant: string;
        readonly delegator: string;
      }
    | {
        readonly state: "refused";
        readonly code: "AUTH_NOT_CONFIGURED" | "AUTH_INVALID";
        readonly detail: string;
      };
  readonly pod: {
    readonly namespace: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly namespaceLabels: Readonly<Record<string, string>>;
  };
  /** Host and port the call would reach, where its connector names one. */
  readonly destination:
    | { readonly state: "none" }
    | { readonly state: "known"; readonly host: string; readonly port: number };
  readonly scan: {
    readonly level: ThreatLevel;
    readonly findings: readonly {
      readonly code: "PROMPT_INJECTION_DETECTED" | "UNICODE_OBFUSCATION_DETECTED" | "DATA_EGRESS_BLOCKED";
      readonly detail: string;
    }[];
    readonly dataClasses: readonly string[];
  };
  /** Hash of the upstream's present definition of the tool. */
  readonly definition: { readonly state: "unobserved" } | { readonly state: "observed"; readonly hash: Hash };
  readonly rate: { readonly toolLastMinute: number; readonly sessionLastSecond: number };
  /**
   * What is already reserved or spent in each period, and what this call would reserve at most.
   * `leased` is what the shared daily scope has granted this guardian; absent sharing is "own".
   */
  readonly budget: {
    readonly session: Amounts;
    readonly daily: Amounts;
    readonly estimate: Amounts;
    readonly leased: "own" | Amounts;
  };
  /** Earlier outcomes that a requirement may look at: only what this guardian itself saw. */
  readonly evidence: readonly EvidenceFact[];
  readonly approval: ApprovalFact;
  /** The client's idempotency key, "" for none: recorded so that a restart still knows it. */
  readonly idempotencyKey: string;
};

export type EvidenceFact =
  | {
      readonly kind: "receipt";
      readonly node: Hash;
      readonly tool: Target;
      readonly status: Status;
      readonly at: Timestamp;
      readonly source: Source;
      readonly args: JsonObject;
    }
  | { readonly kind: "artifact"; readonly artifactType: string; readonly signer: KeyId; readonly hash: Hash };

/** The state of an approval for this very intent. `evidence` is what the kernel re-verifies; a state alone grants nothing. */
export type ApprovalFact =
  | { readonly state: "none" }
  | { readonly state: "pending"; readonly id: ApprovalId }
  | {
      readonly state: "refused";
      readonly id: ApprovalId;
      readonly code: "APPROVAL_REJECTED" | "DENY_APPROVAL_TIMEOUT" | "APPROVAL_INVALID";
    }
  | {
      readonly state: "granted";
      readonly id: ApprovalId;
      readonly node: Hash;
      readonly evidence: JsonObject;
    };

export const STATUSES = ["PERMITTED", "SUCCEEDED", "FAILED", "UNKNOWN", "DENIED", "ESCALATED"] as const;
export type Status = (typeof STATUSES)[number];

export interface Usage {
  readonly calls: number;
  readonly tokens_in: number;
  readonly tokens_out: number;
  readonly cost_microusd: number;
  readonly bytes_in: number;
  readonly bytes_out: number;
  readonly duration_ms: number;
  readonly gas: number;
  readonly gas_limit: number;
  readonly gas_schedule: number;
  readonly peak_pages: number;
}

/** Every member is always present, "" or 0 where it does not apply. */
export interface Receipt {
  readonly type: "atoll.dev/receipt/v1";
  readonly receipt_id: ReceiptId;
  readonly decision_id: DecisionId;
  readonly effect_id: EffectId | "";
  readonly call_id: CallId;
  readonly principal: string;
  readonly delegator: string;
  readonly tool: Target | "";
  readonly effect_class: EffectClass | "";
  readonly source: Source;
  readonly verdict: "ALLOW" | "DENY" | "ESCALATE";
  readonly reason_code: Code | "";
  readonly rule_id: string;
  readonly status: Status;
  readonly args_hash: Hash | "";
  readonly output_hash: Hash | "";
  readonly policy_hash: Hash | "";
  readonly ceiling_hash: Hash | "";
  readonly overlay_hash: Hash | "";
  readonly gates_hash: Hash | "";
  readonly facts_hash: Hash | "";
  readonly expires_at: Timestamp | "";
  readonly usage: Usage;
}

export const NODE_KINDS = ["INTENT", "EFFECT", "ATTESTATION", "TRUST_EVENT", "CHECKPOINT"] as const;
export type NodeKind = (typeof NODE_KINDS)[number];

/** The one durable envelope. `node_hash` is the hash of the whole node, its signature included. */
export interface Node {
  readonly type: "atoll.dev/node/v1";
  readonly kind: NodeKind;
  readonly session_id: SessionId;
  readonly lamport: number;
  readonly prev_hash: Hash | "genesis";
  readonly parents: readonly Hash[];
  readonly issued_at: Timestamp;
  readonly key_id: KeyId;
  readonly body: JsonObject;
  readonly sig: Signature;
}

/** A node before it has a place in its chain. Chain order is the order in which drafts are handed to the journal. */
export interface NodeDraft {
  readonly kind: NodeKind;
  readonly session_id: SessionId;
  readonly parents: readonly Hash[];
  readonly issued_at: Timestamp;
  readonly body: JsonObject;
}

export interface SealedNode {
  readonly node: Node;
  readonly hash: Hash;
  readonly text: string;
}

/** A call's arguments or a set of facts, stored once by the hash of the unredacted value. */
export interface Input {
  readonly hash: Hash;
  readonly redacted: boolean;
  readonly value: JsonValue;
  /** The canonical form of `value`, by whom it is at hand. */
  readonly text?: string;
}

/** What the executor and the guardian's shell need of a journal. */
export interface Journal {
  /**
   * Seals the drafts in order, synchronously, so that the order of decision is the order of the chain.
   * `durable` resolves after the sync that covers them and rejects with JOURNAL_UNAVAILABLE otherwise.
   */
  append(
    drafts: readonly NodeDraft[],
    inputs: readonly Input[],
  ): { readonly nodes: readonly SealedNode[]; readonly durable: Promise<void> };
}
