// The check of a parsed expression at load: names, types, functions, and the worst that it can cost.

import type { Expr, Expr_Comprehension, Expr_CreateStruct } from "@bufbuild/cel-spec/cel/expr/syntax_pb.js";
import { present } from "../contracts/contracts.ts";
import type { Functions } from "./cel-functions.ts";
import {
  BOOL,
  DOUBLE,
  ExpressionError,
  INT,
  NULL,
  TYPE,
  UINT,
  bytes,
  either,
  elements,
  list,
  map,
  nameOf,
  product,
  text,
} from "./cel-type.ts";
import type { Known } from "./cel-type.ts";

export const COST_LIMIT = 1_000_000;
const NODE = 10;

export interface Checked {
  readonly yields: Known;
  readonly cost: number;
  /** The names that have to be bound, `call.args.repo` for a member of the arguments. */
  readonly variables: readonly string[];
}
export interface Names {
  /** What stands under a first name: a value, or a space of names. */
  readonly of: (name: string) => Known | null;
  /** Names of types, such as `int`. */
  readonly types: ReadonlySet<string>;
}
interface Step {
  readonly known: Known;
  readonly cost: number;
}
type Scope = ReadonlyMap<string, Known>;

export function checkExpression(expr: Expr, names: Names, functions: Functions): Checked {
  const checked = checkParts(expr, names, functions);
  const { kind } = checked.yields;
  if (kind === "bool" || kind === "dyn") return checked;
  throw new ExpressionError(`yields ${nameOf(checked.yields)} and not a boolean`);
}

/** The same for a part, which may yield anything. */
export function checkParts(expr: Expr, names: Names, functions: Functions): Checked {
  const variables = new Set<string>();
  const check = (e: Expr | undefined, scope: Scope): Step => {
    if (e === undefined) throw new ExpressionError("an empty expression");
    const kind = e.exprKind;
    switch (kind.case) {
      case "constExpr":
        return { known: constant(kind.value.constantKind), cost: NODE };
      case "identExpr":
        return { known: ident(kind.value.name, scope), cost: NODE };
      case "selectExpr":
        return select(kind.value.operand, kind.value.field, kind.value.testOnly, scope);
      case "callExpr":
        return call(kind.value.function, kind.value.target, kind.value.args, scope);
      case "listExpr": {
        if (kind.value.optionalIndices.length > 0)
          throw new ExpressionError("optional elements are not supported");
        const steps = kind.value.elements.map((x) => value(x, scope));
        const of = steps.length === 0 ? DYN0 : steps.map((s) => s.known).reduce(either);
        return { known: list(of, steps.length), cost: costs(steps) + NODE * (1 + steps.length) };
      }
      case "structExpr":
        return struct(kind.value, scope);
      case "comprehensionExpr":
        return comprehension(kind.value, scope);
      case undefined:
        throw new ExpressionError("an empty expression");
    }
  };
  /** A step whose result is a value and no space of names. */
  const value = (e: Expr | undefined, scope: Scope): Step => {
    const step = check(e, scope);
    if (step.known.space !== undefined)
      throw new ExpressionError(`\`${step.known.space}\` is not a value; name one of its members`);
    return step;
  };

  function ident(name: string, scope: Scope): Known {
    const local = scope.get(name);
    if (local !== undefined) return local;
    const known = names.of(name);
    if (known !== null) {
      if (known.space === undefined) variables.add(name);
      return known;
    }
    if (names.types.has(name)) return TYPE;
    throw new ExpressionError(`unknown identifier \`${name}\``);
  }

  function select(operand: Expr | undefined, field: string, testOnly: boolean, scope: Scope): Step {
    const of = check(operand, scope);
    const cost = of.cost + NODE * 2;
    const { space } = of.known;
    if (space !== undefined) {
      const member = of.known.members?.get(field);
      const name = `${space}.${field}`;
      if (member === undefined) throw new ExpressionError(`unknown identifier \`${name}\``);
      if (testOnly)
        throw new ExpressionError(`\`${name}\` is always there; \`has\` is for members of a value`);
      if (member.space === undefined) variables.add(name);
      return { known: member, cost };
    }
    if (of.known.kind !== "map" && of.known.kind !== "dyn")
      throw new ExpressionError(`\`.${field}\` of a ${nameOf(of.known)}`);
    const member = of.known.members?.get(field);
    if (member === undefined && of.known.closed === true)
      throw new ExpressionError(`the input schema has no \`${field}\``);
    if (isArgs(operand, scope) && !testOnly) {
      variables.delete("call.args");
      variables.add(`call.args.${field}`);
      if (wholeArgs) variables.add("call.args");
    } else if (isArgs(operand, scope)) wholeArgs = true;
    if (testOnly) return { known: BOOL, cost };
    return { known: member ?? (of.known.kind === "map" ? elements(of.known) : part(of.known)), cost };
  }
  let wholeArgs = false;
  const isArgs = (e: Expr | undefined, scope: Scope): boolean =>
    pathOf(e) === "call.args" && !scope.has("call");

  function call(name: string, target: Expr | undefined, args: readonly Expr[], scope: Scope): Step {
    const all = target === undefined ? args : [target, ...args];
    const path = pathOf(target);
    const root = path?.split(".")[0];
    if (root !== undefined && names.of(root) === null && !scope.has(root))
      throw new ExpressionError(`function \`${path}.${name}\` is not supported`);
    const steps = all.map((a) => value(a, scope));
    const cost = costs(steps) + NODE;
    const known = (i: number): Known => present(steps[i]).known;
    switch (name) {
      case "_&&_":
      case "_||_":
        for (const s of steps) boolish(s.known, name);
        return { known: BOOL, cost };
      case "@not_strictly_false":
        return { known: BOOL, cost };
      case "_?_:_":
        boolish(known(0), name);
        return { known: either(known(1), known(2)), cost };
      case "_[_]":
        return { known: index(known(0), known(1)), cost: cost + NODE * 2 };
      default: {
        const called = functions(
          name,
          target !== undefined,
          steps.map((s) => s.known),
        );
        return { known: called.yields, cost: cost + called.cost };
      }
    }
  }

  function struct(s: Expr_CreateStruct, scope: Scope): Step {
    if (s.messageName !== "") throw new ExpressionError(`message \`${s.messageName}\` is not supported`);
    const steps: Step[] = [];
    const values: Known[] = [];
    for (const entry of s.entries) {
      if (entry.optionalEntry) throw new ExpressionError("optional entries are not supported");
      if (entry.keyKind.case !== "mapKey") throw new ExpressionError("an entry without a key");
      const key = value(entry.keyKind.value, scope);
      if (!["string", "int", "uint", "bool"].includes(key.known.kind))
        throw new ExpressionError(`a ${nameOf(key.known)} is no key`);
      // An int and an equal uint would be one key twice, which the engine does not see.
      if ((steps[0] ?? key).known.kind !== key.known.kind)
        throw new ExpressionError("keys of different types");
      const held = value(entry.value, scope);
      values.push(held.known);
      steps.push(key, held);
    }
    const of = values.length === 0 ? DYN0 : values.reduce(either);
    return { known: map(of, values.length), cost: costs(steps) + NODE * (1 + steps.length) };
  }

  /** Only macros make these; the accumulator is a boolean, a count, or a list that grows by one in each turn. */
  function comprehension(c: Expr_Comprehension, scope: Scope): Step {
    for (const name of [c.iterVar, c.iterVar2])
      if (names.of(name) !== null) throw new ExpressionError(`\`${name}\` would hide a name of the policy`);
    if (c.iterVar2 !== "") throw new ExpressionError("comprehensions over two variables are not supported");
    const range = value(c.iterRange, scope);
    const { kind, size } = range.known;
    if (kind !== "list" && kind !== "map" && kind !== "dyn")
      throw new ExpressionError(`a comprehension over a ${nameOf(range.known)}`);
    if (!Number.isFinite(size))
      throw new ExpressionError(
        "an unbounded comprehension: state maxItems or maxProperties in the input schema",
      );
    const element = kind === "map" ? text() : kind === "list" ? elements(range.known) : part(range.known);
    const init = value(c.accuInit, scope);
    const inner = (known: Known): Scope => new Map([...scope, [c.iterVar, element], [c.accuVar, known]]);
    const first = value(c.loopStep, inner(init.known));
    // A list's elements are known after one turn, the rest is as it began.
    const settled = first.known.kind === "list" ? list(elements(first.known), size) : init.known;
    const step = value(c.loopStep, inner(settled));
    const condition = value(c.loopCondition, inner(settled));
    const result = value(c.result, new Map([...scope, [c.accuVar, settled]]));
    const turns = product(size, step.cost + condition.cost + 2 * NODE);
    return { known: result.known, cost: range.cost + init.cost + turns + result.cost + 2 * NODE };
  }

  const { known, cost } = value(expr, new Map());
  if (!(cost <= COST_LIMIT))
    throw new ExpressionError(
      `can cost ${Number.isFinite(cost) ? Math.ceil(cost) : "without bound"}, ${COST_LIMIT} units are allowed; bound the inputs in the schema`,
    );
  return { yields: known, cost: Math.ceil(cost), variables: [...variables] };
}

