// Generated pods through the injector and into a real API server: what comes out is admitted, or was refused with a reason.
import fc from "fast-check";
import { inject } from "../../operator/inject/inject.ts";
import type { IndexEntry, JsonMap } from "../../operator/kinds/kinds.ts";
import type { Api } from "./api.ts";
import { applyPatch } from "./apply-patch.ts";
import { goodPod } from "./pods.ts";

export interface Tally {
  /** Pods that an API server takes where nothing is governed. */
  taken: number;
  admitted: number;
  refused: number;
  /** Injected and yet not admitted: there must be none. */
  readonly wrong: { readonly message: string; readonly pod: string }[];
}

export async function tryGenerated(
  api: Api,
  entry: IndexEntry,
  labels: Record<string, string>,
  runs: number,
  seed: number,
): Promise<Tally> {
  const tally: Tally = { taken: 0, admitted: 0, refused: 0, wrong: [] };
  for (const pod of fc.sample(goodPod, { numRuns: runs, seed })) {
    const seen = await api.call("POST", "/api/v1/namespaces/atoll-shape/pods?dryRun=All", pod);
    if (seen.status !== 201) continue;
    tally.taken++;
    const { status: _, ...rest } = seen.body as JsonMap;
    const meta = (pod as { metadata: JsonMap }).metadata;
    const defaulted: JsonMap = { ...rest, metadata: meta };
    const result = inject(defaulted, { name: "team-a", labels }, { sidecars: [entry] });
    if (result.outcome !== "inject") {
      tally.refused++;
      continue;
    }
    const reply = await api.call(
      "POST",
      "/api/v1/namespaces/team-a/pods?dryRun=All",
      applyPatch(defaulted, result.patch),
    );
    if (reply.status === 201) tally.admitted++;
    else tally.wrong.push({ message: reply.message, pod: JSON.stringify(pod) });
  }
  return tally;
}
