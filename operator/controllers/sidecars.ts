// The controller of GuardianSidecars: shapes, the policy in its namespaces, the island, the watchdog, and what the status says.

import type { Judgement } from "../bundle/bundle.ts";
import { islandConditions } from "../island/island.ts";
import type { CanaryWatch, ProofCount } from "../island/island.ts";
import type { GuardianSidecar, Shape } from "../kinds/kinds.ts";
import {
  bundleText,
  pickBundle,
  policyObject,
  selectedNamespaces,
  sidecarStatus,
  takeCensus,
} from "../sidecar/sidecar.ts";
import type { NamespaceState, Picked, PodState } from "../sidecar/sidecar.ts";
import type { StagedPod } from "../rollout/rollout.ts";
import type { BundleController } from "./bundles.ts";
import type { Copies } from "./copies.ts";
import type { Metrics } from "./metrics.ts";
import type { Networks } from "./networks.ts";
import type { Pods } from "./pods.ts";
import type { Saying } from "./saying.ts";
import type { Shapes } from "./shapes.ts";
import { makeStaging } from "./staging.ts";
import type { Given } from "./staging.ts";
import type { Watchdog } from "./watchdog.ts";

const AGAIN_MS = 5000;

/** What the control stream is told, and what guardians told it. */
export interface Heard {
  /** Content hashes and how many guardians run each. */
  readonly running?: (sidecar: string) => readonly { readonly hash: string; readonly pods: number }[];
  /** Called with what is committed for a sidecar, so that the control stream can announce it. */
  readonly onPolicy?: (sidecar: string, given: Given, ceiling: Judgement | undefined) => void;
  /** The living pods of a sidecar as they reported last. */
  readonly reported?: (sidecar: string) => readonly StagedPod[];
  /** Freezes of a sidecar that nobody has lifted. */
  readonly frozen?: (sidecar: string) => readonly { readonly reason: string }[];
  /** What guardians of a sidecar told of their island. */
  readonly proofs?: (sidecar: string) => ProofCount;
  /** The positive control of the canary; absent when there is no canary. */
  readonly canaryWatch?: () => CanaryWatch | undefined;
}
export interface SidecarControllerOptions extends Heard {
  readonly sidecars: ReadonlyMap<string, GuardianSidecar>;
  readonly namespaces: ReadonlyMap<string, NamespaceState>;
  readonly pods: Pods;
  readonly bundles: BundleController;
  readonly shapes: Shapes;
  readonly networks: Networks;
  readonly copies: Copies;
  readonly watchdog: Watchdog;
  readonly saying: Saying;
  readonly metrics: Metrics;
  readonly rootsReadable: () => boolean;
  readonly controlCa: () => string;
  /** The egress gateway's authority; absent where there is none. */
  readonly gatewayCa?: () => string;
  readonly missing: () => readonly string[];
  readonly again: (sidecar: string, ms: number) => void;
  readonly now: () => number;
}

