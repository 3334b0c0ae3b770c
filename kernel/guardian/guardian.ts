// The door of the guardian: one pure, synchronous judgement. A Permit can be made nowhere else.

import { GATES, messageOf } from "../contracts/contracts.ts";
import type {
  Amounts,
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
  Target,
  ToolCall,
  ToolPolicy,
} from "../contracts/contracts.ts";
import { bind } from "./cel.ts";
import { ceiling, context, delegation, egress, freeze, identity, surface, threat } from "./gates.ts";
import { approval, budget, estimateOf, requirements, rules, schema } from "./judgement.ts";
import type { Found, Gate, Question, Shadow, Subject } from "./question.ts";

export {
  confirmOf,
  intentHash,
  parseChallenge,
  readAssertion,
  termsOf,
} from "./approval.ts";
export type { Assertion, Challenge } from "./approval.ts";
export { compileExpression, ExpressionError } from "./cel.ts";
export { createEngine } from "./cel-engine.ts";
export type { Engine } from "./cel-engine.ts";
export type { ExpressionScope } from "./cel.ts";
export type { Shadow } from "./question.ts";

/** One gate for each name of the contract, in its order: a missing, swapped or optional one does not compile. */
type GatesFor<Names extends readonly GateName[]> = { readonly [I in keyof Names]: Gate<Names[I]> };
export type GateTuple = GatesFor<typeof GATES>;
const TUPLE: GateTuple = [
  freeze,
  context,
  identity,
  egress,
  threat,
  delegation,
  ceiling,
  surface,
  schema,
  rules,
  requirements,
  budget,
  approval,
];

/** Known in this file alone, so that what `permit.constructor` makes is no permit. */
const MINT = Symbol();

/** Leave to dispatch this call once. Only `decide` makes one; the executor takes nothing else. */
class LeaveToDispatch {
  readonly #mint: symbol;
  readonly call: ToolCall;
  readonly policy: Policy;
  readonly facts: Facts;
  readonly tool: ToolPolicy | null;
  readonly model: ModelPolicy | null;
  readonly reserves: Amounts;
  readonly expiresAtMs: number;
  constructor(q: Question, mint: symbol) {
    this.#mint = mint;
    this.call = q.call;
    this.policy = q.policy;
    this.facts = q.facts;
    this.tool = q.subject.kind === "tool" ? q.subject.tool : null;
    this.model = q.subject.kind === "model" ? q.subject.model : null;
    this.reserves = estimateOf(q);
    this.expiresAtMs = q.now + q.policy.lifetimeMs;
  }
  static isOne(value: unknown): value is LeaveToDispatch {
    return typeof value === "object" && value !== null && #mint in value && value.#mint === MINT;
  }
}
export type Permit = LeaveToDispatch;
export const isPermit = (value: unknown): value is Permit => LeaveToDispatch.isOne(value);

/** What is known of a judgement whatever its end: it goes into the receipt. */
export interface Trace {
  /** The gates that ran, the denying one included. */
  readonly gates: readonly GateName[];
  readonly ruleId: string;
  readonly effect: EffectClass | "";
  readonly shadows: readonly Shadow[];
  readonly profile: Profile | null;
}
export type Verdict =
  | (Trace & { readonly verdict: "ALLOW"; readonly permit: Permit })
  | (Trace & { readonly verdict: "DENY"; readonly code: Code; readonly detail: string })
  | (Trace & {
      readonly verdict: "ESCALATE";
      readonly code: "DENY_APPROVAL_REQUIRED";
      readonly detail: string;
      readonly ceremony: Ceremony;
    });

