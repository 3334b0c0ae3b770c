import { getHeapSpaceStatistics } from "node:v8";
import { expect, test, vi } from "vitest";
import { giveBackMemory } from "../../sidecar/guard/guard.ts";

const nursery = (): number =>
  getHeapSpaceStatistics().find((space) => space.space_name === "new_space")?.space_size ?? Number.NaN;

test("what a start leaves behind is given back once nothing is under way, and not before", async () => {
  const kept: object[] = [];
  for (let i = 0; i < 300_000; i++) kept.push({ i });
  const grown = nursery();
  expect(grown).toBeGreaterThan(1 << 20);
  let underWay = 1;
  const stop = giveBackMemory(() => underWay);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(nursery()).toBeGreaterThan(1 << 20);
  underWay = 0;
  await vi.waitFor(() => expect(nursery()).toBeLessThan(1 << 20), { timeout: 10_000, interval: 50 });
  stop();
  expect(kept.length).toBe(300_000);
});
