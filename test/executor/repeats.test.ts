// Idempotency keys: answered from the record, in one life of the guardian and in the next.

import { describe, expect, test } from "vitest";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Facts, JsonValue } from "../../kernel/contracts/contracts.ts";
import { createRepeats } from "../../kernel/executor/executor.ts";
import type { Dispatch, Repeats } from "../../kernel/executor/executor.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc } from "../guardian/sample.ts";
import { codeOf, issue, other, policy, scene, START } from "./scene.ts";

describe("idempotency", () => {
  const key = { idempotencyKey: "k" };
  test("is by session, tool and key, and other arguments are no repeat", async () => {
    const s = scene();
    await s.run(issue, key);
    expect(codeOf(await s.run(other, key))).toBe("denied REPLAY_DETECTED");
    expect(codeOf(await s.run(other, { idempotencyKey: "l" }))).toBe("done");
    expect(
      codeOf(await s.run(callOf("tool:agent/note", {}), { ...key, destination: { state: "none" } })),
    ).toBe("done");
    expect(s.dispatched()).toBe(3);
  });
  test("a repeat passes freeze, context and identity, and no other gate", async () => {
    const s = scene();
    await s.run(issue, key);
    expect(codeOf(await s.run(issue, { ...key, rate: { toolLastMinute: 99, sessionLastSecond: 0 } }))).toBe(
      "done",
    );
    const closed: readonly Partial<Facts>[] = [
      { freeze: { state: "frozen", node: `sha256:${"0".repeat(64)}` as never, reason: "stop" } },
      { context: { ...factsOf(policy).context, podUid: "x" } },
      { principal: { state: "refused", code: "AUTH_INVALID", detail: "" } },
      { now: "never" as never },
    ];
    for (const over of closed) expect((await s.run(issue, { ...key, ...over })).kind).toBe("denied");
    expect(s.dispatched()).toBe(1);
  });
  test("what was denied or escalated may be tried again under the same key, what failed may not", async () => {
    const s = scene({ fails: (n) => n === 1 });
    expect(codeOf(await s.run(issue, key))).toBe("denied JOURNAL_UNAVAILABLE");
    expect(
      codeOf(await s.run(issue, key, async () => ({ status: "failed", code: "ERR_CONNECTOR_FAILED" }))),
    ).toBe("failed ERR_CONNECTOR_FAILED");
    expect(codeOf(await s.run(issue, key))).toBe("failed ERR_CONNECTOR_FAILED");
    expect(s.dispatched()).toBe(1);
  });
  test("a day later the key is forgotten", async () => {
    const s = scene();
    await s.run(issue, key);
    s.pass(24 * 3_600_000 - 1);
    const fresh = {
      ...key,
      session: { ...factsOf(policy).session, openedAt: timestampOf(START + 24 * 3_600_000 - 1000) },
    };
    await s.run(issue, { ...fresh, idempotencyKey: "l" });
    expect(codeOf(await s.run(issue, fresh))).toBe("done");
    expect(s.dispatched()).toBe(2);
    s.pass(1);
    await s.run(issue, { ...fresh, idempotencyKey: "m" });
    await s.run(issue, fresh);
    expect(s.dispatched()).toBe(4);
  });
  test("answers are kept up to a mebibyte each, then the first receipt alone is told", async () => {
    const s = scene();
    const of = (length: number): Dispatch => {
      const output: JsonValue = "x".repeat(length - 2);
      return async () => ({ status: "succeeded", output });
    };
    const call = callOf("tool:agent/note", {});
    const local = { destination: { state: "none" } } as const;
    for (const [length, kept] of [
      [1 << 20, true],
      [(1 << 20) + 1, false],
    ] as const) {
      const as = { ...local, idempotencyKey: String(length) };
      const first = await s.run(call, as, of(length));
      const again = await s.run(call, as);
      if (first.kind !== "done") throw new Error(first.kind);
      expect(again).toEqual(kept ? first : { ...first, output: null, forgotten: true });
    }
    expect(s.dispatched()).toBe(2);
  });
  test("of the answers the oldest go first, and the call is still not made again", async () => {
    const s = scene();
    const output: JsonValue = { number: 1, text: "x".repeat((1 << 20) - 30) };
    const big: Dispatch = async () => ({ status: "succeeded", output });
    for (let n = 0; n < 17; n++) await s.run(issue, { idempotencyKey: `k${n}` }, big);
    const gone = await s.run(issue, { idempotencyKey: "k0" });
    expect(codeOf(gone)).toBe("denied REPLAY_DETECTED");
    expect("detail" in gone && gone.detail).toContain(s.receipts()[0]?.receipt_id);
    expect(codeOf(await s.run(issue, { idempotencyKey: "k1" }))).toBe("done");
    expect(s.dispatched()).toBe(17);
  });
  test("a thousand answers are kept", async () => {
    const s = scene();
    for (let n = 0; n < 1001; n++) await s.run(issue, { idempotencyKey: `k${n}` });
    expect(codeOf(await s.run(issue, { idempotencyKey: "k0" }))).toBe("denied REPLAY_DETECTED");
    expect(codeOf(await s.run(issue, { idempotencyKey: "k1" }))).toBe("done");
    expect(s.dispatched()).toBe(1001);
  });
  test("a clock that was years ahead for a moment does not keep its keys for years", async () => {
    const s = scene();
    const day = 24 * 3_600_000;
    const at = (days: number, idempotencyKey: string): Partial<Facts> => ({
      idempotencyKey,
      session: { ...factsOf(policy).session, openedAt: timestampOf(START + days * day) },
    });
    s.pass(3_650 * day);
    await s.run(issue, at(3_650, "k"));
    s.pass(-3_650 * day);
    await s.run(issue, at(0, "l"));
    s.pass(day);
    await s.run(issue, at(1, "m"));
    await s.run(issue, at(1, "k"));
    expect(s.dispatched()).toBe(4);
  });
});

