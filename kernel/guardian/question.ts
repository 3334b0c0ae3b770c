// What a gate is asked, and what it may answer.

import type {
  Bindings,
  Ceremony,
  Code,
  EffectClass,
  Facts,
  GateName,
  ModelPolicy,
  Policy,
  Profile,
  Rule,
  ToolCall,
  ToolPolicy,
} from "../contracts/contracts.ts";

/** What the call is aimed at, as far as the policy knows it. */
export type Subject =
  | { readonly kind: "tool"; readonly tool: ToolPolicy }
  | { readonly kind: "model"; readonly model: ModelPolicy }
  | { readonly kind: "net"; readonly host: string; readonly port: number }
  | { readonly kind: "unknown" };

export interface Question {
  readonly call: ToolCall;
  readonly policy: Policy;
  readonly facts: Facts;
  readonly now: number;
  readonly subject: Subject;
  readonly effect: EffectClass;
  readonly rules: readonly Rule[];
  readonly profile: Profile | null;
  /** What earlier gates hand to later ones: the rules gate fills it, requirements and approval read it. */
  readonly found: Found;
  readonly bindings: () => Bindings;
}
export interface Found {
  ruleId: string;
  matched: readonly Rule[];
  ceremonies: Ceremony[];
  shadows: Shadow[];
}
/** What a rule in shadow would have done. */
export interface Shadow {
  readonly ruleId: string;
  readonly would: "allow" | "deny" | "escalate" | "err";
}

export interface Denial {
  readonly code: Code;
  readonly detail: string;
  readonly ruleId?: string;
}
export interface Escalation {
  readonly ceremony: Ceremony;
}
export type Answer = null | Denial | Escalation;

export interface Gate<Name extends GateName> {
  readonly name: Name;
  readonly judge: (question: Question) => Answer;
}

export const denial = (code: Code, detail: string): Denial => ({ code, detail });
