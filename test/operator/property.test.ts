import fc from "fast-check";
import { expect, test } from "vitest";
import { inject } from "../../operator/inject/inject.ts";
import { pureEntry, NAMESPACE } from "./pure.ts";
import { applyPatch } from "./apply-patch.ts";
import { anyPod } from "./pods.ts";

const entry = pureEntry();
test("no pod crashes the injector, the second pass is empty, unknown members and the pod itself stay untouched", () => {
  let injected = 0;
  fc.assert(
    fc.property(anyPod, (raw) => {
      const pod = JSON.parse(JSON.stringify(raw));
      const before = structuredClone(pod);
      const result = inject(pod, NAMESPACE, { sidecars: [entry] });
      expect(pod).toEqual(before);
      if (result.outcome !== "inject") return;
      injected++;
      const after = applyPatch(pod, result.patch);
      expect(inject(after, NAMESPACE, { sidecars: [entry] })).toMatchObject({ outcome: "inject", patch: [] });
      expect(after["extra"]).toEqual(pod["extra"]);
      expect(after["metadata"]["extra"]).toEqual(pod["metadata"]["extra"]);
      expect(after["spec"]["extra"]).toEqual(pod["spec"]["extra"]);
      const containers: { name: string; extra?: unknown }[] = pod["spec"]["containers"];
      for (const [i, c] of containers.entries()) {
        expect(after["spec"]["containers"][i]["name"]).toBe(c.name);
        expect(after["spec"]["containers"][i]["extra"]).toEqual(c.extra);
      }
    }),
    { numRuns: 500 },
  );
  expect(injected).toBeGreaterThan(20);
});
