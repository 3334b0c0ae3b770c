// Limits hold exactly at their boundary, and the counts do not depend on how close the limit was.

import { describe, expect, test } from "vitest";
import { refusalOf, runHere, textOf } from "./here.ts";
import { guest, print } from "./wat.ts";

const COUNT = guest({
  imports: ["fd_write"],
  locals: "(local $i i32) (local $f f64)",
  body: `(loop $again
      (local.set $f (f64.add (local.get $f) (f64.convert_i32_s (local.get $i))))
      (if (i32.and (local.get $i) (i32.const 1)) (then (memory.fill (i32.const 64) (i32.const 65) (i32.const 32))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 1000))))
    ${print(64, 32)}`,
});

describe("gas", () => {
  test("the gas used is enough and one unit less is not", () => {
    const used = runHere(COUNT);
    expect(used.code).toBeUndefined();
    expect(textOf(used.stdout)).toBe("A".repeat(32));
    const exact = runHere(COUNT, { limits: { gas: used.gas } });
    expect(exact).toMatchObject({ code: undefined, gas: used.gas });
    const short = runHere(COUNT, { limits: { gas: used.gas - 1 } });
    expect(short).toMatchObject({ code: "ERR_COMPUTE_GAS_EXHAUSTED", gas: used.gas - 1 });
    expect(short.stdout.length).toBe(0);
  });

  test("every limit below what is used exhausts it, and reports the limit", () => {
    const { gas } = runHere(COUNT);
    for (let limit = 1; limit < gas; limit += Math.ceil(gas / 97))
      expect(runHere(COUNT, { limits: { gas: limit } })).toMatchObject({
        code: "ERR_COMPUTE_GAS_EXHAUSTED",
        gas: limit,
      });
  });

  test("a loop that never ends ends by its gas", () => {
    expect(runHere(guest({ body: "(loop $l (br $l))" }), { limits: { gas: 1_000_000 } }).code).toBe(
      "ERR_COMPUTE_GAS_EXHAUSTED",
    );
  });
});

describe("output", () => {
  const flood = (bytes: number): Uint8Array =>
    guest({ imports: ["fd_write"], pages: 17, body: print(16, bytes) });
  test("1,048,576 bytes are given back whole", () => {
    const outcome = runHere(flood(1_048_576));
    expect(outcome.code).toBeUndefined();
    expect(outcome.stdout.length).toBe(1_048_576);
  });
  test("one byte more ends the guest and gives nothing back", () => {
    const outcome = runHere(flood(1_048_577));
    expect(outcome.code).toBe("ERR_COMPUTE_OUTPUT_EXHAUSTED");
    expect(outcome.stdout.length).toBe(0);
  });
});

describe("memory", () => {
  const grow = (pages: number): Uint8Array => guest({ body: `(drop (memory.grow (i32.const ${pages})))` });
  const limits = { memoryBytes: 10 * 65_536 };
  test("as many pages as the cap are given", () => {
    expect(runHere(grow(9), { limits })).toMatchObject({ code: undefined, peakPages: 10 });
  });
  test("one page more ends the guest", () => {
    expect(runHere(grow(10), { limits })).toMatchObject({
      code: "ERR_COMPUTE_MEMORY_EXHAUSTED",
      peakPages: 1,
    });
  });
  test("a memory that starts beyond the cap never starts", () => {
    expect(runHere(guest({ pages: 10, body: "" }), { limits }).code).toBeUndefined();
    expect(runHere(guest({ pages: 11, body: "" }), { limits }).code).toBe("ERR_COMPUTE_MEMORY_EXHAUSTED");
  });
  test("beyond its own maximum the guest is told -1, as the standard says", () => {
    const own = guest({
      pages: "1 2",
      body: "(if (i32.ne (memory.grow (i32.const 2)) (i32.const -1)) (then (unreachable)))",
    });
    expect(runHere(own, { limits })).toMatchObject({ code: undefined, peakPages: 1 });
  });
});

describe("stack", () => {
  const recursive = guest({
    before: `(func $down (param i32) (result i32)
      (if (result i32) (local.get 0)
        (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
        (else (i32.const 0))))`,
    locals: "(local $n i32)",
    body: "(drop (call $down (i32.const 100000)))",
  });
  test("a recursion deeper than its limit ends by it, at the same gas every time", () => {
    const first = runHere(recursive);
    expect(first.code).toBe("ERR_COMPUTE_STACK_EXHAUSTED");
    expect(runHere(recursive).gas).toBe(first.gas);
    expect(runHere(recursive, { limits: { stackUnits: 128 * 1024 } }).gas).toBeGreaterThan(first.gas);
  });
  test("calls one after the other take no more than the deepest of them", () => {
    const flat = guest({
      before: "(func $leaf (call $end)) (func $end)",
      locals: "(local $i i32)",
      body: `(loop $l (call $leaf) (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 100000))))`,
    });
    expect(runHere(flat, { limits: { stackUnits: 1024 } }).code).toBeUndefined();
  });
});

describe("what a guest may learn", () => {
  const random = guest({
    imports: ["fd_write", "random_get", "clock_time_get"],
    body: `(drop (call $random_get (i32.const 64) (i32.const 40)))
      (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 104))) ${print(64, 48)}`,
  });
  test("random bytes follow from the seed alone", () => {
    const first = runHere(random, { seed: "a" }).stdout;
    expect(runHere(random, { seed: "a" }).stdout).toEqual(first);
    expect(runHere(random, { seed: "b" }).stdout.slice(0, 40)).not.toEqual(first.slice(0, 40));
  });
  test("every clock stands at the request's moment", () => {
    const { stdout } = runHere(random, { clock: 1_234 });
    expect(new DataView(stdout.buffer).getBigUint64(40, true)).toBe(1_234_000_000n);
  });
});

test("a guest cannot put back its own gas through an index that only the rewrite makes valid", () => {
  // The original has one global; index 1 is the gas in the result, of the right type and mutable.
  const honest = guest({
    before: "(global $own (mut i64) (i64.const 0))",
    body: "(loop $l (global.set $own (i64.const 1000000)) (br $l))",
  });
  const exploit = Uint8Array.from(honest);
  const code = [0x24, 0x00];
  const at = exploit.findIndex((byte, i) => byte === code[0] && exploit[i + 1] === code[1] && i > 40);
  expect(at).toBeGreaterThan(0);
  exploit[at + 1] = 1;
  expect(refusalOf(honest)).toBe("");
  expect(refusalOf(exploit)).toBe("invalid");
});
