import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import { LINTS } from "../../kernel/policy/policy.ts";
import { changes, policySchema, readPolicySource } from "../../cli/authoring/authoring.ts";
import { typed } from "../cli/typed.ts";
import type { Said } from "../cli/typed.ts";

const examples = readdirSync("examples/policies").map((d) => `examples/policies/${d}`);
const lint = (...argv: readonly string[]): Promise<Said> => typed(["bundle", "lint", ...argv]);
const policyTest = (...argv: readonly string[]): Promise<Said> => typed(["bundle", "test", ...argv]);

describe("the five examples", () => {
  test("there are five", () => expect(examples).toHaveLength(5));
  test.each(examples)("%s has no finding and fits the schema of the document", async (folder) => {
    expect(await lint(`${folder}/policy.yaml`)).toEqual({
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

test("the committed schema and reference are what the command prints", async () => {
  expect((await typed(["bundle", "schema"])).out).toBe(
    readFileSync("docs/reference/policy.schema.json", "utf8"),
  );
  expect((await typed(["bundle", "schema", "--reference"])).out).toBe(
    readFileSync("docs/reference/policy.md", "utf8"),
  );
});
test("an unreadable policy is exit 2 and names the file", async () => {
  expect(await lint("no/such/policy.yaml")).toMatchObject({ code: 2, out: "" });
  expect((await lint("no/such/policy.yaml")).err).toContain("no/such/policy.yaml");
  expect((await lint()).code).toBe(2);
});

describe("atoll bundle test", () => {
  test.each(examples)("%s: all as expected and every rule reached", async (folder) => {
    const { code, out } = await policyTest(folder);
    expect(out).toMatch(/^(\d+) of \1 as expected, (\d+) of \2 rules reached\n$/);
    expect(code).toBe(0);
  });
  test("a difference is exit 1, says what was expected, and stands in the JUnit file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "atoll-suite-"));
    writeFileSync(join(folder, "policy.yaml"), readFileSync("examples/policies/research/policy.yaml"));
    writeFileSync(
      join(folder, "x.test.yaml"),
      'tests:\n  - name: a <wrong> "hope"\n    call: { tool: "tool:search/query", args: { q: x } }\n    facts: {}\n    expect: { verdict: ALLOW }\n',
    );
    const { code, out } = await policyTest(folder, "--junit", join(folder, "j.xml"));
    expect(code).toBe(1);
    expect(out).toContain('expected verdict "ALLOW", got verdict "DENY"');
    expect(out).toContain("rule search: no test reaches it");
    expect(readFileSync(join(folder, "j.xml"), "utf8")).toContain(
      'name="a &#60;wrong&#62; &#34;hope&#34;"><failure',
    );
    rmSync(folder, { recursive: true });
  });
  test("an unknown member of a test is exit 2 and named, with its file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "atoll-suite-"));
    writeFileSync(join(folder, "x.test.yaml"), "tests:\n  - name: x\n    calls: {}\n");
    expect(await policyTest(folder, "--policy", "examples/policies/research")).toEqual({
      code: 2,
      out: "",
      err: `${folder}/x.test.yaml: tests[0].calls: is not known; there are name, call, fill, facts, expect\n`,
    });
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

const EXAMPLE = "examples/policies/research/policy.yaml";
const slips: readonly (readonly [what: string, from: string, to: string, line: RegExp])[] = [
  [
    "a field that is spelt otherwise",
    "sideEffect:",
    "sideeffect:",
    /^FILE:13:5: tools\[0\]\.sideeffect: error: is not a known field \[does-not-load\]\n {2}hint: did you mean `sideEffect`\?\n/,
  ],
  [
    "a value outside its list",
    "then: allow",
    "then: alow",
    /rules\[0\]\.then: error: expected one of allow, deny, escalate, found `alow`/,
  ],
  [
    "a function that expressions do not have",
    "q.contains(",
    "q.includes(",
    /:45:\d+: rules\[1\]\.when: error: function `includes` is not supported/,
  ],
  [
    "an argument that the schema lacks",
    "args.q.",
    "args.query.",
    /:45:\d+: rules\[1\]\.when: error: the input schema has no `query`/,
  ],
  [
    "a toolset that is not declared",
    "toolsets: [reading]",
    "toolsets: [reeding]",
    /:33:\d+: profiles\[0\]\.toolsets\[0\]: error: `reeding` is not in toolsets/,
  ],
  ["a limit below zero", "calls: 300", "calls: -3", /:37:\d+: .*calls: error: expected an integer from 0/],
];

test("what would not load is found by lint, with its place, and is never built", async () => {
  const folder = mkdtempSync(join(tmpdir(), "atoll-slips-"));
  const text = readFileSync(EXAMPLE, "utf8");
  const file = join(folder, "policy.yaml");
  for (const [what, from, to, line] of slips) {
    expect(text).toContain(from);
    writeFileSync(file, text.replace(from, to));
    const linted = await lint(file);
    expect([what, linted.code]).toEqual([what, 1]);
    expect(linted.out.replaceAll(file, "FILE")).toMatch(line);
    const built = await typed(["bundle", "build", file, "--bundle-id", "x", "--version", "1"]);
    expect([what, built.code, built.out]).toEqual([what, 2, ""]);
    expect(built.err).toContain(`${file}:`);
  }
  writeFileSync(file, text);
  expect(await lint(file)).toMatchObject({ code: 0, out: "no findings\n" });
});

test("a document of the wrong shape is a finding of lint and bad input of `test`, never a crash", async () => {
  const folder = mkdtempSync(join(tmpdir(), "atoll-shapeless-"));
  const file = join(folder, "policy.yaml");
  const head = "apiVersion: atoll.dev/policy/v1\nname: x\nlayer: P1\n";
  for (const [text, path] of [
    ["rules: 5", "rules"],
    ["rules: [{ id: a, then: allow, tools: [3] }]", "rules[0].tools[0]"],
    ["tools: [{}]", "tools[0].name"],
    ["connectors: [1]", "connectors"],
    ["approvals: { a: { approvers: 3, quorum: 1 } }", "approvals.a.approvers"],
  ] as const) {
    writeFileSync(file, `${head}${text}\n`);
    const linted = await lint(file, "--json");
    expect([linted.code, linted.err]).toEqual([1, ""]);
    expect(JSON.parse(linted.out)).toMatchObject({ findings: [{ lint: "does-not-load", path, line: 4 }] });
    // The same below as the document that is linted, and above as what it is compared with.
    expect(await lint("examples/policies/payments/ceiling.p0.yaml", "--ceiling", file)).toMatchObject({
      code: 1,
      err: "",
    });
    writeFileSync(join(folder, "a.test.yaml"), "tests: []\n");
    const tested = await policyTest(folder);
    expect([tested.code, tested.out]).toEqual([2, ""]);
    expect(tested.err).toContain(`policy.yaml:4:`);
  }
});

const SEEDED = `apiVersion: atoll.dev/policy/v1
name: seeded
layer: P1
connectors:
  github: { kind: mcp, url: "https://mcp.github.example/mcp" }
  web:
    kind: connect
    destinations: ["*.github.example:443"]
tools:
  - name: tool:github/read
    effect: E1
    sideEffect: read_only
    sandbox: isolated
    input: { type: object }
  - name: tool:github/drop
    effect: E4
    sideEffect: destructive
    sandbox: isolated
    input: { type: object, properties: { repo: { type: string } } }
  - name: tool:github/lonely
    effect: E1
    sideEffect: read_only
    sandbox: isolated
    input: { type: object, properties: { repo: { type: string } } }
toolsets: { all: ["tool:github/read", "tool:github/drop"] }
profiles:
  - match: { serviceAccount: x }
    toolsets: [all]
    maxSideEffect: destructive
    budgets: { session: { calls: 11 } }
rules:
  - { id: all, tools: ["tool:github/*"], then: allow }
  - { id: typo, tools: ["tool:github/reed"], then: deny }
  - id: plan
    tools: ["tool:github/read"]
    then: allow
    requires: { any: [{ receipt: { tool: "tool:agent/plan", status: SUCCEEDED } }] }
approvals:
  two: { approvers: ["ed25519:0000000000000000"], quorum: 2 }
`;
const ABOVE = `apiVersion: atoll.dev/policy/v1
name: top
layer: P0
ceiling:
  forbidden:
    - { tools: ["tool:*/vanish"], reason: "never" }
  budgets: { session: { calls: 10 } }
`;

test("each class of lint is found in a seeded policy with file, line, column and a hint", async () => {
  const folder = mkdtempSync(join(tmpdir(), "atoll-seeded-"));
  const [p1, p0] = [join(folder, "p1.yaml"), join(folder, "p0.yaml")];
  writeFileSync(p1, SEEDED);
  writeFileSync(p0, ABOVE);
  interface Found {
    readonly lint: string;
    readonly file: string;
    readonly line: number;
    readonly column: number;
    readonly hint: string;
  }
  const found = async (file: string, other: string): Promise<readonly Found[]> => {
    const { code, out } = await lint(file, "--ceiling", other, "--json");
    expect(code).toBe(1);
    return (JSON.parse(out) as { findings: Found[] }).findings;
  };
  const all = [...(await found(p1, p0)), ...(await found(p0, p1))];
  const at = (name: string): readonly string[] =>
    all.filter((f) => f.lint === name).map((f) => `${f.file === p1 ? "p1" : "p0"}:${f.line}:${f.column}`);
  expect(at("way-round")).toEqual(["p1:8:20"]);
  expect(at("destructive-unapproved")).toEqual(["p1:17:5"]);
  expect(at("dead-rule")).toEqual(["p1:33:25"]);
  expect(at("unreached-tool")).toEqual(["p1:20:5"]);
  expect(at("allow-without-schema")).toEqual(["p1:14:5"]);
  expect(at("above-ceiling")).toEqual(["p1:30:27"]);
  expect(at("forbids-nothing")).toEqual(["p0:6:17"]);
  expect(at("quorum-unreachable")).toEqual(["p1:39:51"]);
  expect(at("requires-hearsay")).toEqual(["p1:37:36"]);
  expect(at("unpinned-definition")).toContain("p1:10:5");
  expect(all.filter((f) => f.hint === "")).toEqual([]);
  // Every class there is has been looked for.
  expect(new Set(all.map((f) => f.lint))).toEqual(new Set(Object.keys(LINTS)));
});
