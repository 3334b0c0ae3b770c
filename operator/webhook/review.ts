// AdmissionReview in, AdmissionReview out. Pure, apart from the counters that the caller brings.

import { inject } from "../inject/inject.ts";
import { LABEL_GOVERNED, isMap } from "../kinds/kinds.ts";
import type { IndexSpec, Json, JsonMap, SidecarSpec } from "../kinds/kinds.ts";
import { compilePolicy, lintPolicy, parsePolicy, verifyBundle } from "../../kernel/policy/policy.ts";
import type { KeyBook } from "../../kernel/trust/trust.ts";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue, PolicyDoc } from "../../kernel/contracts/contracts.ts";
import { overlaps } from "./overlaps.ts";

export interface ReviewFacts {
  readonly index: IndexSpec | undefined;
  namespaceLabels(name: string): Readonly<Record<string, string>> | undefined;
  /** Every namespace's name and labels. */
  namespaces(): Iterable<readonly [string, Readonly<Record<string, string>>]>;
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
  if (facts.index === undefined)
    return refusal(uid, "NotReady", "the index of shapes is not known yet: try again in a moment");
  if (labels === undefined)
    return refusal(uid, "NotReady", `the namespace \`${name}\` is not known yet: try again in a moment`);
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

const selectorsOf = (object: Json | undefined): string => {
  const spec = isMap(object) && isMap(object["spec"]) ? object["spec"] : {};
  return JSON.stringify([spec["namespaceSelector"] ?? null, spec["podSelector"] ?? null]);
};

/** Refuses early what the operator would refuse anyway, so that the person who applies it sees why. */
export function validateKind(review: Json, facts: ReviewFacts): Outcome | undefined {
  const request = requestOf(review);
  if (request === undefined) return undefined;
  const uid = text(request["uid"]);
  const admit = (...warnings: readonly string[]): Outcome => ({
    review: answer(uid, { allowed: true, ...(warnings.length === 0 ? {} : { warnings }) }),
    outcome: "admit",
    code: warnings.length === 0 ? "Admitted" : "Warned",
  });
  const object = request["object"];
  const operation = text(request["operation"]);
  if (!isMap(object) || !isMap(object["spec"])) return admit();
  if (object["kind"] === "PolicyBundle" && operation === "CREATE") {
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
    const content = object["spec"]["content"];
    return isMap(content) ? validateContent(uid, content, object["spec"]["layer"], admit) : admit();
  }
  if (object["kind"] === "GuardianSidecar") {
    // What changes nothing in the choice of pods, a freeze above all, waits for nobody's judgement.
    const old = request["oldObject"];
    if (facts.index === undefined || (operation === "UPDATE" && selectorsOf(old) === selectorsOf(object)))
      return admit();
    const meta = isMap(object["metadata"]) ? object["metadata"] : {};
    const spec = object["spec"] as unknown as SidecarSpec;
    const { certain, possible } = overlaps(text(meta["name"]), spec, facts.index, facts.namespaces());
    if (certain.length > 0)
      return refusal(
        uid,
        "Overlap",
        `its pods are taken by ${certain.join(", ")} as well, and a pod that two take is refused: narrow namespaceSelector or podSelector`,
      );
    return admit(
      ...possible.map((words) => `a pod could have labels that ${words} takes too; such a pod is refused`),
    );
  }
  return admit();
}

function validateContent(
  uid: string,
  content: JsonMap,
  layer: Json | undefined,
  admit: (...warnings: readonly string[]) => Outcome,
): Outcome {
  let doc: PolicyDoc;
  try {
    doc = parsePolicy(JSON.parse(JSON.stringify(content)) as JsonObject);
    if (layer === "P1") compilePolicy(JSON.parse(JSON.stringify(content)) as JsonObject);
  } catch (error) {
    return refusal(
      uid,
      "CompileFailed",
      `the content does not compile: ${error instanceof Error ? error.message : ""}`,
    );
  }
  const findings = lintPolicy(doc);
  // The API server shows no more than a few hundred characters of each, and 4 KiB of all.
  return admit(
    ...findings
      .slice(0, 10)
      .map(({ lint, path, message, hint }) => `${lint} at ${path}: ${message}; ${hint}`.slice(0, 240)),
  );
}
