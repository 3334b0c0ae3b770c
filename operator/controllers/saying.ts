// What a controller says about an object: conditions and counts in its status, Events where a condition has changed.

import { API_VERSION, isMap } from "../kinds/kinds.ts";
import type { Condition, GuardianSidecar, JsonMap, PolicyBundle } from "../kinds/kinds.ts";
import { applyObject } from "../runtime/runtime.ts";
import type { Client, EventRecorder } from "../runtime/runtime.ts";

export const MANAGER = "atoll-operator";
export const KINDS = "/apis/atoll.dev/v1alpha1";

const BAD = [
  "Fetched",
  "Verified",
  "Compiled",
  "PolicyActive",
  "Injected",
  "EgressLocked",
  "NetworkPolicyEnforced",
];
const ALARMS = ["Drifted", "ProtectionDegraded"];
const GOOD = ["Active", "PolicyActive", "Ready"];

export interface Saying {
  /** Status of an object of ours, written only where it differs; an Event for each condition that has changed. */
  status(
    kind: "PolicyBundle" | "GuardianSidecar",
    object: PolicyBundle | GuardianSidecar,
    status: { readonly conditions?: readonly Condition[] },
  ): Promise<void>;
  warn(kind: string, object: PolicyBundle | GuardianSidecar, reason: string, note: string): void;
}

export function makeSaying(
  client: Client,
  events: EventRecorder,
  onRefused: (reason: string) => void,
): Saying {
  const tell = (kind: string, object: PolicyBundle | GuardianSidecar, after: readonly Condition[]): void => {
    for (const condition of after) {
      const old = object.status?.conditions?.find((c) => c.type === condition.type);
      if (old?.status === condition.status && old.reason === condition.reason) continue;
      const bad = condition.status === "False" && BAD.includes(condition.type);
      const alarm = condition.status === "True" && ALARMS.includes(condition.type);
      const good = condition.status === "True" && GOOD.includes(condition.type);
      if (!bad && !alarm && !good) continue;
      if (bad && kind === "PolicyBundle") onRefused(condition.reason);
      events.emit(
        { apiVersion: API_VERSION, kind, metadata: object.metadata },
        good ? "Normal" : "Warning",
        condition.reason,
        `${condition.type}: ${condition.message}`,
      );
    }
  };
  return {
    async status(kind, object, status) {
      tell(kind, object, status.conditions ?? []);
      if (same(object.status, status)) return;
      const { name } = object.metadata;
      await applyObject(
        client,
        `${KINDS}/${kind === "PolicyBundle" ? "policybundles" : "guardiansidecars"}/${name}/status`,
        {
          apiVersion: API_VERSION,
          kind,
          metadata: { name },
          status: JSON.parse(JSON.stringify(status)) as JsonMap,
        },
        MANAGER,
      );
    },
    warn: (kind, object, reason, note) =>
      events.emit({ apiVersion: API_VERSION, kind, metadata: object.metadata }, "Warning", reason, note),
  };
}

/** Equal as JSON, whatever the order of the members. */
export const same = (a: unknown, b: unknown): boolean =>
  JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isMap(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, v]) => v !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => [k, sorted(v)]),
  );
}
