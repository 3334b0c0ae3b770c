// A snapshot that may leave the house: what could hold a secret or another's words is taken out by an allow-list.

import { isMap } from "../../operator/kinds/kinds.ts";
import type { Json, JsonMap } from "../../operator/kinds/kinds.ts";
import type { ListName, Snapshot } from "./snapshot.ts";

/** Lists that go along at all, and the top members of their objects that do. */
const KEPT: Readonly<Partial<Record<ListName, readonly string[]>>> = {
  nodes: ["status"],
  namespaces: [],
  pods: ["spec", "status"],
  deployments: ["spec", "status"],
  endpointslices: [],
  crds: ["status"],
  mutating: ["webhooks"],
  validating: ["webhooks"],
  policies: ["spec", "status"],
  bindings: ["spec"],
  sidecars: ["spec", "status"],
  bundles: ["status"],
  leases: ["spec"],
  networkpolicies: ["spec"],
};
const METADATA = ["name", "namespace", "labels", "creationTimestamp", "deletionTimestamp", "generation"];
/** Members that hold what people wrote for others' eyes alone. */
const DROPPED: ReadonlySet<string> = new Set([
  "env",
  "envFrom",
  "args",
  "command",
  "annotations",
  "caBundle",
  "message",
  "lastState",
  "images",
  "content",
  "data",
  "binaryData",
  "managedFields",
]);

function cleaned(value: Json | undefined): Json {
  if (Array.isArray(value)) return value.map((v: Json) => cleaned(v));
  if (!isMap(value)) return value ?? null;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !DROPPED.has(key))
      .map(([key, v]) => [key, cleaned(v)]),
  );
}
const only = (o: Json | undefined, keys: readonly string[]): JsonMap =>
  isMap(o) ? Object.fromEntries(keys.filter((k) => o[k] !== undefined).map((k) => [k, cleaned(o[k])])) : {};

export function withoutSecrets(s: Snapshot): JsonMap {
  const lists = Object.fromEntries(
    Object.entries(KEPT).map(([name, members]) => [
      name,
      (s.lists[name as ListName] ?? []).map((o) => ({
        metadata: only(o["metadata"], METADATA),
        ...only(o, members),
      })),
    ]),
  );
  return { now: s.now, serverNow: s.serverNow, version: s.version, unread: { ...s.unread }, lists };
}
