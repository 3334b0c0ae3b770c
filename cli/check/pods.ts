// Governed namespaces, the pods in them, and who could take the protection away.

import { EXCLUDED_NAMESPACES } from "../../operator/inject/inject.ts";
import { LABEL_GOVERNED, LABEL_SIDECAR } from "../../operator/kinds/kinds.ts";
import type { JsonMap } from "../../operator/kinds/kinds.ts";
import { fail, warn, info, when } from "./finding.ts";
import type { Check } from "./finding.ts";
import {
  at,
  isEmptySelector,
  labelsOf,
  list,
  named,
  nameOf,
  namespaceOf,
  number,
  selectorHolds,
  text,
  texts,
} from "./reading.ts";
import type { Snapshot } from "./snapshot.ts";

const INJECTED = ["atoll-lock", "atoll-guardian", "atoll-gate"];
const governed = (s: Snapshot): JsonMap[] =>
  s.lists.namespaces.filter(
    (n) => labelsOf(n)[LABEL_GOVERNED] === "true" && !EXCLUDED_NAMESPACES.includes(nameOf(n)),
  );
const selects = (sidecar: JsonMap, namespace: JsonMap): boolean =>
  !isEmptySelector(at(sidecar, "spec", "namespaceSelector")) &&
  selectorHolds(at(sidecar, "spec", "namespaceSelector"), labelsOf(namespace));
const governedPods = (s: Snapshot): JsonMap[] => {
  const names = new Set(governed(s).map(nameOf));
  return s.lists.pods.filter(
    (p) => names.has(namespaceOf(p)) && !["Succeeded", "Failed"].includes(text(p, "status", "phase")),
  );
};
const placeOf = (pod: JsonMap): string => `${namespaceOf(pod)}/${nameOf(pod)}`;
const guardianOf = (pod: JsonMap): JsonMap | undefined =>
  list(pod, "spec", "initContainers").find((c) => text(c, "name") === "atoll-guardian");
const guardianStatus = (pod: JsonMap): JsonMap | undefined =>
  list(pod, "status", "initContainerStatuses").find((c) => text(c, "name") === "atoll-guardian");
const POWERS: readonly (readonly [
  what: string,
  group: string,
  resource: string,
  verbs: readonly string[],
])[] = [
  [
    "delete admission policies",
    "admissionregistration.k8s.io",
    "validatingadmissionpolicies",
    ["delete", "update", "patch"],
  ],
  ["impersonate service accounts", "", "serviceaccounts", ["impersonate"]],
  ["make tokens of any service account", "", "serviceaccounts/token", ["create"]],
  ["reach kubelets directly", "", "nodes/proxy", ["get", "create"]],
];
/** Who holds, cluster-wide, what our protection cannot see. */
function powers(s: Snapshot): string[] {
  const holds = (role: JsonMap, group: string, resource: string, verbs: readonly string[]): boolean =>
    list(role, "rules").some(
      (rule) =>
        texts(rule, "resourceNames").length === 0 &&
        texts(rule, "apiGroups").some((g) => g === "*" || g === group) &&
        texts(rule, "resources").some((r) => r === "*" || r === resource) &&
        texts(rule, "verbs").some((v) => v === "*" || verbs.includes(v)),
    );
  return POWERS.flatMap(([what, group, resource, verbs]) => {
    const roleNames = new Set(s.lists.roles.filter((r) => holds(r, group, resource, verbs)).map(nameOf));
    const subjects = s.lists.rolebindings
      .filter((b) => roleNames.has(text(b, "roleRef", "name")))
      .flatMap((b) =>
        list(b, "subjects").map(
          (u) =>
            `${text(u, "kind")} ${[text(u, "namespace"), text(u, "name")].filter((t) => t !== "").join("/")}`,
        ),
      )
      .filter(
        (who) => !/^(Group system:|User system:|ServiceAccount (kube-system|atoll-system)\/)/u.test(who),
      );
    return subjects.length === 0 ? [] : [`may ${what}: ${[...new Set(subjects)].join(", ")}`];
  });
}

