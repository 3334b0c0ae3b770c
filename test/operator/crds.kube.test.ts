// The schemas as the real API server judges them: each object with the word of the refusal, or "" where it is stored.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { applyCrds, startApi, yamlFolder } from "./api.ts";
import type { Api, Json } from "./api.ts";

let api: Api;
beforeAll(async () => {
  api = await startApi();
  await applyCrds(api);
});
afterAll(async () => {
  await api.stop();
});

const HASH = `sha256:${"a".repeat(64)}`;
const KEY = `ed25519:${"1".repeat(16)}`;
const SIG = "b".repeat(128);
const TIME = "2027-01-02T03:04:05.678Z";
const IMAGE = `registry.example/atoll/guardian@${HASH}`;

const bundle = {
  bundleId: "repo-agents",
  version: 1,
  layer: "P1",
  contentHash: HASH,
  conformanceLevel: "L1",
  sigs: [{ key_id: KEY, sig: SIG }],
  content: { apiVersion: "atoll.dev/policy/v1", name: "x", layer: "P1" },
};
const sidecar = {
  image: IMAGE,
  conformanceLevel: "L1",
  policyBundleRef: { bundleId: "repo-agents" },
  namespaceSelector: { matchLabels: { team: "a" } },
};
const approval = {
  approvalId: `apr_${"0".repeat(32)}`,
  pod: "agent",
  podUid: "5f0c2b3e-0000-4000-8000-000000000000",
  tool: "tool:github/create_release",
  principal: "serviceAccount:team-a/bot",
  quorum: 2,
  challengeHash: HASH,
  challenge: { type: "atoll.dev/approval-challenge/v1" },
  expiresAt: TIME,
};
const envelope = {
  envelopeId: "env_abcdefgh",
  goal: "tidy the issues",
  expiresAt: TIME,
  envelope: { goal: "tidy the issues" },
};
const shape = { class: "default", hash: HASH, guardian: { name: "atoll-guardian" }, volumes: [] };
const entry = {
  name: "strong",
  match: [{ of: "namespace", key: "team", operator: "In", values: ["a"] }],
  shapes: [shape],
};
const shapes = { sidecars: [entry] };

const KINDS = {
  PolicyBundle: { plural: "policybundles", base: bundle, name: "b" },
  GuardianSidecar: { plural: "guardiansidecars", base: sidecar, name: "s" },
  ApprovalRequest: { plural: "namespaces/default/approvalrequests", base: approval, name: "a" },
  ExecutionEnvelope: { plural: "namespaces/default/executionenvelopes", base: envelope, name: "e" },
  ShapeIndex: { plural: "shapeindexes", base: shapes, name: "cluster" },
} as const;
type Kind = keyof typeof KINDS;

const without = (o: Json, ...keys: string[]): Json =>
  Object.fromEntries(Object.entries(o).filter(([k]) => !keys.includes(k)));
const make = (kind: Kind, spec: unknown, name: string = KINDS[kind].name): Json => ({
  apiVersion: "atoll.dev/v1alpha1",
  kind,
  metadata: { name },
  spec,
});
const pathTo = (kind: Kind): string => `/apis/atoll.dev/v1alpha1/${KINDS[kind].plural}`;

