import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readPolicySource, readYaml } from "../../cli/authoring/authoring.ts";
import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { compilePolicy, completeFacts, parseCall } from "../../kernel/policy/policy.ts";

const root = join(import.meta.dirname, "../../examples/policies");
const member = (v: JsonValue | undefined, name: string): JsonValue | undefined =>
  isObject(v) ? v[name] : undefined;

function expected(t: JsonValue): object {
  const e = member(t, "expect");
  return isObject(e) ? e : expect.fail("a test without `expect`");
}

test("every example is judged as its own tests say", () => {
  let judged = 0;
  for (const name of readdirSync(root)) {
    const folder = join(root, name);
    const files = readdirSync(folder);
    const ceiling = files.find((f) => f.endsWith(".p0.yaml"));
    const policy = compilePolicy(
      readPolicySource(join(folder, "policy.yaml")).value,
      ceiling === undefined ? {} : { ceiling: readPolicySource(join(folder, ceiling)).value },
    );
    for (const file of files.filter((f) => f.endsWith(".test.yaml"))) {
      const tests = member(readYaml(readFileSync(join(folder, file), "utf8"), file).value, "tests");
      for (const t of Array.isArray(tests) ? tests : []) {
        const call = parseCall(member(t, "call") ?? null);
        const v = decide(call, policy, completeFacts(policy, call, member(t, "facts") ?? {}));
        const found = { verdict: v.verdict, code: v.verdict === "ALLOW" ? "" : v.code, rule: v.ruleId };
        expect(found, `${name}: ${JSON.stringify(member(t, "name"))}`).toMatchObject(expected(t));
        judged++;
      }
    }
  }
  expect(judged).toBeGreaterThan(50);
});
