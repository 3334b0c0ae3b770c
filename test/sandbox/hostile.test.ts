// Every hostile module gets its answer from decoder, rewrite and host alone.

import { describe, expect, test } from "vitest";
import { admit } from "../../kernel/runtime/sandbox/invoke.ts";
import { LIMITS } from "../../kernel/runtime/sandbox/limits.ts";
import { refusalOf, runHere } from "./here.ts";
import { bytesOf, hostileModules, oversized } from "./hostile.ts";

const modules = hostileModules();

describe("hostile modules", () => {
  test("there are at least forty", () => expect(modules.length).toBeGreaterThanOrEqual(40));

  test.each(modules.map((hostile) => [hostile.name, hostile] as const))("%s", (_name, hostile) => {
    if (hostile.reason !== undefined) return expect(refusalOf(hostile.module)).toBe(hostile.reason);
    const outcome = runHere(hostile.module, { limits: hostile.limits ?? {} });
    expect(outcome.code).toBe(hostile.code);
    if (hostile.code !== undefined) expect(outcome.stdout.length).toBe(0);
    // And the same again, to the unit.
    expect(runHere(hostile.module, { limits: hostile.limits ?? {} }).gas).toBe(outcome.gas);
  });
});

describe("limits of modules", () => {
  test("what is as large as its limit is admitted", () => {
    const nested = [
      ...Array.from({ length: 512 }, () => [0x02, 0x40]).flat(),
      ...Array.from({ length: 512 }, () => 0x0b),
    ];
    expect(refusalOf(bytesOf(nested))).toBe("");
    expect(refusalOf(bytesOf([], [1, 0x80, 0x20, 0x7f]))).toBe("");
    expect(refusalOf(bytesOf(Array.from({ length: 524_286 }, () => 0x01)))).toBe("");
  });

  test("compile bombs are refused within 250 ms of processor time each", () => {
    for (const { module, name } of oversized()) {
      const before = process.threadCpuUsage();
      expect(() => admit(module, LIMITS), name).toThrow();
      const { user, system } = process.threadCpuUsage(before);
      expect((user + system) / 1000, name).toBeLessThan(250);
    }
  });
});
