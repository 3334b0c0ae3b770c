// The requirement graph: what each leaf looks at, and how all, any and not put leaves together.

import { describe, expect, test } from "vitest";
import { targetFrom, timestampFrom } from "../../kernel/contracts/contracts.ts";
import type { EvidenceFact, Facts, JsonObject } from "../../kernel/contracts/contracts.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { approver, callOf, factsOf, sampleDoc, someHash } from "./sample.ts";

const call = callOf("tool:github/create_issue", { repo: "acme/web", title: "crash" });
type Receipt = EvidenceFact & { readonly kind: "receipt" };
const receipt = (over: Partial<Receipt> = {}): Receipt => ({
  kind: "receipt",
  node: someHash,
  tool: targetFrom("tool:calc/sum", "tool"),
  status: "SUCCEEDED",
  at: timestampFrom("2026-11-18T09:59:00.000Z", "at"),
  source: "wasm",
  args: { repo: "acme/web", n: [1] },
  ...over,
});
const signer = `ed25519:${"b".repeat(16)}`;
const artifact = (artifactType = "slsa-provenance", by = signer): EvidenceFact => ({
  kind: "artifact",
  artifactType,
  signer: by as never,
  hash: someHash,
});
function judged(requires: JsonObject, evidence: Facts["evidence"] = [], over: Partial<Facts> = {}): string {
  const policy = compilePolicy({
    ...sampleDoc,
    approvals: { ...sampleDoc.approvals, two: { approvers: [approver], quorum: 1, waitSeconds: 7 } },
    rules: [{ id: "r", tools: ["tool:github/*"], then: "allow", requires }],
  });
  const v = decide(call, policy, factsOf(policy, { evidence, ...over }));
  return v.verdict === "ALLOW" ? "ALLOW" : `${v.code} ${v.detail}`;
}
const sum: JsonObject = {
  receipt: { tool: "tool:calc/*", status: "SUCCEEDED", withinSeconds: 60, sameArgs: ["repo"] },
};
const sbom: JsonObject = { artifact: { type: "slsa-provenance", signer } };
const yes: JsonObject = { cel: "true" };
const no: JsonObject = { cel: "false" };
const one: JsonObject = { approval: "one" };
const two: JsonObject = { approval: "two" };
const missing = (leaf: string): string => `MISSING_REQUIREMENT rule \`r\`: ${leaf}`;
const noReceipt = missing("receipt of `tool:calc/*` with status SUCCEEDED");

describe("a receipt", () => {
  test.each<[string, EvidenceFact, string]>([
    ["that fits", receipt(), "ALLOW"],
    ["just old enough", receipt({ at: timestampFrom("2026-11-18T09:59:00.000Z", "at") }), "ALLOW"],
    ["of this moment", receipt({ at: timestampFrom("2026-11-18T10:00:00.000Z", "at") }), "ALLOW"],
    ["too old", receipt({ at: timestampFrom("2026-11-18T09:58:59.999Z", "at") }), noReceipt],
    ["from the future", receipt({ at: timestampFrom("2026-11-18T10:00:00.001Z", "at") }), noReceipt],
    ["of another tool", receipt({ tool: targetFrom("tool:github/create_issue", "tool") }), noReceipt],
    ["of another end", receipt({ status: "FAILED" }), noReceipt],
    ["for other arguments", receipt({ args: { repo: "acme/other" } }), noReceipt],
    ["without the argument", receipt({ args: {} }), noReceipt],
    ["that is an artifact", artifact(), noReceipt],
  ])("%s", (_what, evidence, expected) => expect(judged(sum, [evidence])).toBe(expected));

  test("of the agent's own telling is none", () => {
    const told: JsonObject = { receipt: { tool: "tool:agent/*", status: "SUCCEEDED" } };
    expect(judged(told, [receipt({ tool: targetFrom("tool:agent/note", "tool"), source: "openai" })])).toBe(
      missing("receipt of `tool:agent/*` with status SUCCEEDED"),
    );
  });
  test("without a time limit may be old, and needs no arguments", () => {
    const ever: JsonObject = { receipt: { tool: "tool:calc/sum", status: "SUCCEEDED" } };
    expect(judged(ever, [receipt({ at: timestampFrom("2020-01-01T00:00:00.000Z", "at"), args: {} })])).toBe(
      "ALLOW",
    );
  });
  test("has to have the same argument that the call has", () => {
    const same: JsonObject = { receipt: { tool: "tool:calc/sum", status: "SUCCEEDED", sameArgs: ["n"] } };
    expect(judged(same, [receipt()])).toBe(missing("receipt of `tool:calc/sum` with status SUCCEEDED"));
  });
});

test("an artifact is of its type and by its signer", () => {
  expect(judged(sbom, [artifact()])).toBe("ALLOW");
  const wanted = missing(`artifact \`slsa-provenance\` signed by ${signer}`);
  expect(judged(sbom, [])).toBe(wanted);
  expect(judged(sbom, [artifact("sbom")])).toBe(wanted);
  expect(judged(sbom, [artifact("slsa-provenance", `ed25519:${"c".repeat(16)}`)])).toBe(wanted);
  expect(judged(sbom, [receipt()])).toBe(wanted);
});

describe("what leaves come to", () => {
  test.each<[JsonObject, string]>([
    [yes, "ALLOW"],
    [no, missing("cel `false`")],
    [{ all: [yes, yes] }, "ALLOW"],
    [{ all: [yes, no] }, missing("cel `false`")],
    [{ all: [no, sbom] }, missing("cel `false`")],
    [{ any: [no, yes] }, "ALLOW"],
    [{ any: [yes, no] }, "ALLOW"],
    [{ any: [sbom, no] }, missing(`artifact \`slsa-provenance\` signed by ${signer}`)],
    [{ not: no }, "ALLOW"],
    [{ not: yes }, missing("`not` does not hold")],
    [one, "DENY_APPROVAL_REQUIRED ceremony `one`"],
    [{ all: [yes, one] }, "DENY_APPROVAL_REQUIRED ceremony `one`"],
    [{ all: [one, two] }, "DENY_APPROVAL_REQUIRED ceremony `one+two`"],
    [{ all: [one, one] }, "DENY_APPROVAL_REQUIRED ceremony `one`"],
    [{ all: [one, no] }, missing("cel `false`")],
    [{ any: [one, yes] }, "ALLOW"],
    [{ any: [no, one] }, "DENY_APPROVAL_REQUIRED ceremony `one`"],
    [{ any: [two, one] }, "DENY_APPROVAL_REQUIRED ceremony `two`"],
    [{ cel: 'pod.labels["nothing"] == "x"' }, "POLICY_EVALUATION_ERROR field not found: nothing"],
  ])("%j is %s", (requires, expected) => expect(judged(requires)).toBe(expected));
});
