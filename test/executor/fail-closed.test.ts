// The fourteen conditions under which nothing may pass, each through the executor's door: one code, no second
// dispatch, and the record that says so.

import { describe, expect, test } from "vitest";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Code, Facts, JsonObject, Policy, ToolCall } from "../../kernel/contracts/contracts.ts";
import { createExecutor } from "../../kernel/executor/executor.ts";
import type { Outcome, Result } from "../../kernel/executor/executor.ts";
import { tokenVerifier } from "../../kernel/identity/identity.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { world as ceremony } from "../ceremony/world.ts";
import { callOf, factsOf, memoryJournal, sampleDoc } from "../guardian/sample.ts";

const NOW = Date.parse("2026-11-18T10:00:00.000Z");
const plain = compilePolicy(sampleDoc);
const issue = callOf("tool:github/create_issue", { repo: "acme/web", title: "crash" });
const release = callOf("tool:github/create_release", { repo: "acme/web", title: "v1" });
const sum = callOf("tool:calc/sum", { n: [1, 2] }, "wasm");
const done: Outcome = { status: "succeeded", output: { number: 7 } };

interface Setting {
  readonly call?: ToolCall;
  readonly policy?: Policy;
  readonly facts?: Partial<Facts>;
  readonly outcome?: Outcome;
  /** How long the INTENT takes to become durable. */
  readonly syncMs?: number;
}
function guarded(setting: Setting) {
  const { call = issue, policy = plain, facts = {}, outcome = done, syncMs = 0 } = setting;
  const journal = memoryJournal();
  let now = NOW;
  let dispatched = 0;
  let counter = 0;
  const executor = createExecutor({
    journal: {
      append(drafts, inputs) {
        const placed = journal.append(drafts, inputs);
        return { ...placed, durable: placed.durable.then(() => void (now += syncMs)) };
      },
    },
    clock: { now: () => now, after: () => () => {} },
    random: () => new Uint8Array(16).fill(++counter),
  });
  return {
    journal,
    dispatched: () => dispatched,
    run: () =>
      executor.run({
        call,
        policy: () => policy,
        gather: () => factsOf(policy, { now: timestampOf(now), ...facts }),
        dispatch: async () => {
          dispatched++;
          return outcome;
        },
      }),
  };
}
const codeOf = (r: Result): Code | "" => (r.kind === "done" ? "" : r.code);

const withPerimeter: JsonObject = {
  ...sampleDoc,
  perimeter: { hours: { days: ["Sat", "Sun"], from: "00:00", to: "23:59", timezone: "UTC" } },
};
const spent = (calls: number): Partial<Facts> => ({
  budget: { ...factsOf(plain).budget, session: { calls, tokens: 0, costMicroUsd: 0 } },
});
const noVerifier = tokenVerifier(null)("a.b.c", NOW);
const compute = (code: Code): Setting => ({
  call: sum,
  facts: { destination: { state: "none" } },
  outcome: { status: "failed", code, usage: { gas: 100, gas_limit: 100, gas_schedule: 1 } },
});

