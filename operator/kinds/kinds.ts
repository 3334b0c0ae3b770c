// The kinds of atoll.dev as the operator reads them, and the few members of Kubernetes' own that it looks at.
// Everything here comes from the API server; members that we do not look at stay as they are.

export const GROUP = "atoll.dev";
export const API_VERSION = "atoll.dev/v1alpha1";
export const SYSTEM_NAMESPACE = "atoll-system";
export const SHAPE_NAMESPACE = "atoll-shape";

export const LABEL_GOVERNED = "atoll.dev/governed";
export const LABEL_SIDECAR = "atoll.dev/sidecar";
export const LABEL_DEFAULT_SIDECAR = "atoll.dev/default-sidecar";
export const ANNOTATION_SIZE = "atoll.dev/size";
export const ANNOTATION_PROBES = "atoll.dev/probes";
export const ANNOTATION_FREEZE = "atoll.dev/freeze";
export const ANNOTATION_UNFREEZE = "atoll.dev/unfreeze";
/** On a pod: why its guardian's key is revoked, or a root's signed act that says so. */
export const ANNOTATION_REVOKE_KEY = "atoll.dev/revoke-key";
/** The ConfigMap in which the operator keeps the freezes that it ordered. */
export const FREEZES = "atoll-freezes";

export type Json = null | boolean | number | string | readonly Json[] | JsonMap;
export interface JsonMap {
  readonly [key: string]: Json | undefined;
}
export const isMap = (v: unknown): v is JsonMap => typeof v === "object" && v !== null && !Array.isArray(v);

export interface Meta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly generation?: number;
  readonly resourceVersion?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
}
export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime: string;
}

export interface BundleSpec {
  readonly bundleId: string;
  readonly version: number;
  readonly layer: "P0" | "P1";
  readonly contentHash: string;
  readonly conformanceLevel: "L1" | "L2" | "L3";
  readonly notBefore?: string;
  readonly expiresAt?: string;
  readonly sigs: readonly { readonly key_id: string; readonly sig: string }[];
  readonly content?: JsonMap;
  readonly source?: {
    readonly configMap?: { readonly namespace: string; readonly name: string; readonly key: string };
    readonly oci?: { readonly reference: string };
    readonly url?: { readonly url: string };
  };
}
export interface BundleStatus {
  readonly observedGeneration?: number;
  readonly verifiedHash?: string;
  readonly highWater?: { readonly version: number; readonly digest: string };
  readonly activePods?: number;
  readonly conditions?: readonly Condition[];
}
export interface PolicyBundle {
  readonly metadata: Meta;
  readonly spec: BundleSpec;
  readonly status?: BundleStatus;
}

export interface Expression {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  readonly values?: readonly string[];
}
export interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly Expression[];
}
export interface BundleRef {
  readonly bundleId: string;
  readonly version?: number;
}
export interface SizeClass {
  readonly class: string;
  readonly cpu: string;
  readonly cpuLimit?: string;
  readonly memory: string;
}
export interface Egress {
  readonly cidr?: string;
  readonly host?: string;
  readonly pods?: { readonly namespace: string; readonly labels?: Readonly<Record<string, string>> };
  readonly ports: readonly number[];
}
export interface SidecarSpec {
  readonly image: string;
  readonly conformanceLevel: "L1" | "L2" | "L3";
  readonly policyBundleRef: BundleRef;
  readonly ceilingRef?: BundleRef;
  readonly namespaceSelector: Selector;
  readonly podSelector?: Selector;
  readonly agentContainers?: readonly string[];
  readonly resources?: readonly SizeClass[];
  readonly credentials?: readonly {
    readonly name: string;
    readonly secretRef: { readonly name: string; readonly key: string };
  }[];
  readonly durability?: "local" | "ledger";
  readonly island?: {
    readonly inPodLock?: "nftables" | "none";
    readonly networkPolicy?: boolean;
    readonly egress?: readonly Egress[];
    readonly probe?: { readonly maxAgeSeconds?: number };
  };
  readonly runtimeClasses?: readonly string[];
  readonly rollout?: {
    readonly strategy?: "Live" | "OnRestart" | "Staged";
    readonly percent?: number;
    readonly band?: {
      readonly denyPercent?: number;
      readonly errorPercent?: number;
      readonly seconds?: number;
    };
  };
  readonly watchdog?: { readonly evict?: boolean; readonly perMinute?: number };
  readonly freeze?: { readonly reason: string; readonly by?: string };
}
export interface SidecarStatus {
  readonly observedGeneration?: number;
  readonly phase?: "Pending" | "Ready" | "Degraded" | "Frozen";
  readonly shapes?: readonly { readonly class: string; readonly hash: string }[];
  readonly earlierShapes?: readonly string[];
  readonly counts?: {
    readonly injected: number;
    readonly ready: number;
    readonly stale: number;
    readonly unguarded: number;
  };
  readonly running?: readonly { readonly hash: string; readonly pods: number }[];
  readonly rolledBack?: readonly string[];
  readonly policy?: { readonly bundle: string; readonly version: number; readonly hash: string };
  readonly conditions?: readonly Condition[];
}
export interface GuardianSidecar {
  readonly metadata: Meta;
  readonly spec: SidecarSpec;
  readonly status?: SidecarStatus;
  /** Who wrote spec.freeze and when, in the API server's bookkeeping. */
  readonly freezeStamp?: string;
}

