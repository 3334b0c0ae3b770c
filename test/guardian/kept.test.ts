// What was made for a policy's expressions is gone when the policy is.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { compileExpression, createEngine } from "../../kernel/guardian/guardian.ts";

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");
test("what was made of a policy's patterns and zones goes with the policy", () => {
  const heap = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const compile = (i: number) => {
    const own = createEngine();
    // Some hundred kilobytes of program.
    return compileExpression(`"x".matches("${i}(abcdefgh){0,200}")`, { input: null, engine: own });
  };
  const kept = [];
  compile(0);
  const before = heap();
  for (let i = 0; i < 20; i++) kept.push(compile(i));
  const held = heap() - before;
  expect(kept.splice(0).length).toBe(20);
  for (let i = 20; i < 60; i++) compile(i);
  const left = heap() - before;
  expect(held).toBeGreaterThan(2 << 20);
  expect(left).toBeLessThan(held / 4);
});
