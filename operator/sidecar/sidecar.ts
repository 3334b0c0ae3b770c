// What to do for one GuardianSidecar. Pure: what was observed in, objects to apply and a status out.

import { gzipSync } from "node:zlib";
import type { Judgement, Step } from "../bundle/bundle.ts";
import { mergeConditions } from "../bundle/bundle.ts";
import { API_VERSION, LABEL_GOVERNED, LABEL_SIDECAR, choose, termHolds, matchTerms } from "../kinds/kinds.ts";
import type {
  BundleRef,
  GuardianSidecar,
  IndexEntry,
  IndexSpec,
  JsonMap,
  Shape,
  SidecarStatus,
} from "../kinds/kinds.ts";
import { EXCLUDED_NAMESPACES } from "../inject/inject.ts";
import type { Leg } from "../island/island.ts";
import { TRUST_CONFIG_MAP, policyConfigMap } from "../shape/shape.ts";

export interface NamespaceState {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly deleting: boolean;
}
/** The little that is kept of a pod. */
export interface PodState {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Hash of its atoll-* containers and volumes, "" when it has none. */
  readonly shape: string;
  readonly ready: boolean;
  readonly finished: boolean;
  /** Annotations atoll.dev/freeze and atoll.dev/unfreeze. */
  readonly frozen: string;
  readonly freezeStamp?: string;
  readonly unfreeze: string;
  /** Annotation atoll.dev/revoke-key. */
  readonly revoke?: string;
  /** Of its guardian. */
  readonly image?: string;
}

export const isGoverned = (n: NamespaceState): boolean =>
  n.labels[LABEL_GOVERNED] === "true" && !EXCLUDED_NAMESPACES.includes(n.name);

/** Governed namespaces that the sidecar selects. */
export const selectedNamespaces = (
  sidecar: GuardianSidecar,
  namespaces: Iterable<NamespaceState>,
): NamespaceState[] => {
  const terms = matchTerms(sidecar.spec).filter((t) => t.of === "namespace");
  return [...namespaces].filter(
    (n) => isGoverned(n) && !n.deleting && terms.length > 0 && terms.every((t) => termHolds(t, n.labels)),
  );
};

export type Picked =
  | { readonly ok: true; readonly judgement: Judgement }
  | { readonly ok: false; readonly reason: string; readonly message: string };

/** The bundle that a reference means: the version it names, or the newest that is active. */
export function pickBundle(
  ref: BundleRef,
  layer: "P0" | "P1",
  level: string,
  judgements: ReadonlyMap<string, Judgement>,
): Picked {
  const line = [...judgements.values()].filter((j) => j.bundle.spec.bundleId === ref.bundleId);
  if (line.length === 0)
    return { ok: false, reason: "BundleNotFound", message: `there is no PolicyBundle of ${ref.bundleId}` };
  const right = line.filter((j) => j.bundle.spec.layer === layer);
  if (right.length === 0)
    return { ok: false, reason: "WrongLayer", message: `${ref.bundleId} is not of layer ${layer}` };
  const found = right.find((j) =>
    ref.version === undefined ? j.active : j.good && j.bundle.spec.version === ref.version,
  );
  if (found === undefined) {
    const worst = right.toSorted((a, b) => b.bundle.spec.version - a.bundle.spec.version)[0];
    const step = worst?.steps.Active;
    return {
      ok: false,
      reason: "BundleNotActive",
      message: `no good version of ${ref.bundleId}; ${worst?.bundle.metadata.name ?? ""}: ${step?.reason ?? ""}, ${step?.message ?? ""}`,
    };
  }
  if (found.bundle.spec.conformanceLevel < level)
    return {
      ok: false,
      reason: "LevelTooLow",
      message: `${found.bundle.metadata.name} is of level ${found.bundle.spec.conformanceLevel}, the sidecar asks for ${level}`,
    };
  return { ok: true, judgement: found };
}

/** The signed object with its content, as guardians read and verify it. */
export function bundleText(judgement: Judgement): string {
  const { source: _source, content: _content, notBefore, expiresAt, ...spec } = judgement.bundle.spec;
  return JSON.stringify({
    type: "atoll.dev/bundle/v1",
    ...spec,
    notBefore: notBefore ?? "",
    expiresAt: expiresAt ?? "",
    content: judgement.content,
  });
}

const managed = { "app.kubernetes.io/managed-by": "atoll" };
const PLAIN_LIMIT = 300_000;

