// The executor as a process: what it may do, how it is ended, what a call costs.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createSandbox } from "../../kernel/runtime/sandbox/sandbox.ts";
import type { ComputeRequest, Sandbox } from "../../kernel/runtime/sandbox/sandbox.ts";
import { buildExecutor } from "./built.ts";
import { guest, print } from "./wat.ts";

const built = buildExecutor();
let sandbox: Sandbox;
beforeAll(() => {
  sandbox = createSandbox({ entry: built.entry });
});
afterAll(async () => {
  await sandbox.close();
  built.remove();
});

const EMPTY = new Uint8Array(0);
const call = (module: Uint8Array, more: Partial<ComputeRequest> = {}): ComputeRequest => ({
  module,
  stdin: EMPTY,
  seed: "seed",
  clock: 0,
  ...more,
});

const ECHO = guest({
  imports: ["fd_read", "fd_write"],
  body: `(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    ${print(64, "(i32.load (i32.const 8))")}`,
});
const FOREVER = guest({ body: "(loop $l (br $l))" });
const FOREVER_LIMITS = { gas: Number.MAX_SAFE_INTEGER, timeMs: 100 };

describe("a call", () => {
  test("gives back what the guest wrote, and the gas it took", async () => {
    const stdin = new TextEncoder().encode('{"x":1}');
    const result = await sandbox.run(call(ECHO, { stdin }));
    expect(result).toMatchObject({ ok: true, gasSchedule: 1, peakPages: 1 });
    expect(result.ok && result.stdout).toEqual(stdin);
    expect(await sandbox.run(call(ECHO, { stdin }))).toEqual(result);
  });

  test("of a module that is not admitted names the reason", async () => {
    const result = await sandbox.run(call(new Uint8Array([1, 2, 3])));
    expect(result).toMatchObject({ ok: false, code: "ERR_COMPUTE_MODULE_REJECTED", reason: "header" });
  });

  test("that overruns its time ends near it, every time, and leaves the next one well", async () => {
    for (let i = 0; i < 5; i++) {
      const result = await sandbox.run(call(FOREVER, { limits: FOREVER_LIMITS }));
      expect(result).toMatchObject({ ok: false, code: "ERR_COMPUTE_TIME_EXHAUSTED", gas: 0, peakPages: 0 });
    }
    expect((await sandbox.run(call(ECHO))).ok).toBe(true);
  });
});
