// Decoder and rewrite over damaged modules: a refusal or a valid result, never anything else.

import { expect, test } from "vitest";
import { FIXTURES } from "./fixtures.ts";
import { tryMutants } from "./mutants.ts";

test("five thousand mutants give refusals or valid results, and whatever is admitted ends", async () => {
  const seeds = await Promise.all(FIXTURES.map((fixture) => fixture.build()));
  const counts = tryMutants(seeds, 5_000, 1);
  expect(counts.faults).toEqual([]);
  // Every kind of mutant has been met, or the test would show nothing.
  expect(counts.admitted).toBeGreaterThan(100);
  expect(counts.onlyEngine).toBeGreaterThan(10);
  expect(counts.ran).toBe(counts.admitted);
});
