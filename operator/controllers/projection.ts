// What is kept of the objects that we watch: as little as the judgements need.

import { ANNOTATION_FREEZE, ANNOTATION_REVOKE_KEY, ANNOTATION_UNFREEZE, isMap } from "../kinds/kinds.ts";
import type { GuardianSidecar, Json, JsonMap } from "../kinds/kinds.ts";
import { shapeHash } from "../shape/shape.ts";
import type { NamespaceState, PodState } from "../sidecar/sidecar.ts";

const map = (v: Json | undefined): JsonMap => (isMap(v) ? v : {});
const list = (v: Json | undefined): readonly JsonMap[] => (Array.isArray(v) ? v.filter(isMap) : []);
const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
const strings = (v: Json | undefined): Record<string, string> =>
  Object.fromEntries(Object.entries(map(v)).filter((e): e is [string, string] => typeof e[1] === "string"));

/** Who wrote a field and when: another text once it was written anew, also with the same value. */
function stampOf(object: JsonMap, ...path: readonly string[]): string {
  return list(map(object["metadata"])["managedFields"])
    .filter((entry) => {
      let at: Json | undefined = entry["fieldsV1"];
      for (const name of path) at = map(at)[name];
      return at !== undefined;
    })
    .map((entry) => `${text(entry["manager"])} ${text(entry["operation"])} ${text(entry["time"])}`)
    .toSorted()
    .join("; ");
}

const optional = <K extends string>(name: K, value: string): Partial<Record<K, string>> => {
  const out: Partial<Record<K, string>> = {};
  if (value !== "") out[name] = value;
  return out;
};

/** Our own kinds whole, apart from what only the API server's bookkeeping needs. */
export function projectKind(object: JsonMap): JsonMap {
  const { managedFields: _, ...metadata } = map(object["metadata"]);
  return { ...object, metadata };
}

export const projectSidecar = (object: JsonMap): GuardianSidecar => ({
  ...(projectKind(object) as unknown as GuardianSidecar),
  freezeStamp: stampOf(object, "f:spec", "f:freeze"),
});

export function projectNamespace(object: JsonMap): NamespaceState {
  const meta = map(object["metadata"]);
  return {
    name: text(meta["name"]),
    labels: strings(meta["labels"]),
    deleting: meta["deletionTimestamp"] !== undefined,
  };
}

/** Thousands of pods have the same few shapes, and the API server writes the same one the same way. */
const hashes = new Map<string, string>();
function hashOf(members: Parameters<typeof shapeHash>[0]): string {
  const written = JSON.stringify(members);
  const known = hashes.get(written);
  if (known !== undefined) return known;
  const hash = shapeHash(members);
  if (hashes.size >= 128) hashes.clear();
  hashes.set(written, hash);
  return hash;
}

export function podState(object: JsonMap): PodState {
  const meta = map(object["metadata"]);
  const spec = map(object["spec"]);
  const status = map(object["status"]);
  const container = (name: string): JsonMap | undefined =>
    list(spec["initContainers"]).find((c) => c["name"] === name);
  const [lock, guardian, gate] = ["atoll-lock", "atoll-guardian", "atoll-gate"].map(container);
  const phase = text(status["phase"]);
  const freeze = map(meta["annotations"])[ANNOTATION_FREEZE];
  // Who writes the annotation means it, also without a word.
  const frozen = freeze === undefined ? "" : text(freeze).trim() || "no reason given";
  return {
    namespace: text(meta["namespace"]),
    name: text(meta["name"]),
    uid: text(meta["uid"]),
    labels: strings(meta["labels"]),
    shape:
      guardian === undefined
        ? ""
        : hashOf({
            ...(lock === undefined ? {} : { lock }),
            guardian,
            ...(gate === undefined ? {} : { gate }),
            volumes: list(spec["volumes"]).filter((v) => text(v["name"]).startsWith("atoll-")),
          }),
    ready: list(status["conditions"]).some((c) => c["type"] === "Ready" && c["status"] === "True"),
    finished: phase === "Succeeded" || phase === "Failed" || meta["deletionTimestamp"] !== undefined,
    frozen,
    freezeStamp:
      frozen === "" ? "" : stampOf(object, "f:metadata", "f:annotations", `f:${ANNOTATION_FREEZE}`),
    unfreeze: text(map(meta["annotations"])[ANNOTATION_UNFREEZE]),
    ...optional("revoke", text(map(meta["annotations"])[ANNOTATION_REVOKE_KEY])),
    ...optional("image", text(guardian?.["image"])),
  };
}
