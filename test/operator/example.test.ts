// The example of a governed namespace is one: the API takes it, and it fits the policy that it names.
import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { parseAllDocuments } from "yaml";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const objects = ["sidecar", "agent"].flatMap((name) =>
  parseAllDocuments(read(`examples/cluster/${name}.yaml`)).map((d) => d.toJS()),
);
const of = (kind: string) => objects.find((o) => o.kind === kind);
const { spec } = of("GuardianSidecar");
const policy = parseAllDocuments(read("examples/policies/research/policy.yaml"))[0]?.toJS();

/** A structural schema with every object closed, as the API server prunes: what is not known is lost there. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== "object" || schema === null) return schema;
  const own = Object.fromEntries(Object.entries(schema).map(([k, v]) => [k, closed(v)]));
  return "properties" in own && !("additionalProperties" in own)
    ? { ...own, additionalProperties: false }
    : own;
}

test("the sidecar of the example is one, and a misspelt member of it is found", () => {
  const [crd] = parseAllDocuments(read("crds/guardiansidecars.yaml")).map((d) => d.toJS());
  const schema = closed(crd.spec.versions[0].schema.openAPIV3Schema.properties.spec);
  const judge = new Ajv2020({ strict: false, validateFormats: false }).compile(schema as object);
  expect([judge(spec), judge.errors]).toEqual([true, null]);
  expect(judge({ ...spec, credentails: [] })).toBe(false);
});

test("it has the credentials and the destinations that its policy names, in the namespace of its agent", () => {
  const connectors: readonly { credential?: string; url?: string; destinations?: string[] }[] = Object.values(
    policy.connectors,
  );
  const needed = connectors.flatMap((c) => [
    ...(c.url === undefined ? [] : [`${new URL(c.url).hostname}:443`]),
    ...(c.destinations ?? []),
  ]);
  const opened = spec.island.egress.flatMap((e: { host: string; ports: number[] }) =>
    e.ports.map((port) => `${e.host}:${port}`),
  );
  expect(new Set(opened)).toEqual(new Set(needed));
  const names = spec.credentials.map((c: { name: string }) => c.name);
  expect(new Set(names)).toEqual(new Set(connectors.flatMap((c) => c.credential ?? [])));
  expect(spec.policyBundleRef.bundleId).toBe(policy.name);
  const pod = of("Pod");
  expect(of("Namespace").metadata).toEqual({
    name: pod.metadata.namespace,
    labels: { "atoll.dev/governed": "true" },
  });
  expect(Object.values(spec.namespaceSelector.matchLabels)).toEqual([pod.metadata.namespace]);
  expect(pod.spec.serviceAccountName).toBe(policy.profiles[0].match.serviceAccount);
});
