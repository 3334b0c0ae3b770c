// The check of a parsed expression at load: names, functions, cost.

import type { Expr } from "@bufbuild/cel-spec/cel/expr/syntax_pb.js";
import type { JsonObject } from "../contracts/contracts.ts";
import { ExpressionError } from "./cel-type.ts";

const VARIABLES: ReadonlySet<string> = new Set([
  ...["tool", "connector", "name", "effect", "sideEffect", "source", "destination", "args"].map(
    (f) => `call.${f}`,
  ),
  ...["id", "serviceAccount", "namespace", "roles", "tenant", "delegator"].map((f) => `principal.${f}`),
  ...["calls", "tainted", "ageSeconds"].map((f) => `session.${f}`),
  ...["session", "daily"].flatMap((p) => ["calls", "tokens", "costMicroUsd"].map((f) => `budget.${p}.${f}`)),
  "pod.labels",
  "pod.namespace",
  "now",
]);

export interface Checked {
  readonly cost: number;
  readonly variables: readonly string[];
}

export function checkExpression(expr: Expr, _input: JsonObject | boolean | null): Checked {
  const variables = new Set<string>();
  const cost = walk(expr, new Set(), variables);
  return { cost, variables: [...variables] };
}

const pathOf = (expr: Expr): readonly string[] | null => {
  if (expr.exprKind.case === "identExpr") return [expr.exprKind.value.name];
  if (expr.exprKind.case !== "selectExpr" || expr.exprKind.value.testOnly) return null;
  const { operand, field } = expr.exprKind.value;
  const before = operand === undefined ? null : pathOf(operand);
  return before === null ? null : [...before, field];
};

function walk(expr: Expr, bound: ReadonlySet<string>, variables: Set<string>): number {
  const path = pathOf(expr);
  if (path !== null && !bound.has(path[0] ?? "")) {
    for (let n = path.length; n > 0; n--) {
      const name = path.slice(0, n).join(".");
      if (!VARIABLES.has(name)) continue;
      variables.add(name === "call.args" && path.length > n ? `${name}.${path[n]}` : name);
      return path.length;
    }
    throw new ExpressionError(`unknown identifier \`${path.join(".")}\``);
  }
  const of = (e: Expr | undefined, more: readonly string[] = []): number =>
    e === undefined ? 0 : walk(e, more.length === 0 ? bound : new Set([...bound, ...more]), variables);
  const kind = expr.exprKind;
  switch (kind.case) {
    case "constExpr":
    case "identExpr":
      return 1;
    case "selectExpr":
      return 1 + of(kind.value.operand);
    case "callExpr":
      return 1 + of(kind.value.target) + kind.value.args.reduce((sum, a) => sum + of(a), 0);
    case "listExpr":
      return 1 + kind.value.elements.reduce((sum, a) => sum + of(a), 0);
    case "structExpr":
      if (kind.value.messageName !== "") throw new ExpressionError("messages are not supported");
      return (
        1 +
        kind.value.entries.reduce(
          (sum, e) => sum + of(e.value) + (e.keyKind.case === "mapKey" ? of(e.keyKind.value) : 0),
          0,
        )
      );
    case "comprehensionExpr": {
      const c = kind.value;
      const inner = [c.iterVar, c.accuVar];
      return (
        of(c.iterRange) +
        of(c.accuInit) +
        of(c.loopCondition, inner) +
        of(c.loopStep, inner) +
        of(c.result, [c.accuVar])
      );
    }
    case undefined:
      throw new ExpressionError("an empty expression");
  }
}