type Case = readonly [what: string, kind: Kind, spec: unknown, refusal: string, name?: string];
const inRollout = (rollout: Json): Json => ({ ...sidecar, rollout });
const inIsland = (island: Json): Json => ({ ...sidecar, conformanceLevel: "L2", island });
const CREATED: readonly Case[] = [
  ["a bundle with content", "PolicyBundle", bundle, ""],
  [
    "a bundle in a ConfigMap",
    "PolicyBundle",
    {
      ...without(bundle, "content"),
      source: { configMap: { namespace: "atoll-system", name: "x", key: "y" } },
    },
    "",
  ],
  [
    "a bundle in a registry",
    "PolicyBundle",
    { ...without(bundle, "content"), source: { oci: { reference: `registry.example/p/q@${HASH}` } } },
    "",
  ],
  [
    "a bundle at a URL",
    "PolicyBundle",
    { ...without(bundle, "content"), source: { url: { url: "https://policies.example/x.json" } } },
    "",
  ],
  ["a ceiling", "PolicyBundle", { ...bundle, layer: "P0" }, ""],
  ["a bundle without signatures, where none is required", "PolicyBundle", { ...bundle, sigs: [] }, ""],
  ["an L2 bundle that expires", "PolicyBundle", { ...bundle, conformanceLevel: "L2", expiresAt: TIME }, ""],
  ["empty times", "PolicyBundle", { ...bundle, notBefore: "", expiresAt: "" }, ""],
  [
    "an L2 bundle that never expires",
    "PolicyBundle",
    { ...bundle, conformanceLevel: "L2" },
    "mandatory from level L2",
  ],
  [
    "an L3 bundle with an empty expiry",
    "PolicyBundle",
    { ...bundle, conformanceLevel: "L3", expiresAt: "" },
    "mandatory from level L2",
  ],
  [
    "a bundle that ends before it begins",
    "PolicyBundle",
    { ...bundle, notBefore: TIME, expiresAt: "2027-01-01T00:00:00.000Z" },
    "notBefore lies before",
  ],
  [
    "neither content nor source",
    "PolicyBundle",
    without(bundle, "content"),
    "exactly one of content and source",
  ],
  [
    "content and source",
    "PolicyBundle",
    { ...bundle, source: { url: { url: "https://x.example/" } } },
    "exactly one of content and source",
  ],
  [
    "an empty source",
    "PolicyBundle",
    { ...without(bundle, "content"), source: {} },
    "exactly one of configMap, oci and url",
  ],
  [
    "two sources",
    "PolicyBundle",
    {
      ...without(bundle, "content"),
      source: { url: { url: "https://x.example/" }, oci: { reference: `r.example/p@${HASH}` } },
    },
    "exactly one of configMap, oci and url",
  ],
  [
    "a registry reference by tag",
    "PolicyBundle",
    { ...without(bundle, "content"), source: { oci: { reference: "r.example/p:latest" } } },
    "reference",
  ],
  [
    "a URL without TLS",
    "PolicyBundle",
    { ...without(bundle, "content"), source: { url: { url: "http://x.example/" } } },
    "url",
  ],
  [
    "a URL with credentials",
    "PolicyBundle",
    { ...without(bundle, "content"), source: { url: { url: "https://a:b@x.example/" } } },
    "url",
  ],
  ["version 0", "PolicyBundle", { ...bundle, version: 0 }, "version"],
  ["a version that is no integer", "PolicyBundle", { ...bundle, version: 1.5 }, "version"],
  [
    "a version beyond what JSON numbers hold",
    "PolicyBundle",
    { ...bundle, version: 9007199254740992 },
    "version",
  ],
  ["an unknown layer", "PolicyBundle", { ...bundle, layer: "P2" }, "layer"],
  ["an unknown level", "PolicyBundle", { ...bundle, conformanceLevel: "L4" }, "conformanceLevel"],
  [
    "a hash in capitals",
    "PolicyBundle",
    { ...bundle, contentHash: `sha256:${"A".repeat(64)}` },
    "contentHash",
  ],
  ["a short hash", "PolicyBundle", { ...bundle, contentHash: "sha256:abc" }, "contentHash"],
  ["a bundleId with a slash", "PolicyBundle", { ...bundle, bundleId: "a/b" }, "bundleId"],
  ["an empty bundleId", "PolicyBundle", { ...bundle, bundleId: "" }, "bundleId"],
  ["no signatures member", "PolicyBundle", without(bundle, "sigs"), "sigs"],
  [
    "two signatures of one key",
    "PolicyBundle",
    {
      ...bundle,
      sigs: [
        { key_id: KEY, sig: SIG },
        { key_id: KEY, sig: "c".repeat(128) },
      ],
    },
    "Duplicate",
  ],
  [
    "a signature that is not hex",
    "PolicyBundle",
    { ...bundle, sigs: [{ key_id: KEY, sig: "z".repeat(128) }] },
    "sig",
  ],
  [
    "a key id of another kind",
    "PolicyBundle",
    { ...bundle, sigs: [{ key_id: "rsa:1111111111111111", sig: SIG }] },
    "key_id",
  ],
  [
    "a time without milliseconds",
    "PolicyBundle",
    { ...bundle, expiresAt: "2027-01-02T03:04:05Z" },
    "expiresAt",
  ],
  [
    "a time with an offset",
    "PolicyBundle",
    { ...bundle, expiresAt: "2027-01-02T03:04:05.678+01:00" },
    "expiresAt",
  ],
  ["content that is no object", "PolicyBundle", { ...bundle, content: "text" }, "content"],
  ["a sidecar", "GuardianSidecar", sidecar, ""],
  [
    "a sidecar with everything",
    "GuardianSidecar",
    {
      ...sidecar,
      ceilingRef: { bundleId: "top", version: 3 },
      podSelector: { matchExpressions: [{ key: "role", operator: "Exists" }] },
      agentContainers: ["agent"],
      resources: [
        { class: "default", cpu: "100m", memory: "128Mi" },
        { class: "large", cpu: "1", memory: "1Gi" },
      ],
      credentials: [{ name: "GITHUB_TOKEN", secretRef: { name: "github", key: "token" } }],
      durability: "ledger",
      island: {
        inPodLock: "nftables",
        networkPolicy: true,
        egress: [
          { cidr: "10.0.0.0/8", ports: [443] },
          { host: "*.docs.example", ports: [443] },
          { pods: { namespace: "tools" }, ports: [8080] },
        ],
      },
      runtimeClasses: ["runc"],
      rollout: { strategy: "Staged", percent: 20 },
      watchdog: { evict: true },
      freeze: { reason: "drill" },
    },
    "",
  ],
  ["an image by tag", "GuardianSidecar", { ...sidecar, image: "registry.example/atoll:v1" }, "image"],
  ["no image", "GuardianSidecar", without(sidecar, "image"), "image"],
  ["no policy", "GuardianSidecar", without(sidecar, "policyBundleRef"), "policyBundleRef"],
  ["no namespace selector", "GuardianSidecar", without(sidecar, "namespaceSelector"), "namespaceSelector"],
  [
    "an empty namespace selector",
    "GuardianSidecar",
    { ...sidecar, namespaceSelector: {} },
    "at least one label or expression",
  ],
  [
    "In without values",
    "GuardianSidecar",
    { ...sidecar, namespaceSelector: { matchExpressions: [{ key: "a", operator: "In" }] } },
    "In and NotIn need values",
  ],
  [
    "Exists with values",
    "GuardianSidecar",
    { ...sidecar, podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["x"] }] } },
    "In and NotIn need values",
  ],
  [
    "an unknown operator",
    "GuardianSidecar",
    { ...sidecar, podSelector: { matchExpressions: [{ key: "a", operator: "Gt", values: ["1"] }] } },
    "operator",
  ],
  ["Staged without a percentage", "GuardianSidecar", inRollout({ strategy: "Staged" }), "percent belongs to"],
  [
    "Live with a percentage",
    "GuardianSidecar",
    inRollout({ strategy: "Live", percent: 5 }),
    "percent belongs to",
  ],
  ["a percentage alone", "GuardianSidecar", inRollout({ percent: 5 }), "percent belongs to"],
  ["all of the pods staged", "GuardianSidecar", inRollout({ strategy: "Staged", percent: 100 }), "percent"],
  [
    "L2 without any isolation",
    "GuardianSidecar",
    inIsland({ inPodLock: "none", networkPolicy: false }),
    "has to isolate",
  ],
  ["L2 with NetworkPolicy alone", "GuardianSidecar", inIsland({ inPodLock: "none" }), ""],
  [
    "an egress without a place",
    "GuardianSidecar",
    inIsland({ egress: [{ ports: [443] }] }),
    "exactly one of cidr, host and pods",
  ],
  [
    "an egress with two places",
    "GuardianSidecar",
    inIsland({ egress: [{ cidr: "10.0.0.0/8", host: "a.example", ports: [443] }] }),
    "exactly one of cidr, host and pods",
  ],
  [
    "an egress without ports",
    "GuardianSidecar",
    inIsland({ egress: [{ cidr: "10.0.0.0/8", ports: [] }] }),
    "ports",
  ],
  [
    "an address range that is none",
    "GuardianSidecar",
    inIsland({ egress: [{ cidr: "10.0.0.0/99", ports: [443] }] }),
    "cidr",
  ],
  [
    "a proof older than the guardian may wait",
    "GuardianSidecar",
    inIsland({ probe: { maxAgeSeconds: 60 } }),
    "maxAgeSeconds",
  ],
  [
    "two size classes of one name",
    "GuardianSidecar",
    {
      ...sidecar,
      resources: [
        { class: "a", cpu: "1", memory: "1Gi" },
        { class: "a", cpu: "2", memory: "1Gi" },
      ],
    },
    "Duplicate",
  ],
  [
    "a size without memory",
    "GuardianSidecar",
    { ...sidecar, resources: [{ class: "a", cpu: "1" }] },
    "memory",
  ],
  [
    "a credential whose name is no name",
    "GuardianSidecar",
    { ...sidecar, credentials: [{ name: "a b", secretRef: { name: "x", key: "y" } }] },
    "name",
  ],
  ["an unknown durability", "GuardianSidecar", { ...sidecar, durability: "none" }, "durability"],
  ["a freeze without a reason", "GuardianSidecar", { ...sidecar, freeze: {} }, "reason"],
  ["a name with a dot", "GuardianSidecar", sidecar, "at most 63 characters, no dot", "a.b"],
  ["an approval", "ApprovalRequest", approval, ""],
  ["an approval without its challenge", "ApprovalRequest", without(approval, "challenge"), "challenge"],
  ["an approval id of another kind", "ApprovalRequest", { ...approval, approvalId: "ses_1" }, "approvalId"],
  ["a quorum of none", "ApprovalRequest", { ...approval, quorum: 0 }, "quorum"],
  ["a tool that is no name", "ApprovalRequest", { ...approval, tool: "rm -rf" }, "tool"],
  ["an envelope", "ExecutionEnvelope", envelope, ""],
  [
    "an envelope id of the wrong form",
    "ExecutionEnvelope",
    { ...envelope, envelopeId: "env_x" },
    "envelopeId",
  ],
  ["an envelope without a goal", "ExecutionEnvelope", { ...envelope, goal: "" }, "goal"],
  ["an envelope that never ends", "ExecutionEnvelope", without(envelope, "expiresAt"), "expiresAt"],
  ["the index of shapes", "ShapeIndex", shapes, ""],
  ["a second index", "ShapeIndex", shapes, "the one ShapeIndex is named cluster", "other"],
  ["an index that names a sidecar twice", "ShapeIndex", { sidecars: [entry, entry] }, "Duplicate"],
  [
    "an index with an unknown operator",
    "ShapeIndex",
    { sidecars: [{ ...entry, match: [{ of: "namespace", key: "a", operator: "Gt" }] }] },
    "operator",
  ],
  ["a sidecar without shapes", "ShapeIndex", { sidecars: [{ ...entry, shapes: [] }] }, "shapes"],
  [
    "a lock without its gate",
    "ShapeIndex",
    { sidecars: [{ ...entry, shapes: [{ ...shape, lock: {} }] }] },
    "lock and gate come together",
  ],
];

