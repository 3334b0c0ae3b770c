// Every way in which a bundle can be bad, as a real API server stores it and the operator judges it: each with its
// condition, reason, Event and metric, and guardians keep the last good one.
import { afterAll, beforeAll, expect, test } from "vitest";
import { apply, until } from "./api.ts";
import type { Api, Json } from "./api.ts";
import { sidecarSpec } from "./shapes.ts";
import { bundle, ceilingKey, makeKey, policyContent, startWhole } from "./whole.ts";
import type { BundleParts, Whole } from "./whole.ts";

let whole: Whole;
let api: Api;
const stranger = makeKey();
const soon = (ms: number): string => new Date(Date.now() + ms).toISOString();

beforeAll(async () => {
  // Without the validating webhook, for that one would not let these through.
  whole = await startWhole({ validate: false });
  api = whole.api;
  await apply(
    api,
    bundle({
      id: "house-rules",
      version: 1,
      signers: [ceilingKey.signer],
      head: { layer: "P0" },
      content: {
        apiVersion: "atoll.dev/policy/v1",
        name: "house-rules",
        layer: "P0",
        ceiling: { maxEffect: "E2", budgets: { session: { calls: 10 } } },
      },
    }),
  );
  for (const version of [1, 2]) await apply(api, bundle({ version }));
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: { ...sidecarSpec(), ceilingRef: { bundleId: "house-rules" } },
  });
  await until("version 2 is with the guardians", async () => (await distributed()) === 2);
  await until("and committed", async () => {
    const { body } = await api.call("GET", "/apis/atoll.dev/v1alpha1/policybundles/repo-agents-v2");
    return (body["status"] as { highWater?: { version: number } }).highWater?.version === 2;
  });
});
afterAll(() => whole.stop());

async function distributed(): Promise<number> {
  const { body } = await api.call("GET", "/api/v1/namespaces/team-a/configmaps/atoll-policy-strong");
  const text = ((body["data"] ?? {}) as Record<string, string>)["bundle.json"];
  return text === undefined ? 0 : (JSON.parse(text) as { version: number }).version;
}
const refusals = async (reason: string): Promise<number> => {
  const text = await whole.controllers.registry.metrics();
  return Number(
    new RegExp(`atoll_bundles_refused_total\\{reason="${reason}"\\} (\\d+)`).exec(text)?.[1] ?? 0,
  );
};
const spec = (object: Json): Json => object["spec"] as Json;
const edited = (parts: BundleParts, change: (spec: Json) => void): Json => {
  const object = structuredClone(bundle(parts));
  change(spec(object));
  return object;
};

test("the good ones: the newest is active, the older superseded, the ceiling active, all say which hash was verified", async () => {
  expect(await whole.condition("policybundles/repo-agents-v2", "Active")).toMatchObject({
    status: "True",
    reason: "Active",
  });
  expect(await whole.condition("policybundles/repo-agents-v1", "Superseded")).toMatchObject({
    status: "True",
    reason: "NewerVersion",
  });
  expect(await whole.condition("policybundles/house-rules-v1", "Active")).toMatchObject({ status: "True" });
  const { body } = await api.call("GET", "/apis/atoll.dev/v1alpha1/policybundles/repo-agents-v2");
  const status = body["status"] as { verifiedHash: string; highWater: { version: number } };
  expect(status.verifiedHash).toBe(spec(body)["contentHash"]);
  expect(status.highWater.version).toBe(2);
});

