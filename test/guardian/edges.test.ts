// Limits of nought, unknown subjects, and policies that no compiler makes: what each gate says where another would not
// have let it come so far.

import { describe, expect, test } from "vitest";
import type { Code, Facts, Policy, Rule, ToolCall, ToolPolicy } from "../../kernel/contracts/contracts.ts";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import { composeCeremonies } from "../../kernel/guardian/approval.ts";
import { confirmOf, decide, termsOf } from "../../kernel/guardian/guardian.ts";
import type { Verdict } from "../../kernel/guardian/guardian.ts";
import { idFrom, keyIdFrom } from "../../kernel/contracts/contracts.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { approver, callOf, factsOf, sampleDoc, someHash } from "./sample.ts";

const base = compilePolicy(sampleDoc);
const issue = callOf("tool:github/create_issue", { repo: "acme/web", title: "crash" });
const release = callOf("tool:github/create_release", { repo: "acme/web", title: "v1" });
const model = callOf("model:openai/gpt-x", {});
const openai: Partial<Facts> = { destination: { state: "known", host: "api.openai.example", port: 443 } };
const said = (v: Verdict): string => (v.verdict === "ALLOW" ? "ALLOW" : `${v.code} ${v.detail}`);
const judged = (call: ToolCall, policy: Policy, over: Partial<Facts> = {}): string =>
  said(decide(call, policy, factsOf(policy, over)));
/** A tool as the policy has it, with members that no document could give it. */
function withTool(over: Partial<ToolPolicy>, of: Policy = base): Policy {
  const tool = of.tools.get(issue.target);
  if (tool === undefined) throw new Error("no tool");
  return { ...of, tools: new Map([...of.tools, [issue.target, { ...tool, ...over }]]) };
}
const [profile] = base.profiles;
if (profile === undefined) throw new Error("no profile");
const withProfile = (over: Partial<typeof profile>): Policy => ({
  ...base,
  profiles: [{ ...profile, ...over }],
});
const unlimited = { calls: -1, tokens: -1, costMicroUsd: -1, durationSeconds: -1 };
const budgets = (session: object, daily: object = {}): Policy =>
  withProfile({
    budgets: {
      session: { ...unlimited, ...session },
      daily: { ...unlimited, ...daily },
      dailyScope: "pod",
    },
  });

describe("a limit of nought lets nothing pass", () => {
  test("of calls a minute, of time, of each amount, of calls at once", () => {
    expect(judged(issue, withTool({ perMinute: -1 }))).toBe("ALLOW");
    expect(judged(issue, withTool({ perMinute: 0 }))).toBe(
      "RATE_LIMIT_EXCEEDED 0 calls a minute are allowed",
    );
    expect(judged(issue, budgets({}))).toBe("ALLOW");
    expect(judged(issue, budgets({ durationSeconds: 0 }))).toBe(
      "DENY_BUDGET_EXCEEDED the session's time: the profile's limit is 0",
    );
    const some = { budget: { ...factsOf(base).budget, estimate: { calls: 1, tokens: 1, costMicroUsd: 1 } } };
    for (const field of ["calls", "tokens", "costMicroUsd"]) {
      expect(judged(issue, budgets({ [field]: 0 }), some)).toBe(
        `DENY_BUDGET_EXCEEDED session ${field}: the profile's limit is 0`,
      );
      expect(judged(issue, budgets({}, { [field]: 0 }), some)).toBe(
        `DENY_BUDGET_EXCEEDED daily ${field}: the profile's limit is 0`,
      );
    }
    const at = (maxConcurrent: number): Policy => ({
      ...base,
      perimeter: { ...base.perimeter, maxConcurrent },
    });
    expect([judged(issue, at(-1)), judged(issue, at(1))]).toEqual(["ALLOW", "ALLOW"]);
    expect(judged(issue, at(0))).toBe("PERIMETER_VIOLATION 0 calls are under way already");
  });
});

