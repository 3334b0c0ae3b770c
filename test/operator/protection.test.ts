import { expect, test } from "vitest";
import { planProtection, protectionObjects, textOf } from "../../operator/protection/plan.ts";
import type { ProtectionKind, Stored, Wanted } from "../../operator/protection/plan.ts";

const policy: Wanted = {
  kind: "ValidatingAdmissionPolicy",
  name: "atoll-keep",
  spec: { failurePolicy: "Fail" },
};
const binding: Wanted = {
  kind: "ValidatingAdmissionPolicyBinding",
  name: "atoll-keep",
  spec: { policyName: "atoll-keep", validationActions: ["Deny"] },
};
const wanted = [policy, binding];
const stored = (...objects: Wanted[]): Stored => {
  const of = (kind: ProtectionKind): Map<string, string> =>
    new Map(objects.filter((o) => o.kind === kind).map((o) => [o.name, textOf(o.spec)]));
  return {
    ValidatingAdmissionPolicy: of("ValidatingAdmissionPolicy"),
    ValidatingAdmissionPolicyBinding: of("ValidatingAdmissionPolicyBinding"),
  };
};
const weak: Wanted = { ...policy, spec: { failurePolicy: "Ignore" } };
const audit: Wanted = { ...binding, spec: { ...binding.spec, validationActions: ["Audit"] } };

test("what is as installed needs nothing", () => {
  expect(planProtection(wanted, stored(...wanted))).toEqual({ create: [], remove: [], changed: [] });
});
test("what is missing is created under its own name", () => {
  expect(planProtection(wanted, stored())).toEqual({
    create: wanted,
    remove: [],
    changed: ["atoll-keep (missing)", "atoll-keep (missing)"],
  });
});
test("a changed policy gets a copy beside it, and a binding to that copy", () => {
  const plan = planProtection(wanted, stored(weak, binding));
  expect(plan.create).toEqual([
    { ...policy, name: "atoll-keep-again-1" },
    { ...binding, name: "atoll-keep-again-1", spec: { ...binding.spec, policyName: "atoll-keep-again-1" } },
  ]);
  const after = planProtection(wanted, stored(weak, binding, ...plan.create));
  expect(after.create).toEqual([]);
  expect(after.changed).toContain("atoll-keep (changed; atoll-keep-again-1 stands in)");
});
test("a binding that only audits gets one beside it that denies", () => {
  expect(planProtection(wanted, stored(policy, audit)).create).toEqual([
    { ...binding, name: "atoll-keep-again-1" },
  ]);
});
test("a copy that was changed too gets a second one, and after that it is only told", () => {
  const first = { ...weak, name: "atoll-keep-again-1" };
  const second = { ...weak, name: "atoll-keep-again-2" };
  expect(planProtection([policy], stored(weak, first)).create[0]?.name).toBe("atoll-keep-again-2");
  const plan = planProtection([policy], stored(weak, first, second));
  expect([plan.create, plan.changed]).toEqual([
    [],
    ["atoll-keep (changed, and no name is left for another)"],
  ]);
});
test("copies go when the installer has put his own back", () => {
  const copies = [
    { ...policy, name: "atoll-keep-again-1" },
    { ...binding, name: "atoll-keep-again-1", spec: { ...binding.spec, policyName: "atoll-keep-again-1" } },
  ];
  expect(planProtection(wanted, stored(...wanted, ...copies))).toEqual({
    create: [],
    remove: copies.map(({ kind, name }) => ({ kind, name })),
    changed: [],
  });
});
test("a changed one that is deleted comes back under its own name, and its copy goes", () => {
  const copy = { ...policy, name: "atoll-keep-again-1" };
  expect(planProtection([policy], stored(copy))).toEqual({
    create: [policy],
    remove: [{ kind: policy.kind, name: copy.name }],
    changed: ["atoll-keep (missing)"],
  });
});
test("what is no policy and no binding is not taken for one", () => {
  expect(
    protectionObjects([
      null,
      1,
      {},
      { kind: "Secret", metadata: { name: "x" }, spec: {} },
      { kind: "constructor", metadata: { name: "x" }, spec: {} },
    ]),
  ).toEqual([]);
});
