// The cluster and what the chart brought: reachable, of a right age, whole.

import { expiresAt } from "../../operator/certificates/certificates.ts";
import { LABEL_GOVERNED } from "../../operator/kinds/kinds.ts";
import type { JsonMap } from "../../operator/kinds/kinds.ts";
import { fail, warn, info, when } from "./finding.ts";
import type { Check, Finding } from "./finding.ts";
import {
  at,
  certificatesIn,
  condition,
  decoded,
  labelsOf,
  list,
  named,
  nameOf,
  number,
  selectorHolds,
  text,
  texts,
} from "./reading.ts";
import type { Snapshot } from "./snapshot.ts";

// Advice on an object, and no gate: a freeze must not wait for it.
const MAY_BE_AWAY: ReadonlySet<string> = new Set(["sidecars.atoll.dev"]);

const DAY = 86_400_000;
const SKEW_MS = 5_000;
const OLDEST_MINOR = 33;
export const CRDS = [
  "approvalrequests",
  "executionenvelopes",
  "guardiansidecars",
  "policybundles",
  "shapeindexes",
];
export const POLICIES = ["atoll-shape", "atoll-keep", "atoll-touch", "atoll-protect", "atoll-roots"];

const caOf = (configurations: readonly JsonMap[]): string[] =>
  configurations
    .filter((c) => nameOf(c) === "atoll")
    .flatMap((c) => list(c, "webhooks").map((w) => text(w, "clientConfig", "caBundle")));
