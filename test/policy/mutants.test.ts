// The examples' tests bite: every rule turned round and every limit raised makes one of them fail.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readPolicySource, runSuite } from "../../cli/authoring/authoring.ts";
import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";

interface Mutant {
  readonly what: string;
  readonly doc: JsonValue;
}
const LIMITS = new Set([
  "perMinute",
  "calls",
  "tokens",
  "costMicroUsd",
  "durationSeconds",
  "withinSeconds",
  "maxLength",
  "maximum",
  "maxItems",
  "maxConcurrent",
]);
const TURNED: Readonly<Record<string, string>> = { allow: "deny", deny: "allow", escalate: "allow" };

/** Every copy of the document in which one rule is turned or one limit is one higher. */
function mutants(doc: JsonValue): readonly Mutant[] {
  const found: Mutant[] = [];
  const visit = (v: JsonValue, path: string, rebuild: (inner: JsonValue) => JsonValue): void => {
    if (Array.isArray(v))
      v.forEach((x: JsonValue, i: number) =>
        visit(x, `${path}[${i}]`, (n) => rebuild(v.map((y: JsonValue, j: number) => (j === i ? n : y)))),
      );
    else if (isObject(v)) {
      for (const [k, x] of Object.entries(v)) {
        const put = (n: JsonValue): JsonValue => rebuild({ ...v, [k]: n });
        const next =
          k === "then" && typeof x === "string"
            ? TURNED[x]
            : LIMITS.has(k) && typeof x === "number"
              ? x + 1
              : undefined;
        if (next !== undefined) found.push({ what: `${path}.${k} = ${next}`, doc: put(next) });
        visit(x, `${path}.${k}`, put);
      }
    }
  };
  visit(doc, "", (n) => n);
  return found;
}

describe.each(readdirSync("examples/policies"))("%s", (name) => {
  const folder = join("examples/policies", name);
  const doc = readPolicySource(folder).value;
  const suite = readPolicySource(
    join(folder, readdirSync(folder).find((f) => f.endsWith(".test.yaml")) ?? ""),
  ).value;
  const above = join(folder, "ceiling.p0.yaml");
  const ceiling = existsSync(above) ? { ceiling: readPolicySource(above).value } : {};
  const fails = (d: JsonValue): boolean => {
    try {
      return runSuite(compilePolicy(d, ceiling), [], suite).cases.some((c) => c.difference !== "");
    } catch {
      return true; // the compiler refuses it
    }
  };
  test("passes as it is", () => expect(fails(doc)).toBe(false));
  test("each mutant fails", () => {
    const all = mutants(doc);
    expect(all.length).toBeGreaterThan(10);
    expect(all.filter((m) => !fails(m.doc)).map((m) => m.what)).toEqual([]);
  });
  test("the rules of a mutant without its rules are unreached", () => {
    const without = { ...(doc as JsonObject), rules: [] };
    expect(runSuite(compilePolicy(without, ceiling), ["own"], suite).coverage.uncovered).toEqual(["own"]);
  });
});
