// Pod Security on a real API server: what we put into a pod is of level baseline but for the lock's NET_ADMIN, and of level
// restricted without the lock.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { SidecarSpec } from "../../operator/kinds/kinds.ts";
import { apply, until } from "../operator/api.ts";
import type { Api, Reply } from "../operator/api.ts";
import { namespace, sidecarSpec } from "../operator/shapes.ts";
import { bundle, pod, startWhole } from "../operator/whole.ts";
import type { Whole } from "../operator/whole.ts";

let whole: Whole;
let api: Api;
/** One namespace for each level and layout, so that a pod falls under exactly one of each. */
const levels = ["privileged", "baseline", "restricted"] as const;
const layouts = ["nftables", "none"] as const;

const sidecar = (layout: (typeof layouts)[number]): SidecarSpec =>
  sidecarSpec({ namespaceSelector: { matchLabels: { layout } }, island: { inPodLock: layout } });
const create = (level: string, layout: string, spec: object = {}): Promise<Reply> => {
  const plain = pod(`p-${level}-${layout}`) as { spec: object };
  return api.call("POST", `/api/v1/namespaces/${level}-${layout}/pods?dryRun=All`, {
    ...plain,
    spec: { ...plain.spec, ...spec },
  });
};

beforeAll(async () => {
  whole = await startWhole({ unlocked: "none" });
  api = whole.api;
  await apply(api, bundle({ version: 1 }));
  for (const layout of layouts)
    await apply(api, {
      apiVersion: "atoll.dev/v1alpha1",
      kind: "GuardianSidecar",
      metadata: { name: layout },
      spec: sidecar(layout),
    });
  for (const level of levels)
    for (const layout of layouts)
      await namespace(api, `${level}-${layout}`, {
        "atoll.dev/governed": "true",
        "pod-security.kubernetes.io/enforce": level,
        layout,
      });
  await until("the webhook is ready", async () => Promise.resolve(whole.webhook.ready()));
  for (const layout of layouts)
    await until(`a pod of layout ${layout} is admitted where nothing is asked`, async () => {
      return (await create("privileged", layout)).status === 201;
    });
});
afterAll(() => whole.stop());

test("with the lock, baseline finds the lock's NET_ADMIN and nothing else", async () => {
  const { message } = await create("baseline", "nftables");
  expect(message).toContain(
    'violates PodSecurity "baseline:latest": non-default capabilities (container "atoll-lock" must not include "NET_ADMIN" in securityContext.capabilities.add)',
  );
  // One finding and no second one after it.
  expect(message.split("baseline:latest")[1]?.match(/\(container/g)).toHaveLength(1);
});

test("with the lock, restricted finds the same and nothing else", async () => {
  const { message } = await create("restricted", "nftables");
  expect(message).toContain(
    'violates PodSecurity "restricted:latest": unrestricted capabilities (container "atoll-lock" must not include "NET_ADMIN" in securityContext.capabilities.add)',
  );
  expect(message.split("restricted:latest")[1]?.match(/container/g)).toHaveLength(1);
});

test("without the lock, a pod whose agent is plain passes baseline and restricted", async () => {
  for (const level of ["baseline", "restricted"]) {
    const reply = await create(level, "none");
    expect(reply.message).toBe("");
    const spec = reply.body["spec"] as { initContainers: { name: string }[] };
    expect(spec.initContainers.map((c) => c.name)).toEqual(["atoll-guardian"]);
  }
});

test("the same pod, not governed, is refused by restricted: the level is enforced here, and met by what is injected", async () => {
  await namespace(api, "plain", { "pod-security.kubernetes.io/enforce": "restricted" });
  const { message } = await api.call("POST", "/api/v1/namespaces/plain/pods?dryRun=All", pod("plain"));
  expect(message).toContain('violates PodSecurity "restricted:latest"');
});
