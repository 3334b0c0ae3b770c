// What a GuardianSidecar says of its island: from what guardians proved, whether the canary lives, what was applied and
// what widens it. Pure.

import type { GuardianSidecar } from "../kinds/kinds.ts";
import type { Widening } from "./widening.ts";

/** What the guardians of one sidecar told lately. */
export interface ProofCount {
  readonly reported: number;
  /** With a fresh proof that the lock holds. */
  readonly proved: number;
  /** That dialled the canary themselves, and of them those whom nobody answered. */
  readonly networkTried: number;
  readonly networkProved: number;
  /** `namespace/pod: probe` of each that was answered. */
  readonly broken: readonly {
    readonly leg: "lock" | "network";
    readonly pod: string;
    readonly probe: string;
  }[];
}
export interface IslandFacts {
  readonly sidecar: GuardianSidecar;
  readonly proofs: ProofCount | undefined;
  /** Dead canaries; undefined = not known; "none" = there is no canary. */
  readonly canary: readonly string[] | undefined | "none";
  /** Whether our NetworkPolicies stand in every selected namespace as they should. */
  readonly applied: boolean;
  readonly widenings: readonly Widening[];
  /** Pods that ran while something widened their island: connections opened then live on. */
  readonly exposed: readonly string[];
}
export interface Leg {
  readonly ok: boolean | undefined;
  readonly reason: string;
  readonly message: string;
}
export interface IslandConditions {
  readonly lock: Leg;
  readonly network: Leg;
  readonly drift: { readonly drifted: boolean; readonly message: string };
}

const some = (words: readonly string[]): string =>
  words.slice(0, 5).join(", ") + (words.length > 5 ? ` and ${words.length - 5} more` : "");

/** Silence of a dead canary is no proof of anything. */
const doubt = (canary: IslandFacts["canary"]): Leg | undefined => {
  if (canary === "none") return undefined;
  if (canary === undefined)
    return { ok: undefined, reason: "CanaryUnknown", message: "the canary has not been asked yet" };
  return canary.length === 0
    ? undefined
    : {
        ok: undefined,
        reason: "CanaryDown",
        message: `the canary ${some(canary)} does not answer the operator, so nobody's silence proves anything`,
      };
};

const failing = (facts: IslandFacts, leg: "lock" | "network"): string[] =>
  (facts.proofs?.broken ?? []).filter((b) => b.leg === leg).map((b) => `${b.pod}: ${b.probe}`);

function lockLeg(facts: IslandFacts): Leg {
  if (facts.sidecar.spec.island?.inPodLock === "none")
    return {
      ok: undefined,
      reason: "NotUsed",
      message: "no lock is used; NetworkPolicy and the egress gateway are the boundary",
    };
  const reached = failing(facts, "lock");
  if (reached.length > 0)
    return { ok: false, reason: "ProbeAnswered", message: `reached from inside: ${some(reached)}` };
  const { reported, proved } = facts.proofs ?? { reported: 0, proved: 0 };
  if (reported === 0) return { ok: undefined, reason: "NoReport", message: "no guardian has reported" };
  const message = `${proved} of ${reported} reporting guardians have a fresh proof of the lock`;
  if (proved < reported) return { ok: false, reason: "NotProved", message };
  return doubt(facts.canary) ?? { ok: true, reason: "Proved", message };
}

function networkLeg(facts: IslandFacts): Leg {
  if (facts.sidecar.spec.island?.networkPolicy === false)
    return { ok: undefined, reason: "NotAsked", message: "island.networkPolicy is false" };
  const reached = failing(facts, "network");
  if (reached.length > 0)
    return {
      ok: false,
      reason: "ProbeAnswered",
      message: `reached although undeclared: ${some(reached)}; the network does not enforce NetworkPolicy`,
    };
  if (!facts.applied)
    return { ok: false, reason: "NotApplied", message: "a NetworkPolicy of ours is missing or changed" };
  if (facts.canary === "none")
    return { ok: undefined, reason: "NoCanary", message: "applied, and not proved: there is no canary" };
  const { networkTried, networkProved } = facts.proofs ?? { networkTried: 0, networkProved: 0 };
  if (networkTried === 0)
    return { ok: undefined, reason: "NoReport", message: "applied; no guardian has tried it yet" };
  const message = `${networkProved} of ${networkTried} guardians could not reach the canary`;
  if (networkProved < networkTried) return { ok: false, reason: "NotProved", message };
  return doubt(facts.canary) ?? { ok: true, reason: "Proved", message };
}

export function islandConditions(facts: IslandFacts): IslandConditions {
  const wide = facts.widenings.map(
    (w) => `NetworkPolicy ${w.policy} adds ${w.direction} of ${w.pods.length} pods: ${w.what}`,
  );
  const parts = [
    ...(wide.length > 0 ? [some(wide)] : []),
    ...(facts.exposed.length > 0
      ? [
          `connections opened while the island was wider live on in ${some(facts.exposed)}: replace these pods`,
        ]
      : []),
  ];
  return {
    lock: lockLeg(facts),
    network: networkLeg(facts),
    drift:
      parts.length > 0
        ? { drifted: true, message: parts.join("; ") }
        : { drifted: false, message: "nothing widens what was applied" },
  };
}