test("a lease shares the profile's day and not the ceiling's", () => {
  const [calls, leased] = [
    { calls: 5, tokens: 0, costMicroUsd: 0 },
    { calls: 4, tokens: 9, costMicroUsd: 999 },
  ];
  const fact = { budget: { ...factsOf(base).budget, daily: calls, leased } };
  const ceiling = { ...base.ceiling, budgets: { ...profile.budgets, daily: { ...unlimited, calls: 10 } } };
  expect(judged(issue, { ...base, ceiling }, fact)).toBe("ALLOW");
  expect(judged(issue, budgets({}, { calls: 10 }), fact)).toBe(
    "DENY_BUDGET_EXCEEDED daily calls: the profile's limit is 4",
  );
  const unknown = { budget: { ...factsOf(base).budget, leased: undefined as never } };
  expect(judged(issue, budgets({}, { calls: 10 }), unknown)).toMatch(/^POLICY_EVALUATION_ERROR /);
});

test("what is no tool costs what was estimated and nothing more", () => {
  const nothing = { budget: { ...factsOf(base).budget, estimate: { calls: 0, tokens: 0, costMicroUsd: 0 } } };
  const v = decide(model, base, factsOf(base, { ...openai, ...nothing }));
  expect(v.verdict === "ALLOW" && v.permit.reserves).toEqual({ calls: 0, tokens: 0, costMicroUsd: 0 });
});

describe("a name that nobody declared is not there, whatever else is wrong with the call", () => {
  const gone = callOf("tool:github/gone", {});
  test("in a session that read untrusted content, and under a ceiling", () => {
    const tainted = { session: { ...factsOf(base).session, tainted: true } };
    expect(judged(gone, base, tainted)).toBe("DENY_TOOL_NOT_FOUND `tool:github/gone` is not declared");
    const narrow: Policy = {
      ...base,
      ceiling: { ...base.ceiling, present: true, maxEffect: "E0", forbids: () => "everything" },
    };
    expect(judged(gone, narrow)).toBe("DENY_TOOL_NOT_FOUND `tool:github/gone` is not declared");
    expect(judged(issue, narrow)).toBe("FORBIDDEN_EFFECT everything");
  });
});

test("an effect at the ceiling is below it, one above is not", () => {
  const at = (maxEffect: "E1" | "E2"): Policy => ({
    ...base,
    ceiling: { ...base.ceiling, present: true, maxEffect },
  });
  expect([judged(issue, at("E2")), judged(issue, at("E1"))]).toEqual([
    "ALLOW",
    "DENY_CEILING effect E2 is above E1",
  ]);
});

test("a threat that is not high enough passes the egress gate by its name, and is told by its name", () => {
  const found = (code: Code, level: "LOW" | "HIGH"): Partial<Facts> => ({
    scan: { ...factsOf(base).scan, level, findings: [{ code, detail: "seen" }] } as Facts["scan"],
  });
  for (const code of ["PROMPT_INJECTION_DETECTED", "UNICODE_OBFUSCATION_DETECTED"] as const) {
    expect(judged(issue, base, found(code, "LOW"))).toBe("ALLOW");
    expect(judged(issue, base, found(code, "HIGH"))).toBe(`${code} seen`);
  }
  expect(judged(issue, base, found("DATA_EGRESS_BLOCKED", "LOW"))).toBe("DATA_EGRESS_BLOCKED seen");
});

test("an object that is named by a path through nothing is outside the allowed set", () => {
  const checks = [{ object: ["repo:", { path: ["owner", "name"] }], relation: "writer" }];
  const policy: Policy = {
    ...withTool({ relationChecks: checks }),
    identity: { ...base.identity, relates: (object) => object === "repo:acme" },
  };
  const refused = "AUTHZ_DENIED an argument that names an object has a value outside the allowed set";
  const call = (owner: Record<string, string> | string | undefined): ToolCall =>
    callOf("tool:github/create_issue", {
      repo: "acme/web",
      title: "t",
      ...(owner === undefined ? {} : { owner }),
    });
  expect(judged(call(undefined), policy)).toBe(refused);
  expect(judged(call("acme"), policy)).toBe(refused);
  expect(judged(call({}), policy)).toBe(refused);
  expect(judged(call({ name: "acme" }), policy)).not.toContain("AUTHZ_DENIED");
  expect(judged(call({ name: "other" }), policy)).toMatch(
    /^AUTHZ_DENIED `.*` is not `writer` of `repo:other`$/,
  );
});

