// What the validating webhook says about our kinds before they are stored.
import { expect, test } from "vitest";
import { matchTerms } from "../../operator/kinds/kinds.ts";
import type { IndexSpec, Json, SidecarSpec } from "../../operator/kinds/kinds.ts";
import { overlaps } from "../../operator/webhook/overlaps.ts";
import { mutatePod, validateKind } from "../../operator/webhook/review.ts";
import type { ReviewFacts } from "../../operator/webhook/review.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { ROOTS, bundle, policyContent } from "./whole.ts";
import { sidecarSpec } from "./shapes.ts";

type Selectors = Pick<SidecarSpec, "namespaceSelector" | "podSelector">;
const team = (pods?: Selectors["podSelector"]): Selectors => ({
  namespaceSelector: { matchLabels: { team: "a" } },
  ...(pods === undefined ? {} : { podSelector: pods }),
});
const indexOf = (spec: Selectors): IndexSpec => ({
  sidecars: [{ name: "other", match: matchTerms(spec), shapes: [] }],
});
const NAMESPACES = [
  ["team-a", { "atoll.dev/governed": "true", team: "a" }],
  ["plain", { team: "b" }],
] as const;
const found = (mine: Selectors, theirs: Selectors): string => {
  const { certain, possible } = overlaps("mine", mine, indexOf(theirs), NAMESPACES);
  return certain.length > 0 ? "certain" : possible.length > 0 ? "possible" : "none";
};
const role = (operator: "In" | "NotIn" | "Exists" | "DoesNotExist", ...values: string[]): Selectors =>
  team({ matchExpressions: [{ key: "role", operator, ...(values.length === 0 ? {} : { values }) }] });

test("two sidecars of which one takes all pods of the other overlap for certain", () => {
  expect(found(team(), team())).toBe("certain");
  expect(found(team(), role("In", "x"))).toBe("certain");
  expect(found(role("In", "x"), team())).toBe("certain");
  expect(found(role("In", "x"), role("In", "x"))).toBe("certain");
});
test("two that no pod can satisfy at once do not overlap, two that one could may", () => {
  expect(found(role("In", "x"), role("In", "y"))).toBe("none");
  expect(found(role("In", "x"), role("NotIn", "x"))).toBe("none");
  expect(found(role("Exists"), role("DoesNotExist"))).toBe("none");
  expect(found(role("In", "x"), role("DoesNotExist"))).toBe("none");
  expect(found(role("In", "x", "y"), role("In", "y", "z"))).toBe("possible");
  expect(found(role("NotIn", "x"), role("NotIn", "y"))).toBe("possible");
  expect(found(role("Exists"), role("NotIn", "x"))).toBe("possible");
  expect(found(role("In", "x"), team({ matchLabels: { app: "z" } }))).toBe("possible");
});
test("what shares no governed namespace does not overlap", () => {
  expect(found(team(), { namespaceSelector: { matchLabels: { team: "b" } } })).toBe("none");
  const b: Selectors = { namespaceSelector: { matchLabels: { team: "b" } } };
  expect(found(b, b)).toBe("none");
});

const facts: ReviewFacts = {
  index: indexOf(team()),
  namespaceLabels: () => undefined,
  namespaces: () => NAMESPACES,
  roots: parseTrustRoots(ROOTS),
  requireSignature: true,
  now: Date.now(),
};
const judge = (object: unknown, operation = "CREATE", old: unknown = null): Json => {
  const review = { request: { uid: "u", operation, object, oldObject: old } };
  const outcome = validateKind(JSON.parse(JSON.stringify(review)) as Json, facts);
  return outcome?.review["response"] ?? null;
};
const sidecar = (spec: Partial<SidecarSpec>, name = "mine"): unknown => ({
  apiVersion: "atoll.dev/v1alpha1",
  kind: "GuardianSidecar",
  metadata: { name },
  spec: { ...sidecarSpec(), ...spec },
});

test("a sidecar whose pods another takes too is refused with its name, and a freeze of it never is", () => {
  expect(judge(sidecar({}))).toMatchObject({
    allowed: false,
    status: { message: expect.stringContaining("taken by other in namespace team-a") },
  });
  expect(judge(sidecar({}, "other"))).toMatchObject({ allowed: true });
  expect(judge(sidecar({ freeze: { reason: "stop" } }), "UPDATE", sidecar({}))).toMatchObject({
    allowed: true,
  });
  expect(judge(sidecar({}), "UPDATE", sidecar({ namespaceSelector: {} }))).toMatchObject({ allowed: false });
});
test("a bundle that is signed and does not compile is refused, and one that lints is taken with warnings", () => {
  expect(judge(bundle({ version: 1 }))).toMatchObject({ allowed: true });
  expect(judge(bundle({ version: 1, content: policyContent("x", { nonsense: true }) }))).toMatchObject({
    allowed: false,
    status: { message: expect.stringContaining("does not compile") },
  });
  const typo = { id: "typo", tools: ["tool:calc/ad"], then: "deny" };
  expect(judge(bundle({ version: 1, content: policyContent("x", { rules: [typo] }) }))).toMatchObject({
    allowed: true,
    warnings: [expect.stringContaining("dead-rule at rules[0]")],
  });
});

test("a webhook that has not heard of index, namespace or roots yet refuses, and says which", () => {
  const pod = { metadata: { name: "agent" }, spec: { containers: [{ name: "agent", image: "a:1" }] } };
  const asked = (known: Partial<ReviewFacts>): ReturnType<typeof mutatePod> =>
    mutatePod(
      { request: { uid: "u", namespace: "plain", operation: "CREATE", object: pod, oldObject: null } },
      { ...facts, namespaceLabels: () => ({ team: "b" }), ...known },
    );
  const refused = (message: string): object => ({
    outcome: "refuse",
    code: "NotReady",
    review: { response: { allowed: false, status: { message: expect.stringContaining(message) } } },
  });
  expect(asked({ index: undefined })).toMatchObject(refused("the index of shapes is not known yet"));
  expect(asked({ namespaceLabels: () => undefined })).toMatchObject(
    refused("namespace `plain` is not known yet"),
  );
  expect(asked({})).toMatchObject({ outcome: "refuse", code: "NoSidecar" });
  const review = JSON.parse(
    JSON.stringify({ request: { uid: "u", operation: "CREATE", object: bundle({ version: 1 }) } }),
  );
  expect(validateKind(review, { ...facts, roots: undefined })).toMatchObject(
    refused("the trust roots are not known yet"),
  );
});