/** The state as a restart makes it of a log, from an entry on. */
function restored(s: ReturnType<typeof scene>, from = createRepeats(), since = 0): Repeats {
  for (const e of s.entries.slice(since)) {
    if ("node" in e) from.restore(e);
    else from.restoreInput(e.value);
  }
  return from;
}
/** The same by way of the plain data, as text. */
function copied(repeats: Repeats): Repeats {
  const copy = createRepeats();
  copy.load(JSON.parse(JSON.stringify(repeats.export())));
  return copy;
}
const roads = [
  ["the log", restored],
  ["a copy of its state", (s: ReturnType<typeof scene>) => copied(restored(s))],
] as const;

describe.each(roads)("after a restart, from %s,", (_road, again) => {
  const key = { idempotencyKey: "k" };
  const hang: Dispatch = () => new Promise(() => {});
  test("a call that was made is answered with its receipt and not dispatched again", async () => {
    const s = scene();
    const first = await s.run(issue, key);
    if (first.kind !== "done") throw new Error(first.kind);
    const next = scene({ options: { repeats: again(s) } });
    expect(await next.run(issue, key)).toEqual({ ...first, output: null, forgotten: true });
    expect(codeOf(await next.run(other, key))).toBe("denied REPLAY_DETECTED");
    expect([next.dispatched(), next.receipts().map((r) => r.status)]).toEqual([0, ["DENIED"]]);
    expect(codeOf(await next.run(issue, { idempotencyKey: "l" }))).toBe("done");
  });
  test("a call that failed, or of which nobody knows, is answered as that", async () => {
    const ends: readonly (readonly [Dispatch, string])[] = [
      [async () => ({ status: "failed", code: "ERR_CONNECTOR_FAILED" }), "failed ERR_CONNECTOR_FAILED"],
      [async () => ({ status: "unknown" }), "failed ERR_OUTCOME_UNKNOWN"],
    ];
    for (const [end, expected] of ends) {
      const s = scene();
      const first = await s.run(issue, key, end);
      const next = scene({ options: { repeats: again(s) } });
      expect(await next.run(issue, key)).toEqual({ ...first, detail: "" });
      expect([codeOf(first), next.dispatched()]).toEqual([expected, 0]);
    }
  });
  test("a call that was under way is unknown, before and after its end is recorded", async () => {
    const s = scene();
    void s.run(issue, key, hang);
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(s.receipts().map((r) => r.status)).toEqual(["PERMITTED"]);
    const repeats = again(s);
    const next = scene({ options: { repeats } });
    const told = await next.run(issue, key);
    expect([codeOf(told), "intent" in told && told.intent]).toEqual([
      "failed ERR_OUTCOME_UNKNOWN",
      s.receipts()[0]?.receipt_id,
    ]);
    s.executor.abort();
    await new Promise((resolve) => setTimeout(resolve, 1));
    const end = s.journal.nodes[1];
    if (end === undefined) throw new Error("no end");
    repeats.restore(end);
    const late = await next.run(issue, key);
    expect([codeOf(late), "node" in late && late.node]).toEqual(["failed ERR_OUTCOME_UNKNOWN", end]);
    expect(next.dispatched()).toBe(0);
  });
  test("what never began may be tried again, and so may what was refused", async () => {
    const s = scene();
    const overtaken = s.run(issue, key);
    s.swap(compilePolicy({ ...sampleDoc, name: "later" }));
    expect(codeOf(await overtaken)).toBe("failed POLICY_EPOCH_CHANGED");
    await s.run(issue, { idempotencyKey: "l", rate: { toolLastMinute: 99, sessionLastSecond: 0 } });
    const next = scene({ options: { repeats: again(s) } });
    expect(codeOf(await next.run(issue, key))).toBe("done");
    expect(codeOf(await next.run(issue, { idempotencyKey: "l" }))).toBe("done");
  });
  test("a second try under the same key is the one that counts, whatever is found of the first", async () => {
    const s = scene({ fails: (n) => n === 1 });
    await s.run(issue, key);
    const second = await s.run(issue, key);
    const repeats = again(s);
    // The first INTENT had reached the disk after all, and is closed as unknown.
    const next = scene({ options: { repeats } });
    expect(await next.run(issue, key)).toMatchObject({
      kind: "done",
      intent: "intent" in second && second.intent,
    });
    expect(next.dispatched()).toBe(0);
  });
  test("a day after the call its key is free", async () => {
    const s = scene();
    await s.run(issue, key);
    const next = scene({ options: { repeats: again(s) } });
    next.pass(24 * 3_600_000 - 1);
    const fresh = {
      session: { ...factsOf(policy).session, openedAt: timestampOf(START + 24 * 3_600_000 - 1000) },
    };
    await next.run(issue, { ...fresh, idempotencyKey: "l" });
    await next.run(issue, { ...fresh, ...key });
    expect(next.dispatched()).toBe(1);
    next.pass(1);
    await next.run(issue, { ...fresh, idempotencyKey: "m" });
    await next.run(issue, { ...fresh, ...key });
    expect(next.dispatched()).toBe(3);
  });
  test("an answer that was not kept any more is still not", async () => {
    const s = scene();
    for (let n = 0; n < 1001; n++) await s.run(issue, { idempotencyKey: `k${n}` });
    const next = scene({ options: { repeats: again(s) } });
    expect(codeOf(await next.run(issue, { idempotencyKey: "k0" }))).toBe("denied REPLAY_DETECTED");
    expect(codeOf(await next.run(issue, { idempotencyKey: "k1" }))).toBe("done");
    expect(next.dispatched()).toBe(0);
  });
});

