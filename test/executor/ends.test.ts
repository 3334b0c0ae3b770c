// Every end of a call: what is answered, what is recorded, what stays reserved.

import { describe, expect, test } from "vitest";
import type { Facts, Usage } from "../../kernel/contracts/contracts.ts";
import { createThrottle } from "../../kernel/executor/executor.ts";
import type { Dispatch, ExecutorOptions, Result } from "../../kernel/executor/executor.ts";
import { fly } from "../../kernel/executor/flight.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { EMPTY_USAGE } from "../../kernel/receipts/receipts.ts";
import { codeOf, done, issue, policy, scene, START } from "./scene.ts";
import { callOf, factsOf, sampleDoc, session } from "../guardian/sample.ts";

const later = compilePolicy({ ...sampleDoc, name: "later" });
const model = callOf("model:openai/gpt-x", {});
const net = callOf("net:a.docs.example:443", {});
const known = (host: string): Partial<Facts> => ({ destination: { state: "known", host, port: 443 } });
const detailOf = (r: Result): string => ("detail" in r ? r.detail : "");

describe("after the INTENT", () => {
  test("a policy that changed meanwhile is not dispatched under, and nothing stays reserved", async () => {
    const s = scene();
    const call = s.run();
    s.swap(later);
    expect(codeOf(await call)).toBe("failed POLICY_EPOCH_CHANGED");
    expect([s.dispatched(), s.books]).toEqual([0, ["reserve eff_", "release"]]);
  });
  test("what is frozen before the dispatch is not dispatched", async () => {
    const s = scene();
    const call = s.run();
    expect(s.executor.underWay).toBe(1);
    s.executor.abort();
    expect(codeOf(await call)).toBe("failed SYSTEM_FROZEN");
    expect([s.dispatched(), s.executor.underWay, s.receipts().map((r) => r.usage.calls)]).toEqual([
      0,
      0,
      [1, 0],
    ]);
  });
  test("an abort under way leaves the outcome unknown and the reservation standing; another session's does not", async () => {
    for (const [own, expected] of [
      [true, "failed ERR_OUTCOME_UNKNOWN"],
      [false, "done"],
    ] as const) {
      const s = scene();
      const call = s.run(issue, {}, async (permit, signal) => {
        queueMicrotask(() => s.executor.abort(own ? session : (`ses_${"9".repeat(32)}` as never)));
        await new Promise((resolve) => setTimeout(resolve, 5));
        return signal.aborted ? await new Promise(() => {}) : await done(permit, signal);
      });
      const result = await call;
      expect(codeOf(result)).toBe(expected);
      expect(s.books).toEqual(own ? ["reserve eff_"] : ["reserve eff_", "settle 1 0"]);
    }
  });
  test("what takes longer than its tool may is a timeout, and its timer is gone after", async () => {
    const s = scene();
    const call = s.run(issue, {}, async () => {
      const [[ring, ms] = []] = s.timers;
      expect(ms).toBe(10_000);
      ring?.();
      return await new Promise(() => {});
    });
    const result = await call;
    expect([codeOf(result), detailOf(result)]).toEqual([
      "failed ERR_CONNECTOR_TIMEOUT",
      "aborted while under way",
    ]);
    expect([s.timers.size, s.receipts()[1]?.status]).toEqual([0, "UNKNOWN"]);
  });
  test("a model has no timer, and a connection's output no hash", async () => {
    const s = scene();
    const asked = await s.run(model, known("api.openai.example"), async () => {
      expect(s.timers.size).toBe(0);
      return { status: "succeeded", output: "text" };
    });
    expect(asked.kind === "done" && asked.receipt.output_hash).toMatch(/^sha256:/);
    const opened = await s.run(net, known("a.docs.example"));
    expect(opened.kind === "done" && opened.receipt.output_hash).toBe("");
  });
  test.each<[string, Dispatch, string, string, readonly string[]]>([
    [
      "a refusal before anything",
      async () => ({ status: "failed", code: "ERR_CONNECTOR_FAILED", detail: "no" }),
      "ERR_CONNECTOR_FAILED",
      "no",
      ["release"],
    ],
    [
      "a refusal with usage",
      async () => ({ status: "failed", code: "ERR_CONNECTOR_FAILED", usage: { cost_microusd: 3 } }),
      "ERR_CONNECTOR_FAILED",
      "",
      ["settle 1 3"],
    ],
    [
      "not known",
      async () => ({ status: "unknown", detail: "who knows" }),
      "ERR_OUTCOME_UNKNOWN",
      "who knows",
      [],
    ],
    ["not known, silent", async () => ({ status: "unknown" }), "ERR_OUTCOME_UNKNOWN", "", []],
    ["thrown", () => Promise.reject(new Error("reset")), "ERR_OUTCOME_UNKNOWN", "reset", []],
    [
      "thrown that is no error",
      () => {
        // eslint-disable-next-line typescript/only-throw-error -- a connector may throw anything
        throw "text";
      },
      "ERR_OUTCOME_UNKNOWN",
      "text",
      [],
    ],
    [
      "an output without a canonical form",
      async () => ({ status: "succeeded", output: { number: Number.NaN } }),
      "ERR_CONNECTOR_CONTRACT_DRIFT",
      "a number that is not finite has no canonical form",
      ["settle 1 0"],
    ],
    [
      "an output against its pin",
      async () => ({ status: "succeeded", output: {} }),
      "ERR_CONNECTOR_CONTRACT_DRIFT",
      ": must have required property 'number'",
      ["settle 1 0"],
    ],
    [
      "a described part against its pin",
      async () => ({ status: "succeeded", output: { number: 7 }, checked: [] }),
      "ERR_CONNECTOR_CONTRACT_DRIFT",
      ": must be object",
      ["settle 1 0"],
    ],
  ])("%s", async (_what, dispatch, code, detail, books) => {
    const s = scene();
    const result = await s.run(issue, {}, dispatch);
    expect([codeOf(result), detailOf(result)]).toEqual([`failed ${code}`, detail]);
    expect(s.books).toEqual(["reserve eff_", ...books]);
    expect(s.receipts().map((r) => r.status)).toEqual([
      "PERMITTED",
      code === "ERR_OUTCOME_UNKNOWN" ? "UNKNOWN" : "FAILED",
    ]);
    expect(s.executor.healthy).toBe(true);
  });
  test("usage is written in whole numbers, never below nothing", async () => {
    const s = scene();
    const usage: Partial<Usage> = {
      tokens_in: 1.2,
      tokens_out: -5,
      cost_microusd: Number.NaN,
      bytes_in: 2 ** 60,
      gas: 7,
      calls: 99,
    };
    await s.run(issue, {}, async () => {
      s.pass(12);
      return { status: "succeeded", output: { number: 7 }, usage };
    });
    const used = {
      ...EMPTY_USAGE,
      calls: 1,
      tokens_in: 2,
      bytes_in: Number.MAX_SAFE_INTEGER,
      duration_ms: 12,
      gas: 7,
    };
    expect(s.receipts()[1]?.usage).toEqual(used);
    await s.run(issue, {}, async () => {
      s.pass(-5);
      return { status: "succeeded", output: { number: 7 } };
    });
    expect(s.receipts()[3]?.usage).toEqual({ ...EMPTY_USAGE, calls: 1 });
  });
  test("what was reserved is in the INTENT, for a restart", async () => {
    const s = scene();
    await s.run(issue, {
      budget: { ...factsOf(policy).budget, estimate: { calls: 1, tokens: 9, costMicroUsd: 5 } },
    });
    expect(s.receipts()[0]?.usage).toEqual({ ...EMPTY_USAGE, calls: 1, tokens_in: 9, cost_microusd: 100 });
  });
  test("no permit of the guardian, no dispatch", async () => {
    const verdict = decide(issue, policy, factsOf(policy));
    if (verdict.verdict !== "ALLOW") return expect.fail(verdict.code);
    const flight = { session, abort: new AbortController() };
    const clock = { now: () => START, after: () => () => {} };
    const request = { call: issue, policy: () => policy, gather: () => factsOf(policy), dispatch: done };
    const forged = Object.assign({}, verdict.permit);
    expect(await fly(request, forged as never, flight, clock)).toMatchObject({
      status: "FAILED",
      code: "POLICY_EVALUATION_ERROR",
      begun: false,
    });
    expect(await fly(request, verdict.permit, flight, clock)).toMatchObject({
      status: "SUCCEEDED",
      begun: true,
    });
    expect(await fly(request, verdict.permit, flight, { ...clock, now: () => Number.NaN })).toMatchObject({
      code: "DECISION_EXPIRED",
    });
  });
});

