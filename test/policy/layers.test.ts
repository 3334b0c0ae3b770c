import fc from "fast-check";
import { expect, test } from "vitest";
import type { JsonObject, JsonValue, Policy } from "../../kernel/contracts/contracts.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { compilePolicy, completeFacts, parseCall } from "../../kernel/policy/policy.ts";

// A small world in which every layer can say something about every call.
const EFFECTS = ["E0", "E1", "E2", "E3", "E4"] as const;
const NAMES = ["tool:a/read", "tool:a/write", "tool:b/write", "tool:b/drop"] as const;
const PATTERNS = [...NAMES, "tool:a/*", "tool:*/write", "*"] as const;
const head = { apiVersion: "atoll.dev/policy/v1" };
const connectors = {
  a: { kind: "mcp", url: "https://a.example/" },
  b: { kind: "mcp", url: "https://b.example/" },
};

const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
const present = (o: Readonly<Record<string, JsonValue | undefined>>): JsonObject =>
  Object.fromEntries(Object.entries(o).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]])));
const limit = fc.integer({ min: 1, max: 5 });
const amounts = fc
  .record({ calls: maybe(limit), tokens: maybe(limit), costMicroUsd: maybe(limit) })
  .map((o) => present(o));
const budgets = fc.record({ session: maybe(amounts), daily: maybe(amounts) }).map((o) => present(o));
const perimeter = fc
  .record({
    hours: maybe(
      fc.record({
        days: fc.subarray(["Thu", "Fri"], { minLength: 1 }),
        from: fc.constantFrom("00:00", "12:30"),
        to: fc.constantFrom("12:30", "24:00"),
        timezone: fc.constant("UTC"),
      }),
    ),
    dataClasses: maybe(fc.subarray(["x", "y"]).map((deny) => ({ deny }))),
    maxConcurrent: maybe(fc.integer({ min: 1, max: 2 })),
    requireTls: maybe(fc.boolean()),
  })
  .map((o) => present(o));
const threat = fc
  .record({
    denyAt: maybe(fc.constantFrom("LOW", "MEDIUM", "HIGH")),
    taintedMaxEffect: maybe(fc.constantFrom(...EFFECTS)),
  })
  .map((o) => present(o));
const shared = {
  perimeter: maybe(perimeter),
  threat: maybe(threat),
  freshness: maybe(fc.constantFrom(1, 5).map((maxStaleSeconds) => ({ maxStaleSeconds }))),
  limits: maybe(fc.constantFrom(1, 3).map((requestsPerSecond) => ({ requestsPerSecond }))),
};
const ceiling = fc
  .record({
    ...shared,
    ceiling: maybe(
      fc
        .record({
          maxEffect: maybe(fc.constantFrom(...EFFECTS)),
          forbidden: maybe(
            fc.array(
              fc.constantFrom(...PATTERNS).map((p) => ({ tools: [p], reason: "no" })),
              { maxLength: 2 },
            ),
          ),
          budgets: maybe(budgets),
        })
        .map((o) => present(o)),
    ),
  })
  .map((o) => present({ ...head, name: "top", layer: "P0", ...o }));
