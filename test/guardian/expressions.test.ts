// What each expression may cost, which names it reads, why it is refused, and what it comes to: every function and
// operator with operands of every kind, against what is written down. ATOLL_GOLDEN=write writes it anew, to be read
// line by line in the review.

import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { timestampFrom } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { ExpressionError, compileExpression, createEngine, decide } from "../../kernel/guardian/guardian.ts";
import type { Engine } from "../../kernel/guardian/guardian.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc } from "./sample.ts";

const FILE = new URL("../golden/expressions.txt", import.meta.url);
const schema: JsonObject = {
  type: "object",
  additionalProperties: false,
  properties: {
    s: { type: "string", maxLength: 40 },
    long: { type: "string" },
    one: { enum: ["a", "bcd"] },
    fixed: { const: "xyz" },
    mixed: { enum: ["a", 1] },
    i: { type: "integer" },
    d: { type: "number" },
    b: { type: "boolean" },
    z: { type: "null" },
    l: { type: "array", maxItems: 9, items: { type: "string", maxLength: 5 } },
    ints: { type: "array", maxItems: 5, items: { type: "integer" } },
    tuple: { type: "array", maxItems: 3, prefixItems: [{ type: "string" }], items: { type: "integer" } },
    bare: { type: "array", maxItems: 2 },
    open: { type: "array" },
    m: {
      type: "object",
      additionalProperties: false,
      properties: { k: { type: "integer" }, t: { type: "string", maxLength: 7 } },
    },
    none: { type: "object", additionalProperties: false },
    free: {
      type: "object",
      maxProperties: 4,
      additionalProperties: true,
      properties: { k: { type: "string" } },
    },
    loose: { type: "object", additionalProperties: { type: "integer" } },
    by: { type: "object", additionalProperties: false, patternProperties: { "^x": true } },
    any: true,
    either: { type: ["string", "integer"] },
  },
};
const args: JsonObject = {
  s: "hällo",
  long: "a long text",
  one: "bcd",
  fixed: "xyz",
  mixed: 1,
  i: 5,
  d: 2,
  b: true,
  z: null,
  l: ["a", "b"],
  ints: [1, 2, 3],
  tuple: ["a", 1],
  bare: [1.5, "x"],
  open: [],
  m: { k: 7, t: "seven" },
  none: {},
  free: { k: "v", other: 1 },
  loose: { n: 3 },
  by: { x: 1 },
  any: { deep: [{ k: 1 }] },
  either: "x",
};
const a = (name: string): string => `call.args.${name}`;
const NAMES = Object.keys(args).map(a);
const OPERANDS = [
  a("s"),
  a("i"),
  a("d"),
  a("b"),
  a("z"),
  a("l"),
  a("m"),
  a("any"),
  "now",
  'duration("90s")',
  "1u",
  'b"xy"',
];
const FEW = [a("s"), a("i"), a("l"), a("any"), "now", 'duration("90s")', "2.5", 'bytes("z")', a("m")];

