// Rule expressions: parsed, checked and planned once at load; what a call brings is bound by flat names.

import { celEnv, celList, celMap, isCelError, parse, plan } from "@bufbuild/cel";
import type { CelInput } from "@bufbuild/cel";
import { isObject, messageOf, present } from "../contracts/contracts.ts";
import type {
  Bindings,
  Facts,
  JsonObject,
  JsonValue,
  Policy,
  Program,
  ToolCall,
} from "../contracts/contracts.ts";
import { checkExpression } from "./cel-check.ts";
import { ownPresence } from "./cel-engine.ts";
import type { Engine } from "./cel-engine.ts";
import { ExpressionError, VALUES_LIMIT, knownOf } from "./cel-type.ts";
import { LABELS, ROLES, policyNames } from "./cel-names.ts";
import type { Subject } from "./question.ts";

export { ExpressionError };

export interface ExpressionScope {
  /** The pinned input schema where the expression is about one tool, else null. */
  readonly input: JsonObject | boolean | null;
  /** Shared by the expressions of one policy. */
  readonly engine: Engine;
}

/** Longer than any rule a person writes; what bounds the parser. */
const TEXT_LIMIT = 8_192;
const DEPTH_LIMIT = 32;

export function compileExpression(text: string, scope: ExpressionScope): Program {
  const parsed = parsedOf(text);
  const { cost, variables } = checkExpression(
    parsed.expr,
    policyNames(knownOf(scope.input)),
    scope.engine.functions,
  );
  ownPresence(parsed.expr);
  const run = plan(scope.engine.environment, parsed);
  return {
    text,
    cost,
    variables,
    test(bindings) {
      const result = run(asInputs(bindings));
      if (result === true || result === false) return result;
      throw isCelError(result) ? result : new TypeError("the expression does not yield a boolean");
    },
  };
}

/** The parser descends into itself, so what nests too deeply is refused before it is asked. */
function parsedOf(text: string): ReturnType<typeof parse> {
  if (text.length > TEXT_LIMIT) throw new ExpressionError(`is longer than ${TEXT_LIMIT} characters`);
  let depth = 0;
  for (const c of text) {
    if ("([{".includes(c)) depth++;
    else if (")]}".includes(c)) depth--;
    if (depth > DEPTH_LIMIT) throw new ExpressionError(`is nested deeper than ${DEPTH_LIMIT}`);
  }
  try {
    return parse(text);
  } catch (error) {
    throw new ExpressionError(`does not parse: ${messageOf(error)}`);
  }
}
const isInputs = (b: Bindings): b is Readonly<Record<string, CelInput>> => b[BOUND] === true;
const BOUND = "\u0000bound";
function asInputs(b: Bindings): Record<string, CelInput> {
  if (!isInputs(b)) throw new TypeError("not bindings");
  return b;
}

const timestamp = plan(celEnv(), parse("timestamp(text)"));

interface Circumstances {
  readonly call: ToolCall;
  readonly policy: Policy;
  readonly facts: Facts;
  readonly now: number;
  readonly subject: Subject;
}

/** The values of these names. What a fact does not have stays unbound, and reading it is an error. */
export function bind(names: readonly string[], c: Circumstances): Bindings {
  const bound: Record<string, CelInput> = Object.create(null);
  bound[BOUND] = true;
  for (const name of names) {
    const value = valueOf(name, c);
    if (value !== undefined) bound[name] = value;
  }
  return bound;
}

const whole = (n: number): bigint => BigInt(n);
/** The bounds that the check at load has counted on. */
function within(entries: readonly unknown[], limit: number): void {
  if (entries.length > limit) throw new RangeError(`${entries.length} entries where ${limit} are allowed`);
}
function strings(list: readonly string[]): CelInput {
  within(list, ROLES);
  return celList([...list]);
}
function labels(map: Readonly<Record<string, string>>): CelInput {
  const entries = Object.entries(map);
  within(entries, LABELS);
  return celMap(new Map(entries));
}

