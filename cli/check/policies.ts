// Policies, trust, and what each GuardianSidecar says of itself.

import { sha256 } from "../../kernel/crypto/crypto.ts";
import type { JsonMap } from "../../operator/kinds/kinds.ts";
import { fail, warn, when } from "./finding.ts";
import type { Check, Finding, Level } from "./finding.ts";
import { condition, list, named, nameOf, namespaceOf, number, text, texts } from "./reading.ts";
import type { Snapshot } from "./snapshot.ts";

const DAY = 86_400_000;
const roots = (s: Snapshot): JsonMap | undefined =>
  s.lists.configmaps.find((c) => namespaceOf(c) === "atoll-system" && nameOf(c) === "atoll-trust-roots");
/** One finding for each sidecar whose condition is not as it should be. */
const eachSidecar = (s: Snapshot, type: string, good: string, unknown: Level): Finding[] =>
  s.lists.sidecars.flatMap((one) => {
    const found = condition(one, type);
    if (found?.status === good) return [];
    const why = found === undefined ? "not reported yet" : `${found.reason}: ${found.message}`;
    const open = found === undefined || found.status === "Unknown";
    return [
      {
        level: open ? unknown : "fail",
        message: `${nameOf(one)}: ${type} is ${found?.status ?? "absent"}, ${why}`,
      },
    ];
  });
const bundleOf = (s: Snapshot, sidecar: JsonMap): JsonMap[] =>
  s.lists.bundles.filter(
    (b) => text(b, "spec", "bundleId") === text(sidecar, "spec", "policyBundleRef", "bundleId"),
  );

const newestHash = (s: Snapshot, sidecar: JsonMap): string =>
  text(
    bundleOf(s, sidecar).toSorted((a, b) => number(b, "spec", "version") - number(a, "spec", "version"))[0],
    "spec",
    "contentHash",
  );