const functions = [
  "size",
  "int",
  "uint",
  "double",
  "bool",
  "bytes",
  "string",
  "timestamp",
  "duration",
  "type",
  "dyn",
  "-",
  "!",
];
const getters = [
  "getFullYear",
  "getMonth",
  "getDate",
  "getDayOfMonth",
  "getDayOfWeek",
  "getDayOfYear",
  "getHours",
  "getMinutes",
  "getSeconds",
  "getMilliseconds",
];
const operators = ["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "in", "&&", "||"];
const EXPRESSIONS: readonly string[] = [
  ...NAMES,
  ...NAMES.flatMap((n) => [
    `has(${n})`,
    `${n} == ${n}`,
    `${n}.k == 1`,
    `"k" in ${n}`,
    `${n}[0] == 1`,
    `${n}["k"] == 1`,
    `${n}.all(x, x == x)`,
    `size(${n}) > 0`,
  ]),
  ...functions.flatMap((f) => OPERANDS.map((o) => `${f}(${o})`)),
  ...getters.flatMap((g) => [
    `now.${g}()`,
    `now.${g}("Asia/Kathmandu")`,
    `now.${g}("-03:30")`,
    `duration("90s").${g}()`,
    `${a("s")}.${g}()`,
  ]),
  ...operators.flatMap((o) => FEW.flatMap((x) => FEW.map((y) => `(${x} ${o} ${y})`))),
  ...["startsWith", "endsWith", "contains"].flatMap((f) =>
    [a("s"), a("long"), a("any"), a("i")].flatMap((x) => [
      `${x}.${f}("ll")`,
      `${x}.${f}(${a("s")})`,
      `"h".${f}(${x})`,
    ]),
  ),
  ...["s", "long", "any", "i"].flatMap((n) => [`${a(n)}.matches("^h.*o$")`, `matches(${a(n)}, "[a-z]+")`]),
  ...["exists", "exists_one", "all", "filter", "map"].flatMap((m) =>
    ["l", "ints", "m", "bare", "tuple", "free", "loose", "any"].map((n) => `${a(n)}.${m}(x, x == "a")`),
  ),
  `${a("l")}.map(x, x + "!")`,
  `${a("l")}.map(x, x == "a", x + x)`,
  `${a("ints")}.map(x, [x, x]).filter(y, y.size() > 1).size() == 3`,
  `${a("ints")}.exists(x, ${a("l")}.exists(y, y == "b" && x > 2))`,
  `[${a("l")}, ${a("l")}].exists(x, x.exists(y, y == "b"))`,
  `[1, "a", ${a("any")}]`,
  "[]",
  "[[1], [2]][1][0] == 2",
  '{"a": 1, "b": 2}["b"] == 2',
  '{"a": 1, "b": 2}.b == 2',
  '{"a": 1}.c == 2',
  '{"a": "x", "b": 2}',
  "{}",
  "{1: true}[1]",
  "{true: 1}[true] == 1",
  '{"a": 1, 2: 3}',
  "{1.5: 1}",
  `${a("b")} ? ${a("s")} : ${a("long")}`,
  `${a("b")} ? 1 : "x"`,
  `${a("s")} ? 1 : 2`,
  `${a("m")}.t.startsWith("sev")`,
  `${a("m")}["t"] == "seven"`,
  `${a("any")}.deep[0].k == 1`,
  `has(${a("any")}.deep) && has(${a("m")}.k)`,
  `has(${a("nothing")})`,
  `has(${a("loose")}.nothing)`,
  "call.args == call.args",
  'has(call.args.s) && "i" in call.args',
  `call.args.size() > 3 && ${a("i")} == 5`,
  'call.tool == "tool:agent/x" && call.connector == "agent" && call.name == "x"',
  'call.effect == "E1" && call.sideEffect == "read_only" && call.source == "rest"',
  'call.destination == "mcp.github.example:443"',
  'principal.id == "serviceAccount:acme/triage-bot" && principal.serviceAccount == "triage-bot"',
  'principal.namespace == "acme" && principal.tenant == "" && principal.delegator == ""',
  'principal.roles.exists(r, r == "sre") && "sre" in principal.roles',
  "session.calls == 3 && !session.tainted && session.ageSeconds == 600",
  "budget.session.calls > 0 && budget.session.tokens > 0 && budget.daily.costMicroUsd > 0",
  'pod.namespace == "acme" && pod.labels.app == "bot" && !has(pod.labels.none)',
  "now > timestamp('2026-01-01T00:00:00Z') && now - duration('1h') < now",
  "call.nothing == 1",
  "nothing",
  "call",
  "call.args.s.nothing()",
  "a.b.c(1)",
  "x.all(call, true)",
  `${a("l")}.all(now, true)`,
  "int",
  "type(1) == int && type('x') == string && type(null) == null_type",
  "null == null",
  "1 == 1.0 && 1 == 1u",
  "9223372036854775807 + 1 == 0",
  "1 / 0 == 1 || true",
  "1 / 0 == 1 && false",
  "1 / 0 == 1",
  'int("12") == 12 && int("-9223372036854775808") < 0',
  'int("1.5") == 1',
  'int("9223372036854775808") == 1',
  'double("1e3") == 1000.0 && double("-.5") == -0.5 && double("NaN") != 1.0',
  'double("0x10") == 16.0',
  'double("-Infinity") < 0.0',
  '"é😀".size() == 2',
  'timestamp("2026-03-29T01:30:00Z").getHours("Europe/Berlin") == 3',
  'timestamp("2026-12-31T23:59:59.123Z").getDayOfYear() == 364',
  'timestamp("2026-12-31T23:59:59.123Z").getMilliseconds("Europe/Berlin") == 123',
  'timestamp("2026-12-31T23:30:00Z").getFullYear("+01:00") == 2027',
  'timestamp("2026-12-31T23:30:00Z").getDate("01:00") == 1',
  'timestamp("0001-01-01T00:00:00Z").getFullYear() == 1',
  'timestamp("1969-12-31T23:59:59.5Z").getMilliseconds("Asia/Kathmandu") == 500',
  'now.getHours("nowhere") == 1',
  `"${"x".repeat(8200)}" == "x"`,
  `${"[".repeat(33)}${"]".repeat(33)} == []`,
  `${"(".repeat(32)}true${")".repeat(32)}`,
  '"(" == "(" && ")" != "("',
  `"a".matches("${"a".repeat(1001)}")`,
  `"a".matches("${"a".repeat(1000)}")`,
  '"a".matches("(")',
  `${a("s")}.matches(${a("s")})`,
];

const policy = (when: string) =>
  compilePolicy({
    ...sampleDoc,
    tools: [
      { name: "tool:agent/x", effect: "E1", sideEffect: "read_only", sandbox: "native", input: schema },
    ],
    toolsets: { triage: ["tool:agent/x"] },
    rules: [{ id: "r", when, tools: ["tool:agent/x"], then: "allow" }],
  });
const shown = (text: string): string => (text.length > 90 ? `${text.slice(0, 40)}…${text.length}` : text);
const yields = (text: string, engine: Engine): boolean => {
  try {
    compileExpression(text, { input: schema, engine });
    return true;
  } catch {
    return false;
  }
};

function line(text: string, engine: Engine): string {
  // What is no boolean is looked at in a list.
  const asked = yields(text, engine) ? text : `[${text}].size() == 1`;
  let program: ReturnType<typeof compileExpression>;
  try {
    program = compileExpression(asked, { input: schema, engine });
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error;
    return `${shown(text)}\t${asked === text ? "" : "in a list: "}${error.message.slice(0, 150)}`;
  }
  return `${shown(text)}\t${program.cost}\t${program.variables.join(" ")}\t${outcome(asked, program)}`;
}
/** By the gate where the expression is of interest as a rule, else by itself: compiling a policy takes longer. */
function outcome(text: string, program: ReturnType<typeof compileExpression>): string {
  const rule = ruled;
  const tool = rule.tools.get("tool:agent/x") ?? expect.fail("no tool");
  const when = { ...(tool.rules[0] ?? expect.fail("no rule")), when: program };
  const swapped = {
    ...rule,
    tools: new Map([["tool:agent/x", { ...tool, rules: [when], variables: program.variables }]]),
  };
  const v = decide(
    callOf("tool:agent/x", args),
    swapped,
    factsOf(rule, { now: timestampFrom("2026-11-18T10:00:00.000Z", "now") }),
  );
  if (v.verdict === "ALLOW") return "true";
  return v.code === "DENY_NO_MATCH"
    ? "false"
    : v.verdict === "DENY"
      ? v.detail.replace("rule `r`: ", "").slice(0, 100)
      : text;
}
const ruled = policy("true");

if (process.env["ATOLL_GOLDEN"] === "write")
  writeFileSync(FILE, `${EXPRESSIONS.map((text) => line(text, createEngine())).join("\n")}\n`);
const golden = readFileSync(FILE, "utf8").trimEnd().split("\n");
test("as many expressions as are written down are looked at", () => {
  expect(EXPRESSIONS.length).toBeGreaterThan(1_000);
  expect(golden.length).toBe(EXPRESSIONS.length);
});
const PART = 40;
test.each(Array.from({ length: Math.ceil(golden.length / PART) }, (_, i) => i * PART))(
  "every expression from the %s. on costs, reads, is refused and comes to what is written down",
  (from) => {
    const engine = createEngine();
    const lines = EXPRESSIONS.slice(from, from + PART).map((text) => line(text, engine));
    expect(lines.filter((l, i) => l !== golden[from + i])).toEqual([]);
  },
);
