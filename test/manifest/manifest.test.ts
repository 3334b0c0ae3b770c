import { expect, test } from "vitest";
import { canonicalArgs, pinSchema } from "../../kernel/manifest/manifest.ts";

test("a value is judged by its own members alone", () => {
  const pinned = pinSchema({ type: "object", required: ["constructor"] });
  expect(pinned.validate({ constructor: 1 })).toBeNull();
  expect(pinned.validate({})).toMatchObject({ path: "" });
});
test("the fault names the place", () => {
  const pinned = pinSchema({ type: "object", properties: { n: { type: "integer" } } });
  expect(pinned.validate({ n: "x" })).toMatchObject({ path: "/n", message: "must be integer" });
});
test("arguments get one canonical text and its hash", () => {
  expect(canonicalArgs({ b: 1, a: 2 }).text).toBe('{"a":2,"b":1}');
});
