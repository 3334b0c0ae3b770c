// The first executions of the long fuzz (test/long/fuzz.ts), and that it finds what is planted.

import { expect, test } from "vitest";
import { fuzz } from "../long/fuzz.ts";
import { executionAt } from "./fuzzing.ts";

test("the policy parser and the loader of expressions end with a value or our own refusal", async () => {
  const result = await fuzz({ seed: 1, from: 0, runs: 8000 });
  expect(result.finds).toEqual([]);
  for (const kind of ["expression", "yaml", "document"]) {
    expect(result.kinds[kind]?.value, kind).toBeGreaterThan(5);
    expect(result.kinds[kind]?.refused, kind).toBeGreaterThan(5);
  }
});
test("a planted crash is found with its input", async () => {
  const { finds } = await fuzz({ seed: 2, from: 0, runs: 101, plant: "crash" });
  expect(finds).toMatchObject([{ execution: 50, input: JSON.stringify(executionAt(2, 50)) }]);
  expect(finds[0]?.what).toContain("TypeError: planted");
});
test("a planted hang is found with its input", async () => {
  const { finds } = await fuzz({ seed: 2, from: 7, runs: 11, plant: "hang" });
  expect(finds).toMatchObject([{ execution: 12, input: JSON.stringify(executionAt(2, 12)) }]);
  expect(finds[0]?.what).toContain("no end within");
});
