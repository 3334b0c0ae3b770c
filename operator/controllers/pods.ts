// The pods of the cluster by the questions that are asked of them: whose guardian, which uid, and which have none.

import { LABEL_SIDECAR } from "../kinds/kinds.ts";
import type { PodState } from "../sidecar/sidecar.ts";

export interface Pods {
  readonly size: number;
  has(key: string): boolean;
  get(key: string): PodState | undefined;
  values(): Iterable<PodState>;
  byUid(uid: string): PodState | undefined;
  /** Those that carry this sidecar's label and containers of ours. */
  of(sidecar: string): Iterable<PodState>;
  /** Those without a label or without a container of ours. */
  loose(): Iterable<PodState>;
}
export interface PodIndex extends Pods {
  set(key: string, pod: PodState | undefined): void;
}

export function makePodIndex(): PodIndex {
  const items = new Map<string, PodState>();
  const uids = new Map<string, PodState>();
  const groups = new Map<string, Map<string, PodState>>();
  // A label's value cannot be empty here: such a pod is loose.
  const groupOf = (pod: PodState): string => (pod.shape === "" ? "" : (pod.labels[LABEL_SIDECAR] ?? ""));
  return {
    get size() {
      return items.size;
    },
    has: (key) => items.has(key),
    get: (key) => items.get(key),
    values: () => items.values(),
    byUid: (uid) => uids.get(uid),
    of: (sidecar) => (sidecar === "" ? [] : (groups.get(sidecar)?.values() ?? [])),
    loose: () => groups.get("")?.values() ?? [],
    set(key, pod) {
      const before = items.get(key);
      if (before !== undefined) {
        if (uids.get(before.uid) === before) uids.delete(before.uid);
        const group = groups.get(groupOf(before));
        group?.delete(key);
        if (group?.size === 0) groups.delete(groupOf(before));
      }
      if (pod === undefined) {
        items.delete(key);
        return;
      }
      items.set(key, pod);
      uids.set(pod.uid, pod);
      const name = groupOf(pod);
      const group = groups.get(name);
      if (group === undefined) groups.set(name, new Map([[key, pod]]));
      else group.set(key, pod);
    },
  };
}