type Bad = readonly [what: string, object: () => Json, condition: string, reason: string, words: string];
const BAD: readonly Bad[] = [
  [
    "tampered content",
    () =>
      edited({ version: 3, name: "tampered" }, (s) => {
        s["content"] = policyContent("another");
      }),
    "Verified",
    "HashMismatch",
    "hash",
  ],
  [
    "no signature at all",
    () =>
      edited({ version: 4, name: "unsigned" }, (s) => {
        s["sigs"] = [];
      }),
    "Verified",
    "Unsigned",
    "policy",
  ],
  [
    "a stranger's signature",
    () => bundle({ version: 5, name: "stranger", signers: [stranger.signer] }),
    "Verified",
    "Unsigned",
    "policy",
  ],
  [
    "a signature moved from another bundle",
    () =>
      edited({ version: 6, name: "moved" }, (s) => {
        s["sigs"] = spec(bundle({ version: 2 }))["sigs"];
      }),
    "Verified",
    "SignatureInvalid",
    "",
  ],
  [
    "a ceiling key under a policy",
    () => bundle({ version: 7, name: "wrong-role", signers: [ceilingKey.signer] }),
    "Verified",
    "WrongRole",
    "ceiling",
  ],
  [
    "a version below the committed one",
    () => bundle({ version: 1, name: "rolled-back", content: policyContent("old") }),
    "Verified",
    "RolledBack",
    "2",
  ],
  [
    "the committed version with other content",
    () => bundle({ version: 2, name: "equivocating", content: policyContent("other") }),
    "Verified",
    "Equivocation",
    "",
  ],
  [
    "an end in the past",
    () => bundle({ version: 8, name: "expired", head: { expiresAt: soon(-1000) } }),
    "Verified",
    "Expired",
    "",
  ],
  [
    "a beginning in the future",
    () => bundle({ version: 10, name: "early", head: { notBefore: soon(3_600_000) } }),
    "Verified",
    "NotYetValid",
    "",
  ],
  [
    "more than its ceiling",
    () =>
      bundle({
        version: 11,
        name: "above",
        content: policyContent("above", {
          profiles: [{ match: { serviceAccount: "x" }, toolsets: [], budgets: { session: { calls: 11 } } }],
        }),
      }),
    "Compiled",
    "AboveCeiling",
    "calls",
  ],
  [
    "an expression that names nothing",
    () =>
      bundle({
        version: 12,
        name: "uncompilable",
        content: policyContent("bad", {
          rules: [{ id: "r", tools: ["tool:calc/*"], when: "nothing.there == 1", then: "allow" }],
        }),
      }),
    "Compiled",
    "CompileFailed",
    "nothing",
  ],
  [
    "a field that no policy has",
    () => bundle({ version: 13, name: "foreign", content: policyContent("foreign", { colour: "red" }) }),
    "Compiled",
    "CompileFailed",
    "colour",
  ],
  [
    "a ceiling's content in a policy",
    () =>
      bundle({
        version: 14,
        name: "layered",
        content: { apiVersion: "atoll.dev/policy/v1", name: "l", layer: "P0", ceiling: { maxEffect: "E1" } },
      }),
    "Compiled",
    "LayerMismatch",
    "P0",
  ],
  [
    "content in a ConfigMap that is not there",
    () =>
      edited({ version: 15, name: "missing" }, (s) => {
        delete s["content"];
        s["source"] = { configMap: { namespace: "default", name: "nowhere", key: "bundle" } };
      }),
    "Fetched",
    "NotFound",
    "nowhere",
  ],
];
for (const [what, object, type, reason, words] of BAD)
  test(`${what} is ${reason}: condition, Event, metric; the guardians keep version 2`, async () => {
    const before = await refusals(reason);
    const stored = object();
    const { name } = stored["metadata"] as { name: string };
    expect(
      (await api.call("POST", "/apis/atoll.dev/v1alpha1/policybundles", stored)).message,
      "it is stored",
    ).toBe("");
    const path = `policybundles/${name}`;
    await until("it is judged", async () => (await whole.condition(path, type))["status"] !== undefined);
    const condition = await whole.condition(path, type);
    expect(condition).toMatchObject({ status: "False", reason });
    expect(condition["message"]).toContain(words);
    expect(await whole.condition(path, "Active")).toMatchObject({ status: "False", reason });
    await until("an Event tells it", async () => {
      const { body } = await api.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events");
      return (body["items"] as Json[]).some(
        (e) =>
          e["reason"] === reason &&
          (e["regarding"] as { name: string }).name === name &&
          e["type"] === "Warning",
      );
    });
    expect(await refusals(reason)).toBe(before + 1);
    expect(await whole.condition("policybundles/repo-agents-v2", "Active")).toMatchObject({ status: "True" });
    expect(await whole.condition("guardiansidecars/strong", "PolicyActive")).toMatchObject({
      status: "True",
      message: "repo-agents-v2 version 2",
    });
    expect(await distributed()).toBe(2);
  });

test("a bundle that ends while it is active stops being active, and what guardians have stays for them to judge", async () => {
  await apply(api, bundle({ version: 16, name: "short", head: { expiresAt: soon(2500) } }));
  await until("it is with the guardians", async () => (await distributed()) === 16);
  await until(
    "it has ended",
    async () => (await whole.condition("policybundles/short", "Verified"))["reason"] === "Expired",
  );
  await until("the sidecar says so", async () => {
    const condition = await whole.condition("guardiansidecars/strong", "PolicyActive");
    return condition["status"] === "False" && condition["reason"] === "BundleNotActive";
  });
  // An older version is not taken instead: that would be a rollback by waiting.
  expect(await distributed()).toBe(16);
  expect(await whole.condition("policybundles/repo-agents-v2", "Active")).toMatchObject({ status: "False" });
});

test("a version above all refused ones becomes active: none of them has raised the high-water mark", async () => {
  await apply(api, bundle({ version: 17 }));
  await until("it is with the guardians", async () => (await distributed()) === 17);
});
