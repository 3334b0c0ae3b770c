// Pods that should be governed and are in no accepted shape: where their GuardianSidecar asks for it they are evicted, few at
// a time, through the eviction API, so that PodDisruptionBudgets are kept.

import type { GuardianSidecar } from "../kinds/kinds.ts";
import { ApiError, notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import type { PodState } from "../sidecar/sidecar.ts";

/** So long a pod must have been seen unguarded: what our copies have not caught up with is not evicted. */
const GRACE_MS = 30_000;
const PER_MINUTE = 6;

export interface Watchdog {
  /** Evicts what is due; asked again every few seconds, with every look at the sidecar. */
  sweep(sidecar: GuardianSidecar, strays: readonly PodState[]): Promise<void>;
}

export function makeWatchdog(options: {
  readonly client: Client;
  readonly now: () => number;
  readonly graceMs?: number;
  readonly onEvicted: (sidecar: string, pod: PodState, result: "evicted" | "refused") => void;
}): Watchdog {
  const { client, now } = options;
  const grace = options.graceMs ?? GRACE_MS;
  const seen = new Map<string, Map<string, number>>();
  const evicted = new Map<string, number[]>();
  return {
    async sweep(sidecar, strays) {
      const { name } = sidecar.metadata;
      const since = new Map(strays.map((p) => [p.uid, seen.get(name)?.get(p.uid) ?? now()]));
      seen.set(name, since);
      if (sidecar.spec.watchdog?.evict !== true || strays.length === 0) return;
      const limit = sidecar.spec.watchdog.perMinute ?? PER_MINUTE;
      const recent = (evicted.get(name) ?? []).filter((at) => now() - at < 60_000);
      evicted.set(name, recent);
      for (const pod of strays) {
        if (now() - (since.get(pod.uid) ?? now()) < grace) continue;
        if (recent.length >= limit) break;
        recent.push(now());
        try {
          await client.json(`/api/v1/namespaces/${pod.namespace}/pods/${pod.name}/eviction`, {
            method: "POST",
            body: {
              apiVersion: "policy/v1",
              kind: "Eviction",
              metadata: { name: pod.name, namespace: pod.namespace },
              // Its successor of the same name is another pod.
              deleteOptions: { preconditions: { uid: pod.uid } },
            },
          });
          options.onEvicted(name, pod, "evicted");
        } catch (error) {
          if (notFound(error)) continue;
          // A budget that has nothing left, or a pod that was replaced meanwhile.
          if (!(error instanceof ApiError && (error.status === 429 || error.status === 409))) throw error;
          options.onEvicted(name, pod, "refused");
        }
      }
    },
  };
}