export interface MatchTerm {
  readonly of: "namespace" | "pod";
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  readonly values?: readonly string[];
}
/** The three containers and our volumes exactly as the API server stores them. */
export interface Shape {
  readonly class: string;
  readonly hash: string;
  readonly lock?: JsonMap;
  readonly guardian: JsonMap;
  readonly gate?: JsonMap;
  readonly volumes: readonly JsonMap[];
}
export interface IndexEntry {
  readonly name: string;
  readonly match: readonly MatchTerm[];
  readonly agentContainers?: readonly string[];
  readonly runtimeClasses?: readonly string[];
  readonly shapes: readonly Shape[];
}
export interface IndexSpec {
  readonly sidecars: readonly IndexEntry[];
}

/** A GuardianSidecar's selectors, flattened into the terms that admission compares. */
export function matchTerms(spec: Pick<SidecarSpec, "namespaceSelector" | "podSelector">): MatchTerm[] {
  const of = (side: "namespace" | "pod", s: Selector | undefined): MatchTerm[] => [
    ...Object.entries(s?.matchLabels ?? {}).map(
      ([key, value]): MatchTerm => ({ of: side, key, operator: "In", values: [value] }),
    ),
    ...(s?.matchExpressions ?? []).map((e): MatchTerm => ({ of: side, ...e })),
  ];
  return [...of("namespace", spec.namespaceSelector), ...of("pod", spec.podSelector)];
}

type Labels = Readonly<Record<string, string>>;
export function termHolds(term: Expression, labels: Labels): boolean {
  const value = Object.hasOwn(labels, term.key) ? labels[term.key] : undefined;
  const listed = value !== undefined && (term.values ?? []).includes(value);
  const holds = {
    In: listed,
    NotIn: !listed,
    Exists: value !== undefined,
    DoesNotExist: value === undefined,
  } as const;
  return holds[term.operator];
}

export interface Choice {
  /** Entries whose namespace terms hold. */
  readonly here: readonly IndexEntry[];
  /** What the pod falls to: exactly one, or the pod is refused. */
  readonly mine: readonly IndexEntry[];
}
/** Which entry a pod falls to: the same rule as in the policy `atoll-shape`. */
export function choose(index: IndexSpec, namespaceLabels: Labels, podLabels: Labels): Choice {
  const here = index.sidecars.filter(
    (s) =>
      s.match.some((t) => t.of === "namespace") &&
      s.match.every((t) => t.of !== "namespace" || termHolds(t, namespaceLabels)),
  );
  const hits = here.filter((s) => s.match.every((t) => t.of !== "pod" || termHolds(t, podLabels)));
  const named = Object.hasOwn(namespaceLabels, LABEL_DEFAULT_SIDECAR)
    ? namespaceLabels[LABEL_DEFAULT_SIDECAR]
    : undefined;
  return { here, mine: hits.length > 0 ? hits : here.filter((s) => s.name === named) };
}
