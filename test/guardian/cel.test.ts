import { expect, test } from "vitest";
import { ContractError, timestampFrom } from "../../kernel/contracts/contracts.ts";
import type { Facts, JsonObject } from "../../kernel/contracts/contracts.ts";
import { ExpressionError, compileExpression, createEngine, decide } from "../../kernel/guardian/guardian.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc } from "./sample.ts";

const schema: JsonObject = {
  type: "object",
  additionalProperties: false,
  required: ["repo"],
  properties: {
    repo: { type: "string", maxLength: 100 },
    count: { type: "integer" },
    ratio: { type: "number" },
    tags: { type: "array", maxItems: 20, items: { type: "string", maxLength: 20 } },
    open: { type: "array", items: { type: "integer" } },
    long: { type: "string" },
    any: true,
  },
};
const fault = (text: string, input: JsonObject | null = schema): string => {
  try {
    compileExpression(text, { input, engine: createEngine() });
    return "";
  } catch (error) {
    if (error instanceof ExpressionError) return error.message;
    throw error;
  }
};

test("what is not known or does not fit is refused at load by its name", () => {
  const refused: readonly (readonly [string, string])[] = [
    ["call.argz.repo == 'x'", "unknown identifier `call.argz`"],
    ["callz.args.repo == 'x'", "unknown identifier `callz`"],
    ["principal.name == 'x'", "unknown identifier `principal.name`"],
    ["call.args.repos == 'x'", "the input schema has no `repos`"],
    ["call.args['repos'] == 'x'", "the input schema has no `repos`"],
    ["call.args.repo > 3", "`_>_` does not take string, int"],
    ["call.args.repo", "yields string and not a boolean"],
    ["call.args.count.startsWith('x')", "`startsWith` does not take int, string"],
    ["call == call", "`call` is not a value"],
    ["call.args.repo.lowerAscii() == 'x'", "function `lowerAscii` is not supported"],
    ["math.greatest(1, 2) == 2", "function `math.greatest` is not supported"],
    ["call.args.repo.matches(call.args.long)", "`matches` takes only a literal text here"],
    ["call.args.repo.matches('(')", "pattern `(`"],
    ["call.args.tags.all(call, true)", "`call` would hide a name of the policy"],
    ["now.getHours('Mars/Olympus') == 1", "is no time zone"],
    ["google.protobuf.Int32Value{value: 1} == 1", "not supported"],
    ["has(principal.roles)", "is always there"],
    ["1 +", "does not parse"],
  ];
  for (const [text, message] of refused) expect(fault(text), text).toContain(message);
});
test("what the schema bounds is admitted", () => {
  for (const text of [
    "call.args.repo.startsWith('acme/') && call.args.count > 3",
    "call.args.tags.exists(t, t == 'x') || call.args.ratio < 0.5",
    "has(call.args.tags) && size(call.args.tags) < 3",
    "now.getDayOfWeek('Europe/Berlin') == 5 && budget.session.calls > 1",
    "principal.roles.exists(r, r == 'sre') && pod.labels['app'] == 'bot'",
    "call.args.any == 3 || call.args.any.x.y == 'z'",
    "call.args.long.contains('needle')",
  ])
    expect(fault(text), text).toBe("");
});
test("hostile expressions are refused at load, each within a tenth of a second", () => {
  const nest = (n: number, inner: string): string =>
    n === 0 ? inner : `call.args.tags.all(x${n}, ${nest(n - 1, inner)})`;
  const refused = [
    "call.args.open.all(x, x > 0)",
    "call.args.any.all(x, x == 1)",
    nest(5, "true"),
    `${"call.args.long + ".repeat(9)}'x' == 'y' && (${"call.args.long + ".repeat(9)}'y').contains(call.args.long)`,
    "call.args.long.matches('(a|b|ab)*c')",
    "call.args.tags.map(x, call.args.tags.map(y, call.args.tags.map(z, call.args.tags))).size() > 0",
    `${"[".repeat(40)}1${"]".repeat(40)} == []`,
    `${"(".repeat(5000)}true${")".repeat(5000)}`,
    `${"!".repeat(9000)}true`,
    `"${"x".repeat(1_000_000)}" == call.args.repo`,
    'call.args.repo.matches("(a{0,1000}){0,1000}")',
  ];
  for (const text of refused) {
    const start = process.cpuUsage();
    expect(fault(text), text.slice(0, 60)).not.toBe("");
    expect(process.cpuUsage(start).user, text.slice(0, 60)).toBeLessThan(1_000_000);
  }
});
test("what all rules of one call cost together is bounded too", () => {
  const dear =
    'call.args.title.contains(call.args.repo) && call.args.title.matches("(a|b|ab|ba|aab)*(c|d)x")';
  const doc = (n: number): JsonObject => ({
    ...sampleDoc,
    rules: Array.from({ length: n }, (_, i) => ({
      id: `r${i}`,
      when: dear,
      tools: ["tool:github/create_issue"],
      then: "allow",
    })),
  });
  expect(() => compilePolicy(doc(1))).not.toThrow();
  expect(() => compilePolicy(doc(2000))).toThrow(ContractError);
});

