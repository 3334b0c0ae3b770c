// The worst rule that is admitted times the largest arguments that are admitted: what one expression at the edge of
// its cost bound really takes.

import { createHash } from "node:crypto";
import type { JsonObject, JsonValue } from "../kernel/contracts/contracts.ts";
import { celOf, memberSchema } from "../kernel/guardian/cel.ts";
import { ExpressionError, compileExpression, createEngine } from "../kernel/guardian/guardian.ts";
import { asked } from "../kind-e2e/asked.ts";

asked(
  `usage: node bench/worst-rule.ts
The dearest rules that are admitted, on the largest arguments that are: exit 0 when each takes 10 ms at most, 1 otherwise.`,
  {},
);

const string = (maxLength: number): JsonObject => ({ type: "string", maxLength });
const array = (maxItems: number, items: JsonValue): JsonObject => ({ type: "array", maxItems, items });
const object = (properties: JsonObject): JsonObject => ({
  type: "object",
  additionalProperties: false,
  properties,
});

/** An expression, a schema of size n and the largest arguments of it. */
interface Case {
  readonly name: string;
  readonly text: (n: number) => string;
  readonly schema: (n: number) => JsonObject;
  readonly args: (n: number) => JsonObject;
}
const noise = (n: number): string =>
  n < 1
    ? ""
    : createHash("shake256", { outputLength: Math.ceil(n / 2) })
        .update("x")
        .digest("hex")
        .slice(0, n);
const CASES: readonly Case[] = [
  {
    name: "contains, a needle that almost matches everywhere",
    text: (n) => `call.args.s.contains("${"a".repeat(Math.min(n, 400))}b")`,
    schema: (n) => object({ s: string(n) }),
    args: (n) => ({ s: "a".repeat(n) }),
  },
  {
    name: "matches, an ambiguous pattern",
    text: () => `call.args.s.matches("(a?b?){9}(a|b|ab)*[c-d]")`,
    schema: (n) => object({ s: string(n) }),
    args: (n) => ({ s: "ab".repeat(n / 2) }),
  },
  {
    name: "matches, a simple pattern",
    text: () => `call.args.s.matches("(?i)[a-f0-9]+[g-z]")`,
    schema: (n) => object({ s: string(n) }),
    args: (n) => ({ s: noise(n) }),
  },
  {
    name: "all over integers",
    text: () => "call.args.l.all(x, x > 0 && x < 100)",
    schema: (n) => object({ l: array(n, { type: "integer" }) }),
    args: (n) => ({ l: Array.from({ length: n }, () => 5) }),
  },
  {
    name: "nested exists",
    text: () => "!call.args.l.exists(x, call.args.l.exists(y, x + y == 1))",
    schema: (n) => object({ l: array(n, { type: "integer" }) }),
    args: (n) => ({ l: Array.from({ length: n }, () => 5) }),
  },
  {
    name: "map then size",
    text: () => "call.args.l.map(x, x + 1).size() > 0",
    schema: (n) => object({ l: array(n, { type: "integer" }) }),
    args: (n) => ({ l: Array.from({ length: n }, () => 5) }),
  },
  {
    name: "filter of strings",
    text: () => 'call.args.l.filter(x, x.startsWith("a")).size() > 0',
    schema: (n) => object({ l: array(n, string(20)) }),
    args: (n) => ({ l: Array.from({ length: n }, () => "a".repeat(20)) }),
  },
  {
    name: "every member in a list",
    text: () => "call.args.l.all(x, x in call.args.l)",
    schema: (n) => object({ l: array(n, string(20)) }),
    args: (n) => ({ l: Array.from({ length: n }, (_, i) => `${i}`.padStart(20, "a")) }),
  },
  {
    name: "equality of lists",
    text: () => "call.args.a == call.args.b",
    schema: (n) => object({ a: array(n, { type: "integer" }), b: array(n, { type: "integer" }) }),
    args: (n) => ({ a: Array.from({ length: n }, () => 1), b: Array.from({ length: n }, () => 1) }),
  },
  {
    name: "equality of objects",
    text: () => "call.args.l.all(x, x == call.args.l[0])",
    schema: (n) =>
      object({ l: array(n, object({ a: { type: "integer" }, b: string(10), c: { type: "boolean" } })) }),
    args: (n) => ({ l: Array.from({ length: n }, () => ({ a: 1, b: "xxxxxxxxxx", c: true })) }),
  },
  {
    name: "growing strings",
    text: () => '(call.args.s + call.args.s + call.args.s + call.args.s).endsWith("a" + call.args.s)',
    schema: (n) => object({ s: string(n) }),
    args: (n) => ({ s: "a".repeat(n) }),
  },
  {
    name: "size of a string",
    text: () => "size(call.args.s) > 3 && call.args.s.size() > 3",
    schema: (n) => object({ s: string(n) }),
    args: (n) => ({ s: "a".repeat(n) }),
  },
  {
    name: "dates with a zone",
    text: () => 'call.args.l.all(x, timestamp("2026-01-01T00:00:00Z").getHours("Asia/Kathmandu") >= 0)',
    schema: (n) => object({ l: array(n, { type: "integer" }) }),
    args: (n) => ({ l: Array.from({ length: n }, () => 5) }),
  },
  {
    name: "timestamps from texts",
    text: () => "call.args.l.all(x, timestamp(x) > timestamp('2020-01-01T00:00:00Z'))",
    schema: (n) => object({ l: array(n, string(24)) }),
    args: (n) => ({ l: Array.from({ length: n }, () => "2026-01-01T00:00:00Z") }),
  },
  {
    name: "doubling lists",
    text: () => "[call.args.l, call.args.l].exists(x, (x + x + x + x).exists(y, y == 1))",
    schema: (n) => object({ l: array(n, { type: "integer" }) }),
    args: (n) => ({ l: Array.from({ length: n }, () => 5) }),
  },
  {
    name: "map literals",
    text: () => 'call.args.l.all(x, {"a": x, "b": 2, "c": 3}.a == x)',
    schema: (n) => object({ l: array(n, { type: "integer" }) }),
    args: (n) => ({ l: Array.from({ length: n }, () => 5) }),
  },
  {
    name: "conversions",
    text: () => "call.args.l.all(x, int(string(int(x))) > 0)",
    schema: (n) => object({ l: array(n, string(15)) }),
    args: (n) => ({ l: Array.from({ length: n }, () => "123456789012345") }),
  },
];

