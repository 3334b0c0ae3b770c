// Which policy a sidecar's guardians are given now: the newest at once, or a tried one beside the committed one.

import type { Judgement } from "../bundle/bundle.ts";
import type { GuardianSidecar } from "../kinds/kinds.ts";
import { beginStage, judgeStage } from "../rollout/rollout.ts";
import type { Stage, StagedPod } from "../rollout/rollout.ts";

export interface Given {
  /** What is committed: new pods start with it. */
  readonly committed: Judgement;
  /** What some pods try. */
  readonly staged?: { readonly bundle: Judgement; readonly uids: ReadonlySet<string> };
  readonly rolledBack: readonly string[];
  /** What the condition says of it. */
  readonly note?: { readonly reason: "Staged" | "RolledBack"; readonly message: string };
  /** True in the one step that has fallen back. */
  readonly fell?: boolean;
  readonly againMs?: number;
}
const hashOf = (j: Judgement): string => j.bundle.spec.contentHash;
const MOST_ROLLED_BACK = 32;

export function makeStaging(now: () => number): {
  step(
    sidecar: GuardianSidecar,
    picked: Judgement,
    judgements: ReadonlyMap<string, Judgement>,
    pods: () => readonly StagedPod[],
  ): Given;
  forget(sidecar: string): void;
} {
  const stages = new Map<string, Stage>();
  const committed = new Map<string, string>();
  const fallen = new Map<string, { readonly hash: string; readonly message: string }[]>();

  return {
    forget(name) {
      for (const map of [stages, committed, fallen]) map.delete(name);
    },
    step(sidecar, picked, judgements, pods) {
      const { name } = sidecar.metadata;
      const hash = hashOf(picked);
      const told = fallen.get(name) ?? [];
      const rolledBack = (): string[] =>
        [
          ...new Set([...(sidecar.status?.rolledBack ?? []), ...(fallen.get(name) ?? []).map((f) => f.hash)]),
        ].slice(-MOST_ROLLED_BACK);
      const take = (): Given => {
        stages.delete(name);
        committed.set(name, hash);
        return { committed: picked, rolledBack: rolledBack() };
      };
      const before = committed.get(name) ?? sidecar.status?.policy?.hash;
      const previous = [...judgements.values()].find(
        (j) => hashOf(j) === before && j.good && j.bundle.spec.bundleId === picked.bundle.spec.bundleId,
      );
      if (previous === undefined || hash === before) return take();
      committed.set(name, hashOf(previous));
      if (rolledBack().includes(hash)) {
        stages.delete(name);
        const why = told.find((f) => f.hash === hash)?.message ?? "in an earlier rollout";
        return {
          committed: previous,
          rolledBack: rolledBack(),
          note: { reason: "RolledBack", message: `${picked.bundle.metadata.name} was rolled back: ${why}` },
        };
      }
      const { rollout } = sidecar.spec;
      if (rollout?.strategy !== "Staged") return take();
      const living = pods();
      let stage = stages.get(name);
      if (stage?.hash !== hash || !living.some((p) => stage?.uids.has(p.uid)))
        stage = beginStage(hash, living, rollout.percent ?? 10, now());
      if (stage === undefined) return take();
      stages.set(name, stage);
      const outcome = judgeStage(stage, living, rollout, now());
      if (outcome.kind === "commit") return take();
      const named = `${picked.bundle.metadata.name} version ${picked.bundle.spec.version}`;
      if (outcome.kind === "hold")
        return {
          committed: previous,
          staged: { bundle: picked, uids: stage.uids },
          rolledBack: rolledBack(),
          note: { reason: "Staged", message: `${named}: ${outcome.message}` },
          againMs: outcome.againMs,
        };
      stages.delete(name);
      fallen.set(name, [...told, { hash, message: outcome.message }].slice(-MOST_ROLLED_BACK));
      return {
        committed: previous,
        rolledBack: rolledBack(),
        note: { reason: "RolledBack", message: `${named}: ${outcome.message}` },
        fell: true,
      };
    },
  };
}
