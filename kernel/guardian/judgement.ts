// The gates of 2.5 that look at the call itself: schema to approval.

import { messageOf } from "../contracts/contracts.ts";
import type { Amounts, BudgetPolicy, Code, Limits, Rule } from "../contracts/contracts.ts";
import { composeCeremonies, approvalStands } from "./approval.ts";
import { holds } from "./requirements.ts";
import { denial } from "./question.ts";
import type { Answer, Gate, Question, Shadow } from "./question.ts";

export const schema: Gate<"schema"> = {
  name: "schema",
  judge({ call, subject }) {
    if (subject.kind !== "tool") return null;
    const fault = subject.tool.input.validate(call.args);
    return fault === null ? null : denial("DENY_SCHEMA_MISMATCH", `${fault.path}: ${fault.message}`);
  },
};

type Outcome = "match" | "no match" | { readonly error: string };

function outcomeOf(rule: Rule, q: Question): Outcome {
  if (rule.when === null) return "match";
  try {
    return rule.when.test(q.bindings()) ? "match" : "no match";
  } catch (error) {
    return { error: messageOf(error) };
  }
}

export const rules: Gate<"rules"> = {
  name: "rules",
  judge(q) {
    const matched: Rule[] = [];
    let failed: { readonly rule: Rule; readonly error: string } | null = null;
    for (const rule of q.rules) {
      const outcome = outcomeOf(rule, q);
      if (rule.shadow) {
        const shadow = shadowOf(rule, outcome);
        if (shadow !== null) q.found.shadows.push(shadow);
      } else if (outcome === "match") matched.push(rule);
      else if (outcome !== "no match") failed ??= { rule, error: outcome.error };
    }
    q.found.matched = matched;
    const deny = matched.find((r) => r.then === "deny");
    if (deny !== undefined)
      return { code: "DENY_RULE", detail: `rule \`${deny.id}\` denies`, ruleId: deny.id };
    if (failed !== null)
      return {
        code: "POLICY_EVALUATION_ERROR",
        detail: `rule \`${failed.rule.id}\`: ${failed.error}`,
        ruleId: failed.rule.id,
      };
    const first = matched.find((r) => r.then === "escalate") ?? matched[0];
    // A model or a destination is granted by the profile that lists it; rules only narrow it.
    if (first === undefined)
      return q.subject.kind === "tool" ? denial("DENY_NO_MATCH", "no rule allows the call") : null;
    q.found.ruleId = first.id;
    for (const rule of matched)
      if (rule.then === "escalate") {
        // The compiler makes none without; what asks for nobody's approval would have been allowed.
        if (rule.ceremony === null)
          return denial("POLICY_EVALUATION_ERROR", `rule \`${rule.id}\` asks nobody`);
        q.found.ceremonies.push(rule.ceremony);
      }
    return null;
  },
};

function shadowOf(rule: Rule, outcome: Outcome): Shadow | null {
  if (outcome === "no match") return null;
  return { ruleId: rule.id, would: outcome === "match" ? rule.then : "err" };
}

export const requirements: Gate<"requirements"> = {
  name: "requirements",
  judge(q) {
    for (const rule of q.found.matched) {
      if (rule.requires === null) continue;
      const result = holds(rule.requires, q);
      if (result.state === "missing")
        return {
          code: "MISSING_REQUIREMENT",
          detail: `rule \`${rule.id}\`: ${result.leaf}`,
          ruleId: rule.id,
        };
      q.found.ceremonies.push(...result.ceremonies);
    }
    return null;
  },
};

export const budget: Gate<"budget"> = {
  name: "budget",
  judge(q) {
    const { facts, policy, subject, profile } = q;
    if (subject.kind === "tool" && subject.tool.perMinute >= 0)
      if (!(facts.rate.toolLastMinute < subject.tool.perMinute))
        return denial("RATE_LIMIT_EXCEEDED", `${subject.tool.perMinute} calls a minute are allowed`);
    if (!(facts.rate.sessionLastSecond < policy.requestsPerSecond))
      return denial("RATE_LIMIT_EXCEEDED", `${policy.requestsPerSecond} calls a second are allowed`);
    if (profile === null) return denial("BUDGET_ERROR", "no profile says what may be spent");
    return overdrawn(q, profile.budgets, "profile") ?? overdrawn(q, policy.ceiling.budgets, "ceiling");
  },
};

const FIELDS = ["calls", "tokens", "costMicroUsd"] as const;

/** The estimate, never below what the policy says that the tool costs. */
export function estimateOf({ facts, subject }: Pick<Question, "facts" | "subject">): Amounts {
  const e = facts.budget.estimate;
  const floor = subject.kind === "tool" ? subject.tool.costMicroUsd : 0;
  return { calls: e.calls, tokens: e.tokens, costMicroUsd: Math.max(e.costMicroUsd, floor) };
}

function overdrawn(q: Question, budgets: BudgetPolicy, whose: string): Answer {
  const { facts, now } = q;
  const estimate = estimateOf(q);
  const age = (now - Date.parse(facts.session.openedAt)) / 1000;
  if (budgets.session.durationSeconds >= 0 && !(age < budgets.session.durationSeconds))
    return over("the session's time", whose, budgets.session.durationSeconds);
  const shared = whose === "profile" && facts.budget.leased !== "own" ? facts.budget.leased : null;
  const periods: readonly (readonly [string, Limits, Amounts])[] = [
    ["session", budgets.session, facts.budget.session],
    ["daily", budgets.daily, facts.budget.daily],
  ];
  for (const [period, limits, used] of periods)
    for (const field of FIELDS) {
      if (limits[field] < 0) continue;
      // A shared day is bounded by what was leased to this guardian, and never by more than the limit itself.
      const limit =
        period === "daily" && shared !== null ? Math.min(shared[field], limits[field]) : limits[field];
      if (!Number.isSafeInteger(used[field]) || !Number.isSafeInteger(estimate[field]) || estimate[field] < 0)
        return denial("BUDGET_ERROR", `${period} ${field} cannot be counted`);
      if (!(used[field] + estimate[field] <= limit)) return over(`${period} ${field}`, whose, limit);
    }
  return null;
}
const over = (what: string, whose: string, limit: number): Answer =>
  denial("DENY_BUDGET_EXCEEDED", `${what}: the ${whose}'s limit is ${limit}`);

export const approval: Gate<"approval"> = {
  name: "approval",
  judge(q) {
    const needed = composeCeremonies(q.found.ceremonies);
    const destructive = q.subject.kind === "tool" && q.subject.tool.sideEffect === "destructive";
    if (needed === null)
      return destructive
        ? denial("DENY_APPROVAL_REQUIRED", "the tool is destructive and no rule names a ceremony for it")
        : null;
    const a = q.facts.approval;
    if (a.state === "refused") return denial(refusal(a.code), `approval ${a.id}`);
    if (a.state === "none" || a.state === "pending") return { ceremony: needed };
    const fault = approvalStands(a, needed, q);
    return fault === null ? null : denial("APPROVAL_INVALID", fault);
  },
};
const REFUSALS: readonly Code[] = ["APPROVAL_REJECTED", "DENY_APPROVAL_TIMEOUT"];
const refusal = (code: Code): Code => (REFUSALS.includes(code) ? code : "APPROVAL_INVALID");