const engine = createEngine();
/** The largest n at which the expression is still admitted, or that is turned into the engine's values at all. */
function largest(c: Case): number {
  let low = 0;
  let high =
    c.name.includes("string") || c.name.includes("contains") || c.name.includes("matches") ? 1 << 19 : 19_999;
  while (low < high) {
    const n = Math.ceil((low + high) / 2);
    try {
      compileExpression(c.text(n), { input: c.schema(n), engine });
      low = n;
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      high = n - 1;
    }
  }
  return low;
}

const BOUND_MS = 10;
let worst = 0;
for (const c of CASES) {
  const n = largest(c);
  const program = compileExpression(c.text(n), { input: c.schema(n), engine });
  const schema = c.schema(n);
  const args = c.args(n);
  let best = Number.POSITIVE_INFINITY;
  let outcome = "";
  for (let i = 0; i < 7; i++) {
    const fresh: Record<string, unknown> = { "\u0000bound": true };
    for (const name of program.variables) {
      if (name === "call.args") fresh[name] = celOf(args, schema);
      else {
        const key = name.slice("call.args.".length);
        const of = memberSchema(schema, key);
        fresh[name] = celOf(args[key] ?? null, of);
      }
    }
    const start = performance.now();
    try {
      outcome = String(program.test(fresh));
    } catch (error) {
      outcome = error instanceof Error ? error.message.slice(0, 40) : "error";
    }
    best = Math.min(best, performance.now() - start);
  }
  worst = Math.max(worst, best);
  console.log(
    `${best.toFixed(2).padStart(7)} ms  n ${String(n).padStart(6)}  cost ${String(program.cost).padStart(7)}  ${outcome.padEnd(6)} ${c.name}`,
  );
}
console.log(`worst ${worst.toFixed(2)} ms of ${BOUND_MS}`);
process.exitCode = worst <= BOUND_MS ? 0 : 1;