export interface Distribution {
  readonly bundle: string;
  readonly ceiling: string | undefined;
  readonly controlCa: string;
  /** The egress gateway's authority; "" where there is none. */
  readonly gatewayCa?: string;
}
/** The ConfigMap with a stable name from which guardians of this namespace start. */
export function policyObject(sidecar: string, namespace: NamespaceState, from: Distribution): JsonMap {
  const files: Record<string, string> = {
    "bundle.json": from.bundle,
    ...(from.ceiling === undefined ? {} : { "ceiling.json": from.ceiling }),
  };
  const large = Object.values(files).reduce((sum, text) => sum + text.length, 0) > PLAIN_LIMIT;
  const data: Record<string, string> = {
    "control-ca.crt": from.controlCa,
    ...((from.gatewayCa ?? "") === "" ? {} : { "gateway-ca.crt": from.gatewayCa ?? "" }),
    "namespace.json": JSON.stringify({ name: namespace.name, labels: namespace.labels }),
    ...(large ? {} : files),
  };
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: policyConfigMap(sidecar),
      namespace: namespace.name,
      labels: { ...managed, [LABEL_SIDECAR]: sidecar },
    },
    data,
    ...(large
      ? {
          binaryData: Object.fromEntries(
            Object.entries(files).map(([name, text]) => [`${name}.gz`, gzipSync(text).toString("base64")]),
          ),
        }
      : {}),
  };
}

export const trustObject = (namespace: string, rootsPem: string): JsonMap => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: TRUST_CONFIG_MAP, namespace, labels: managed },
  data: { "roots.pem": rootsPem },
});

export const indexEntry = (sidecar: GuardianSidecar, shapes: readonly Shape[]): IndexEntry => ({
  name: sidecar.metadata.name,
  match: matchTerms(sidecar.spec),
  agentContainers: sidecar.spec.agentContainers ?? [],
  runtimeClasses: sidecar.spec.runtimeClasses ?? [],
  shapes,
});
export const indexObject = (spec: IndexSpec): JsonMap => ({
  apiVersion: API_VERSION,
  kind: "ShapeIndex",
  metadata: { name: "cluster", labels: managed },
  spec: JSON.parse(JSON.stringify(spec)) as JsonMap,
});

export interface Census {
  readonly injected: number;
  readonly ready: number;
  readonly stale: number;
  readonly unguarded: number;
  /** Pods that should be in a shape of this sidecar and are not. */
  readonly strays: readonly PodState[];
}
/** Counts the pods that fall to this sidecar, by its own label or by what admission would choose. */
export function takeCensus(
  sidecar: string,
  index: IndexSpec,
  accepted: ReadonlySet<string>,
  current: ReadonlySet<string>,
  namespaces: ReadonlyMap<string, NamespaceState>,
  pods: Iterable<PodState>,
): Census {
  let [injected, ready, stale] = [0, 0, 0];
  const strays: PodState[] = [];
  for (const pod of pods) {
    const namespace = namespaces.get(pod.namespace);
    if (namespace === undefined || !isGoverned(namespace) || pod.finished) continue;
    const labelled = pod.labels[LABEL_SIDECAR];
    const mine =
      labelled !== undefined && pod.shape !== ""
        ? labelled === sidecar
        : choose(index, namespace.labels, pod.labels).mine.some((e) => e.name === sidecar);
    if (!mine) continue;
    if (pod.shape !== "" && accepted.has(pod.shape)) {
      injected++;
      if (pod.ready) ready++;
      if (!current.has(pod.shape)) stale++;
    } else strays.push(pod);
  }
  return { injected, ready, stale, unguarded: strays.length, strays };
}

export interface SidecarFacts {
  readonly sidecar: GuardianSidecar;
  readonly bundle: Picked;
  readonly ceiling: Picked | undefined;
  /** What a staged rollout has to say. */
  readonly given?: {
    readonly rolledBack: readonly string[];
    readonly note?: { readonly reason: string; readonly message: string };
  };
  readonly shapes: readonly Shape[] | { readonly problem: string };
  readonly census: Census;
  readonly namespaces: number;
  readonly running: readonly { readonly hash: string; readonly pods: number }[];
  readonly problems: readonly string[];
  readonly protection: { readonly ok: boolean; readonly message: string };
  readonly lock: Leg;
  readonly network: Leg;
  /** Freezes that nobody has lifted, also when spec.freeze was cleared. */
  readonly frozen: readonly { readonly reason: string }[];
  readonly drift: { readonly drifted: boolean; readonly message: string };
  readonly now: number;
}
const state = (ok: boolean | undefined): "True" | "False" | "Unknown" =>
  ok === undefined ? "Unknown" : ok ? "True" : "False";