const secretCertificates = (s: Snapshot): string[] => {
  const secret = named(s.lists.secrets, "atoll-webhook-ca");
  // The Secret holds authorities as JSON, line breaks escaped.
  return secret === undefined
    ? []
    : certificatesIn(decoded(text(secret, "data", "authorities")).replaceAll("\\n", "\n"));
};
const deploymentReady = (s: Snapshot, name: string): Finding[] => {
  const d = named(s.lists.deployments, name);
  if (d === undefined) return [fail(`there is no Deployment ${name}`)];
  const wanted = number(d, "spec", "replicas");
  const ready = number(d, "status", "availableReplicas");
  if (ready === 0) return [fail(`0 of ${wanted} replicas of ${name} are available`)];
  return when(ready < wanted, `${ready} of ${wanted} replicas of ${name} are available`, "warn");
};
const endpoints = (s: Snapshot, service: string): Finding[] => {
  const ready = s.lists.endpointslices
    .filter((e) => labelsOf(e)["kubernetes.io/service-name"] === service)
    .flatMap((e) => list(e, "endpoints"))
    .filter((e) => at(e, "conditions", "ready") !== false);
  return when(ready.length === 0, `the Service ${service} has no ready endpoint`);
};
export const INSTALLATION: readonly Check[] = [
  {
    id: "api",
    pre: true,
    what: "the API server answers",
    hint: "look at `kubectl cluster-info`; --kubeconfig and --context choose another cluster",
    reads: [],
    judge: (s) => when(s.unreachable !== "", s.unreachable),
  },
  {
    id: "version",
    pre: true,
    what: `Kubernetes is 1.${OLDEST_MINOR} or later`,
    hint: "native sidecars and admission policies are needed: upgrade the cluster",
    reads: [],
    judge: (s) => {
      const [, major = "0", minor = "0"] = /^v(\d+)\.(\d+)/u.exec(s.version) ?? [];
      return when(Number(major) === 1 && Number(minor) < OLDEST_MINOR, `this is ${s.version}`);
    },
  },
  {
    id: "clock",
    pre: true,
    what: "this machine and the API server agree on the time",
    hint: "run a time service on both: signatures and approvals carry times",
    reads: [],
    judge: (s) => {
      if (s.serverNow === 0) return [info("the API server's time could not be read")];
      // Its answer is in whole seconds.
      const skew = Math.max(0, Math.abs(s.now - s.serverNow) - 1000);
      return when(skew > SKEW_MS, `they differ by ${Math.round(skew / 1000)} s`);
    },
  },
  {
    id: "nodes",
    pre: true,
    what: "a node is ready",
    hint: "look at `kubectl describe nodes`",
    reads: ["nodes"],
    judge: (s) => {
      const notReady = s.lists.nodes.filter((n) => condition(n, "Ready")?.status !== "True");
      if (notReady.length === s.lists.nodes.length) return [fail("no node is ready")];
      return notReady.map((n) => warn(`node ${nameOf(n)} is not ready`));
    },
  },
  {
    id: "rights",
    pre: true,
    what: "you may install what the chart brings",
    hint: "install as a cluster administrator; later upgrades run as atoll-installer",
    reads: [],
    judge: (s) => s.rights.filter((r) => !r.allowed).map((r) => warn(`you may not ${r.what}`)),
  },
  {
    id: "crds",
    what: "our kinds are served",
    hint: "helm upgrade --install atoll charts/atoll --namespace atoll-system",
    reads: ["crds"],
    judge: (s) =>
      CRDS.flatMap((name) => {
        const crd = named(s.lists.crds, `${name}.atoll.dev`);
        if (crd === undefined) return [fail(`${name}.atoll.dev is missing`)];
        return when(condition(crd, "Established")?.status !== "True", `${name}.atoll.dev is not established`);
      }),
  },
  {
    id: "namespaces",
    what: "our namespaces are as installed",
    hint: "helm upgrade as atoll-installer: atoll-shape must admit privileged pods (by dry run only) and be ungoverned",
    reads: ["namespaces"],
    judge: (s) =>
      ["atoll-system", "atoll-shape"].flatMap((name) => {
        const n = named(s.lists.namespaces, name);
        if (n === undefined) return [fail(`the namespace ${name} is missing`)];
        const enforce = labelsOf(n)["pod-security.kubernetes.io/enforce"] ?? "privileged";
        return [
          ...when(labelsOf(n)[LABEL_GOVERNED] !== undefined, `${name} carries the label ${LABEL_GOVERNED}`),
          ...when(
            name === "atoll-shape" && enforce !== "privileged",
            `${name} enforces the level ${enforce}, so no shape can be learned`,
          ),
        ];
      }),
  },
  {
    id: "operator",
    what: "the operator runs",
    hint: "kubectl -n atoll-system describe pods -l app.kubernetes.io/name=atoll-operator",
    reads: ["deployments"],
    judge: (s) => deploymentReady(s, "atoll-operator"),
  },
  {
    id: "lease",
    what: "one operator leads",
    hint: "kubectl -n atoll-system logs deploy/atoll-operator; without a leader nothing is reconciled",
    reads: ["leases"],
    judge: (s) => {
      const lease = named(s.lists.leases, "atoll-operator");
      if (lease === undefined) return [fail("nobody has ever led")];
      const age = (s.serverNow || s.now) - Date.parse(text(lease, "spec", "renewTime"));
      return when(
        !(age < 30_000),
        `the lease of ${text(lease, "spec", "holderIdentity")} was renewed ${Math.round(age / 1000)} s ago`,
      );
    },
  },
  {
    id: "control",
    what: "guardians can reach the control stream",
    hint: "the Service atoll-control must select the operator's pod",
    reads: ["endpointslices"],
    judge: (s) => endpoints(s, "atoll-control"),
  },
  {
    id: "webhook",
    what: "the webhook runs",
    hint: "kubectl -n atoll-system describe pods -l app.kubernetes.io/name=atoll-webhook; until it runs no governed pod is made",
    reads: ["deployments"],
    judge: (s) => deploymentReady(s, "atoll-webhook"),
  },
  {
    id: "webhook-service",
    what: "the API server can reach the webhook",
    hint: "the Service atoll-webhook must select the webhook's pods",
    reads: ["endpointslices"],
    judge: (s) => endpoints(s, "atoll-webhook"),
  },
  {
    id: "webhook-configuration",
    what: "the webhooks are registered, fail closed, for governed namespaces",
    hint: "helm upgrade as atoll-installer puts them back",
    reads: ["mutating", "validating"],
    judge: (s) =>
      [["mutating", s.lists.mutating] as const, ["validating", s.lists.validating] as const].flatMap(
        ([kind, all]) => {
          const c = named(all, "atoll");
          if (c === undefined) return [fail(`the ${kind} webhook configuration is missing`)];
          return list(c, "webhooks").flatMap((w) => [
            ...when(
              text(w, "failurePolicy") !== (MAY_BE_AWAY.has(text(w, "name")) ? "Ignore" : "Fail"),
              `${text(w, "name")} has failurePolicy ${text(w, "failurePolicy")}`,
            ),
            ...when(
              kind === "mutating" &&
                !selectorHolds(at(w, "namespaceSelector"), {
                  [LABEL_GOVERNED]: "true",
                  "kubernetes.io/metadata.name": "any",
                }),
              `${text(w, "name")} does not select governed namespaces`,
            ),
          ]);
        },
      ),
  },
  {
    id: "ca-bundle",
    what: "the webhooks trust our own authority",
    hint: "the webhook writes its caBundle when it starts: kubectl -n atoll-system rollout restart deploy/atoll-webhook",
    reads: ["mutating", "validating"],
    judge: (s) => {
      const known = secretCertificates(s);
      return caOf([...s.lists.mutating, ...s.lists.validating]).flatMap((bundle) => {
        const held = certificatesIn(decoded(bundle));
        if (held.length === 0) return [fail("a caBundle is empty")];
        if (s.unread.secrets !== undefined || known.length === 0) return [];
        return when(
          !held.some((c) => known.includes(c)),
          "a caBundle is not of the authority in the Secret atoll-webhook-ca",
        );
      });
    },
  },
  {
    id: "ca-expiry",
    what: "the webhook's authority is not about to expire",
    hint: "a running webhook renews it at two thirds of its life: kubectl -n atoll-system rollout restart deploy/atoll-webhook",
    reads: ["mutating"],
    judge: (s) => {
      const ends = caOf(s.lists.mutating)
        .flatMap((bundle) => certificatesIn(decoded(bundle)))
        .map((c) => {
          try {
            return expiresAt(c);
          } catch {
            return 0;
          }
        });
      if (ends.length === 0) return [];
      const left = Math.max(...ends) - s.now;
      if (left <= 0) return [fail(`it expired ${Math.round(-left / DAY)} days ago`)];
      return when(left < 14 * DAY, `it expires in ${Math.round(left / DAY)} days`, "warn");
    },
  },
  {
    id: "policies",
    what: "the admission policies are there and deny",
    hint: "helm upgrade as atoll-installer puts them back; find out who took them away",
    reads: ["policies", "bindings"],
    judge: (s) =>
      POLICIES.flatMap((name) => {
        const policy = named(s.lists.policies, name);
        const bound = s.lists.bindings.filter((b) => text(b, "spec", "policyName") === name);
        if (policy === undefined) return [fail(`the policy ${name} is missing`)];
        return [
          ...when(
            text(policy, "spec", "failurePolicy") !== "Fail",
            `${name} has failurePolicy ${text(policy, "spec", "failurePolicy")}`,
          ),
          ...when(bound.length === 0, `the policy ${name} has no binding`),
          ...bound.flatMap((b) =>
            when(
              !texts(b, "spec", "validationActions").includes("Deny"),
              `the binding ${nameOf(b)} does not deny`,
            ),
          ),
        ];
      }),
  },
  {
    id: "policy-types",
    what: "the admission policies fit this API server",
    hint: "the chart and the cluster do not fit: compare their versions",
    reads: ["policies"],
    judge: (s) =>
      // The others judge several kinds in one rule, of which a type check complains rightly and without harm.
      s.lists.policies
        .filter((p) => nameOf(p) === "atoll-shape")
        .flatMap((p) => list(p, "status", "typeChecking", "expressionWarnings"))
        .map((w) => warn(`atoll-shape ${text(w, "fieldRef")}: ${text(w, "warning").slice(0, 160)}`)),
  },
];
