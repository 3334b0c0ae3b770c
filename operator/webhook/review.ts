// AdmissionReview in, AdmissionReview out. Pure, apart from the counters that the caller brings.

import { inject } from "../inject/inject.ts";
import { LABEL_GOVERNED, isMap } from "../kinds/kinds.ts";
import type { IndexSpec, Json, JsonMap } from "../kinds/kinds.ts";
import { verifyBundle } from "../../kernel/policy/policy.ts";
import type { KeyBook } from "../../kernel/trust/trust.ts";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";

export interface ReviewFacts {
  readonly index: IndexSpec | undefined;
  namespaceLabels(name: string): Readonly<Record<string, string>> | undefined;
  readonly roots: KeyBook | undefined;
  readonly requireSignature: boolean;
  readonly now: number;
}
export interface Outcome {
  readonly review: JsonMap;
  readonly outcome: "inject" | "skip" | "refuse" | "admit";
  readonly code: string;
}

const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");

function answer(uid: string, response: JsonMap): JsonMap {
  return {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    response: { uid, ...response },
  };
}
const refusal = (uid: string, code: string, message: string): Outcome => ({
  review: answer(uid, {
    allowed: false,
    status: { code: 422, reason: "Invalid", message: `atoll: ${message}` },
  }),
  outcome: "refuse",
  code,
});

function requestOf(review: Json): JsonMap | undefined {
  if (!isMap(review) || !isMap(review["request"])) return undefined;
  return text(review["request"]["uid"]) === "" ? undefined : review["request"];
}

export function mutatePod(review: Json, facts: ReviewFacts): Outcome | undefined {
  const request = requestOf(review);
  if (request === undefined) return undefined;
  const uid = text(request["uid"]);
  const name = text(request["namespace"]);
  const labels = facts.namespaceLabels(name);
  // Governed is what the API server's selector says, which sent us this review; our copy may be a moment behind.
  const namespace = { name, labels: { ...labels, [LABEL_GOVERNED]: "true" } };
  if (facts.index === undefined || labels === undefined)
    return refusal(uid, "NotReady", "the index of shapes is not known yet: try again in a moment");
  const result = inject(request["object"] ?? null, namespace, facts.index);
  if (result.outcome === "refuse") return refusal(uid, result.code, result.message);
  if (result.outcome === "skip")
    return { review: answer(uid, { allowed: true }), outcome: "skip", code: result.code };
  return {
    review: answer(uid, {
      allowed: true,
      ...(result.patch.length === 0
        ? {}
        : { patchType: "JSONPatch", patch: Buffer.from(JSON.stringify(result.patch)).toString("base64") }),
      ...(result.warnings.length === 0 ? {} : { warnings: [...result.warnings] }),
      auditAnnotations: { sidecar: result.sidecar, size: result.size },
    }),
    outcome: "inject",
    code: result.patch.length === 0 ? "Unchanged" : "Injected",
  };
}

/** Refuses early what the operator would refuse anyway, so that the person who applies it sees why. */
export function validateKind(review: Json, facts: ReviewFacts): Outcome | undefined {
  const request = requestOf(review);
  if (request === undefined) return undefined;
  const uid = text(request["uid"]);
  const admit: Outcome = { review: answer(uid, { allowed: true }), outcome: "admit", code: "Admitted" };
  const object = request["object"];
  if (!isMap(object) || text(request["operation"]) !== "CREATE") return admit;
  if (object["kind"] === "PolicyBundle") {
    if (facts.roots === undefined)
      return refusal(uid, "NotReady", "the trust roots are not known yet: try again in a moment");
    const bundle = { apiVersion: object["apiVersion"], kind: "PolicyBundle", spec: object["spec"] };
    const verdict = verifyBundle(JSON.parse(JSON.stringify(bundle)) as JsonValue, facts.roots, {
      now: timestampOf(facts.now),
      requireSignature: facts.requireSignature,
    });
    // Content that lies elsewhere, and a beginning that is still to come, are for the operator.
    if (!verdict.ok && verdict.problem !== "content-missing" && verdict.problem !== "not-yet")
      return refusal(uid, verdict.code, `${verdict.code}: ${verdict.reason}`);
  }
  return admit;
}
