// The controller of PolicyBundles: fetch, judge (elsewhere, purely), say so in the status, and remember what was committed.

import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import type { HighWater } from "../../kernel/policy/policy.ts";
import type { TrustRoots } from "../../kernel/trust/trust.ts";
import { bundleStatus, judgeBundles } from "../bundle/bundle.ts";
import type { Fetched, Judgement } from "../bundle/bundle.ts";
import { fetchContent } from "../bundle/fetch.ts";
import type { RemoteOptions } from "../bundle/fetch.ts";
import { SYSTEM_NAMESPACE, isMap } from "../kinds/kinds.ts";
import type { GuardianSidecar, PolicyBundle } from "../kinds/kinds.ts";
import { applyObject, notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import { pickBundle } from "../sidecar/sidecar.ts";
import { MANAGER } from "./saying.ts";
import type { Saying } from "./saying.ts";

const HIGH_WATER = "atoll-high-water";
/** How soon a content that could not be had is asked for again. */
const FETCH_AGAIN_MS = 15_000;
/** Each may hold as much memory as a content may have. */
const MOST_FETCHES = 4;

export interface BundleController {
  reconcile(): Promise<void>;
  /** Raises the high water to this version, which a rollout has committed. */
  commit(judgement: Judgement): Promise<void>;
  judgements(): ReadonlyMap<string, Judgement>;
}
export interface BundleControllerOptions {
  readonly client: Client;
  readonly saying: Saying;
  readonly bundles: ReadonlyMap<string, PolicyBundle>;
  readonly sidecars: ReadonlyMap<string, GuardianSidecar>;
  readonly roots: () => TrustRoots | undefined;
  readonly requireSignature: boolean;
  readonly running: (sidecar: string) => readonly { readonly hash: string; readonly pods: number }[];
  readonly now: () => number;
  readonly remote?: RemoteOptions | undefined;
  /** The high water has risen. */
  readonly onCommitted: () => void;
  readonly again: (ms: number) => void;
}

export function makeBundles(options: BundleControllerOptions): BundleController {
  const { client, now } = options;
  let judgements: ReadonlyMap<string, Judgement> = new Map();
  const highWater: Record<string, HighWater> = {};
  let highWaterLoaded = false;
  // What was fetched once and had the hash that the object names stays what it is: the same value, so that what was
  // compiled of it need not be compiled again.
  const kept = new Map<string, { readonly hash: string; readonly fetched: Fetched; readonly at: number }>();

  async function loadHighWater(): Promise<void> {
    if (highWaterLoaded) return;
    try {
      const map = await client.json(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${HIGH_WATER}`);
      for (const [id, text] of Object.entries(isMap(map["data"]) ? map["data"] : {}))
        highWater[id] = JSON.parse(text as string) as HighWater;
    } catch (error) {
      if (!notFound(error)) throw error;
    }
    highWaterLoaded = true;
  }

  const fetching = new Set<string>();
  /** A place outside the cluster may take its time: it is asked beside the queue, on which repairs wait too. */
  function fetchRemote(bundle: PolicyBundle, hash: string): Fetched {
    const { name } = bundle.metadata;
    const known = kept.get(name);
    const fresh = known !== undefined && known.hash === hash;
    const due = !fresh || (!known.fetched.ok && now() - known.at >= FETCH_AGAIN_MS);
    if (due && !fetching.has(hash) && fetching.size < MOST_FETCHES) {
      fetching.add(hash);
      void fetchContent(client, bundle, options.remote)
        .then((fetched) => kept.set(name, { hash, fetched, at: now() }))
        .finally(() => {
          fetching.delete(hash);
          options.again(0);
        });
    }
    return fresh
      ? known.fetched
      : { ok: false, reason: "Fetching", message: "the content has been asked for", pending: true };
  }
  async function fetchAll(list: readonly PolicyBundle[]): Promise<ReadonlyMap<string, Fetched>> {
    const result = new Map<string, Fetched>();
    for (const name of kept.keys()) if (!options.bundles.has(name)) kept.delete(name);
    for (const bundle of list) {
      const { name, uid = "" } = bundle.metadata;
      const { contentHash, content, source } = bundle.spec;
      const verified = judgements.get(name)?.steps.Verified.status === "True";
      if (content === undefined && (source?.url !== undefined || source?.oci !== undefined)) {
        // Another place may have it where this one has not: the location may be changed.
        const place = verified ? "" : JSON.stringify(source);
        const hash = `${uid} ${contentHash}`;
        const known = kept.get(name);
        result.set(
          name,
          verified && known?.hash.startsWith(hash) === true && known.fetched.ok
            ? known.fetched
            : fetchRemote(bundle, `${hash} ${place}`),
        );
        continue;
      }
      const hash = `${uid} ${contentHash}`;
      const known = kept.get(name);
      const fetched =
        known?.hash === hash && known.fetched.ok && (verified || content !== undefined)
          ? known.fetched
          : await fetchContent(client, bundle);
      kept.set(name, { hash, fetched, at: now() });
      result.set(name, fetched);
    }
    return result;
  }

  return {
    judgements: () => judgements,
    async commit(judgement) {
      const { bundleId, version } = judgement.bundle.spec;
      const known = highWater[bundleId];
      if (known !== undefined && known.version >= version) return;
      const next: HighWater = { version, digest: judgement.digest as HighWater["digest"] };
      const all = { ...highWater, [bundleId]: next };
      await applyObject(
        client,
        `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${HIGH_WATER}`,
        {
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: { name: HIGH_WATER, namespace: SYSTEM_NAMESPACE },
          data: Object.fromEntries(Object.entries(all).map(([id, h]) => [id, JSON.stringify(h)])),
        },
        MANAGER,
      );
      highWater[bundleId] = next;
      options.onCommitted();
    },
    async reconcile() {
      await loadHighWater();
      const list = [...options.bundles.values()];
      const uses = [...options.sidecars.values()];
      const fetched = await fetchAll(list);
      const contentOf = (name: string): JsonObject | undefined => {
        const found = fetched.get(name);
        return found?.ok === true ? found.content : undefined;
      };
      const judge = (
        ceilings: (id: string) => readonly JsonObject[],
      ): Promise<ReadonlyMap<string, Judgement>> =>
        judgeBundles({
          bundles: list,
          fetched: (b) =>
            fetched.get(b.metadata.name) ?? { ok: false, reason: "NotFound", message: "not fetched" },
          roots: options.roots(),
          requireSignature: options.requireSignature,
          now: now(),
          highWater,
          ceilings,
        });
      // Ceilings first: they are judged without regard to anything else.
      const above = uses.some((s) => s.spec.ceilingRef !== undefined) ? await judge(() => []) : new Map();
      judgements = await judge((id) =>
        uses
          .filter((s) => s.spec.policyBundleRef.bundleId === id && s.spec.ceilingRef !== undefined)
          .flatMap((s) => {
            const ref = s.spec.ceilingRef;
            const picked = ref === undefined ? undefined : pickBundle(ref, "P0", "L1", above);
            const content =
              picked?.ok === true ? contentOf(picked.judgement.bundle.metadata.name) : undefined;
            return content === undefined ? [] : [content];
          }),
      );
      const pods = new Map<string, number>();
      for (const { metadata } of uses)
        for (const { hash, pods: count } of options.running(metadata.name))
          pods.set(hash, (pods.get(hash) ?? 0) + count);
      for (const judgement of judgements.values()) {
        const { bundle } = judgement;
        await options.saying.status(
          "PolicyBundle",
          bundle,
          bundleStatus(
            judgement,
            highWater[bundle.spec.bundleId],
            pods.get(bundle.spec.contentHash) ?? 0,
            now(),
          ),
        );
      }
      const next = [...judgements.values()].map((j) => j.again).filter((t) => t !== undefined && t > now());
      if (next.length > 0) options.again(Math.min(2_000_000_000, Math.min(...next.map(Number)) - now() + 50));
      if ([...fetched.values()].some((f) => !f.ok && (f.again === true || f.pending === true)))
        options.again(FETCH_AGAIN_MS);
    },
  };
}