const ruled = (when: string, input: JsonObject = schema) =>
  compilePolicy({
    ...sampleDoc,
    tools: [{ name: "tool:agent/x", effect: "E1", sideEffect: "read_only", sandbox: "native", input }],
    toolsets: { triage: ["tool:agent/x"] },
    rules: [{ id: "r", when, tools: ["tool:agent/x"], then: "allow" }],
  });
const verdict = (when: string, args: JsonObject, over: Partial<Facts> = {}): string => {
  const policy = ruled(when);
  const v = decide(
    callOf("tool:agent/x", args),
    policy,
    factsOf(policy, { destination: { state: "none" }, ...over }),
  );
  return v.verdict === "ALLOW" ? "ALLOW" : v.code;
};

test("numbers are what the schema says", () => {
  expect(verdict("call.args.count / 2 == 1", { repo: "", count: 3 })).toBe("ALLOW");
  expect(verdict("call.args.ratio / 2.0 == 1.5", { repo: "", ratio: 3 })).toBe("ALLOW");
  expect(verdict("type(call.args.any) == int", { repo: "", any: 3 })).toBe("ALLOW");
  expect(verdict("type(call.args.any) == double", { repo: "", any: 3.5 })).toBe("ALLOW");
});
test("an evaluation error denies, and a guarded one does not", () => {
  expect(verdict("call.args.count > 1", { repo: "" })).toBe("POLICY_EVALUATION_ERROR");
  expect(verdict("has(call.args.count) && call.args.count > 1", { repo: "" })).toBe("DENY_NO_MATCH");
  expect(verdict("call.args.count / 0 == 1", { repo: "", count: 1 })).toBe("POLICY_EVALUATION_ERROR");
  expect(verdict("call.args.any", { repo: "", any: "yes" })).toBe("POLICY_EVALUATION_ERROR");
});
test("a member that is null is there, and members of the prototype are not", () => {
  expect(verdict("'any' in call.args", { repo: "", any: null })).toBe("ALLOW");
  expect(verdict("has(call.args.any)", { repo: "", any: null })).toBe("ALLOW");
  expect(verdict("has(call.args.any.constructor)", { repo: "", any: {} })).toBe("DENY_NO_MATCH");
  expect(verdict("'__proto__' in call.args.any", { repo: "", any: {} })).toBe("DENY_NO_MATCH");
});
test("time is read in UTC or in the zone that is named, whatever zone the process is in", () => {
  const before = process.env["TZ"];
  process.env["TZ"] = "Europe/Berlin";
  try {
    // An hour that Berlin's clocks skip.
    const now = timestampFrom("2026-03-29T02:30:00.000Z", "now");
    const base = factsOf(ruled("true"));
    const gap = { now, session: { ...base.session, openedAt: now } };
    expect(verdict("now.getHours() == 2", { repo: "" }, gap)).toBe("ALLOW");
    expect(verdict("now.getHours('Europe/Berlin') == 4", { repo: "" }, gap)).toBe("ALLOW");
  } finally {
    if (before === undefined) delete process.env["TZ"];
    else process.env["TZ"] = before;
  }
});
test("more values than a rule may read deny instead of taking time", () => {
  const any = Array.from({ length: 30_000 }, () => 1);
  expect(verdict("call.args.any == 3", { repo: "", any })).toBe("POLICY_EVALUATION_ERROR");
});
