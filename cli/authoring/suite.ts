// Tests of a policy: a call, the facts that differ from a quiet guardian, and the verdict that is expected.

import { ContractError, isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue, Policy } from "../../kernel/contracts/contracts.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { completeFacts, parseCall } from "../../kernel/policy/policy.ts";

export interface CaseResult {
  readonly name: string;
  /** "" when the verdict is the expected one, else what was expected and what came. */
  readonly difference: string;
  readonly ruleId: string;
}
export interface SuiteResult {
  readonly cases: readonly CaseResult[];
  readonly coverage: { readonly covered: readonly string[]; readonly uncovered: readonly string[] };
}

const MEMBERS = {
  test: ["name", "call", "fill", "facts", "expect"],
  expect: ["verdict", "code", "rule", "detail"],
} as const;

export function runSuite(policy: Policy, ruleIds: readonly string[], file: JsonValue): SuiteResult {
  const tests = isObject(file) && Array.isArray(file["tests"]) ? file["tests"] : undefined;
  if (tests === undefined) throw new ContractError("tests", "expected a list of tests");
  const covered = new Set<string>();
  const cases = tests.map((t: JsonValue, i: number): CaseResult => {
    const one = known(t, `tests[${i}]`, MEMBERS.test);
    const name = one["name"];
    if (typeof name !== "string") throw new ContractError(`tests[${i}].name`, "expected a sentence");
    const expected = known(one["expect"], `tests[${i}].expect`, MEMBERS.expect);
    const call = parseCall(filled(one["call"] ?? null, one["fill"], `tests[${i}].fill`));
    const verdict = decide(call, policy, completeFacts(policy, call, one["facts"] ?? {}));
    for (const id of [verdict.ruleId, ...verdict.shadows.map((s) => s.ruleId)]) covered.add(id);
    const got: JsonObject = {
      verdict: verdict.verdict,
      code: verdict.verdict === "ALLOW" ? "" : verdict.code,
      rule: verdict.ruleId,
      detail: verdict.verdict === "ALLOW" ? "" : verdict.detail,
    };
    const wrong = Object.entries(expected).filter(([k, v]) => got[k] !== v);
    const said = (o: JsonObject): string =>
      wrong.map(([k]) => `${k} ${JSON.stringify(o[k] ?? "")}`).join(", ");
    const why = typeof got["detail"] === "string" && got["detail"] !== "" ? ` (${got["detail"]})` : "";
    return {
      name,
      ruleId: verdict.ruleId,
      difference: wrong.length === 0 ? "" : `expected ${said(expected)}, got ${said(got)}${why}`,
    };
  });
  return {
    cases,
    coverage: {
      covered: ruleIds.filter((r) => covered.has(r)),
      uncovered: ruleIds.filter((r) => !covered.has(r)),
    },
  };
}

/**
 * `fill: {title: 201, columns.0: 41}` lengthens a text or a list of the arguments to that size by repeating its last
 * character or item, so that a test at a bound stays readable.
 */
function filled(call: JsonValue, fill: JsonValue | undefined, path: string): JsonValue {
  if (fill === undefined) return call;
  if (!isObject(fill) || !isObject(call)) throw new ContractError(path, "expected a map of sizes");
  let args: JsonValue = call["args"] ?? {};
  for (const [place, size] of Object.entries(fill)) {
    if (typeof size !== "number") throw new ContractError(`${path}.${place}`, "expected a size");
    args = lengthen(args, place.split("."), size, `${path}.${place}`);
  }
  return { ...call, args };
}

function lengthen(v: JsonValue, [step, ...rest]: readonly string[], size: number, path: string): JsonValue {
  if (step !== undefined) {
    if (isList(v)) return v.map((x, i) => (String(i) === step ? lengthen(x, rest, size, path) : x));
    if (isObject(v) && v[step] !== undefined) return { ...v, [step]: lengthen(v[step], rest, size, path) };
  } else {
    if (typeof v === "string") return v.padEnd(size, v.slice(-1));
    const last = isList(v) ? v.at(-1) : undefined;
    if (isList(v) && last !== undefined)
      return [...v, ...Array.from({ length: size - v.length }, () => last)];
  }
  throw new ContractError(path, "is no text and no list with an item in the call's arguments");
}

const isList = (v: JsonValue): v is readonly JsonValue[] => Array.isArray(v);

function known(v: JsonValue | undefined, path: string, members: readonly string[]): JsonObject {
  if (!isObject(v)) throw new ContractError(path, "expected a map");
  for (const k of Object.keys(v))
    if (!members.includes(k))
      throw new ContractError(`${path}.${k}`, `is not known; there are ${members.join(", ")}`);
  return v;
}

/** The results in JUnit's XML, as CI systems read it. */
export function junit(suites: readonly { readonly file: string; readonly result: SuiteResult }[]): string {
  const text = (s: string): string =>
    s
      .replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)
      .replace(/[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "\uFFFD");
  const lines = suites.flatMap(({ file, result }) => {
    const failures = result.cases.filter((c) => c.difference !== "").length;
    return [
      `  <testsuite name="${text(file)}" tests="${result.cases.length}" failures="${failures}">`,
      ...result.cases.map((c) =>
        c.difference === ""
          ? `    <testcase classname="${text(file)}" name="${text(c.name)}"/>`
          : `    <testcase classname="${text(file)}" name="${text(c.name)}"><failure message="${text(c.difference)}"/></testcase>`,
      ),
      "  </testsuite>",
    ];
  });
  return ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", ...lines, "</testsuites>", ""].join("\n");
}