/** What is denied before anything happens, and what fails after the INTENT. */
const DENIED: readonly (readonly [string, Code, Setting])[] = [
  ["1 unknown tool", "DENY_TOOL_NOT_FOUND", { call: callOf("tool:github/delete_repo", {}) }],
  [
    "2 input schema",
    "DENY_SCHEMA_MISMATCH",
    { call: callOf("tool:github/create_issue", { repo: "acme/web", title: 7 }) },
  ],
  ["4 budget", "DENY_BUDGET_EXCEEDED", { facts: spent(200) }],
  ["5 approval required", "DENY_APPROVAL_REQUIRED", { call: release }],
  [
    "10 no matching policy",
    "DENY_NO_MATCH",
    { call: callOf("tool:github/create_issue", { repo: "other/web", title: "x" }) },
  ],
  [
    "13 auth not configured",
    "AUTH_NOT_CONFIGURED",
    {
      facts: noVerifier.ok
        ? {}
        : { principal: { state: "refused", code: noVerifier.code, detail: noVerifier.detail } },
    },
  ],
  ["14 perimeter", "PERIMETER_VIOLATION", { policy: compilePolicy(withPerimeter) }],
];
const FAILED: readonly (readonly [string, Code, number, Setting])[] = [
  [
    "3 output drift",
    "ERR_CONNECTOR_CONTRACT_DRIFT",
    1,
    { outcome: { status: "succeeded", output: { number: "7" } } },
  ],
  ["7a WASI gas", "ERR_COMPUTE_GAS_EXHAUSTED", 1, compute("ERR_COMPUTE_GAS_EXHAUSTED")],
  ["7b WASI time", "ERR_COMPUTE_TIME_EXHAUSTED", 1, compute("ERR_COMPUTE_TIME_EXHAUSTED")],
  ["8 WASI memory", "ERR_COMPUTE_MEMORY_EXHAUSTED", 1, compute("ERR_COMPUTE_MEMORY_EXHAUSTED")],
  ["9 WASI output", "ERR_COMPUTE_OUTPUT_EXHAUSTED", 1, compute("ERR_COMPUTE_OUTPUT_EXHAUSTED")],
  ["11 decision expired", "DECISION_EXPIRED", 0, { syncMs: 30_000 }],
];

describe("the fourteen conditions", () => {
  test.each(DENIED)("%s is %s, before anything happens", async (_name, code, setting) => {
    const w = guarded(setting);
    const result = await w.run();
    expect([codeOf(result), w.dispatched()]).toEqual([code, 0]);
    const [node, ...more] = w.journal.nodes;
    expect([node?.node.kind, more]).toEqual(["ATTESTATION", []]);
    const receipt = parseReceipt(node?.node.body ?? {});
    expect([receipt.reason_code, receipt.verdict]).toEqual([
      code,
      code === "DENY_APPROVAL_REQUIRED" ? "ESCALATE" : "DENY",
    ]);
  });

  test.each(FAILED)("%s is %s, in the EFFECT", async (_name, code, dispatches, setting) => {
    const w = guarded(setting);
    const result = await w.run();
    expect([result.kind, codeOf(result), w.dispatched()]).toEqual(["failed", code, dispatches]);
    expect(w.journal.nodes.map((n) => n.node.kind)).toEqual(["INTENT", "EFFECT"]);
    const receipt = parseReceipt(w.journal.nodes[1]?.node.body ?? {});
    expect([receipt.reason_code, receipt.status]).toEqual([code, "FAILED"]);
    expect(receipt.usage.calls).toBe(dispatches);
  });

  test("6 approval timeout is DENY_APPROVAL_TIMEOUT, once, and nothing is dispatched", async () => {
    const w = ceremony();
    expect(codeOf(await w.call())).toBe("DENY_APPROVAL_REQUIRED");
    w.pass(901_000);
    const late = await w.call();
    expect([late.kind, codeOf(late), w.dispatched]).toEqual(["denied", "DENY_APPROVAL_TIMEOUT", 0]);
    expect(codeOf(await w.call())).toBe("DENY_APPROVAL_REQUIRED");
  });

  test("12 an idempotent duplicate gets the first receipt and no second dispatch", async () => {
    const w = guarded({ facts: { idempotencyKey: "k" } });
    const first = await w.run();
    const second = await w.run();
    expect(second).toEqual(first);
    expect([first.kind, w.dispatched(), w.journal.nodes.length]).toEqual(["done", 1, 2]);
  });

  test("and the same call without any of them is done", async () => {
    const w = guarded({});
    expect((await w.run()).kind).toBe("done");
    const computed = guarded({ call: sum, facts: { destination: { state: "none" } } });
    expect((await computed.run()).kind).toBe("done");
    expect((await guarded({ facts: spent(199) }).run()).kind).toBe("done");
    expect((await guarded({ syncMs: 29_999 }).run()).kind).toBe("done");
  });
});
