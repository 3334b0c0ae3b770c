// Rules and requirements: each planned once for the schema that its expressions were checked against, and given to the
// tools that it can match.

import { ContractError, at } from "../contracts/contracts.ts";
import type {
  Ceremony,
  JsonObject,
  Program,
  Requirement,
  RequirementDoc,
  Rule,
  RuleDoc,
} from "../contracts/contracts.ts";
import { compileExpression, ExpressionError } from "../guardian/guardian.ts";
import type { Engine, ExpressionScope } from "../guardian/guardian.ts";
import { namePattern } from "../surface/surface.ts";

/** A rule before it is known for which tool it is planned. */
export interface RuleSource {
  readonly doc: RuleDoc;
  readonly path: string;
  readonly ceremony: Ceremony | null;
  readonly matches: (target: string) => boolean;
  readonly ceremonies: ReadonlyMap<string, Ceremony>;
  readonly engine: Engine;
  /** Plans by the schema they were checked against, so that equal ones are made once. */
  readonly planned: Map<JsonObject | boolean | null, Rule | ContractError>;
}

export function ruleSource(
  doc: RuleDoc,
  path: string,
  ceremonies: ReadonlyMap<string, Ceremony>,
  engine: Engine,
): RuleSource {
  const ceremony = doc.approval === undefined ? null : ceremonies.get(doc.approval);
  if (ceremony === undefined)
    throw new ContractError(at(path, "approval"), `\`${doc.approval}\` is not in approvals`);
  if (doc.then === "escalate" && ceremony === null)
    throw new ContractError(at(path, "approval"), "is missing: an escalation needs a ceremony");
  if (doc.then !== "escalate" && ceremony !== null)
    throw new ContractError(at(path, "approval"), "belongs to `then: escalate`");
  const patterns = doc.tools.map(namePattern);
  const source: RuleSource = {
    doc,
    path,
    ceremony,
    matches: (target) => patterns.some((p) => p(target)),
    ceremonies,
    engine,
    planned: new Map(),
  };
  return source;
}

/** A rule about one tool is checked against its schema; one about several against none, or each one's if it must. */
function ruleFor(source: RuleSource, target: string | null, input: JsonObject | boolean | null): Rule {
  const [only, ...others] = source.doc.tools;
  if (only === target && others.length === 0) return planned(source, input);
  try {
    return planned(source, null);
  } catch (error) {
    if (input === null || !(error instanceof ContractError)) throw error;
    return planned(source, input);
  }
}

export function planned(source: RuleSource, input: JsonObject | boolean | null): Rule {
  let plan = source.planned.get(input);
  if (plan === undefined) {
    try {
      plan = planRule(source, input);
    } catch (error) {
      if (!(error instanceof ContractError)) throw error;
      plan = error;
    }
    source.planned.set(input, plan);
  }
  if (plan instanceof ContractError) throw plan;
  return plan;
}

function planRule(source: RuleSource, input: JsonObject | boolean | null): Rule {
  const { doc, path, engine } = source;
  return {
    id: doc.id,
    then: doc.then,
    when: doc.when === undefined ? null : expression(doc.when, at(path, "when"), { input, engine }),
    shadow: doc.shadow ?? false,
    ceremony: source.ceremony,
    requires:
      doc.requires === undefined
        ? null
        : requirementOf(doc.requires, at(path, "requires"), { input, engine, ceremonies: source.ceremonies }),
    matches: source.matches,
  };
}

function expression(text: string, path: string, scope: ExpressionScope): Program {
  try {
    return compileExpression(text, scope);
  } catch (error) {
    if (error instanceof ExpressionError) throw new ContractError(path, error.message);
    throw error;
  }
}

interface RequirementScope extends ExpressionScope {
  readonly ceremonies: ReadonlyMap<string, Ceremony>;
}

function requirementOf(doc: RequirementDoc, path: string, scope: RequirementScope): Requirement {
  const each = (parts: readonly RequirementDoc[], name: string): Requirement[] =>
    parts.map((p, i) => requirementOf(p, at(at(path, name), i), scope));
  if ("all" in doc) return { kind: "all", of: each(doc.all, "all") };
  if ("any" in doc) return { kind: "any", of: each(doc.any, "any") };
  if ("not" in doc) {
    const of = requirementOf(doc.not, at(path, "not"), scope);
    if (namesApproval(of))
      throw new ContractError(at(path, "not"), "an approval cannot be required not to be");
    return { kind: "not", of };
  }
  if ("cel" in doc) return { kind: "cel", program: expression(doc.cel, at(path, "cel"), scope) };
  if ("approval" in doc) {
    const ceremony = scope.ceremonies.get(doc.approval);
    if (ceremony === undefined)
      throw new ContractError(at(path, "approval"), `\`${doc.approval}\` is not in approvals`);
    return { kind: "approval", ceremony };
  }
  if ("artifact" in doc)
    return { kind: "artifact", artifactType: doc.artifact.type, signer: doc.artifact.signer };
  const r = doc.receipt;
  return {
    kind: "receipt",
    matches: namePattern(r.tool),
    tool: r.tool,
    status: r.status,
    withinMs: r.withinSeconds === undefined ? -1 : r.withinSeconds * 1000,
    sameArgs: r.sameArgs ?? [],
  };
}
function namesApproval(r: Requirement): boolean {
  if (r.kind === "approval") return true;
  if (r.kind === "all" || r.kind === "any") return r.of.some(namesApproval);
  return r.kind === "not" && namesApproval(r.of);
}

/** The rules that can match a target (null: some `net:` one), and the names that they read. */
export function rulesFor(
  target: string | null,
  sources: readonly RuleSource[],
  input: JsonObject | boolean | null,
): { readonly rules: readonly Rule[]; readonly variables: readonly string[] } {
  const rules = sources
    .filter((s) =>
      target === null
        ? s.doc.tools.some((p) => p.startsWith("net:") || p.startsWith("*"))
        : s.matches(target),
    )
    .map((s) => ruleFor(s, target, input));
  const cost = rules.reduce(
    (sum, r) => sum + (r.when?.cost ?? 0) + programs(r.requires).reduce((n, p) => n + p.cost, 0),
    0,
  );
  if (cost > CALL_COST_LIMIT)
    throw new ContractError(
      "rules",
      `those for \`${target ?? "net:"}\` can cost ${cost}, ${CALL_COST_LIMIT} are allowed`,
    );
  const variables = new Set(
    rules.flatMap((r) => [...(r.when?.variables ?? []), ...programs(r.requires).flatMap((p) => p.variables)]),
  );
  return { rules, variables: [...variables] };
}
/** What all rules together may cost one call. */
const CALL_COST_LIMIT = 10_000_000;
function programs(r: Requirement | null): readonly Program[] {
  if (r === null) return [];
  if (r.kind === "cel") return [r.program];
  if (r.kind === "all" || r.kind === "any") return r.of.flatMap(programs);
  return r.kind === "not" ? programs(r.of) : [];
}
