// Who may use the gateway, and what names mean there.

import { promises as dns } from "node:dns";
import { tokenReviews } from "../control/identity.ts";
import { LABEL_GOVERNED, isMap } from "../kinds/kinds.ts";
import type { JsonMap } from "../kinds/kinds.ts";
import { notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";

export interface Found {
  readonly found: readonly string[];
  /** Codes of what failed. */
  readonly codes: readonly string[];
}

const map = (v: unknown): JsonMap => (isMap(v) ? v : {});

/**
 * Whether a token is a guardian's: a pod's, for our audience, the pod in a governed namespace and with a guardian. Admission
 * answers for the rest: nothing but the guardian mounts such a token there.
 */
export function guardians(client: Client, now: () => number): (token: string) => Promise<string | undefined> {
  const tokens = tokenReviews(client, now);
  return async (token) => {
    const who = await tokens(token);
    if (who === undefined) return undefined;
    try {
      const [namespace, pod] = await Promise.all([
        client.json(`/api/v1/namespaces/${who.namespace}`),
        client.json(`/api/v1/namespaces/${who.namespace}/pods/${who.podName}`),
      ]);
      const first = map(pod["spec"])["initContainers"];
      const governed = map(map(namespace["metadata"])["labels"])[LABEL_GOVERNED] === "true";
      const guarded = Array.isArray(first) && first.some((each) => map(each)["name"] === "atoll-guardian");
      return governed && guarded && map(pod["metadata"])["uid"] === who.podUid ? who.podUid : undefined;
    } catch (error) {
      if (notFound(error)) return undefined;
      throw error;
    }
  };
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

/** By the cluster's resolver, absolute names, both families. */
export function lookup(): (name: string) => Promise<Found> {
  const resolver = new dns.Resolver({ timeout: 1000, tries: 2 });
  return async (name) => {
    const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
    return {
      found: answers.flatMap((each) => (each.status === "fulfilled" ? each.value : [])),
      codes: answers.flatMap((each) => (each.status === "rejected" ? [codeOf(each.reason)] : [])),
    };
  };
}