describe("objects of 8.1 as the API server judges them", () => {
  for (const [what, kind, spec, refusal, name] of CREATED)
    test(what, async () => {
      const reply = await api.call(
        "POST",
        `${pathTo(kind)}?dryRun=All&fieldValidation=Strict`,
        make(kind, spec, name),
      );
      if (refusal === "") expect(reply.message).toBe("");
      else {
        expect(reply.status).toBe(422);
        expect(reply.message).toContain(refusal);
      }
    });

  test("the table holds at least sixty objects", () => {
    expect(CREATED.length).toBeGreaterThanOrEqual(60);
  });
});

type Update = readonly [what: string, kind: Kind, before: Json, after: Json, refusal: string];
const UPDATED: readonly Update[] = [
  [
    "a signature added",
    "PolicyBundle",
    bundle,
    { ...bundle, sigs: [...bundle.sigs, { key_id: `ed25519:${"2".repeat(16)}`, sig: SIG }] },
    "",
  ],
  [
    "the content moved to a ConfigMap",
    "PolicyBundle",
    bundle,
    { ...without(bundle, "content"), source: { configMap: { namespace: "a", name: "b", key: "c" } } },
    "",
  ],
  ["a signature removed", "PolicyBundle", bundle, { ...bundle, sigs: [] }, "never changed or removed"],
  [
    "a signature changed",
    "PolicyBundle",
    bundle,
    { ...bundle, sigs: [{ key_id: KEY, sig: "c".repeat(128) }] },
    "never changed or removed",
  ],
  ["another bundleId", "PolicyBundle", bundle, { ...bundle, bundleId: "other" }, "bundleId is immutable"],
  ["another version", "PolicyBundle", bundle, { ...bundle, version: 2 }, "version is immutable"],
  ["another layer", "PolicyBundle", bundle, { ...bundle, layer: "P0" }, "layer is immutable"],
  [
    "another hash",
    "PolicyBundle",
    bundle,
    { ...bundle, contentHash: `sha256:${"c".repeat(64)}` },
    "contentHash is immutable",
  ],
  [
    "another level",
    "PolicyBundle",
    bundle,
    { ...bundle, conformanceLevel: "L2", expiresAt: TIME },
    "conformanceLevel is immutable",
  ],
  ["an expiry added", "PolicyBundle", bundle, { ...bundle, expiresAt: TIME }, "expiresAt is immutable"],
  ["an expiry removed", "PolicyBundle", { ...bundle, expiresAt: TIME }, bundle, "expiresAt is immutable"],
  [
    "an expiry moved",
    "PolicyBundle",
    { ...bundle, expiresAt: TIME },
    { ...bundle, expiresAt: "2028-01-02T03:04:05.678Z" },
    "expiresAt is immutable",
  ],
  [
    "a beginning added",
    "PolicyBundle",
    bundle,
    { ...bundle, notBefore: "2026-01-02T03:04:05.678Z" },
    "notBefore is immutable",
  ],
  [
    "a sidecar's policy changed",
    "GuardianSidecar",
    sidecar,
    { ...sidecar, policyBundleRef: { bundleId: "other" } },
    "",
  ],
  [
    "an approval's tool changed",
    "ApprovalRequest",
    approval,
    { ...approval, tool: "tool:a/b" },
    "spec is immutable",
  ],
  [
    "an approval's quorum lowered",
    "ApprovalRequest",
    approval,
    { ...approval, quorum: 1 },
    "spec is immutable",
  ],
  [
    "an envelope's goal changed",
    "ExecutionEnvelope",
    envelope,
    { ...envelope, goal: "other" },
    "an envelope is immutable",
  ],
  [
    "an envelope prolonged",
    "ExecutionEnvelope",
    envelope,
    { ...envelope, expiresAt: "2028-01-02T03:04:05.678Z" },
    "an envelope is immutable",
  ],
  ["an envelope revoked", "ExecutionEnvelope", envelope, { ...envelope, revoked: { reason: "over" } }, ""],
  [
    "a revocation lifted",
    "ExecutionEnvelope",
    { ...envelope, revoked: { reason: "over" } },
    envelope,
    "a revocation is final",
  ],
];

