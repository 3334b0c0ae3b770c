import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import {
  changes,
  lint,
  policySchema,
  readPolicySource,
  schema,
  test as policyTest,
} from "../../cli/authoring/authoring.ts";

const examples = readdirSync("examples/policies").map((d) => `examples/policies/${d}`);
const captured = (
  run: (io: { stdout: { write(t: string): void }; stderr: { write(t: string): void } }) => number,
): { code: number; out: string; err: string } => {
  let out = "";
  let err = "";
  const code = run({ stdout: { write: (t) => (out += t) }, stderr: { write: (t) => (err += t) } });
  return { code, out, err };
};

describe("the five examples", () => {
  test("there are five", () => expect(examples).toHaveLength(5));
  test.each(examples)("%s has no finding and fits the schema of the document", (folder) => {
    expect(captured((io) => lint([`${folder}/policy.yaml`], io))).toEqual({
      code: 0,
      out: "no findings\n",
      err: "",
    });
    const validate = new Ajv2020({ strict: false }).compile(policySchema);
    expect(validate(readPolicySource(`${folder}/policy.yaml`).value), JSON.stringify(validate.errors)).toBe(
      true,
    );
    expect(validate({ ...(readPolicySource(`${folder}/policy.yaml`).value as object), extra: 1 })).toBe(
      false,
    );
  });
});

test("the committed schema and reference are what the command prints", () => {
  expect(captured((io) => schema([], io)).out).toBe(
    readFileSync("docs/reference/policy.schema.json", "utf8"),
  );
  expect(captured((io) => schema(["--reference"], io)).out).toBe(
    readFileSync("docs/reference/policy.md", "utf8"),
  );
});
test("an unreadable policy is exit 2 and names the file", () => {
  expect(captured((io) => lint(["no/such/policy.yaml"], io))).toMatchObject({ code: 2, out: "" });
  expect(captured((io) => lint(["no/such/policy.yaml"], io)).err).toContain("no/such/policy.yaml");
  expect(captured((io) => lint([], io)).code).toBe(2);
});

describe("atoll bundle test", () => {
  test.each(examples)("%s: all as expected and every rule reached", (folder) => {
    const { code, out } = captured((io) => policyTest([folder], io));
    expect(out).toMatch(/^(\d+) of \1 as expected, (\d+) of \2 rules reached\n$/);
    expect(code).toBe(0);
  });
  test("a difference is exit 1, says what was expected, and stands in the JUnit file", () => {
    const folder = mkdtempSync(join(tmpdir(), "atoll-suite-"));
    writeFileSync(join(folder, "policy.yaml"), readFileSync("examples/policies/research/policy.yaml"));
    writeFileSync(
      join(folder, "x.test.yaml"),
      'tests:\n  - name: a <wrong> "hope"\n    call: { tool: "tool:search/query", args: { q: x } }\n    facts: {}\n    expect: { verdict: ALLOW }\n',
    );
    const { code, out } = captured((io) => policyTest([folder, "--junit", join(folder, "j.xml")], io));
    expect(code).toBe(1);
    expect(out).toContain('expected verdict "ALLOW", got verdict "DENY"');
    expect(out).toContain("rule search: no test reaches it");
    expect(readFileSync(join(folder, "j.xml"), "utf8")).toContain(
      'name="a &#60;wrong&#62; &#34;hope&#34;"><failure',
    );
    rmSync(folder, { recursive: true });
  });
  test("an unknown member of a test is exit 2 and named", () => {
    const folder = mkdtempSync(join(tmpdir(), "atoll-suite-"));
    writeFileSync(join(folder, "x.test.yaml"), "tests:\n  - name: x\n    calls: {}\n");
    const { code, err } = captured((io) =>
      policyTest([folder, "--policy", "examples/policies/research"], io),
    );
    expect([code, err]).toEqual([
      2,
      "tests[0].calls: is not known; there are name, call, fill, facts, expect\n",
    ]);
    rmSync(folder, { recursive: true });
  });
});

test("a change is shown by name, and an order only where nothing else differs", () => {
  const a = {
    rules: [
      { id: "x", then: "allow" },
      { id: "y", then: "deny" },
    ],
    n: 1,
  };
  const b = {
    rules: [
      { id: "y", then: "deny" },
      { id: "z", then: "deny" },
      { id: "x", then: "escalate" },
    ],
    n: 1,
  };
  expect(changes(a, b).map((c) => c.path)).toEqual(["rules[x].then", "rules[z]"]);
  expect(changes(a, { ...a, rules: a.rules.toReversed() }).map((c) => c.path)).toEqual(["rules (order)"]);
  expect(changes(a, structuredClone(a))).toEqual([]);
});