/** Judges one call. Every gate runs, or the call is denied; what throws denies. */
export function decide(call: ToolCall, policy: Policy, facts: Facts): Verdict {
  const ran: GateName[] = [];
  const found: Found = { ruleId: "", matched: [], ceremonies: [], shadows: [] };
  let effect: EffectClass | "" = "";
  let profile: Profile | null = null;
  const trace = (): Trace => ({ gates: ran, ruleId: found.ruleId, effect, shadows: found.shadows, profile });
  try {
    const q = questionOf(call, policy, facts, found);
    effect = q.subject.kind === "unknown" ? "" : q.effect;
    profile = q.profile;
    for (const gate of TUPLE) {
      ran.push(gate.name);
      const answer = gate.judge(q);
      if (answer === null) continue;
      if ("ceremony" in answer)
        return {
          ...trace(),
          verdict: "ESCALATE",
          code: "DENY_APPROVAL_REQUIRED",
          detail: `ceremony \`${answer.ceremony.name}\``,
          ceremony: answer.ceremony,
        };
      if (answer.ruleId !== undefined) found.ruleId = answer.ruleId;
      return { ...trace(), verdict: "DENY", code: answer.code, detail: answer.detail };
    }
    return { ...trace(), verdict: "ALLOW", permit: new LeaveToDispatch(q, MINT) };
  } catch (error) {
    const detail = messageOf(error);
    return { ...trace(), verdict: "DENY", code: "POLICY_EVALUATION_ERROR", detail };
  }
}

function questionOf(call: ToolCall, policy: Policy, facts: Facts, found: Found): Question {
  const now = Date.parse(facts.now);
  if (!Number.isFinite(now)) throw new RangeError("`now` is not a time");
  const subject = subjectOf(call.target, policy);
  let bindings: Bindings | null = null;
  const { rules, variables } = rulesOf(call.target, subject, policy);
  return {
    call,
    policy,
    facts,
    now,
    subject,
    effect: effectOf(subject),
    rules,
    profile: profileOf(policy, facts),
    found,
    bindings: () => (bindings ??= bind(variables, { call, policy, facts, now, subject })),
  };
}

const NET = /^net:.+:\d{1,5}$/;
function subjectOf(target: Target, policy: Policy): Subject {
  const tool = policy.tools.get(target);
  if (tool !== undefined) return { kind: "tool", tool };
  const model = policy.models.get(target);
  if (model !== undefined) return { kind: "model", model };
  const cut = target.lastIndexOf(":");
  const port = Number(target.slice(cut + 1));
  return NET.test(target) && port >= 1 && port <= 65_535
    ? { kind: "net", host: target.slice("net:".length, cut).replaceAll("%3A", ":"), port }
    : { kind: "unknown" };
}

/** A model only computes an answer; what a tunnel carries is opaque, so it counts as a write. */
function effectOf(subject: Subject): EffectClass {
  switch (subject.kind) {
    case "tool":
      return subject.tool.effect;
    case "model":
      return "E0";
    case "net":
      return "E2";
    case "unknown":
      return "E4";
  }
}

function rulesOf(
  target: Target,
  subject: Subject,
  policy: Policy,
): { readonly rules: readonly Rule[]; readonly variables: readonly string[] } {
  switch (subject.kind) {
    case "tool":
      return subject.tool;
    case "model":
      return subject.model;
    case "net":
      return { rules: policy.netRules.filter((r) => r.matches(target)), variables: policy.netVariables };
    case "unknown":
      return { rules: [], variables: [] };
  }
}

function profileOf(policy: Policy, facts: Facts): Profile | null {
  const p = facts.principal;
  if (p.state !== "verified") return null;
  for (const profile of policy.profiles) {
    if (profile.serviceAccount !== "" && profile.serviceAccount !== p.serviceAccount)
      if (profile.serviceAccount !== `${p.namespace}/${p.serviceAccount}`) continue;
    if (profile.principal !== "" && !profile.matchesPrincipal(p.id)) continue;
    if (profile.role !== "" && !p.roles.includes(profile.role)) continue;
    const labels = facts.pod.namespaceLabels;
    if (
      Object.entries(profile.namespaceLabels).some(([k, v]) => !Object.hasOwn(labels, k) || labels[k] !== v)
    )
      continue;
    return profile;
  }
  return null;
}
