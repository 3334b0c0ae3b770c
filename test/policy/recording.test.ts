import { expect, test } from "vitest";
import { targetFrom } from "../../kernel/contracts/contracts.ts";
import type { Facts, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { createExecutor } from "../../kernel/executor/executor.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, memoryJournal, sampleDoc, someHash } from "../guardian/sample.ts";

const SECRET = "api_key=sk-12345";
const redact = ["(?i)api[_-]?key\\s*[:=]\\s*\\S+"];

/** What the journal holds after one call with a secret in it, and what the tool was given. */
async function recorded(over: JsonObject, title = SECRET, facts: Partial<Facts> = {}) {
  const policy = compilePolicy({ ...sampleDoc, ...over });
  const journal = memoryJournal();
  const executor = createExecutor({
    journal,
    clock: { now: () => Date.parse("2026-11-18T10:00:00.000Z"), after: () => () => undefined },
    random: () => new Uint8Array(16),
  });
  let given: JsonValue = null;
  const result = await executor.run({
    call: callOf("tool:github/create_issue", { repo: "acme/web", title }),
    policy: () => policy,
    gather: () => factsOf(policy, facts),
    dispatch: async (permit) => {
      given = permit.call.args;
      return { status: "succeeded", output: { number: 7 } };
    },
  });
  return { result, given, inputs: journal.inputs, text: canonicalize(journal.inputs.map((i) => i.value)) };
}
const evidence = (args: JsonObject): Partial<Facts> => ({
  evidence: [
    {
      kind: "receipt",
      node: someHash,
      tool: targetFrom("tool:github/create_issue", "tool"),
      status: "SUCCEEDED",
      at: factsOf(compilePolicy(sampleDoc)).now,
      source: "rest",
      args,
    },
  ],
});

test("what the policy blots out is in no record, and the tool still gets it", async () => {
  const { result, given, inputs, text } = await recorded(
    { perimeter: { redact } },
    SECRET,
    evidence({ a: SECRET }),
  );
  expect(result.kind).toBe("done");
  expect(given).toEqual({ repo: "acme/web", title: SECRET });
  expect(text).not.toContain("sk-12345");
  expect(inputs.map((i) => i.redacted)).toEqual([true, true]);
  expect(inputs[0]?.value).toEqual({ repo: "acme/web", title: "[redacted]" });
});

test("what no pattern matches is recorded whole", async () => {
  const { inputs } = await recorded({ perimeter: { redact } }, "crash");
  expect(inputs.map((i) => i.redacted)).toEqual([false, false]);
});

test("hashes alone are kept when the policy says so", async () => {
  const { inputs, text } = await recorded(
    { retention: { inputs: "hashes" } },
    SECRET,
    evidence({ a: SECRET }),
  );
  expect(text).not.toContain("sk-12345");
  expect(inputs[0]).toMatchObject({ redacted: true, value: null });
  // The facts stay, without the arguments of earlier calls.
  expect(inputs[1]).toMatchObject({ redacted: true, value: { type: "atoll.dev/facts/v1" } });
});

test("everything is kept when the policy says full", async () => {
  const { inputs, text } = await recorded({ perimeter: { redact }, retention: { inputs: "full" } });
  expect(text).toContain("sk-12345");
  expect(inputs.map((i) => i.redacted)).toEqual([false, false]);
});

test("a refused call is recorded by the same rule", async () => {
  const { result, text } = await recorded({ perimeter: { redact } }, `${SECRET} secret`);
  expect(result.kind === "denied" && result.code).toBe("DENY_RULE");
  expect(text).not.toContain("sk-12345");
});

test("names of members are blotted too, and none hides another", () => {
  const { recording } = compilePolicy({ ...sampleDoc, perimeter: { redact: ["k\\d"] } });
  expect(recording.blot({ k1: "a", k2: ["k3", 4, null] })).toEqual({
    "[redacted]": "a",
    "[redacted] 2": ["[redacted]", 4, null],
  });
});

test("a pattern that is none, or that matches nothing at all, is refused with its place", () => {
  for (const bad of ["(", "(?=x)y", "a*", "x".repeat(1001)])
    expect(() => compilePolicy({ ...sampleDoc, perimeter: { redact: ["ok", bad] } })).toThrow(
      /^perimeter\.redact\[1\]/,
    );
});

test("the layer above adds its patterns", () => {
  const ceiling = {
    apiVersion: "atoll.dev/policy/v1",
    name: "top",
    layer: "P0",
    perimeter: { redact: ["b+"] },
  };
  const { recording } = compilePolicy({ ...sampleDoc, perimeter: { redact: ["a+"] } }, { ceiling });
  expect(recording.blot("aabbcc")).toBe("[redacted][redacted]cc");
});
