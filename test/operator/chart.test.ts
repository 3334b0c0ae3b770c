import { readFileSync, readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { buildShapes } from "../../operator/shape/shape.ts";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("the chart carries the CRDs exactly as they stand in crds/", () => {
  const ours = readdirSync(new URL("../../crds/", import.meta.url)).filter((f) => f.endsWith(".yaml"));
  const theirs = readdirSync(new URL("../../charts/atoll/templates/crds/", import.meta.url));
  expect(theirs.toSorted()).toEqual(ours.toSorted());
  for (const file of ours) expect(read(`charts/atoll/templates/crds/${file}`)).toBe(read(`crds/${file}`));
});

test("the installer's policy admits exactly the environment that our containers have", () => {
  const settings = { trustRootsSha256: "", controlUrl: "", canary: "" };
  const spec = {
    image: "",
    conformanceLevel: "L1",
    policyBundleRef: { bundleId: "x" },
    namespaceSelector: {},
  } as const;
  const shapes = [spec, { ...spec, island: { inPodLock: "none" } } as const].flatMap((s) =>
    buildShapes("x", s, settings),
  );
  const ours = [...JSON.stringify(shapes).matchAll(/"name":"([A-Z_0-9]+)"/g)].map(([, name]) => name);
  const [, names = ""] =
    /- name: names\n\s+expression: >-\n([^]*?)\n {2}validations:/.exec(
      read("charts/atoll/admission/roots.yaml"),
    ) ?? [];
  const admitted = [...names.matchAll(/'([A-Z_0-9]+)'/g)].map(([, name]) => name);
  expect(admitted.length).toBe(new Set(admitted).size);
  expect(new Set(admitted)).toEqual(new Set(ours));
});