function valueOf(name: string, { call, facts, now, subject, policy }: Circumstances): CelInput | undefined {
  if (name.startsWith("call.args.")) {
    const key = name.slice("call.args.".length);
    if (!Object.hasOwn(call.args, key)) return undefined;
    return celOf(present(call.args[key]), memberSchema(schemaOf(subject), key));
  }
  if (name.startsWith("budget.")) return remaining(name, { facts, policy });
  const p = facts.principal;
  switch (name) {
    case "call.args":
      return celOf(call.args, schemaOf(subject));
    case "call.tool":
      return call.target;
    case "call.connector":
      return present(/^[a-z]+:([^/:]*)/.exec(call.target)?.[1]);
    case "call.name":
      return call.target.slice(call.target.indexOf("/") + 1);
    case "call.effect":
      return subject.kind === "tool" ? subject.tool.effect : subject.kind === "model" ? "E0" : "E2";
    case "call.sideEffect":
      return subject.kind === "tool" ? subject.tool.sideEffect : "";
    case "call.source":
      return call.source;
    case "call.destination":
      return facts.destination.state === "known"
        ? `${facts.destination.host}:${facts.destination.port}`
        : undefined;
    case "session.calls":
      return whole(facts.session.calls);
    case "session.tainted":
      return facts.session.tainted;
    case "session.ageSeconds":
      return whole(Math.floor((now - Date.parse(facts.session.openedAt)) / 1000));
    case "pod.labels":
      return labels(facts.pod.labels);
    case "pod.namespace":
      return facts.pod.namespace;
    case "now": {
      const value = timestamp({ text: facts.now });
      return isCelError(value) ? undefined : value;
    }
    default:
      break;
  }
  if (p.state !== "verified") return undefined;
  switch (name) {
    case "principal.id":
      return p.id;
    case "principal.serviceAccount":
      return p.serviceAccount;
    case "principal.namespace":
      return p.namespace;
    case "principal.roles":
      return strings(p.roles);
    case "principal.tenant":
      return p.tenant;
    case "principal.delegator":
      return p.delegator;
    default:
      return undefined;
  }
}

/** What the ceiling and nothing else leaves; without a limit the largest integer. */
function remaining(
  name: string,
  { facts, policy }: Pick<Circumstances, "facts" | "policy">,
): bigint | undefined {
  const [, period, field] = name.split(".");
  if (period !== "session" && period !== "daily") return undefined;
  if (field !== "calls" && field !== "tokens" && field !== "costMicroUsd") return undefined;
  const limit = policy.ceiling.budgets[period][field];
  return limit < 0 ? whole(Number.MAX_SAFE_INTEGER) : whole(limit - facts.budget[period][field]);
}

type Schema = JsonValue | undefined;
const schemaOf = (subject: Subject): Schema =>
  subject.kind === "tool" ? subject.tool.inputSchema : undefined;

export function memberSchema(schema: Schema, key: string): Schema {
  if (!isObject(schema)) return undefined;
  const properties = schema["properties"];
  return isObject(properties) && Object.hasOwn(properties, key)
    ? properties[key]
    : schema["additionalProperties"];
}

/** Schema `integer` is int, other declared numbers double, undeclared integral numbers int. */
export function celOf(value: JsonValue, schema: Schema): CelInput {
  let left = VALUES_LIMIT;
  const of = (value: JsonValue, schema: Schema): CelInput => {
    if (--left < 0)
      throw new RangeError(`more than ${VALUES_LIMIT} values in the arguments that a rule reads`);
    if (typeof value === "number") {
      const type = isObject(schema) ? schema["type"] : undefined;
      if (type === "number") return value;
      return Number.isSafeInteger(value) ? BigInt(value) : value;
    }
    if (value === null || typeof value !== "object") return value;
    if (isObject(value)) {
      const entries = Object.entries(value).map(([k, v]) => [k, of(v, memberSchema(schema, k))] as const);
      return celMap(new Map(entries));
    }
    const items = isObject(schema) ? schema["items"] : undefined;
    return celList(value.map((v) => of(v, items)));
  };
  return of(value, schema);
}