export const POLICY: readonly Check[] = [
  {
    id: "trust-roots",
    what: "trust roots are installed, and every copy is the same",
    hint: "helm upgrade with --set-file trust.roots=roots.pem; guardians refuse any other copy",
    reads: ["configmaps"],
    judge: (s) => {
      const own = roots(s);
      const pem = text(own, "data", "roots.pem");
      if (own === undefined || pem === "")
        return [fail("there are no trust roots, so no bundle can become active")];
      return [
        ...when(
          sha256(pem) !== text(own, "data", "sha256"),
          "the roots do not have the hash that stands beside them",
        ),
        ...["policy", "approver"].flatMap((role) =>
          when(
            !new RegExp(`^role: *${role}$`, "mu").test(pem),
            `no key has the role ${role}`,
            role === "policy" ? "fail" : "warn",
          ),
        ),
        ...s.lists.configmaps
          .filter((c) => namespaceOf(c) !== "atoll-system" && text(c, "data", "roots.pem") !== pem)
          .map((c) => fail(`the copy in ${namespaceOf(c)} is another one`)),
      ];
    },
  },
  {
    id: "guardian-images",
    what: "every GuardianSidecar names an image, by digest, that the installer lists",
    hint: "helm upgrade with --set guardian.digests={sha256:…}, or correct spec.image",
    reads: ["sidecars", "configmaps"],
    judge: (s) => {
      const listed = text(roots(s), "data", "images").split("\n");
      return s.lists.sidecars.flatMap((one) => {
        const digest = /@(sha256:[0-9a-f]{64})$/u.exec(text(one, "spec", "image"))?.[1];
        if (digest === undefined)
          return [fail(`${nameOf(one)}: \`${text(one, "spec", "image")}\` names no digest`)];
        return when(!listed.includes(digest), `${nameOf(one)}: ${digest} is not in the installer's list`);
      });
    },
  },
  {
    id: "bundles",
    what: "each GuardianSidecar has a policy that is active",
    hint: "kubectl describe policybundle NAME: the first condition that is False says why; atoll bundle verify FILE --trust roots.pem",
    reads: ["sidecars", "bundles"],
    judge: (s) =>
      s.lists.sidecars.flatMap((one) => {
        const id = text(one, "spec", "policyBundleRef", "bundleId");
        const all = bundleOf(s, one);
        if (all.length === 0) return [fail(`${nameOf(one)}: there is no PolicyBundle of \`${id}\``)];
        if (all.some((b) => condition(b, "Active")?.status === "True")) return [];
        const first = all.flatMap(
          (b) =>
            ["Fetched", "Verified", "Compiled", "Active"]
              .map((t) => condition(b, t))
              .find((c) => c?.status === "False") ?? [],
        );
        return [
          fail(
            `${nameOf(one)}: no version of \`${id}\` is active; ${first[0]?.reason ?? ""}: ${first[0]?.message ?? ""}`,
          ),
        ];
      }),
  },
  {
    id: "bundle-refused",
    what: "no PolicyBundle waits refused",
    hint: "sign it with a key of the role that its layer needs, or delete it",
    reads: ["bundles"],
    judge: (s) =>
      s.lists.bundles.flatMap((b) => {
        const refused = ["Fetched", "Verified", "Compiled"]
          .map((t) => condition(b, t))
          .find((c) => c?.status === "False");
        return refused === undefined ? [] : [warn(`${nameOf(b)}: ${refused.reason}: ${refused.message}`)];
      }),
  },
  {
    id: "bundle-expiry",
    what: "no policy in force is about to expire",
    hint: "build and sign the next version: atoll bundle build … --expires-at TIME",
    reads: ["bundles"],
    judge: (s) =>
      s.lists.bundles
        .filter((b) => condition(b, "Active")?.status === "True" && text(b, "spec", "expiresAt") !== "")
        .flatMap((b) => {
          const left = Date.parse(text(b, "spec", "expiresAt")) - s.now;
          if (left <= 0) return [fail(`${nameOf(b)} has expired`)];
          return when(left < 7 * DAY, `${nameOf(b)} expires in ${Math.ceil(left / DAY)} days`, "warn");
        }),
  },
  {
    id: "shape-index",
    what: "admission knows the shape of every GuardianSidecar",
    hint: "kubectl -n atoll-system logs deploy/atoll-operator; without its entry a sidecar's pods are refused",
    reads: ["indexes", "sidecars"],
    judge: (s) => {
      const index = named(s.lists.indexes, "cluster");
      if (index === undefined)
        return when(
          s.lists.sidecars.length > 0,
          "the ShapeIndex `cluster` is missing, so every governed pod is refused",
        );
      const entries = list(index, "spec", "sidecars").map((e) => text(e, "name"));
      return s.lists.sidecars.flatMap((one) =>
        when(!entries.includes(nameOf(one)), `${nameOf(one)} has no entry`),
      );
    },
  },
  {
    id: "sidecar-injected",
    what: "every governed pod is in the shape that was meant for it",
    hint: "replace the pods that are named: kubectl rollout restart",
    reads: ["sidecars"],
    judge: (s) => eachSidecar(s, "Injected", "True", "warn"),
  },
  {
    id: "sidecar-locked",
    what: "every agent's way out is proved closed",
    hint: "kubectl logs POD -c atoll-gate names what was reached; treat the pod as compromised",
    reads: ["sidecars"],
    judge: (s) => eachSidecar(s, "EgressLocked", "True", "info"),
  },
  {
    id: "network-policy",
    what: "the cluster's network enforces NetworkPolicies",
    hint: "use a CNI that enforces them (Calico, Cilium, Antrea, kind's own); the lock in the pod still stands",
    reads: ["sidecars"],
    judge: (s) => eachSidecar(s, "NetworkPolicyEnforced", "True", "info"),
  },
  {
    id: "drift",
    what: "nothing widens what was applied",
    hint: "remove the NetworkPolicy that is named, then restart the pods: open connections live on",
    reads: ["sidecars"],
    judge: (s) => eachSidecar(s, "Drifted", "False", "info"),
  },
  {
    id: "protection",
    what: "the operator sees its protection whole",
    hint: "helm upgrade as atoll-installer",
    reads: ["sidecars"],
    judge: (s) => eachSidecar(s, "ProtectionDegraded", "False", "info"),
  },
  {
    id: "frozen",
    what: "nothing is frozen",
    hint: "an approver lets it go on: atoll unfreeze gs/NAME --key FILE",
    reads: ["sidecars"],
    judge: (s) =>
      s.lists.sidecars
        // Also where the field was cleared: that lifts nothing.
        .filter(
          (one) => text(one, "spec", "freeze", "reason") !== "" || text(one, "status", "phase") === "Frozen",
        )
        .map((one) =>
          warn(
            `${nameOf(one)} is frozen: ${text(one, "spec", "freeze", "reason") || (condition(one, "Ready")?.message ?? "")}`,
          ),
        ),
  },
  {
    id: "rolled-back",
    what: "no policy was rolled back",
    hint: "mend the policy and sign a higher version: one that was rolled back is not tried again",
    reads: ["sidecars"],
    judge: (s) =>
      s.lists.sidecars.flatMap((one) =>
        when(
          texts(one, "status", "rolledBack").includes(newestHash(s, one)),
          `${nameOf(one)}: the newest version was rolled back`,
          "warn",
        ),
      ),
  },
];
