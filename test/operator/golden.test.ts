// pod.yaml → what the injector says of it, written down. Run with ATOLL_UPDATE_GOLDEN=1 to write them anew, and read the diff.
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { inject } from "../../operator/inject/inject.ts";
import type { Json } from "../../operator/kinds/kinds.ts";
import { applyPatch } from "./apply-patch.ts";
import { NAMESPACE, pureEntry } from "./pure.ts";

const FOLDER = new URL("../golden/inject/", import.meta.url);
const entry = pureEntry();
const here = NAMESPACE;

/** Our own containers and volumes by name alone: what they are is written down in the shape's own test. */
const known = new Map<string, string>(
  entry.shapes.flatMap((s) => [
    ...(["lock", "guardian", "gate"] as const).map((k): [string, string] => [
      JSON.stringify(s[k]),
      `${s.class} ${k}`,
    ]),
    ...s.volumes.map((v): [string, string] => [JSON.stringify(v), `volume ${JSON.stringify(v["name"])}`]),
  ]),
);
const readable = (value: unknown): unknown => {
  const name = known.get(JSON.stringify(value));
  if (name !== undefined) return `<${name}>`;
  if (Array.isArray(value)) return value.map(readable);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, readable(v)]));
};

const names = readdirSync(FOLDER)
  .filter((f) => f.endsWith(".pod.yaml"))
  .map((f) => f.replace(".pod.yaml", ""));

describe("the injector on written-down pods", () => {
  test("there are at least forty of them", () => expect(names.length).toBeGreaterThanOrEqual(40));
  for (const name of names)
    test(name, () => {
      const pod = parse(readFileSync(new URL(`${name}.pod.yaml`, FOLDER), "utf8")) as Json;
      const before = structuredClone(pod);
      const result = inject(pod, here, { sidecars: [entry] });
      expect(pod, "the pod itself is not touched").toEqual(before);
      const file = new URL(`${name}.patch.json`, FOLDER);
      const text = `${JSON.stringify(readable(result), null, 2)}\n`;
      if (process.env["ATOLL_UPDATE_GOLDEN"] === "1" || !existsSync(file)) writeFileSync(file, text);
      expect(text).toBe(readFileSync(file, "utf8"));
      if (result.outcome !== "inject") return;
      const after = applyPatch(pod, result.patch);
      expect(inject(after, here, { sidecars: [entry] }), "the second pass finds nothing to do").toMatchObject(
        {
          outcome: "inject",
          patch: [],
        },
      );
    });
});