describe("before the INTENT", () => {
  test("a budget that cannot be reserved denies", async () => {
    const s = scene({
      options: { budget: { reserve: () => expect.fail("full"), settle() {}, release() {} } },
    });
    const result = await s.run();
    expect([codeOf(result), detailOf(result), s.dispatched()]).toEqual(["denied BUDGET_ERROR", "full", 0]);
  });
  test("what cannot be gathered denies without a record", async () => {
    const s = scene();
    const thrown = await s.executor.run({
      call: issue,
      policy: () => policy,
      gather: () => expect.fail("no facts"),
      dispatch: done,
    });
    expect([codeOf(thrown), detailOf(thrown), s.journal.nodes.length]).toEqual([
      "denied POLICY_EVALUATION_ERROR",
      "no facts",
      0,
    ]);
  });
  test.each<[string, ExecutorOptions["journal"]["append"]]>([
    ["throws", () => expect.fail("disk")],
    ["has nothing to say", () => ({ nodes: [], durable: Promise.resolve() })],
  ])("a journal that %s denies, and what was reserved is released", async (_what, append) => {
    const books: string[] = [];
    const budget = {
      reserve: () => void books.push("reserve"),
      settle() {},
      release: () => void books.push("release"),
    };
    const s = scene({ options: { journal: { append }, budget } });
    expect([codeOf(await s.run()), s.dispatched(), books]).toEqual([
      "denied JOURNAL_UNAVAILABLE",
      0,
      ["reserve", "release"],
    ]);
    expect(codeOf(await s.run(callOf("tool:no/where", {})))).toBe("denied JOURNAL_UNAVAILABLE");
  });
});

