// What to think of every PolicyBundle. Pure: objects, contents, trust roots and the time in; conditions out.

import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { compilePolicy, parsePolicy, verifyBundle } from "../../kernel/policy/policy.ts";
import type { BundleProblem, HighWater } from "../../kernel/policy/policy.ts";
import type { KeyBook } from "../../kernel/trust/trust.ts";
import type { BundleStatus, Condition, PolicyBundle } from "../kinds/kinds.ts";

/** The content as it was fetched, or why it was not. */
export type Fetched =
  | { readonly ok: true; readonly content: JsonObject; readonly from: "Inline" | "ConfigMap" | "Url" | "Oci" }
  | {
      readonly ok: false;
      readonly reason: string;
      readonly message: string;
      /** True where the place may have it later. */
      readonly again?: boolean;
      /** True while the place has not answered yet. */
      readonly pending?: boolean;
    };

export interface BundleFacts {
  readonly bundles: readonly PolicyBundle[];
  readonly fetched: (bundle: PolicyBundle) => Fetched;
  readonly roots: KeyBook | undefined;
  readonly requireSignature: boolean;
  readonly now: number;
  /** Per bundleId, the highest version that a rollout has committed. */
  readonly highWater: Readonly<Record<string, HighWater>>;
  /** Contents of the ceilings under which sidecars use this bundleId. */
  readonly ceilings: (bundleId: string) => readonly JsonObject[];
}
export type Step = Pick<Condition, "status" | "reason" | "message">;
export interface Judgement {
  readonly bundle: PolicyBundle;
  readonly steps: Readonly<Record<"Fetched" | "Verified" | "Compiled" | "Active" | "Superseded", Step>>;
  /** Verified and compiled: may be given to guardians. */
  readonly good: boolean;
  readonly active: boolean;
  readonly digest: string;
  readonly content: JsonObject | undefined;
  /** When the answer may change without any object changing, in milliseconds since 1970. */
  readonly again: number | undefined;
}

const PROBLEMS: Readonly<Record<BundleProblem, string>> = {
  malformed: "Malformed",
  "content-missing": "ContentMissing",
  hash: "HashMismatch",
  unsigned: "Unsigned",
  signature: "SignatureInvalid",
  role: "WrongRole",
  "not-yet": "NotYetValid",
  expired: "Expired",
  "no-expiry": "NoExpiry",
  level: "LevelTooLow",
  rollback: "RolledBack",
  equivocation: "Equivocation",
  revoked: "Revoked",
};

const yes = (reason: string, message: string): Step => ({ status: "True", reason, message });
const no = (reason: string, message: string): Step => ({ status: "False", reason, message });
const unknown = (reason: string, message: string): Step => ({ status: "Unknown", reason, message });

const wasActive = (bundle: PolicyBundle): boolean =>
  (bundle.status?.conditions ?? []).some(
    (c) => (c.type === "Active" || c.type === "Superseded") && c.status === "True",
  );

interface First {
  readonly bundle: PolicyBundle;
  readonly fetched: Step;
  readonly verified: Step;
  readonly compiled: Step;
  readonly digest: string;
  readonly content: JsonObject | undefined;
  readonly again: number | undefined;
  /** An older version that was once active, and is no alarm. */
  readonly old: boolean;
}

function judgeOne(bundle: PolicyBundle, facts: BundleFacts): First {
  const base = { bundle, digest: "", content: undefined, again: undefined, old: false };
  const later = unknown("Waiting", "an earlier step has not succeeded");
  const content = facts.fetched(bundle);
  if (!content.ok)
    return {
      ...base,
      fetched: (content.pending === true ? unknown : no)(content.reason, content.message),
      verified: later,
      compiled: later,
    };
  const fetched = yes(content.from, "the content is at hand");
  if (facts.roots === undefined)
    return {
      ...base,
      fetched,
      verified: unknown("NoTrustRoots", "the installer's trust roots cannot be read"),
      compiled: later,
    };
  const { content: _inline, ...spec } = bundle.spec;
  const high = facts.highWater[bundle.spec.bundleId];
  const old = high !== undefined && bundle.spec.version < high.version && wasActive(bundle);
  const verdict = verifyBundle(
    JSON.parse(JSON.stringify({ apiVersion: "atoll.dev/v1alpha1", kind: "PolicyBundle", spec })) as JsonValue,
    facts.roots,
    {
      now: timestampOf(facts.now),
      requireSignature: facts.requireSignature,
      content: content.content,
      ...(high === undefined || old ? {} : { highWater: high }),
    },
  );
  if (!verdict.ok)
    return {
      ...base,
      fetched,
      verified: no(PROBLEMS[verdict.problem], verdict.reason),
      compiled: later,
      again: verdict.problem === "not-yet" ? Date.parse(bundle.spec.notBefore ?? "") : undefined,
    };
  const verified = yes(
    "SignaturesHold",
    `signed by ${verdict.signedBy.join(", ") || "nobody, and nobody has to"}`,
  );
  const expires = verdict.signed.expiresAt === "" ? undefined : Date.parse(verdict.signed.expiresAt);
  return {
    ...base,
    fetched,
    verified,
    compiled: compiled(bundle, content.content, facts),
    digest: verdict.digest,
    content: content.content,
    again: expires,
    old,
  };
}

