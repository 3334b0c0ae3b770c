import { expect, test } from "vitest";
import { createRemembered } from "../../sidecar/journal/remembered.ts";

test("the latest are remembered and what was before them is forgotten", () => {
  const three = createRemembered<string>(3);
  for (const value of ["a", "b", "c"]) three.add(value);
  expect(["a", "b", "c", "d"].map((v) => three.has(v))).toEqual([true, true, true, false]);
  three.add("d");
  expect(["a", "b", "c", "d"].map((v) => three.has(v))).toEqual([false, true, true, true]);
  three.clear();
  expect(three.has("d")).toBe(false);
});

test("what is added without end takes no more place and is still told apart", () => {
  const many = createRemembered<number>(1_000);
  for (let i = 0; i < 100_000; i++) many.add(i);
  expect(many.has(98_999)).toBe(false);
  expect(many.has(99_000)).toBe(true);
});

test("of those with a size no more are remembered than may be together, and the last one always", () => {
  const some = createRemembered<string>(10, 100);
  some.add("a", 60);
  some.add("b", 30);
  some.add("b", 30);
  expect([some.has("a"), some.has("b")]).toEqual([true, true]);
  some.add("c", 20);
  expect(["a", "b", "c"].map((v) => some.has(v))).toEqual([false, true, true]);
  some.add("d", 1_000);
  expect(["b", "c", "d"].map((v) => some.has(v))).toEqual([false, false, true]);
});