describe("changes of 8.1 as the API server judges them", () => {
  for (const [what, kind, before, after, refusal] of UPDATED)
    test(what, async () => {
      const name = `u${UPDATED.findIndex((u) => u[0] === what)}`;
      const created = await api.call(
        "POST",
        `${pathTo(kind)}?fieldValidation=Strict`,
        make(kind, before, name),
      );
      expect(created.message).toBe("");
      const meta = created.body["metadata"] as Json;
      const reply = await api.call("PUT", `${pathTo(kind)}/${name}`, {
        ...make(kind, after, name),
        metadata: meta,
      });
      if (refusal === "") expect(reply.message).toBe("");
      else {
        expect(reply.status).toBe(422);
        expect(reply.message).toContain(refusal);
      }
    });
});

interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Record<string, Schema>;
  readonly items?: Schema;
}
interface Crd {
  readonly spec: {
    readonly names: { readonly kind: string; readonly categories: string[] };
    readonly versions: readonly {
      readonly schema: { readonly openAPIV3Schema: Schema };
      readonly additionalPrinterColumns: readonly { readonly name: string }[];
    }[];
  };
}
const CRDS = yamlFolder("crds") as unknown as Crd[];

const undescribed = (schema: Schema, path: string): string[] => [
  ...(schema.description === undefined && !path.endsWith("[]") ? [path] : []),
  ...Object.entries(schema.properties ?? {}).flatMap(([k, v]) => undescribed(v, `${path}.${k}`)),
  ...(schema.items === undefined ? [] : undescribed(schema.items, `${path}[]`)),
];

