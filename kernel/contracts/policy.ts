// The compiled policy: what the gates read. Built by kernel/policy from signed documents and by nothing else;
// every lookup on the way of a call is a map or a set.

import type { CeremonyDoc, ConnectorDoc, ModelDoc } from "./document.ts";
import type { Hash, KeyId, Signature } from "./ids.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import type { Amounts, EffectClass, Input, Sandbox, SideEffect, ThreatLevel, ToolCall } from "./values.ts";

/** An expression that was parsed, type-checked and bounded at load. `variables` are the names it reads. */
export interface Program {
  readonly text: string;
  readonly cost: number;
  readonly variables: readonly string[];
  /** Throws when the evaluation errs or yields anything but a boolean. */
  test(bindings: Bindings): boolean;
}
/** Values by flat name, such as `call.args.repo`, in the engine's own form. */
export type Bindings = Readonly<Record<string, unknown>>;

/** A schema as pinned: null, or the first place where the value does not match it. */
export interface PinnedSchema {
  validate(value: JsonValue): null | { readonly path: string; readonly message: string };
}

export type Requirement =
  | { readonly kind: "all" | "any"; readonly of: readonly Requirement[] }
  | { readonly kind: "not"; readonly of: Requirement }
  | { readonly kind: "cel"; readonly program: Program }
  | { readonly kind: "approval"; readonly ceremony: Ceremony }
  | {
      readonly kind: "receipt";
      readonly matches: (target: string) => boolean;
      readonly tool: string;
      readonly status: string;
      readonly withinMs: number;
      readonly sameArgs: readonly string[];
    }
  | { readonly kind: "artifact"; readonly artifactType: string; readonly signer: string };

export interface Rule {
  readonly id: string;
  readonly then: "allow" | "deny" | "escalate";
  readonly when: Program | null;
  readonly shadow: boolean;
  readonly ceremony: Ceremony | null;
  readonly requires: Requirement | null;
  readonly matches: (target: string) => boolean;
}

export interface Ceremony extends Required<CeremonyDoc> {
  readonly name: string;
  readonly approvers: readonly KeyId[];
}

export interface ToolPolicy {
  readonly name: string;
  readonly connector: string;
  readonly kind: ConnectorDoc["kind"] | "agent";
  readonly effect: EffectClass;
  readonly sideEffect: SideEffect;
  readonly sandbox: Sandbox;
  readonly inputSchema: JsonObject | boolean;
  readonly outputSchema: JsonObject | boolean | null;
  readonly input: PinnedSchema;
  readonly output: PinnedSchema | null;
  readonly definition: Hash | "";
  readonly timeoutMs: number;
  readonly idempotency: "key" | "none";
  /** -1: none. */
  readonly perMinute: number;
  readonly costMicroUsd: number;
  readonly trusted: boolean;
  readonly module: Hash | "";
  readonly limits: {
    readonly gas: number;
    readonly memoryBytes: number;
    readonly outputBytes: number;
    readonly timeMs: number;
  };
  readonly description: string;
  /** The reason of the ceiling's forbidden pattern that matches, "" for none. */
  readonly forbidden: string;
  /** The rules that can match, in the document's order, and the names that they read. */
  readonly rules: readonly Rule[];
  readonly variables: readonly string[];
  readonly relationChecks: readonly RelationCheck[];
}

export interface ModelPolicy {
  readonly name: string;
  readonly price: ModelDoc["price"] | null;
  readonly rules: readonly Rule[];
  readonly variables: readonly string[];
  readonly forbidden: string;
}

export interface RelationCheck {
  readonly relation: string;
  /** The object's name with a value of the arguments in each gap. */
  readonly object: readonly (string | { readonly path: readonly string[] })[];
}

/** Limits of one period; -1 = none. `durationSeconds` only for a session. */
export interface Limits extends Amounts {
  readonly durationSeconds: number;
}
export interface BudgetPolicy {
  readonly session: Limits;
  readonly daily: Limits;
  readonly dailyScope: "pod" | "sidecar";
}

