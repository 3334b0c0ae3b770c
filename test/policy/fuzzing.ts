// What an input of the policy parser or of the expressions' loader may come to: a value, or our own refusal.

import { lintSource, load, mergeSources, readYaml, SourceError } from "../../cli/authoring/authoring.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { ContractError } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { bind } from "../../kernel/guardian/cel.ts";
import { compileExpression, createEngine, decide, ExpressionError } from "../../kernel/guardian/guardian.ts";
import { compilePolicy, completeFacts, parseCall } from "../../kernel/policy/policy.ts";
import { callOf, factsOf } from "../guardian/sample.ts";
import { EVERYTHING } from "./fuzz-seeds.ts";
import type { Execution } from "./fuzz-inputs.ts";

export { executionAt } from "./fuzz-inputs.ts";
export type { Execution } from "./fuzz-inputs.ts";

/** `none`: an expression that was admitted and has no answer for the sample call, which a guardian denies. */
export type Outcome = "value" | "refused" | "none";

const INPUT: JsonObject = {
  type: "object",
  additionalProperties: false,
  properties: {
    s: { type: "string", maxLength: 40 },
    i: { type: "integer" },
    d: { type: "number" },
    l: { type: "array", maxItems: 9, items: { type: "string", maxLength: 5 } },
    ints: { type: "array", maxItems: 5, items: { type: "integer" } },
    m: { type: "object", additionalProperties: false, properties: { k: { type: "integer" } } },
    any: true,
  },
};
const ARGS: JsonObject = {
  s: "hällo",
  i: 5,
  d: 2.5,
  l: ["a", "b"],
  ints: [1, 2],
  m: { k: 7 },
  any: { deep: [{ k: 1 }, null, "x"] },
};
const WORLD = compilePolicy({
  ...EVERYTHING,
  tools: [{ name: "tool:agent/x", effect: "E1", sideEffect: "read_only", sandbox: "native", input: INPUT }],
  toolsets: {},
  profiles: [],
});
const TOOL = [...WORLD.tools.values()];
const CALL = callOf("tool:agent/x", ARGS);
const FACTS = factsOf(WORLD);
const NOW = Date.parse(FACTS.now);
const SAMPLES = [
  { tool: "tool:github/a", args: { x: 1 } },
  { tool: "net:a.docs.example:443" },
  { tool: "model:openai/m" },
].map((c) => parseCall(c));

/** Runs one. Whatever is neither a value nor our own refusal is thrown. */
export function run(e: Execution): Outcome {
  switch (e.kind) {
    case "expression":
      return judged(e.text, e.open);
    case "yaml":
      return refusedBy(SourceError, () => void canonicalize(readYaml(e.text, "p").value));
    case "document":
      return refusedBy(ContractError, () => decided(e.value, e.ceiling));
    case "policy":
      return refusedBy(SourceError, () => {
        const source = mergeSources([readYaml(e.text, "p")]);
        lintSource(source);
        load(source);
      });
  }
}

function refusedBy(refusal: abstract new (...args: never) => Error, attempt: () => void): Outcome {
  try {
    attempt();
    return "value";
  } catch (error) {
    if (error instanceof refusal) return "refused";
    throw error;
  }
}

/** What loads judges: a verdict for each sample call, whatever the policy says. */
function decided(value: JsonValue, ceiling: JsonValue | undefined): void {
  const policy = compilePolicy(value, ceiling === undefined ? {} : { ceiling });
  for (const call of SAMPLES)
    decide(call, policy, completeFacts(policy, call, { principal: { serviceAccount: "bot" } }));
}

function judged(text: string, open: boolean): Outcome {
  let program: ReturnType<typeof compileExpression>;
  try {
    program = compileExpression(text, { input: open ? null : INPUT, engine: createEngine() });
  } catch (error) {
    if (error instanceof ExpressionError) return "refused";
    throw error;
  }
  const [tool] = TOOL;
  if (tool === undefined) throw new Error("the sample policy has no tool");
  try {
    program.test(
      bind(program.variables, {
        call: CALL,
        policy: WORLD,
        facts: FACTS,
        now: NOW,
        subject: { kind: "tool", tool },
      }),
    );
    return "value";
  } catch (error) {
    if (error instanceof Error) return "none";
    throw error;
  }
}
