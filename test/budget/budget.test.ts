import fc from "fast-check";
import { expect, test } from "vitest";
import { createBudget, createCalendar, createPool, createSpent } from "../../kernel/budget/budget.ts";
import type { Lease } from "../../kernel/budget/budget.ts";
import type { Amounts, Facts, JsonObject, Policy } from "../../kernel/contracts/contracts.ts";
import { createExecutor } from "../../kernel/executor/executor.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, memoryJournal, quickSigner, sampleDoc, session } from "../guardian/sample.ts";

const LIMIT = 1000;
const doc: JsonObject = {
  ...sampleDoc,
  profiles: [
    {
      ...sampleDoc.profiles[0],
      budgets: { session: { costMicroUsd: LIMIT }, daily: { costMicroUsd: LIMIT } },
    },
  ],
};
const policy: Policy = compilePolicy(doc);
const START = Date.parse("2026-11-18T10:00:00.000Z");

/** A guardian that can crash: a new one is rebuilt from the journal alone. */
function guardian(journal = memoryJournal(() => false, quickSigner)) {
  let counter = 0;
  const make = () => {
    const budget = createBudget({ timezone: () => "UTC" });
    // Half of the way as it is kept at a checkpoint, the rest from its nodes.
    const before = createSpent();
    const half = Math.floor(journal.nodes.length / 2);
    for (const { node } of journal.nodes.slice(0, half)) before.note(node);
    const spent = createSpent(before.state());
    for (const { node } of journal.nodes.slice(half)) spent.note(node);
    budget.resume(spent);
    const executor = createExecutor({
      journal,
      budget,
      clock: { now: () => START, after: () => () => {} },
      random: () => {
        const bytes = new Uint8Array(16);
        new DataView(bytes.buffer).setUint32(0, ++counter);
        return bytes;
      },
    });
    return { budget, executor };
  };
  let life = make();
  return {
    crash: () => (life = make()),
    get budget() {
      return life.budget;
    },
    call(estimate: number, outcome: Promise<Outcome>) {
      const { budget, executor } = life;
      return executor.run({
        call: callOf("tool:agent/note", {}),
        policy: () => policy,
        gather: (): Facts => ({
          ...factsOf(policy, { destination: { state: "none" } }),
          budget: {
            ...budget.used(session, START),
            estimate: { calls: 1, tokens: 0, costMicroUsd: estimate },
            leased: "own",
          },
        }),
        dispatch: () => outcome,
      });
    },
  };
}
const cost = (n: number): Outcome => ({ status: "succeeded", output: null, usage: { cost_microusd: n } });

test("what is reserved and spent together reach the limit and not one more", async () => {
  const g = guardian();
  expect((await g.call(LIMIT, Promise.resolve(cost(400)))).kind).toBe("done");
  expect((await g.call(601, Promise.resolve(cost(0)))).kind).toBe("denied");
  expect((await g.call(600, Promise.resolve(cost(600)))).kind).toBe("done");
  expect(await g.call(1, Promise.resolve(cost(0)))).toMatchObject({ code: "DENY_BUDGET_EXCEEDED" });
});

test("a failure releases, an unknown outcome keeps, also over a restart", async () => {
  const g = guardian();
  await g.call(300, Promise.resolve({ status: "failed", code: "ERR_CONNECTOR_FAILED" }));
  expect(g.budget.used(session, START).session.costMicroUsd).toBe(0);
  await g.call(300, Promise.resolve({ status: "unknown" }));
  expect(g.budget.used(session, START).session.costMicroUsd).toBe(300);
  g.crash();
  expect(g.budget.used(session, START)).toEqual({
    session: { calls: 1, tokens: 0, costMicroUsd: 300 },
    daily: { calls: 1, tokens: 0, costMicroUsd: 300 },
  });
});