/** What a content compiles to stays the same for as long as it is the same value, under the same ceiling. */
const compilations = new WeakMap<JsonObject, Map<JsonObject | string, Step>>();
function once(content: JsonObject, under: JsonObject | string, compile: () => Step): Step {
  const known = compilations.get(content) ?? new Map<JsonObject | string, Step>();
  compilations.set(content, known);
  const step = known.get(under) ?? compile();
  if (known.size > 8) known.clear();
  known.set(under, step);
  return step;
}

function compiled(bundle: PolicyBundle, content: JsonObject, facts: BundleFacts): Step {
  const layer = content["layer"];
  if (layer !== bundle.spec.layer)
    return no(
      "LayerMismatch",
      `the content is of layer ${JSON.stringify(layer)}, the bundle of ${bundle.spec.layer}`,
    );
  const good = yes("Compiled", "parsed, type-checked and consistent");
  const alone = once(content, bundle.spec.layer, () => {
    try {
      if (bundle.spec.layer === "P0") parsePolicy(content);
      else compilePolicy(content);
      return good;
    } catch (error) {
      return no("CompileFailed", error instanceof Error ? error.message : String(error));
    }
  });
  if (alone.status !== "True" || bundle.spec.layer === "P0") return alone;
  for (const ceiling of facts.ceilings(bundle.spec.bundleId)) {
    const below = once(content, ceiling, () => {
      try {
        compilePolicy(content, { ceiling });
        return good;
      } catch (error) {
        return no("AboveCeiling", error instanceof Error ? error.message : String(error));
      }
    });
    if (below.status !== "True") return below;
  }
  return good;
}

/** Signatures and compilations of many bundles take long; between two of them others have their turn. */
export async function judgeBundles(facts: BundleFacts): Promise<ReadonlyMap<string, Judgement>> {
  const first: First[] = [];
  for (const bundle of facts.bundles) {
    first.push(judgeOne(bundle, facts));
    await new Promise((resolve) => setImmediate(resolve));
  }
  // Two digests for one version: nobody can say which one was meant, so neither is activated anew.
  const clash = (one: First): First | undefined =>
    first.find(
      (o) =>
        o !== one &&
        o.digest !== "" &&
        one.digest !== "" &&
        o.bundle.spec.bundleId === one.bundle.spec.bundleId &&
        o.bundle.spec.version === one.bundle.spec.version &&
        o.digest !== one.digest,
    );
  const settled = first.map((one): First => {
    const other = clash(one);
    const high = facts.highWater[one.bundle.spec.bundleId];
    if (other === undefined || (high?.version === one.bundle.spec.version && high.digest === one.digest))
      return one;
    return {
      ...one,
      verified: no("Equivocation", `${other.bundle.metadata.name} has the same version with other content`),
    };
  });
  const good = (one: First): boolean => one.verified.status === "True" && one.compiled.status === "True";
  const newest = new Map<string, First>();
  for (const one of settled)
    if (good(one) && !one.old) {
      const best = newest.get(one.bundle.spec.bundleId);
      if (best === undefined || best.bundle.spec.version < one.bundle.spec.version)
        newest.set(one.bundle.spec.bundleId, one);
    }
  return new Map(
    settled.map((one) => {
      const best = newest.get(one.bundle.spec.bundleId);
      const active = best === one || (best !== undefined && good(one) && best.digest === one.digest);
      const above = best !== undefined && good(one) && !active ? best : undefined;
      const bad = [one.fetched, one.verified, one.compiled].find((s) => s.status !== "True");
      return [
        one.bundle.metadata.name,
        {
          bundle: one.bundle,
          steps: {
            Fetched: one.fetched,
            Verified: one.verified,
            Compiled: one.compiled,
            Active: active
              ? yes(
                  "Active",
                  `version ${one.bundle.spec.version} is the newest good one of ${one.bundle.spec.bundleId}`,
                )
              : above !== undefined
                ? no("NewerVersion", `${above.bundle.metadata.name} has version ${above.bundle.spec.version}`)
                : no(bad?.reason ?? "NotNewest", bad?.message ?? "another version is newer"),
            Superseded:
              above !== undefined
                ? yes("NewerVersion", `by ${above.bundle.metadata.name}`)
                : no(active ? "Active" : "NotActive", active ? "it is the newest" : "it is not active"),
          },
          good: good(one),
          active,
          digest: one.digest,
          content: one.content,
          again: one.again,
        },
      ];
    }),
  );
}

/** Conditions with the time of their last change kept where nothing changed. */
export function mergeConditions(
  before: readonly Condition[] | undefined,
  steps: Readonly<Record<string, Step>>,
  generation: number | undefined,
  now: number,
): Condition[] {
  return Object.entries(steps).map(([type, step]) => {
    const old = before?.find((c) => c.type === type);
    return {
      type,
      ...step,
      message: step.message.slice(0, 4000),
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      lastTransitionTime:
        old !== undefined && old.status === step.status
          ? old.lastTransitionTime
          : `${new Date(now).toISOString().slice(0, 19)}Z`,
    };
  });
}

export function bundleStatus(
  judgement: Judgement,
  highWater: HighWater | undefined,
  activePods: number,
  now: number,
): BundleStatus {
  const { bundle } = judgement;
  return {
    ...(bundle.metadata.generation === undefined ? {} : { observedGeneration: bundle.metadata.generation }),
    ...(judgement.content === undefined ? {} : { verifiedHash: bundle.spec.contentHash }),
    ...(highWater === undefined ? {} : { highWater }),
    activePods,
    conditions: mergeConditions(bundle.status?.conditions, judgement.steps, bundle.metadata.generation, now),
  };
}