const governance = fc
  .record({
    ...shared,
    effects: fc.array(fc.constantFrom(...EFFECTS), { minLength: 4, maxLength: 4 }),
    toolset: fc.subarray([...PATTERNS], { minLength: 1 }),
    budgets: maybe(budgets),
    rules: fc.array(
      fc.record({
        tools: fc.constantFrom(...PATTERNS).map((p) => [p]),
        then: fc.constantFrom("allow", "allow", "deny"),
        when: fc.constantFrom("session.calls < 2", "principal.id != ''", "call.effect != 'E4'"),
        shadow: fc.boolean(),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  })
  .map(({ effects, toolset, budgets: spend, rules, ...o }) =>
    present({
      ...head,
      name: "own",
      layer: "P1",
      connectors,
      tools: NAMES.map((name, i) => ({ ...toolOf(name), effect: effects[i] ?? "E4" })),
      toolsets: { all: toolset },
      profiles: [
        present({ match: { principal: "*" }, toolsets: ["all"], maxSideEffect: "full", budgets: spend }),
      ],
      rules: rules.map((r, i) => ({ id: `r${i}`, ...r })),
      ...o,
    }),
  );
const toolOf = (name: string): JsonObject => ({
  name,
  effect: "E0",
  sideEffect: "read_only",
  sandbox: "isolated",
  input: true,
});
/** Everything allowed, so that what is denied under it is denied by the layer above. */
const open = (effects: readonly JsonValue[]): JsonObject => ({
  ...head,
  name: "open",
  layer: "P1",
  connectors,
  tools: NAMES.map((name, i) => ({ ...toolOf(name), effect: effects[i] ?? "E4" })),
  toolsets: { all: [...NAMES] },
  profiles: [{ match: { principal: "*" }, toolsets: ["all"], maxSideEffect: "full" }],
  rules: [{ id: "all", tools: ["*"], then: "allow" }],
  perimeter: { requireTls: false },
  threat: { denyAt: "HIGH", taintedMaxEffect: "E4" },
  freshness: { maxStaleSeconds: 86_400 },
  limits: { requestsPerSecond: 1_000_000 },
});
const mostly = <T>(a: T, b: T): fc.Arbitrary<T> => fc.constantFrom(a, a, a, b);
const used = fc.constantFrom(0, 0, 1, 3);
const world = fc.record({
  tool: fc.constantFrom(...NAMES),
  facts: fc.record({
    now: fc.constantFrom("2026-01-01T12:00:00.000Z", "2026-01-02T13:00:00.000Z"),
    session: fc.record({ calls: used, tainted: mostly(false, true) }),
    context: fc.record({
      heartbeatAgeMs: fc.constantFrom(0, 0, 3000, 9000),
      tls: mostly(true, false),
      concurrent: fc.constantFrom(0, 0, 1),
    }),
    scan: fc.record({
      level: fc.constantFrom("NONE", "NONE", "LOW", "MEDIUM"),
      dataClasses: fc.subarray(["x"]),
    }),
    rate: fc.record({ sessionLastSecond: used }),
    budget: fc.record({
      session: fc.record({ calls: used, tokens: used, costMicroUsd: used }),
      daily: fc.record({ calls: used, tokens: used, costMicroUsd: used }),
    }),
  }),
});

const compiled = (document: JsonObject, above?: JsonObject): Policy | null => {
  try {
    return compilePolicy(document, above === undefined ? {} : { ceiling: above });
  } catch {
    return null;
  }
};
const allows = (policy: Policy, tool: string, facts: JsonValue): boolean => {
  const call = parseCall({ tool });
  return decide(call, policy, completeFacts(policy, call, facts)).verdict === "ALLOW";
};

test("what a stack of layers allows, each of its layers allows", () => {
  const seen = { allowed: 0, narrowed: 0, refused: 0 };
  fc.assert(
    fc.property(ceiling, governance, fc.array(world, { minLength: 12, maxLength: 12 }), (p0, p1, calls) => {
      const effective = compiled(p1, p0);
      const alone = compiled(p1);
      if (alone === null) throw new Error("the generator made a policy that does not load");
      if (effective === null) {
        seen.refused++;
        return;
      }
      const tools = (p1["tools"] as readonly JsonObject[]).map((t) => t["effect"] ?? "E4");
      const above = compilePolicy(open(tools), { ceiling: p0 });
      for (const { tool, facts } of calls) {
        const both = allows(effective, tool, facts);
        if (both) {
          seen.allowed++;
          expect(allows(alone, tool, facts)).toBe(true);
          expect(allows(above, tool, facts)).toBe(true);
        } else if (allows(alone, tool, facts)) seen.narrowed++;
      }
    }),
    { numRuns: 1500 },
  );
  // The property must have had something to say.
  expect(seen.allowed).toBeGreaterThan(300);
  expect(seen.narrowed).toBeGreaterThan(300);
  expect(seen.refused).toBeGreaterThan(30);
});