export function makeSidecars(options: SidecarControllerOptions): {
  reconcile(name: string): Promise<void>;
} {
  const { metrics, now, shapes, networks } = options;
  const staging = makeStaging(now);

  function* podsOf(name: string): Iterable<PodState> {
    yield* options.pods.of(name);
    yield* options.pods.loose();
  }

  async function reconcile(name: string): Promise<void> {
    const sidecar = options.sidecars.get(name);
    if (sidecar === undefined) {
      metrics.unguarded.remove({ sidecar: name });
      for (const leg of ["lock", "network"]) metrics.broken.remove({ sidecar: name, leg });
      staging.forget(name);
      await shapes.drop(name);
      return;
    }
    const { spec } = sidecar;
    const problems: string[] = [];
    const unreadable = "the installer's trust roots cannot be read";
    if (!options.rootsReadable()) problems.push(unreadable);
    const taken = options.rootsReadable() ? await shapes.take(sidecar) : { problem: unreadable };
    const judgements = options.bundles.judgements();
    let bundle = pickBundle(spec.policyBundleRef, "P1", spec.conformanceLevel, judgements);
    const ceiling =
      spec.ceilingRef === undefined ? undefined : pickBundle(spec.ceilingRef, "P0", "L1", judgements);
    const here = selectedNamespaces(sidecar, options.namespaces.values());
    // What is not good is not distributed: the ConfigMap keeps the last good one.
    let given: Given | undefined;
    if (bundle.ok && (ceiling === undefined || ceiling.ok) && options.controlCa() !== "") {
      given = staging.step(sidecar, bundle.judgement, judgements, () => options.reported?.(name) ?? []);
      bundle = { ok: true, judgement: given.committed };
      if (given.fell === true)
        options.saying.warn("GuardianSidecar", sidecar, "RolledBack", given.note?.message ?? "");
      if (given.againMs !== undefined) options.again(name, given.againMs);
      const from = {
        bundle: bundleText(bundle.judgement),
        ceiling: ceiling === undefined ? undefined : bundleText(ceiling.judgement),
        controlCa: options.controlCa(),
        gatewayCa: options.gatewayCa?.() ?? "",
      };
      for (const namespace of here) {
        const problem = await options.copies.apply(policyObject(name, namespace, from));
        if (problem !== undefined) problems.push(problem);
      }
      await options.bundles.commit(bundle.judgement);
      if (ceiling !== undefined) await options.bundles.commit(ceiling.judgement);
      options.onPolicy?.(name, given, ceiling?.judgement);
    }
    const walled = await networks.apply(sidecar, here, problems);
    await report(sidecar, bundle, ceiling, taken, here.length, problems, walled, given);
  }

  async function report(
    sidecar: GuardianSidecar,
    bundle: Picked,
    ceiling: Picked | undefined,
    taken: readonly Shape[] | { readonly problem: string },
    count: number,
    problems: readonly string[],
    walled: boolean,
    given: Given | undefined,
  ): Promise<void> {
    const { name } = sidecar.metadata;
    const current = new Set("problem" in taken ? [] : taken.map((s) => s.hash));
    const accepted = new Set([
      ...current,
      ...(sidecar.status?.earlierShapes ?? []),
      ...(sidecar.status?.shapes ?? []).map((s) => s.hash),
    ]);
    const census = takeCensus(name, shapes.index(), accepted, current, options.namespaces, podsOf(name));
    metrics.unguarded.set({ sidecar: name }, census.unguarded);
    const missing = options.missing();
    const proofs = options.proofs?.(name);
    const watch = options.canaryWatch?.();
    for (const leg of ["lock", "network"] as const)
      metrics.broken.set({ sidecar: name, leg }, (proofs?.broken ?? []).filter((b) => b.leg === leg).length);
    const status = sidecarStatus({
      sidecar,
      bundle,
      ceiling,
      shapes: taken,
      ...(given === undefined ? {} : { given }),
      census,
      namespaces: count,
      running: options.running?.(name) ?? [],
      frozen: options.frozen?.(name) ?? [],
      problems,
      protection:
        missing.length === 0
          ? { ok: true, message: "all policies, bindings and webhooks are in place" }
          : {
              ok: false,
              message: `missing or changed: ${missing.join(", ")}; what is changed is put back after it is deleted, the rest needs the installer`,
            },
      ...islandConditions({
        sidecar,
        proofs,
        canary: watch === undefined ? "none" : watch.dead(),
        applied: walled,
        widenings: networks.widenings(sidecar),
        exposed: networks.exposed(name),
      }),
      now: now(),
    });
    // What guardians reported grows old without any object changing.
    options.again(name, AGAIN_MS);
    await options.saying.status("GuardianSidecar", sidecar, status);
    await options.watchdog.sweep(sidecar, census.strays);
  }
  return { reconcile };
}
