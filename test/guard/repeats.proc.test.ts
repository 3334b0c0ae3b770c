// An idempotency key outlives the guardian: killed before the effect or after it, a repeat is answered from the record and
// the tool is not called again.

import { afterAll, beforeAll, expect, test } from "vitest";
import { place } from "./lab.ts";
import type { Guardian, Place } from "./lab.ts";
import { loadPolicy } from "./load.ts";
import { startUpstream } from "./upstream.ts";
import type { Upstream } from "./upstream.ts";

let up: Upstream;
let p: Place;
let g: Guardian;
let hung: (() => void) | undefined;
beforeAll(async () => {
  up = await startUpstream();
  for (const name of ["do", "denied", "fails", "keyed"]) up.tools.set(name, () => undefined);
  p = place();
  g = await p.start({ policy: loadPolicy(up) });
});
afterAll(async () => {
  await g.kill();
  await up.close();
  p.remove();
});

interface Answer {
  readonly status: number;
  readonly verdict: string;
  readonly reason_code: string;
  readonly receipt_id: string;
  readonly output_hash: string;
  readonly result: unknown;
}
async function call(tool: string, n: number, key: string): Promise<Answer> {
  const response = await fetch(`${g.base}/mcp/v1/execute`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      tool: `tool:t/${tool}`,
      arguments: { n, repo: "acme/web" },
      ...(key === "" ? {} : { idempotency_key: key }),
    }),
  });
  const body = (await response.json()) as Omit<Answer, "status">;
  return { ...body, status: response.status };
}
const times = (tool: string, n: number): number =>
  (up.done.get(tool) ?? []).filter((args) => args["n"] === n).length;
async function killedAndStarted(): Promise<void> {
  await g.kill();
  g = await p.start({ policy: loadPolicy(up) });
}

test("killed after the effect: the first receipt is told again, without the result, and nothing is done", async () => {
  const first = await call("keyed", 1, "one");
  expect([first.status, first.verdict, times("keyed", 1)]).toEqual([200, "ALLOW", 1]);
  expect(first.result).not.toBeNull();
  expect(await call("keyed", 1, "one")).toEqual(first);
  for (let life = 0; life < 2; life++) {
    await killedAndStarted();
    expect(await call("keyed", 1, "one")).toEqual({ ...first, result: null });
    expect((await call("keyed", 2, "one")).reason_code).toBe("REPLAY_DETECTED");
    expect([times("keyed", 1), times("keyed", 2)]).toEqual([1, 0]);
  }
});

test("killed between the intent and the effect: the outcome is unknown for ever, and nothing is done", async () => {
  const reached = new Promise<void>((resolve) =>
    up.tools.set("keyed", async () => {
      resolve();
      await new Promise<void>((go) => (hung = go));
    }),
  );
  const cut = call("keyed", 3, "three").catch((error: unknown) => error);
  await reached;
  await killedAndStarted();
  expect(await cut).toBeInstanceOf(Error);
  up.tools.set("keyed", () => undefined);
  hung?.();
  const second = await call("keyed", 3, "three");
  expect([second.reason_code, times("keyed", 3)]).toEqual(["ERR_OUTCOME_UNKNOWN", 1]);
  expect(second.receipt_id).toMatch(/^rcp_/);
  await killedAndStarted();
  expect(await call("keyed", 3, "three")).toEqual(second);
  expect(times("keyed", 3)).toBe(1);
});

test("without a key, and for a tool that takes none, the same repeat is done twice: the count can tell", async () => {
  for (const [tool, n, key] of [
    ["keyed", 5, ""],
    ["do", 6, "six"],
  ] as const) {
    await call(tool, n, key);
    await killedAndStarted();
    await call(tool, n, key);
    expect(times(tool, n)).toBe(2);
  }
});

test("and all that was recorded verifies", async () => {
  await g.stop();
  const verified = p.verified();
  expect(verified.code, verified.text).toBe(0);
});
