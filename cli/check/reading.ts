// Small readings of Kubernetes objects, for the checks.

import { isMap } from "../../operator/kinds/kinds.ts";
import type { Expression, Json, JsonMap, Selector } from "../../operator/kinds/kinds.ts";
import { termHolds } from "../../operator/kinds/kinds.ts";

export const at = (o: Json | undefined, ...path: readonly string[]): Json | undefined => {
  let here = o;
  for (const key of path) here = isMap(here) ? here[key] : undefined;
  return here;
};
export const text = (o: Json | undefined, ...path: readonly string[]): string => {
  const v = at(o, ...path);
  return typeof v === "string" ? v : "";
};
export const number = (o: Json | undefined, ...path: readonly string[]): number => {
  const v = at(o, ...path);
  return typeof v === "number" ? v : 0;
};
export const list = (o: Json | undefined, ...path: readonly string[]): readonly JsonMap[] => {
  const v = at(o, ...path);
  return Array.isArray(v) ? v.filter(isMap) : [];
};
export const texts = (o: Json | undefined, ...path: readonly string[]): readonly string[] => {
  const v = at(o, ...path);
  return Array.isArray(v) ? v.filter((one): one is string => typeof one === "string") : [];
};
export const nameOf = (o: JsonMap): string => text(o, "metadata", "name");
export const namespaceOf = (o: JsonMap): string => text(o, "metadata", "namespace");
export const labelsOf = (o: JsonMap): Record<string, string> => {
  const out: Record<string, string> = Object.create(null);
  const labels = at(o, "metadata", "labels");
  if (isMap(labels)) for (const [k, v] of Object.entries(labels)) if (typeof v === "string") out[k] = v;
  return out;
};
export const named = (objects: readonly JsonMap[], name: string): JsonMap | undefined =>
  objects.find((o) => nameOf(o) === name);

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}
export const condition = (o: JsonMap, type: string): Condition | undefined => {
  const found = list(o, "status", "conditions").find((c) => text(c, "type") === type);
  return found === undefined
    ? undefined
    : { type, status: text(found, "status"), reason: text(found, "reason"), message: text(found, "message") };
};

const OPERATORS: readonly string[] = ["In", "NotIn", "Exists", "DoesNotExist"];
const isOperator = (s: string): s is Expression["operator"] => OPERATORS.includes(s);
export function selectorHolds(selector: Json | undefined, labels: Readonly<Record<string, string>>): boolean {
  const terms: Expression[] = [];
  const match = at(selector, "matchLabels");
  if (isMap(match))
    for (const [key, value] of Object.entries(match))
      if (typeof value === "string") terms.push({ key, operator: "In", values: [value] });
  for (const e of list(selector, "matchExpressions")) {
    const operator = text(e, "operator");
    // An operator that nobody knows selects nothing.
    if (!isOperator(operator)) return false;
    terms.push({ key: text(e, "key"), operator, values: texts(e, "values") });
  }
  return terms.every((t) => termHolds(t, labels));
}
export const isEmptySelector = (selector: Json | undefined): boolean =>
  !isMap(selector) ||
  (Object.keys(isMap(selector["matchLabels"]) ? selector["matchLabels"] : {}).length === 0 &&
    list(selector, "matchExpressions").length === 0);
export type { Selector };

/** PEM blocks of a text, or of its base64. */
export const certificatesIn = (textual: string): string[] =>
  textual.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/gu) ?? [];
export const decoded = (base64: string): string => Buffer.from(base64, "base64").toString("utf8");