describe("the state as plain data", () => {
  test("taken in the very append of an INTENT already has its key", async () => {
    const repeats = createRepeats();
    const states: unknown[] = [];
    const s = scene({ options: { repeats } });
    const append = s.journal.append.bind(s.journal);
    s.journal.append = (drafts, inputs) => {
      states.push(repeats.export());
      return append(drafts, inputs);
    };
    await s.run(issue, { idempotencyKey: "k" });
    const taken = { keys: [expect.arrayContaining(["open", START, issue.argsHash])] };
    expect(states).toMatchObject([taken, taken]);
  });
  test("of an empty store says only what it is, and calls without a key leave nothing in it", async () => {
    const repeats = createRepeats();
    const s = scene({ options: { repeats } });
    await s.run(issue);
    expect(repeats.export()).toEqual({ type: "atoll.dev/repeats/v1", keys: [] });
    expect(s.entries.map((e) => ("node" in e ? e.node.kind : "input"))).toEqual([
      "input",
      "input",
      "INTENT",
      "EFFECT",
    ]);
  });
  test("goes on with what the log holds after it", async () => {
    const s = scene();
    await s.run(issue, { idempotencyKey: "a" });
    const copy = copied(restored(s));
    const since = s.entries.length;
    await s.run(issue, { idempotencyKey: "b" });
    expect(restored(s, copy, since).export()).toEqual(restored(s).export());
  });
  test("is refused when it is not whole", async () => {
    const s = scene();
    await s.run(issue, { idempotencyKey: "a" });
    const whole = restored(s).export();
    const [row] = whole["keys"] as readonly (readonly JsonValue[])[];
    if (row === undefined) throw new Error("no row");
    const bad: readonly JsonValue[] = [
      null,
      {},
      { ...whole, type: "atoll.dev/repeats/v2" },
      { ...whole, more: 1 },
      { ...whole, keys: {} },
      { ...whole, keys: [{}] },
      ...row.map((_, i) => ({ ...whole, keys: [row.toSpliced(i, 1, "x")] })),
      ...row.map((_, i) => ({ ...whole, keys: [row.toSpliced(i, 1)] })),
    ];
    for (const state of bad)
      expect(() => createRepeats().load(state), JSON.stringify(state).slice(0, 200)).toThrow();
    createRepeats().load(whole);
  });
});

test("a log in which keys were left out would dispatch again: that is what the above would see", async () => {
  const s = scene();
  await s.run(issue, { idempotencyKey: "k" });
  const repeats = createRepeats();
  for (const e of s.entries) if ("node" in e) repeats.restore(e);
  const next = scene({ options: { repeats } });
  await next.run(issue, { idempotencyKey: "k" });
  expect(next.dispatched()).toBe(1);
});

test("facts that cannot be written down free their key, and end nothing else", async () => {
  const s = scene();
  const odd = { idempotencyKey: "k", pod: { ...factsOf(policy).pod, namespace: "\ud800" } };
  expect((await s.run(issue, odd)).kind).toBe("denied");
  expect(codeOf(await s.run(issue, { idempotencyKey: "k" }))).toBe("done");
});