export function sidecarStatus(facts: SidecarFacts): SidecarStatus {
  const { sidecar, bundle, ceiling, shapes, census } = facts;
  const frozen =
    facts.frozen.length > 0
      ? {
          reason: `${facts.frozen.map((f) => f.reason).join("; ")} (frozen until an approver lifts it: atoll unfreeze gs/${sidecar.metadata.name} --key FILE)`,
        }
      : sidecar.spec.freeze;
  const policy = !bundle.ok ? bundle : ceiling !== undefined && !ceiling.ok ? ceiling : undefined;
  const shapesOk = !("problem" in shapes);
  const injectedOk = shapesOk && census.unguarded === 0;
  const working = policy === undefined && shapesOk && facts.problems.length === 0;
  const ready = working && injectedOk && census.ready === census.injected && frozen === undefined;
  const steps: Readonly<Record<string, Step>> = {
    PolicyActive:
      policy === undefined && bundle.ok
        ? {
            status: "True",
            reason: facts.given?.note?.reason ?? "Active",
            message: [
              `${bundle.judgement.bundle.metadata.name} version ${bundle.judgement.bundle.spec.version}`,
              ...(facts.given?.note === undefined ? [] : [facts.given.note.message]),
            ].join("; "),
          }
        : { status: "False", reason: policy?.reason ?? "", message: policy?.message ?? "" },
    Injected: !shapesOk
      ? { status: "False", reason: "ShapeRefused", message: shapes.problem }
      : injectedOk
        ? {
            status: "True",
            reason: "AllInShape",
            message: `${census.injected} pods, ${census.stale} in an earlier shape`,
          }
        : {
            status: "False",
            reason: "Unguarded",
            message: `${census.unguarded} pods are in no accepted shape: ${census.strays
              .slice(0, 5)
              .map((p) => `${p.namespace}/${p.name}`)
              .join(", ")}; replace them`,
          },
    EgressLocked: {
      status: state(facts.lock.ok),
      reason: facts.lock.reason,
      message: facts.lock.message,
    },
    NetworkPolicyEnforced: {
      status: state(facts.network.ok),
      reason: facts.network.reason,
      message: facts.network.message,
    },
    Drifted: {
      status: state(facts.drift.drifted),
      reason: facts.drift.drifted ? "Widened" : "AsApplied",
      message: facts.drift.message,
    },
    ProtectionDegraded: {
      status: state(!facts.protection.ok),
      reason: facts.protection.ok ? "Whole" : "Missing",
      message: facts.protection.message,
    },
    Ready: ready
      ? {
          status: "True",
          reason: "Ready",
          message: `${census.ready} of ${census.injected} pods ready in ${facts.namespaces} namespaces`,
        }
      : {
          status: "False",
          reason: frozen !== undefined ? "Frozen" : working ? "PodsNotReady" : "NotWorking",
          message:
            frozen?.reason ??
            facts.problems[0] ??
            policy?.message ??
            (shapesOk
              ? `${census.ready} of ${census.injected} pods ready, ${census.unguarded} unguarded`
              : shapes.problem),
        },
  };
  return {
    ...(sidecar.metadata.generation === undefined ? {} : { observedGeneration: sidecar.metadata.generation }),
    phase:
      frozen !== undefined
        ? "Frozen"
        : ready
          ? "Ready"
          : census.injected === 0 && !working
            ? "Pending"
            : "Degraded",
    shapes: shapesOk ? shapes.map((s) => ({ class: s.class, hash: s.hash })) : (sidecar.status?.shapes ?? []),
    earlierShapes: earlier(sidecar, shapesOk ? shapes : []),
    counts: {
      injected: census.injected,
      ready: census.ready,
      stale: census.stale,
      unguarded: census.unguarded,
    },
    running: facts.running,
    rolledBack: facts.given?.rolledBack ?? sidecar.status?.rolledBack ?? [],
    ...(bundle.ok
      ? {
          policy: {
            bundle: bundle.judgement.bundle.metadata.name,
            version: bundle.judgement.bundle.spec.version,
            hash: bundle.judgement.bundle.spec.contentHash,
          },
        }
      : sidecar.status?.policy === undefined
        ? {}
        : { policy: sidecar.status.policy }),
    conditions: mergeConditions(sidecar.status?.conditions, steps, sidecar.metadata.generation, facts.now),
  };
}

/** Every shape that pods may still have from before: the watchdog accepts them, admission does not. */
export function earlier(sidecar: GuardianSidecar, shapes: readonly Shape[]): string[] {
  const now = new Set(shapes.map((s) => s.hash));
  const before = [
    ...(sidecar.status?.earlierShapes ?? []),
    ...(sidecar.status?.shapes ?? []).map((s) => s.hash),
  ];
  return [...new Set(before)].filter((h) => !now.has(h)).slice(-64);
}