describe("what people see", () => {
  test("every field has a description for kubectl explain", () => {
    for (const crd of CRDS)
      expect(undescribed(crd.spec.versions[0]?.schema.openAPIV3Schema ?? {}, crd.spec.names.kind)).toEqual(
        [],
      );
    expect(undescribed({ description: "x", properties: { a: {} } }, "planted")).toEqual(["planted.a"]);
  });
  test("the columns are the stated ones", async () => {
    const columns = async (kind: Kind): Promise<string[]> => {
      const { text } = await table(pathTo(kind));
      return (JSON.parse(text) as { columnDefinitions: { name: string }[] }).columnDefinitions
        .map((c) => c.name)
        .slice(1);
    };
    expect(await columns("PolicyBundle")).toEqual([
      "Bundle",
      "Version",
      "Layer",
      "Level",
      "Active",
      "Pods",
      "Age",
    ]);
    expect(await columns("GuardianSidecar")).toEqual(["Level", "Bundle", "Pods", "Locked", "Ready", "Age"]);
  });
  test("every kind is in the category atoll", () => {
    expect(CRDS.length).toBe(5);
    for (const crd of CRDS) expect(crd.spec.names.categories).toEqual(["atoll"]);
  });
});

async function table(path: string): Promise<{ text: string }> {
  const { request } = await import("node:https");
  const { readFileSync } = await import("node:fs");
  const { plane } = api;
  return new Promise((resolve, reject) => {
    request(
      `${plane.url}${path}`,
      {
        ca: plane.caPem,
        cert: readFileSync(plane.certificateFile),
        key: readFileSync(plane.keyFile),
        headers: { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" },
      },
      (response) => {
        let body = "";
        response.on("data", (part: Buffer) => (body += part.toString("utf8")));
        response.on("end", () => resolve({ text: body }));
      },
    )
      .on("error", reject)
      .end();
  });
}
