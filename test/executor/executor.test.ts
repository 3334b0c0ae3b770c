import { expect, test } from "vitest";
import type { Facts } from "../../kernel/contracts/contracts.ts";
import { createExecutor } from "../../kernel/executor/executor.ts";
import type { Dispatch } from "../../kernel/executor/executor.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, memoryJournal, sampleDoc } from "../guardian/sample.ts";

const policy = compilePolicy(sampleDoc);

function world(dispatch: Dispatch, fails: (append: number) => boolean = () => false) {
  const journal = memoryJournal(fails);
  let time = Date.parse("2026-11-18T10:00:00.000Z");
  let counter = 0;
  const timers = new Set<() => void>();
  const executor = createExecutor({
    journal,
    clock: {
      now: () => time,
      after: (_ms, run) => {
        timers.add(run);
        return () => timers.delete(run);
      },
    },
    random: () => new Uint8Array(16).fill(++counter),
  });
  const run = (over: Partial<Facts> = {}, args = { repo: "acme/web", title: "crash" }) =>
    executor.run({
      call: callOf("tool:github/create_issue", args),
      policy: () => policy,
      gather: () => factsOf(policy, over),
      dispatch,
    });
  return {
    journal,
    executor,
    run,
    kinds: () => journal.nodes.map((n) => `${n.node.kind} ${JSON.stringify(n.node.body["status"])}`),
    pass: (ms: number) => (time += ms),
    ring: () => timers.forEach((t) => t()),
  };
}
const succeed: Dispatch = async () => ({ status: "succeeded", output: { number: 7 } });

test("an allowed call leaves an INTENT before and an EFFECT after it", async () => {
  let before = "";
  const w = world(async () => {
    before = w.kinds().join();
    return { status: "succeeded", output: { number: 7 } };
  });
  const result = await w.run();
  expect(result.kind === "done" && result.output).toEqual({ number: 7 });
  expect(before).toBe('INTENT "PERMITTED"');
  expect(w.kinds()).toEqual(['INTENT "PERMITTED"', 'EFFECT "SUCCEEDED"']);
  expect(w.journal.nodes[1]?.node.parents).toEqual([w.journal.nodes[0]?.hash]);
});

test("a denied call leaves an ATTESTATION and is never dispatched", async () => {
  let dispatched = 0;
  const w = world(async () => {
    dispatched++;
    return { status: "succeeded", output: {} };
  });
  const result = await w.run({}, { repo: "other/web", title: "x" });
  expect(result.kind === "denied" && result.code).toBe("DENY_NO_MATCH");
  expect([dispatched, w.kinds()]).toEqual([0, ['ATTESTATION "DENIED"']]);
});

test("an INTENT that is not durable denies and nothing is dispatched", async () => {
  let dispatched = 0;
  const w = world(
    async () => {
      dispatched++;
      return { status: "succeeded", output: {} };
    },
    () => true,
  );
  const result = await w.run();
  expect([result.kind === "denied" && result.code, dispatched]).toEqual(["JOURNAL_UNAVAILABLE", 0]);
});

test("an EFFECT that is not durable is ERR_RECEIPT_UNSEALED and ends the taking of calls", async () => {
  const w = world(succeed, (n) => n === 2);
  const result = await w.run();
  expect(result.kind === "failed" && result.code).toBe("ERR_RECEIPT_UNSEALED");
  expect(w.executor.healthy).toBe(false);
  const next = await w.run();
  expect(next.kind === "denied" && next.code).toBe("JOURNAL_UNAVAILABLE");
});

test("an output that does not match its pin is a drift", async () => {
  const w = world(async () => ({ status: "succeeded", output: { number: "seven" } }));
  const result = await w.run();
  expect(result.kind === "failed" && result.code).toBe("ERR_CONNECTOR_CONTRACT_DRIFT");
  expect(w.kinds()).toEqual(['INTENT "PERMITTED"', 'EFFECT "FAILED"']);
});

test("a dispatch that throws leaves the outcome UNKNOWN", async () => {
  const w = world(async () => {
    throw new Error("connection reset");
  });
  const result = await w.run();
  expect(result.kind === "failed" && result.code).toBe("ERR_OUTCOME_UNKNOWN");
  expect(w.kinds()).toEqual(['INTENT "PERMITTED"', 'EFFECT "UNKNOWN"']);
});

test("a repeat under the same key is answered from the record and not dispatched again", async () => {
  let dispatched = 0;
  const w = world(async () => ({ status: "succeeded", output: { number: ++dispatched } }));
  const [first, second] = await Promise.all([w.run({ idempotencyKey: "k" }), w.run({ idempotencyKey: "k" })]);
  expect(second).toEqual(first);
  expect([dispatched, w.kinds()]).toEqual([1, ['INTENT "PERMITTED"', 'EFFECT "SUCCEEDED"']]);
  const other = await w.run({ idempotencyKey: "k" }, { repo: "acme/web", title: "other" });
  expect(other.kind === "denied" && other.code).toBe("REPLAY_DETECTED");
});

test("more than fifty denials a second leave one record a second with their count", async () => {
  const w = world(succeed);
  for (let i = 0; i < 80; i++) await w.run({}, { repo: "other/web", title: "x" });
  expect(w.journal.nodes.length).toBe(50);
  w.pass(1000);
  await w.run({}, { repo: "other/web", title: "x" });
  expect(w.journal.nodes[50]?.node.body).toMatchObject({
    reason_code: "RATE_LIMIT_EXCEEDED",
    usage: { calls: 31 },
  });
});