describe("a tool whose connector or sandbox does not fit it", () => {
  test("is not served", () => {
    const none = withTool({ connector: "gone" });
    expect(judged(issue, none)).toBe(
      "DENY_CONNECTOR connector `gone` may not serve `tool:github/create_issue`",
    );
    const tunnel = withTool({ connector: "web" });
    const web = { destination: { state: "known", host: "a.docs.example", port: 443 } } as const;
    expect(judged(issue, tunnel, web)).toBe(
      "DENY_CONNECTOR connector `web` may not serve `tool:github/create_issue`",
    );
    expect(
      judged(issue, withTool({ kind: "agent", connector: "agent" }), { destination: { state: "none" } }),
    ).toBe("ALLOW");
    expect(judged(issue, withTool({ sandbox: "restricted" }))).toBe(
      "DENY_SANDBOX_PROFILE `restricted` does not fit a mcp tool",
    );
    expect(judged(issue, withTool({ kind: "wasm" }))).toBe(
      "DENY_SANDBOX_PROFILE `isolated` does not fit a wasm tool",
    );
  });
});

describe("a rule that no compiler makes", () => {
  const rule = (over: Partial<Rule>): Policy => {
    const [first] = base.tools.get(issue.target)?.rules ?? [];
    if (first === undefined) throw new Error("no rule");
    return withTool({ rules: [{ ...first, when: null, ...over }] });
  };
  test("denies when it escalates to nobody", () => {
    expect(judged(issue, rule({}))).toBe("ALLOW");
    expect(judged(issue, rule({ then: "escalate", ceremony: null }))).toBe(
      "POLICY_EVALUATION_ERROR rule `own-repos-only` asks nobody",
    );
  });
  test("denies with what it throws, also when that is no error", () => {
    const thrown = (what: unknown): Policy =>
      rule({
        when: {
          text: "",
          cost: 0,
          variables: [],
          test: () => {
            throw what;
          },
        },
      });
    expect(judged(issue, thrown("odd"))).toBe("POLICY_EVALUATION_ERROR rule `own-repos-only`: odd");
    expect(judged(issue, thrown(new Error("odd")))).toBe(
      "POLICY_EVALUATION_ERROR rule `own-repos-only`: odd",
    );
  });
});

test("a refused approval is told by its code, and by no other than the three", () => {
  const id = idFrom("apr", `apr_${"1".repeat(32)}`, "id");
  for (const [code, told] of [
    ["APPROVAL_REJECTED", "APPROVAL_REJECTED"],
    ["DENY_APPROVAL_TIMEOUT", "DENY_APPROVAL_TIMEOUT"],
    ["APPROVAL_INVALID", "APPROVAL_INVALID"],
    ["DENY_RULE", "APPROVAL_INVALID"],
  ] as const)
    expect(judged(release, base, { approval: { state: "refused", id, code: code as never } })).toBe(
      `${told} approval ${id}`,
    );
});

describe("a ceremony", () => {
  const one = base.ceremonies.get("one");
  if (one === undefined) throw new Error("no ceremony");
  test("asks for the confirmation when one of those that it is made of does", () => {
    for (const [a, b] of [
      [false, false],
      [true, false],
      [false, true],
    ] as const) {
      const made = composeCeremonies([
        { ...one, challenge: a },
        { ...one, name: "two", challenge: b },
      ]);
      expect([made?.challenge, made === null ? null : termsOf(made)["confirm"]]).toEqual([a || b, a || b]);
    }
  });
  test("is confirmed by a hash of what was intended, what was shown and whose key it is", () => {
    const key = keyIdFrom(approver, "key");
    expect(confirmOf(someHash, hashJson("shown"), key)).toBe(
      hashJson({ intent_hash: someHash, challenge_hash: hashJson("shown"), key_id: key }),
    );
  });
});
