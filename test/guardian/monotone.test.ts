// What narrows never opens: for any call, facts and policy, a stricter policy and a missing fact turn nothing that is
// not allowed into what is.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { decide } from "../../kernel/guardian/guardian.ts";
import { callOf } from "./sample.ts";
import { factsIn, policyOf, world } from "./worlds.ts";

/** The same in every run; with ATOLL_RUNS above ten thousand a longer look, at other worlds each time. */
const NUMBER = Number(process.env["ATOLL_RUNS"] ?? 10_000);
const RUNS = NUMBER > 10_000 ? { numRuns: NUMBER } : { numRuns: NUMBER, seed: 26 };

let allowed = 0;
let opened = 0;
test("a deny rule, a forbidden effect or a narrower layer never opens what was closed", () => {
  fc.assert(
    fc.property(world, (w) => {
      const wide = policyOf(w.base, -1);
      const narrow = policyOf(w.base, w.narrowing);
      if (wide === null || narrow === null) return;
      const call = callOf(w.target, w.args);
      const before = decide(call, wide, factsIn(w, wide)).verdict;
      const after = decide(call, narrow, factsIn(w, narrow)).verdict;
      if (before === "ALLOW") allowed++;
      if (before === "ALLOW" && after !== "ALLOW") opened++;
      expect(after === "ALLOW" && before !== "ALLOW").toBe(false);
    }),
    RUNS,
  );
  // The property is about something: both happen often.
  expect(allowed).toBeGreaterThan(NUMBER / 100);
  expect(opened).toBeGreaterThan(NUMBER / 200);
});

/** Every member that the contract of the facts names, at any depth; what people name freely (labels) is content. */
function members(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([k, v]) => {
    const here = [...path, k];
    const own = Array.isArray(value) ? [] : [here];
    return k === "labels" || k === "namespaceLabels" || k === "args" ? own : [...own, ...members(v, here)];
  });
}
function without<T>(value: T, [first, ...rest]: readonly string[]): T {
  if (first === undefined) return value;
  const copy: T = Object.assign(Array.isArray(value) ? [...value] : Object.create(null), value);
  if (rest.length === 0) Reflect.deleteProperty(Object(copy), first);
  else Reflect.set(Object(copy), first, without(Reflect.get(Object(copy), first), rest));
  return copy;
}

test("no fact that is taken away opens what was closed", () => {
  let closed = 0;
  fc.assert(
    fc.property(world, fc.nat(), (w, pick) => {
      const policy = policyOf(w.base, w.narrowing) ?? policyOf(w.base, -1);
      if (policy === null) return;
      const call = callOf(w.target, w.args);
      const facts = factsIn(w, policy);
      const before = decide(call, policy, facts).verdict;
      const all = members(facts);
      const path = all[pick % all.length] ?? [];
      const after = decide(call, policy, without(facts, path)).verdict;
      expect([path, after === "ALLOW" && before !== "ALLOW"]).toEqual([path, false]);
      if (before === "ALLOW" && after !== "ALLOW") closed++;
    }),
    RUNS,
  );
  expect(closed).toBeGreaterThan(NUMBER / 500);
});

test("the same call, policy and facts have the same verdict, and judging changes none of them", () => {
  fc.assert(
    fc.property(world, (w) => {
      const policy = policyOf(w.base, w.narrowing);
      if (policy === null) return;
      const call = callOf(w.target, w.args);
      const facts = factsIn(w, policy);
      const before = JSON.stringify([call, facts]);
      const [one, two] = [decide(call, policy, facts), decide(call, policy, facts)];
      expect({ ...two, permit: undefined }).toEqual({ ...one, permit: undefined });
      expect(JSON.stringify([call, facts])).toBe(before);
    }),
    RUNS,
  );
});