export interface Destinations {
  readonly allows: (host: string, port: number) => boolean;
  readonly denies: (host: string, port: number) => boolean;
}

export interface Profile {
  readonly index: number;
  readonly serviceAccount: string;
  readonly principal: string;
  readonly role: string;
  readonly namespaceLabels: Readonly<Record<string, string>>;
  readonly matchesPrincipal: (id: string) => boolean;
  readonly tools: ReadonlySet<string>;
  readonly models: ReadonlySet<string>;
  readonly maxSideEffect: SideEffect;
  readonly budgets: BudgetPolicy;
  readonly destinations: Destinations;
}

export interface Policy {
  readonly name: string;
  /** "" = no policy is active. */
  readonly hash: Hash | "";
  readonly ceilingHash: Hash | "";
  readonly overlayHash: Hash | "";
  readonly tools: ReadonlyMap<string, ToolPolicy>;
  readonly models: ReadonlyMap<string, ModelPolicy>;
  readonly connectors: ReadonlyMap<string, ConnectorPolicy>;
  readonly profiles: readonly Profile[];
  readonly ceremonies: ReadonlyMap<string, Ceremony>;
  /** Who may approve and override: the keys of those roles, null for any other. */
  readonly keys: {
    readonly approver: (id: KeyId) => SignatureCheck | null;
    readonly override: (id: KeyId) => SignatureCheck | null;
  };
  /** Rules that can match a `net:` target, which no index can list. */
  readonly netRules: readonly Rule[];
  readonly netVariables: readonly string[];
  readonly ceiling: {
    readonly present: boolean;
    readonly maxEffect: EffectClass;
    readonly forbids: (target: string) => string;
    readonly budgets: BudgetPolicy;
  };
  /** Every perimeter, identity and threat section that applies: the ceiling's and the policy's own. */
  readonly perimeter: {
    readonly open: (epochMs: number) => boolean;
    readonly deniedDataClasses: ReadonlySet<string>;
    /** -1: none. */
    readonly maxConcurrent: number;
    readonly requireTls: boolean;
  };
  readonly threat: { readonly denyAt: ThreatLevel; readonly taintedMaxEffect: EffectClass };
  readonly identity: {
    readonly mode: "serviceAccount" | "jwt";
    readonly jwt: { readonly issuer: string; readonly audience: string; readonly jwks: JsonObject } | null;
    readonly relates: (object: string, relation: string, subject: string) => boolean;
  };
  readonly maxStaleMs: number;
  readonly lifetimeMs: number;
  readonly privateAddresses: readonly string[];
  readonly capabilityTypes: ReadonlyMap<string, readonly string[]>;
  readonly lowTierDays: number;
  /** How calls and facts are written down and shown to approvers. */
  readonly recording: {
    readonly inputs: "full" | "redacted" | "hashes";
    /** The value itself where nothing is blotted out. */
    readonly blot: (value: JsonValue) => JsonValue;
    /** The messages of a model call, each for itself, and then the arguments that name them. */
    readonly args: (call: ToolCall) => readonly Input[];
    /** `text`: the canonical form of the value, by which it was hashed. */
    readonly facts: (hash: Hash, value: JsonValue, text: string) => Input;
  };
  readonly concurrentCalls: number;
  readonly requestsPerSecond: number;
  readonly timezone: string;
}

/** A key that a person trusts in a role, as far as a gate needs it. */
export interface SignatureCheck {
  verify(text: string, sig: Signature): boolean;
}

export interface ConnectorPolicy {
  readonly name: string;
  readonly kind: ConnectorDoc["kind"];
  readonly url: string;
  readonly command: readonly string[];
  readonly credential: string;
  readonly destinations: Destinations;
  /** Whether the connector states destinations; without, its own URL is the only one. */
  readonly destinationList: readonly string[];
}
