// A sidecar's entry made without an API server, for tests of what is pure.
import { matchTerms } from "../../operator/kinds/kinds.ts";
import type { IndexEntry, SidecarSpec } from "../../operator/kinds/kinds.ts";
import { buildShapes, canonicalShape, shapePod } from "../../operator/shape/shape.ts";

export const NAMESPACE = { name: "team-a", labels: { "atoll.dev/governed": "true", team: "a" } };
export const RICH: SidecarSpec = {
  image: `registry.example/atoll/sidecar@sha256:${"a".repeat(64)}`,
  conformanceLevel: "L1",
  policyBundleRef: { bundleId: "b" },
  namespaceSelector: { matchLabels: { team: "a" } },
  runtimeClasses: ["proved"],
  credentials: [{ name: "TOKEN", secretRef: { name: "github", key: "token" } }],
  resources: [
    { class: "default", cpu: "100m", memory: "256Mi" },
    { class: "large", cpu: "1", memory: "1Gi" },
  ],
};
export const pureEntry = (): IndexEntry => ({
  name: "strong",
  match: matchTerms(RICH),
  runtimeClasses: RICH.runtimeClasses ?? [],
  shapes: buildShapes("strong", RICH, {
    trustRootsSha256: `sha256:${"d".repeat(64)}`,
    controlUrl: "https://c.example:8443",
    canary: "none",
  }).map((raw) => canonicalShape(raw, shapePod("strong", raw))),
});