const DYN0: Known = { kind: "dyn", size: 0, weight: 0 };
const part = (k: Known): Known => ({ kind: "dyn", size: k.size, weight: k.weight });
const costs = (steps: readonly Step[]): number => steps.reduce((sum, s) => sum + s.cost, 0);

function boolish(k: Known, name: string): void {
  if (k.kind !== "bool" && k.kind !== "dyn")
    throw new ExpressionError(`\`${name}\` does not take ${nameOf(k)}`);
}

function index(of: Known, by: Known): Known {
  const keys =
    of.kind === "list"
      ? ["int", "uint", "double", "dyn"]
      : ["string", "int", "uint", "bool", "double", "dyn"];
  if (!["list", "map", "dyn"].includes(of.kind) || !keys.includes(by.kind))
    throw new ExpressionError(`\`[]\` of a ${nameOf(of)} with a ${nameOf(by)}`);
  const member = by.literal === undefined ? undefined : of.members?.get(by.literal);
  if (member !== undefined) return member;
  if (of.closed === true && by.literal !== undefined)
    throw new ExpressionError(`the input schema has no \`${by.literal}\``);
  return of.kind === "dyn" ? part(of) : elements(of);
}

function pathOf(e: Expr | undefined): string | null {
  const kind = e?.exprKind;
  if (kind?.case === "identExpr") return kind.value.name;
  if (kind?.case !== "selectExpr" || kind.value.testOnly) return null;
  const before = pathOf(kind.value.operand);
  return before === null ? null : `${before}.${kind.value.field}`;
}

type ConstantKind = (Expr["exprKind"] & { case: "constExpr" })["value"]["constantKind"];
function constant(c: ConstantKind): Known {
  switch (c.case) {
    case "stringValue":
      return { ...text(c.value.length), literal: c.value };
    case "bytesValue":
      return bytes(c.value.length);
    case "boolValue":
      return BOOL;
    case "int64Value":
      return INT;
    case "uint64Value":
      return UINT;
    case "doubleValue":
      return DOUBLE;
    case "nullValue":
      return NULL;
    case "durationValue":
    case "timestampValue":
    case undefined:
      throw new ExpressionError("a constant that has no form");
  }
}
