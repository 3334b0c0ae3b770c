// Killed in the middle of its work, again and again: sessions and their clocks go on, budgets are what the journal says,
// what was under way is UNKNOWN, and nothing is done twice.

import { afterAll, beforeAll, expect, test } from "vitest";
import { place } from "./lab.ts";
import type { Guardian, Place } from "./lab.ts";
import { CALLS_ALLOWED, Load, account, everything, loadPolicy, sessionOf } from "./load.ts";
import { Status, startUpstream } from "./upstream.ts";
import type { Upstream } from "./upstream.ts";

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const BUDGET = 1_000_000_000_000;

let up: Upstream;
let p: Place;
let g: Guardian;
beforeAll(async () => {
  up = await startUpstream();
  up.tools.set("do", () => pause(Math.random() * 60));
  up.tools.set("denied", () => undefined);
  up.tools.set("keyed", () => undefined);
  up.tools.set("fails", () => {
    throw new Status(500);
  });
  p = place();
  g = await p.start({ policy: loadPolicy(up) });
});
afterAll(async () => {
  await g.kill();
  await up.close();
  p.remove();
});

test("four kills under load lose nothing that was told, and repeat nothing that was done", async () => {
  const load = new Load(g.base);
  const stop = new AbortController();
  const driving = load.run(150, stop.signal, everything);
  const first = await sessionOf(g);
  let killedWith = 0;
  for (let round = 0; round < 4; round++) {
    await pause(1_200 + round * 177);
    killedWith += load.flying;
    await g.kill();
    g = await p.start({ policy: loadPolicy(up) });
    load.moveTo(g.base);
  }
  await pause(1_000);
  stop.abort();
  await driving;
  await load.settled(20_000);
  // The last restart is a quiet one, so that what the guardian says can be held against the journal.
  await g.kill();
  g = await p.start({ policy: loadPolicy(up) });
  const last = await sessionOf(g);
  const now = account(p, up, load.sent);
  expect(now.broken).toEqual([]);
  expect(last.id).toBe(first.id);
  expect(last.callsUsed).toBe(now.calls);
  expect(BUDGET - last.costLeft).toBe(now.costMicroUsd);
  expect(now.open).toBe(0);
  expect(killedWith).toBeGreaterThan(0);
  expect(now.unknown).toBeGreaterThan(0);
  const answered = [...load.sent.values()];
  expect(answered.filter((s) => s.status === 200 && s.kind === "do").length).toBeGreaterThan(100);
  expect(answered.filter((s) => s.status === 0).length).toBeGreaterThan(0);
  expect(answered.filter((s) => s.reason === "DENY_RULE").length).toBeGreaterThan(10);
  expect(CALLS_ALLOWED - now.calls).toBeGreaterThan(0);
  await load.close();
  await g.stop();
  const verified = p.verified();
  expect(verified.code, verified.text).toBe(0);
}, 300_000);

test("the account finds what is wrong: a call that nobody recorded, and one done twice", async () => {
  const list = up.done.get("do");
  const sent = new Map([
    [7_000_001, { kind: "do", status: 200, reason: "", receipt: "", at: 0, ms: 0 } as const],
  ]);
  list?.push({ n: 7_000_001 }, { n: 7_000_001 });
  const { broken } = account(p, up, sent);
  expect(broken).toContain("7000001: carried out 2 times");
  expect(broken).toContain("7000001: carried out with 0 intents");
  await Promise.resolve();
});
