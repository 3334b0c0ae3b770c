import { describe, expect, test } from "vitest";
import type { PolicyDoc } from "../../kernel/contracts/contracts.ts";
import { lintPolicy, LINTS, matchesPattern } from "../../kernel/policy/lint.ts";

const described = { type: "object", properties: { repo: { type: "string" } } };
const pin = `sha256:${"0".repeat(64)}`;
const clean: PolicyDoc = {
  apiVersion: "atoll.dev/policy/v1",
  name: "clean",
  layer: "P1",
  connectors: {
    github: { kind: "mcp", url: "https://mcp.github.example/mcp" },
    web: { kind: "connect", destinations: ["*.docs.example:443"] },
  },
  tools: [
    {
      name: "tool:github/read",
      effect: "E1",
      sideEffect: "read_only",
      sandbox: "isolated",
      input: described,
      definition: pin,
    },
    {
      name: "tool:github/drop",
      effect: "E4",
      sideEffect: "destructive",
      sandbox: "isolated",
      input: described,
      definition: pin,
    },
  ],
  toolsets: { all: ["tool:github/read", "tool:github/drop"] },
  profiles: [{ match: { serviceAccount: "x" }, toolsets: ["all"], budgets: { session: { calls: 10 } } }],
  rules: [
    { id: "read", tools: ["tool:github/read"], then: "allow" },
    { id: "drop", tools: ["tool:github/*"], then: "escalate", approval: "two" },
  ],
  approvals: { two: { approvers: ["ed25519:0000000000000000", "ed25519:1111111111111111"], quorum: 2 } },
};
const ceiling: PolicyDoc = {
  apiVersion: "atoll.dev/policy/v1",
  name: "top",
  layer: "P0",
  ceiling: { forbidden: [{ tools: ["tool:*/drop"], reason: "never" }], budgets: { session: { calls: 10 } } },
};

test("a clean policy has no finding, alone and under its ceiling", () => {
  expect(lintPolicy(clean)).toEqual([]);
  expect(lintPolicy(clean, ceiling)).toEqual([]);
  expect(lintPolicy(ceiling, clean)).toEqual([]);
});

const tools = clean.tools ?? [];
const seeded: Readonly<Record<keyof typeof LINTS, readonly [PolicyDoc, PolicyDoc | undefined, string]>> = {
  "way-round": [
    {
      ...clean,
      connectors: { ...clean.connectors, web: { kind: "connect", destinations: ["*.github.example:443"] } },
    },
    undefined,
    "connectors.web.destinations[0]",
  ],
  "destructive-unapproved": [
    { ...clean, rules: [{ id: "all", tools: ["tool:github/*"], then: "allow" }] },
    undefined,
    "tools[1].sideEffect",
  ],
  "dead-rule": [
    { ...clean, rules: [...(clean.rules ?? []), { id: "typo", tools: ["tool:github/reed"], then: "deny" }] },
    undefined,
    "rules[2].tools[0]",
  ],
  "unreached-tool": [{ ...clean, toolsets: { all: ["tool:github/read"] } }, undefined, "tools[1].name"],
  "allow-without-schema": [
    { ...clean, tools: tools.map((t) => ({ ...t, input: { type: "object" } })) },
    undefined,
    "tools[0].input",
  ],
  "above-ceiling": [
    { ...clean, profiles: [{ match: {}, toolsets: ["all"], budgets: { session: { calls: 11 } } }] },
    ceiling,
    "profiles[0].budgets.session.calls",
  ],
  "forbids-nothing": [
    { ...ceiling, ceiling: { forbidden: [{ tools: ["tool:*/delete_*"], reason: "x" }] } },
    clean,
    "ceiling.forbidden[0].tools[0]",
  ],
  "quorum-unreachable": [
    {
      ...clean,
      approvals: { two: { approvers: ["ed25519:0000000000000000", "ed25519:0000000000000000"], quorum: 2 } },
    },
    undefined,
    "approvals.two.quorum",
  ],
  "requires-hearsay": [
    {
      ...clean,
      rules: [
        ...(clean.rules ?? []),
        {
          id: "plan",
          tools: ["tool:github/read"],
          then: "allow",
          requires: { any: [{ receipt: { tool: "tool:agent/plan", status: "SUCCEEDED" } }] },
        },
      ],
    },
    undefined,
    "rules[2].requires.any[0].receipt.tool",
  ],
  "unpinned-definition": [
    {
      ...clean,
      tools: tools.map((t) => {
        const { definition, ...rest } = t;
        void definition;
        return rest;
      }),
    },
    undefined,
    "tools[0].name",
  ],
};

describe("each class is found in the policy that has it, at its place, with a hint", () => {
  test.each(Object.entries(seeded))("%s", (lint, [doc, other, path]) => {
    const found = lintPolicy(doc, other).filter((f) => f.lint === lint);
    expect(found.map((f) => f.path)).toContain(path);
    for (const f of found) expect(f.hint).not.toBe("");
  });
});

test("a typo in a rule is answered with the name that was meant", () => {
  const doc = seeded["dead-rule"][0];
  expect(lintPolicy(doc).find((f) => f.lint === "dead-rule")?.hint).toBe("did you mean `tool:github/read`?");
});
test("a star stands for any characters and never for a missing end", () => {
  expect(matchesPattern("tool:*/delete_*", "tool:github/delete_repo")).toBe(true);
  expect(matchesPattern("tool:github/*", "tool:github/")).toBe(true);
  expect(matchesPattern("tool:*/drop", "tool:a/drops")).toBe(false);
  expect(matchesPattern("tool:a*a", "tool:a")).toBe(false);
});
