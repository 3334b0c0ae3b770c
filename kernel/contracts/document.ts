// The policy document as it is signed: plain JSON after parsing and closing. Its meaning is in kernel/policy.

import type { EffectClass, Sandbox, SideEffect, ThreatLevel } from "./values.ts";
import type { JsonObject, JsonValue } from "./json.ts";

export interface ConnectorDoc {
  readonly kind: "mcp" | "openai" | "anthropic" | "wasm" | "connect";
  readonly url?: string;
  readonly command?: readonly string[];
  readonly credential?: string;
  readonly destinations?: readonly string[];
}
export interface ToolDoc {
  readonly name: string;
  readonly effect: EffectClass;
  readonly sideEffect: SideEffect;
  readonly sandbox: Sandbox;
  readonly input: JsonValue;
  readonly output?: JsonValue;
  readonly definition?: string;
  readonly timeoutMs?: number;
  readonly idempotency?: "key" | "none";
  readonly rate?: { readonly perMinute: number };
  readonly cost?: { readonly microUsd: number };
  readonly trust?: "trusted" | "untrusted";
  readonly module?: string;
  readonly limits?: {
    readonly gas?: number;
    readonly memoryBytes?: number;
    readonly outputBytes?: number;
    readonly timeMs?: number;
  };
  readonly description?: string;
}
export interface ModelDoc {
  readonly name: string;
  readonly price?: { readonly inputMicroUsdPerMTok: number; readonly outputMicroUsdPerMTok: number };
}
export interface BudgetDoc {
  readonly calls?: number;
  readonly tokens?: number;
  readonly costMicroUsd?: number;
  readonly durationSeconds?: number;
  readonly scope?: "pod" | "sidecar";
}
export interface ProfileDoc {
  readonly match: {
    readonly serviceAccount?: string;
    readonly principal?: string;
    readonly role?: string;
    readonly namespaceLabels?: Readonly<Record<string, string>>;
  };
  readonly toolsets?: readonly string[];
  readonly models?: readonly string[];
  readonly maxSideEffect?: SideEffect;
  readonly budgets?: { readonly session?: BudgetDoc; readonly daily?: BudgetDoc };
  readonly destinations?: { readonly allow?: readonly string[]; readonly deny?: readonly string[] };
}
export type RequirementDoc =
  | { readonly all: readonly RequirementDoc[] }
  | { readonly any: readonly RequirementDoc[] }
  | { readonly not: RequirementDoc }
  | { readonly cel: string }
  | { readonly approval: string }
  | {
      readonly receipt: {
        readonly tool: string;
        readonly status: string;
        readonly withinSeconds?: number;
        readonly sameArgs?: readonly string[];
      };
    }
  | { readonly artifact: { readonly type: string; readonly signer: string } };
export interface RuleDoc {
  readonly id: string;
  readonly when?: string;
  readonly tools: readonly string[];
  readonly then: "allow" | "deny" | "escalate";
  readonly approval?: string;
  readonly shadow?: boolean;
  readonly requires?: RequirementDoc;
}
export interface CeremonyDoc {
  readonly approvers: readonly string[];
  readonly quorum: number;
  readonly timelockSeconds?: number;
  readonly holdSeconds?: number;
  readonly expiresSeconds?: number;
  readonly waitSeconds?: number;
  readonly challenge?: boolean;
  readonly maxPerHour?: number;
}
export interface CeilingDoc {
  readonly maxEffect?: EffectClass;
  readonly forbidden?: readonly { readonly tools: readonly string[]; readonly reason: string }[];
  readonly budgets?: { readonly session?: BudgetDoc; readonly daily?: BudgetDoc };
}
export interface PolicyDoc {
  readonly apiVersion: "atoll.dev/policy/v1";
  readonly name: string;
  readonly layer: "P0" | "P1";
  readonly connectors?: Readonly<Record<string, ConnectorDoc>>;
  readonly tools?: readonly ToolDoc[];
  readonly models?: readonly ModelDoc[];
  readonly toolsets?: Readonly<Record<string, readonly string[]>>;
  readonly profiles?: readonly ProfileDoc[];
  readonly rules?: readonly RuleDoc[];
  readonly approvals?: Readonly<Record<string, CeremonyDoc>>;
  readonly ceiling?: CeilingDoc;
  readonly perimeter?: {
    readonly hours?: {
      readonly days: readonly string[];
      readonly from: string;
      readonly to: string;
      readonly timezone: string;
    };
    readonly dataClasses?: { readonly deny: readonly string[] };
    readonly redact?: readonly string[];
    readonly maxConcurrent?: number;
    readonly requireTls?: boolean;
  };
  readonly threat?: { readonly denyAt?: ThreatLevel; readonly taintedMaxEffect?: EffectClass };
  readonly identity?: {
    readonly mode: "serviceAccount" | "jwt";
    readonly jwt?: { readonly issuer: string; readonly audience: string; readonly jwks: JsonObject };
    readonly relations?: readonly string[];
    readonly check?: readonly {
      readonly tools: readonly string[];
      readonly relation: string;
      readonly object: string;
    }[];
  };
  readonly freshness?: { readonly maxStaleSeconds?: number };
  readonly decision?: { readonly lifetimeMs?: number };
  readonly privateAddresses?: { readonly allow: readonly string[] };
  readonly capabilityTypes?: Readonly<Record<string, readonly string[]>>;
  readonly retention?: { readonly lowTierDays?: number; readonly inputs?: "full" | "redacted" | "hashes" };
  readonly limits?: { readonly concurrentCalls?: number; readonly requestsPerSecond?: number };
  readonly timezone?: string;
}
