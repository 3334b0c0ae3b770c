// atoll-shape in a real API server, with no webhook in the cluster at all.
import { afterAll, beforeAll, expect, test } from "vitest";
import { inject } from "../../operator/inject/inject.ts";
import type { IndexEntry, JsonMap } from "../../operator/kinds/kinds.ts";
import { startApi } from "./api.ts";
import type { Api } from "./api.ts";
import { applyPatch } from "./apply-patch.ts";
import { enforce, entryFrom, ground, namespace, sidecarSpec, storeIndex } from "./shapes.ts";

let api: Api;
let entry: IndexEntry;
const LABELS = { "atoll.dev/governed": "true", team: "a" };
const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "x" },
  spec: { containers: [{ name: "agent", image: "agent:1", securityContext: { runAsUser: 1000 } }] },
};
beforeAll(async () => {
  api = await startApi();
  await ground(api);
  entry = await entryFrom(api, "strong", sidecarSpec());
  await storeIndex(api, [entry]);
  await enforce(api);
  await namespace(api, "team-a", LABELS);
});
afterAll(() => api.stop());

test("a pod without the guardian is refused, one with it is admitted", async () => {
  const bare = await api.call("POST", "/api/v1/namespaces/team-a/pods", pod);
  expect(bare.status).toBe(422);
  expect(bare.message).toContain("atoll-shape");
  const seen = (await api.call("POST", "/api/v1/namespaces/atoll-shape/pods?dryRun=All", pod))
    .body as JsonMap;
  const defaulted = { ...seen, metadata: { name: "x" } };
  const injected = inject(defaulted, { name: "team-a", labels: LABELS }, { sidecars: [entry] });
  if (injected.outcome !== "inject") throw new Error(injected.message);
  const good = await api.call(
    "POST",
    "/api/v1/namespaces/team-a/pods",
    applyPatch(defaulted, injected.patch),
  );
  expect(good.message).toBe("");
});