export const PODS: readonly Check[] = [
  {
    id: "namespace-sidecar",
    what: "every governed namespace has a GuardianSidecar",
    hint: "until one selects it every pod is refused: correct spec.namespaceSelector, or take the label off as atoll-installer",
    reads: ["namespaces", "sidecars"],
    judge: (s) =>
      governed(s)
        .filter((n) => !s.lists.sidecars.some((one) => selects(one, n)))
        .map((n) => fail(`${nameOf(n)} has none`)),
  },
  {
    id: "namespace-label",
    what: "every namespace that a GuardianSidecar selects is governed",
    hint: `kubectl label namespace NAME ${LABEL_GOVERNED}=true, then replace its pods`,
    reads: ["namespaces", "sidecars"],
    judge: (s) =>
      s.lists.namespaces
        .filter((n) => labelsOf(n)[LABEL_GOVERNED] !== "true" && !EXCLUDED_NAMESPACES.includes(nameOf(n)))
        .filter((n) => s.lists.sidecars.some((one) => selects(one, n)))
        .map((n) => warn(`${nameOf(n)} lacks the label ${LABEL_GOVERNED}=true: its pods run unguarded`)),
  },
  {
    id: "overlap",
    what: "no two GuardianSidecars claim the same pods",
    hint: "give each a podSelector, or one namespace each; pods that two claim are refused",
    reads: ["namespaces", "sidecars"],
    judge: (s) =>
      governed(s).flatMap((n) => {
        const all = s.lists.sidecars.filter(
          (one) => selects(one, n) && isEmptySelector(at(one, "spec", "podSelector")),
        );
        return when(all.length > 1, `${nameOf(n)}: ${all.map(nameOf).join(", ")}`);
      }),
  },
  {
    id: "pod-security",
    what: "Pod Security lets the lock in",
    hint: "label the namespace pod-security.kubernetes.io/enforce=privileged (the lock needs NET_ADMIN for a moment), or use inPodLock: none",
    reads: ["namespaces", "sidecars"],
    judge: (s) =>
      governed(s)
        .filter((n) =>
          ["baseline", "restricted"].includes(labelsOf(n)["pod-security.kubernetes.io/enforce"] ?? ""),
        )
        .filter((n) =>
          s.lists.sidecars.some(
            (one) => selects(one, n) && text(one, "spec", "island", "inPodLock") !== "none",
          ),
        )
        .map((n) => fail(`${nameOf(n)} enforces ${labelsOf(n)["pod-security.kubernetes.io/enforce"] ?? ""}`)),
  },
  {
    id: "network-policy-objects",
    what: "every GuardianSidecar's NetworkPolicy is in place",
    hint: "kubectl -n atoll-system logs deploy/atoll-operator: it puts them back",
    reads: ["namespaces", "sidecars", "networkpolicies"],
    judge: (s) =>
      s.lists.sidecars
        .filter((one) => at(one, "spec", "island", "networkPolicy") !== false)
        .flatMap((one) =>
          governed(s)
            .filter((n) => selects(one, n))
            .flatMap((n) =>
              when(
                !s.lists.networkpolicies.some(
                  (p) => namespaceOf(p) === nameOf(n) && nameOf(p) === `atoll-island-${nameOf(one)}`,
                ),
                `${nameOf(n)} has no NetworkPolicy of ${nameOf(one)}`,
              ),
            ),
        ),
  },
  {
    id: "unguarded-pods",
    what: "no pod runs unguarded in a governed namespace",
    hint: "it was there before the label: delete it, and its owner makes it anew",
    reads: ["namespaces", "pods"],
    judge: (s) =>
      governedPods(s)
        .filter((p) => guardianOf(p) === undefined || labelsOf(p)[LABEL_SIDECAR] === undefined)
        .map((p) => fail(placeOf(p))),
  },
  {
    id: "guardian-ready",
    what: "every guardian is ready",
    hint: "kubectl logs POD -c atoll-guardian; /readyz says why",
    reads: ["namespaces", "pods"],
    judge: (s) =>
      governedPods(s)
        .filter((p) => guardianOf(p) !== undefined && at(guardianStatus(p), "ready") !== true)
        .map((p) => fail(`${placeOf(p)}: the guardian is not ready`)),
  },
  {
    id: "guardian-restarts",
    what: "guardians do not restart again and again",
    hint: "kubectl logs POD -c atoll-guardian --previous",
    reads: ["namespaces", "pods"],
    judge: (s) =>
      governedPods(s)
        .filter((p) => number(guardianStatus(p), "restartCount") >= 5)
        .map((p) => warn(`${placeOf(p)}: ${number(guardianStatus(p), "restartCount")} times`)),
  },
  {
    id: "guardian-age",
    what: "every guardian is of the image that its GuardianSidecar names",
    hint: "restart the workload: kubectl rollout restart",
    reads: ["namespaces", "pods", "sidecars"],
    judge: (s) =>
      governedPods(s).flatMap((p) => {
        const sidecar = named(s.lists.sidecars, labelsOf(p)[LABEL_SIDECAR] ?? "");
        const image = text(guardianOf(p), "image");
        return when(
          sidecar !== undefined && image !== "" && image !== text(sidecar, "spec", "image"),
          `${placeOf(p)} runs an older guardian`,
          "warn",
        );
      }),
  },
  {
    id: "policy-spread",
    what: "every guardian runs the policy that is active",
    hint: "the control stream does not reach it: kubectl logs POD -c atoll-guardian",
    reads: ["sidecars"],
    judge: (s) =>
      s.lists.sidecars.flatMap((one) => {
        if (
          text(one, "spec", "rollout", "strategy") !== "" &&
          text(one, "spec", "rollout", "strategy") !== "Live"
        )
          return [];
        const hash = text(one, "status", "policy", "hash");
        return list(one, "status", "running")
          .filter((r) => hash !== "" && text(r, "hash") !== hash)
          .map((r) => warn(`${nameOf(one)}: ${number(r, "pods")} pods run ${text(r, "hash").slice(0, 19)}…`));
      }),
  },
  {
    id: "default-container",
    what: "governed pods have all three containers of ours, in order",
    hint: "delete the pod: its owner makes it anew",
    reads: ["namespaces", "pods", "sidecars"],
    judge: (s) =>
      governedPods(s)
        .filter(
          (p) =>
            text(named(s.lists.sidecars, labelsOf(p)[LABEL_SIDECAR] ?? ""), "spec", "island", "inPodLock") !==
            "none",
        )
        .filter((p) => guardianOf(p) !== undefined)
        .filter(
          (p) =>
            list(p, "spec", "initContainers")
              .slice(0, 3)
              .map((c) => text(c, "name"))
              .join() !== INJECTED.join(),
        )
        .map((p) => fail(placeOf(p))),
  },
  {
    id: "approvals",
    what: "no call has waited for a person for more than ten minutes",
    hint: "kubectl get approvalrequests -A; atoll approve ID --key FILE",
    reads: ["approvals"],
    judge: (s) =>
      s.lists.approvals
        .filter((a) => list(a, "status", "assertions").length === 0)
        .filter((a) => Date.parse(text(a, "spec", "expiresAt")) > s.now)
        .filter((a) => s.now - Date.parse(text(a, "metadata", "creationTimestamp")) > 600_000)
        .map((a) => warn(`${namespaceOf(a)}/${nameOf(a)}: ${text(a, "spec", "tool")}`)),
  },
  {
    id: "powers",
    what: "few can take the protection away",
    hint: "a static admission policy (charts/atoll/static) closes this where the API server is yours",
    reads: ["roles", "rolebindings"],
    judge: (s) => powers(s).map(info),
  },
];
