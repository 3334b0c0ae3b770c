// Events: what happened to an object, for `kubectl describe`. Repetitions raise a count instead of adding objects.

import type { JsonMap, Meta } from "../kinds/kinds.ts";
import { applyObject } from "./client.ts";
import type { Client } from "./client.ts";

export interface Subject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Pick<Meta, "name" | "namespace" | "uid">;
}
export interface EventRecorder {
  emit(subject: Subject, type: "Normal" | "Warning", reason: string, note: string): void;
}

const AGAIN_MS = 10 * 60_000;
const KNOWN_LIMIT = 5000;

export function recordEvents(client: Client, instance: string): EventRecorder {
  const known = new Map<string, { name: string; count: number; first: string; at: number }>();
  let serial = 0;
  return {
    emit(subject, type, reason, note) {
      const namespace = subject.metadata.namespace ?? "default";
      const key = [
        subject.kind,
        namespace,
        subject.metadata.name,
        subject.metadata.uid,
        type,
        reason,
        note,
      ].join("\n");
      const at = Date.now();
      const time = new Date(at).toISOString().replace("Z", "000Z");
      const old = known.get(key);
      const fresh = old === undefined || at - old.at > AGAIN_MS;
      const entry = fresh
        ? {
            name: `${subject.metadata.name}.${at.toString(16)}${(serial++).toString(16)}`,
            count: 1,
            first: time,
            at,
          }
        : { ...old, count: old.count + 1, at };
      known.delete(key);
      known.set(key, entry);
      if (known.size > KNOWN_LIMIT)
        for (const oldest of [...known.keys()].slice(0, 500)) known.delete(oldest);
      const event: JsonMap = {
        apiVersion: "events.k8s.io/v1",
        kind: "Event",
        metadata: { name: entry.name, namespace },
        eventTime: entry.first,
        reportingController: "atoll.dev/operator",
        reportingInstance: instance.slice(0, 128),
        action: reason.slice(0, 128),
        reason: reason.slice(0, 128),
        type,
        note: note.slice(0, 1000),
        regarding: {
          apiVersion: subject.apiVersion,
          kind: subject.kind,
          name: subject.metadata.name,
          ...(subject.metadata.namespace === undefined ? {} : { namespace }),
          ...(subject.metadata.uid === undefined ? {} : { uid: subject.metadata.uid }),
        },
        ...(entry.count > 1 ? { series: { count: entry.count, lastObservedTime: time } } : {}),
      };
      // An event that gets lost is not worth a retry: the condition says the same.
      applyObject(
        client,
        `/apis/events.k8s.io/v1/namespaces/${namespace}/events/${entry.name}`,
        event,
        "atoll-operator",
      ).catch(() => undefined);
    },
  };
}
