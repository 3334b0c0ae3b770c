// One writer among replicas: a Lease held for 15 s, renewed every 2 s, given up for good after 10 s without renewal.

import { isMap } from "../kinds/kinds.ts";
import type { JsonMap } from "../kinds/kinds.ts";
import { ApiError, notFound } from "./client.ts";
import type { Client } from "./client.ts";

export interface LeaseOptions {
  readonly client: Client;
  readonly namespace: string;
  readonly name: string;
  readonly identity: string;
  readonly durationSeconds?: number;
  readonly renewMs?: number;
  readonly retryMs?: number;
  readonly now?: () => number;
  readonly onLost: (why: string) => void;
}
export interface Lease {
  /** Resolves when we hold it. */
  readonly held: Promise<void>;
  /** Gives it back, so that another replica need not wait. */
  release(): Promise<void>;
}

export function elect(options: LeaseOptions): Lease {
  const duration = options.durationSeconds ?? 15;
  const deadline = options.renewMs ?? 10_000;
  const retry = options.retryMs ?? 2000;
  // Monotonic: a jump of the wall clock neither wins nor loses a lease. Another's lease is over when its record has not
  // changed for its whole duration on our own clock.
  const now = options.now ?? (() => performance.now());
  const collection = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`;
  let seen = { version: "", at: now() };
  let renewed = -Infinity;
  let holding = false;
  const releasing = new AbortController();
  let resolveHeld: () => void = () => {};
  const held = new Promise<void>((resolve) => (resolveHeld = resolve));
  const record = (holder: string): JsonMap => ({
    holderIdentity: holder,
    leaseDurationSeconds: duration,
    renewTime: new Date().toISOString().replace("Z", "000Z"),
  });

  const attempt = async (): Promise<boolean> => {
    let lease: JsonMap;
    try {
      lease = await options.client.json(`${collection}/${options.name}`, { timeoutMs: deadline });
    } catch (error) {
      if (!notFound(error)) throw error;
      await options.client.json(collection, {
        method: "POST",
        timeoutMs: deadline,
        body: {
          apiVersion: "coordination.k8s.io/v1",
          kind: "Lease",
          metadata: { name: options.name, namespace: options.namespace },
          spec: { ...record(options.identity), acquireTime: new Date().toISOString().replace("Z", "000Z") },
        },
      });
      return true;
    }
    const meta = isMap(lease["metadata"]) ? lease["metadata"] : {};
    const spec = isMap(lease["spec"]) ? lease["spec"] : {};
    const version = typeof meta["resourceVersion"] === "string" ? meta["resourceVersion"] : "";
    if (version !== seen.version) seen = { version, at: now() };
    const holder = typeof spec["holderIdentity"] === "string" ? spec["holderIdentity"] : "";
    const theirs = holder !== "" && holder !== options.identity;
    const lasts = Number(spec["leaseDurationSeconds"] ?? duration) * 1000;
    if (theirs && now() - seen.at < lasts) return false;
    // The resourceVersion makes this a compare-and-swap: of two that try, one gets 409.
    await options.client.json(`${collection}/${options.name}`, {
      method: "PUT",
      timeoutMs: deadline,
      body: { ...lease, spec: { ...spec, ...record(options.identity) } },
    });
    return true;
  };
  const loop = async (): Promise<void> => {
    while (!releasing.signal.aborted) {
      const began = now();
      try {
        if (await attempt()) {
          renewed = began;
          if (!holding) {
            holding = true;
            resolveHeld();
          }
        } else if (holding) {
          options.onLost("another replica holds the lease");
          return;
        }
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 409) && !(error instanceof Error)) throw error;
      }
      if (holding && now() - renewed > deadline) {
        options.onLost("the lease could not be renewed in time");
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, retry).unref());
    }
  };
  void loop();
  return {
    held,
    async release() {
      releasing.abort();
      if (!holding) return;
      try {
        const lease = await options.client.json(`${collection}/${options.name}`);
        const spec = isMap(lease["spec"]) ? lease["spec"] : {};
        if (spec["holderIdentity"] !== options.identity) return;
        await options.client.json(`${collection}/${options.name}`, {
          method: "PUT",
          body: { ...lease, spec: { ...spec, holderIdentity: "", leaseDurationSeconds: 1 } },
        });
      } catch {
        // It ends by itself.
      }
    },
  };
}