describe("the EFFECT", () => {
  test("that cannot be written stops the taking of calls, also when it throws", async () => {
    for (const broken of [
      scene({ fails: (n) => n === 2 }),
      scene({ options: { random: counted(4, () => expect.fail("no randomness")) } }),
    ]) {
      const result = await broken.run();
      expect(codeOf(result)).toBe("failed ERR_RECEIPT_UNSEALED");
      expect(result.kind === "failed" && result.receipt?.status).toBe("PERMITTED");
      expect([broken.executor.healthy, codeOf(await broken.run())]).toEqual([
        false,
        "denied JOURNAL_UNAVAILABLE",
      ]);
    }
  });
  test("is written although the books are closed or the listener fails", async () => {
    const s = scene({
      options: {
        budget: { reserve() {}, settle: () => expect.fail("books"), release: () => expect.fail("books") },
        listen: () => expect.fail("ears"),
      },
    });
    expect(codeOf(await s.run())).toBe("done");
    expect(
      codeOf(await s.run(issue, {}, async () => ({ status: "failed", code: "ERR_CONNECTOR_FAILED" }))),
    ).toBe("failed ERR_CONNECTOR_FAILED");
    expect(s.receipts().map((r) => r.status)).toEqual(["PERMITTED", "SUCCEEDED", "PERMITTED", "FAILED"]);
  });
  test("and the verdict are told, in the order of their records", async () => {
    const heard: string[] = [];
    const s = scene({
      options: {
        listen: ({ node, receipt, verdict }) =>
          heard.push(`${node.node.kind} ${receipt.status} ${verdict.verdict}`),
      },
    });
    await s.run();
    await s.run(callOf("tool:no/where", {}));
    expect(heard).toEqual(["INTENT PERMITTED ALLOW", "EFFECT SUCCEEDED ALLOW", "ATTESTATION DENIED DENY"]);
  });
});
/** Random bytes until the n-th time. */
function counted(n: number, then: () => Uint8Array): () => Uint8Array {
  let count = 0;
  return () => (++count >= n ? then() : new Uint8Array(16).fill(count));
}

describe("a flood of denials", () => {
  const nowhere = callOf("tool:no/where", {});
  test("turns every call away for the rest of the second, also what would be allowed", async () => {
    const s = scene();
    for (let i = 0; i < 50; i++) expect(codeOf(await s.run(nowhere))).toBe("denied DENY_TOOL_NOT_FOUND");
    expect(codeOf(await s.run(nowhere))).toBe("denied RATE_LIMIT_EXCEEDED");
    expect([codeOf(await s.run()), s.dispatched()]).toEqual(["denied RATE_LIMIT_EXCEEDED", 0]);
    expect(s.journal.nodes.length).toBe(50);
    s.pass(1000);
    expect(codeOf(await s.run())).toBe("done");
    const next = await s.run(nowhere);
    expect([codeOf(next), next.kind === "denied" && next.receipt?.usage.calls]).toEqual([
      "denied RATE_LIMIT_EXCEEDED",
      3,
    ]);
    expect(codeOf(await s.run(nowhere))).toBe("denied DENY_TOOL_NOT_FOUND");
  });
  test("is counted by session", () => {
    const throttle = createThrottle();
    const second = `ses_${"9".repeat(32)}` as typeof session;
    for (let i = 0; i < 50; i++) expect(throttle.refusal(session, 500)).toBe(1);
    expect([
      throttle.floods(session, 999),
      throttle.floods(second, 999),
      throttle.floods(session, 1000),
    ]).toEqual([true, false, false]);
    expect([throttle.refusal(session, 1000), throttle.refusal(session, 1000)]).toEqual([2, 1]);
  });
});

test("a refused approval that was told is told on, whatever the listener does", async () => {
  const id = `apr_${"1".repeat(32)}` as never;
  const told: unknown[] = [];
  for (const refusalTold of [(t: unknown) => void told.push(t), () => expect.fail("deaf")]) {
    const s = scene({ options: { refusalTold } });
    const call = callOf("tool:github/create_release", { repo: "acme/web", title: "v1" });
    expect(codeOf(await s.run(call, { approval: { state: "refused", id, code: "APPROVAL_REJECTED" } }))).toBe(
      "denied APPROVAL_REJECTED",
    );
    expect(
      codeOf(
        await s.run(issue, {
          approval: { state: "refused", id, code: "APPROVAL_REJECTED" },
          freeze: { state: "frozen", node: `sha256:${"0".repeat(64)}` as never, reason: "" },
        }),
      ),
    ).toBe("denied SYSTEM_FROZEN");
  }
  expect(told).toEqual([id]);
});