test("over random interleavings of calls, outcomes and crashes the sum never passes the limit and nothing leaks", async () => {
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("call" as const),
        estimate: fc.integer({ min: 0, max: 500 }),
        share: fc.double({ min: 0, max: 1, noNaN: true }),
        end: fc.constantFrom("succeeded", "failed", "unknown"),
      }),
    },
    { weight: 5, arbitrary: fc.record({ do: fc.constant("end" as const), which: fc.nat(20) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("crash" as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const g = guardian();
      let spent = 0;
      let kept = 0;
      let waiting: { finish: () => void; done: Promise<unknown>; estimate: number }[] = [];
      for (const s of steps) {
        if (s.do === "call") {
          const used = Math.floor(s.estimate * s.share);
          const outcome: Outcome =
            s.end === "succeeded"
              ? cost(used)
              : s.end === "failed"
                ? { status: "failed", code: "ERR_CONNECTOR_FAILED" }
                : { status: "unknown" };
          const gate = Promise.withResolvers<Outcome>();
          const done = g.call(s.estimate, gate.promise).then((r) => {
            if (r.kind === "done") spent += used;
            else if (r.kind === "failed" && r.code === "ERR_OUTCOME_UNKNOWN") kept += s.estimate;
          });
          waiting.push({ finish: () => gate.resolve(outcome), done, estimate: s.estimate });
        } else if (s.do === "end") {
          const one = waiting.splice(s.which % Math.max(1, waiting.length), 1)[0];
          one?.finish();
          await one?.done;
        } else {
          // What is under way at a crash has only its INTENT: nobody will ever tell its outcome.
          g.crash();
          kept = g.budget.used(session, START).session.costMicroUsd - spent;
          waiting = [];
        }
        expect(g.budget.used(session, START).session.costMicroUsd).toBeLessThanOrEqual(LIMIT);
      }
      for (const w of waiting) w.finish();
      await Promise.all(waiting.map((w) => w.done));
      expect(g.budget.used(session, START).session.costMicroUsd).toBe(spent + kept);
    }),
    { numRuns: 10_000 },
  );
});

test("leases never sum above the limit over random leases, returns and restarts", () => {
  const amount = fc.record({ calls: fc.nat(50), tokens: fc.nat(50), costMicroUsd: fc.nat(500) });
  fc.assert(
    fc.property(
      fc.array(fc.record({ id: fc.nat(8), holder: fc.nat(2), amount, restart: fc.boolean() })),
      (steps) => {
        const limit: Amounts = { calls: 100, tokens: -1, costMicroUsd: LIMIT };
        let pool = createPool(limit);
        for (const s of steps) {
          const lease: Lease = {
            id: `l${s.id}`,
            holder: `pod${s.holder}`,
            day: "2026-11-18",
            amounts: s.amount,
          };
          try {
            const granted = pool.lease(lease);
            const unused = { ...granted.amounts, tokens: 0 };
            if (s.amount.calls % 3 === 0) pool.giveBack(lease.id, unused);
          } catch {
            // Another holder's lease.
          }
          if (s.restart) pool = createPool(limit, pool.leases);
          const out = pool.outstanding("2026-11-18");
          expect(out.calls <= 100 && out.costMicroUsd <= LIMIT).toBe(true);
        }
      },
    ),
    { numRuns: 10_000 },
  );
});

test("a day is a date of its zone, also where clocks change", () => {
  const day = createCalendar();
  expect(day(Date.parse("2026-11-18T23:30:00Z"), "UTC")).toBe("2026-11-18");
  expect(day(Date.parse("2026-11-18T23:30:00Z"), "Europe/Berlin")).toBe("2026-11-19");
  expect(day(Date.parse("2026-03-29T00:59:59Z"), "Europe/Berlin")).toBe("2026-03-29");
  expect(day(Date.parse("2026-10-25T22:59:59Z"), "Europe/Berlin")).toBe("2026-10-25");
  expect(day(Date.parse("2026-10-25T23:00:00Z"), "Europe/Berlin")).toBe("2026-10-26");
  expect(day(Date.parse("2026-11-18T18:14:59Z"), "Asia/Kathmandu")).toBe("2026-11-18");
  expect(day(Date.parse("2026-11-18T18:15:00Z"), "Asia/Kathmandu")).toBe("2026-11-19");
  expect(day(Date.parse("2026-11-18T23:59:59.999Z"), "UTC")).toBe("2026-11-18");
  expect(day(Date.parse("2026-11-19T00:00:00Z"), "UTC")).toBe("2026-11-19");
});
