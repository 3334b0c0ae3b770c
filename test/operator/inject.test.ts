import { expect, test } from "vitest";
import { inject } from "../../operator/inject/inject.ts";
import { matchTerms } from "../../operator/kinds/kinds.ts";
import { buildShapes, canonicalShape, shapePod } from "../../operator/shape/shape.ts";
import * as lock from "../../sidecar/lock/lock.ts";
import * as shape from "../../operator/shape/shape.ts";
import { applyPatch } from "./apply-patch.ts";

const spec = {
  image: `r.example/s@sha256:${"a".repeat(64)}`,
  conformanceLevel: "L1",
  policyBundleRef: { bundleId: "b" },
  namespaceSelector: { matchLabels: { team: "a" } },
} as const;
const settings = {
  trustRootsSha256: `sha256:${"d".repeat(64)}`,
  controlUrl: "https://c.example:8443",
  canary: "none",
};
const entry = {
  name: "strong",
  match: matchTerms(spec),
  shapes: buildShapes("strong", spec, settings).map((raw) => canonicalShape(raw, shapePod("strong", raw))),
};
const here = { name: "team-a", labels: { "atoll.dev/governed": "true", team: "a" } };
const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "x", labels: { "atoll.dev/sidecar": "weak" } },
  spec: { containers: [{ name: "agent", image: "a", securityContext: { runAsUser: 1000 } }] },
};

test("a governed pod gets lock, guardian and gate before everything else, and the second pass changes nothing", () => {
  const first = inject(pod, here, { sidecars: [entry] });
  if (first.outcome !== "inject") throw new Error(first.message);
  const after = applyPatch(pod, first.patch) as {
    metadata: { labels: unknown };
    spec: { initContainers?: { name: string }[] };
  };
  expect(after.spec.initContainers?.map((c) => c.name)).toEqual([
    "atoll-lock",
    "atoll-guardian",
    "atoll-gate",
  ]);
  expect(after.metadata.labels).toEqual({ "atoll.dev/sidecar": "strong" });
  const second = inject(JSON.parse(JSON.stringify(after)), here, { sidecars: [entry] });
  expect(second).toMatchObject({ outcome: "inject", patch: [] });
});
test("an ungoverned namespace is left alone, with the reason", () => {
  expect(inject(pod, { name: "n", labels: {} }, { sidecars: [entry] })).toMatchObject({
    outcome: "skip",
    code: "NotGoverned",
  });
});
test("no candidate and two candidates are refused, with their names", () => {
  expect(inject(pod, here, { sidecars: [] })).toMatchObject({ outcome: "refuse", code: "NoSidecar" });
  const two = inject(pod, here, { sidecars: [entry, { ...entry, name: "other" }] });
  expect(two).toMatchObject({ outcome: "refuse", code: "AmbiguousSidecar" });
  expect(two.outcome === "refuse" ? two.message : "").toContain("strong, other");
});
test("both sides of the pod's border name the same users and ports", () => {
  expect([shape.LOCK_UID, shape.GATE_UID, shape.GUARDIAN_UID]).toEqual([
    lock.LOCK_UID,
    lock.GATE_UID,
    lock.GUARDIAN_UID,
  ]);
  expect([shape.API_PORT, shape.PROXY_PORT]).toEqual([...lock.AGENT_PORTS]);
  expect(shape.HEALTH_PORT).toBe(lock.HEALTH_PORT);
  expect(shape.LOCK_COMMAND.at(-1)).toBe(lock.LOCK_FILE);
});
