import { readFileSync, readdirSync } from "node:fs";
import { expect, test } from "vitest";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("the chart carries the CRDs exactly as they stand in crds/", () => {
  const ours = readdirSync(new URL("../../crds/", import.meta.url)).filter((f) => f.endsWith(".yaml"));
  const theirs = readdirSync(new URL("../../charts/atoll/templates/crds/", import.meta.url));
  expect(theirs.toSorted()).toEqual(ours.toSorted());
  for (const file of ours) expect(read(`charts/atoll/templates/crds/${file}`)).toBe(read(`crds/${file}`));
});
