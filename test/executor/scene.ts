// An executor over a journal in memory, with a clock, books and timers that a test holds in its hand.

import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Facts, Input, Policy, SealedNode, ToolCall } from "../../kernel/contracts/contracts.ts";
import { createExecutor } from "../../kernel/executor/executor.ts";
import type { Dispatch, ExecutorOptions, Result } from "../../kernel/executor/executor.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { callOf, factsOf, memoryJournal, sampleDoc } from "../guardian/sample.ts";

export const policy = compilePolicy(sampleDoc);
export const issue = callOf("tool:github/create_issue", { repo: "acme/web", title: "crash" });
export const other = callOf("tool:github/create_issue", { repo: "acme/web", title: "other" });
export const START = Date.parse("2026-11-18T10:00:00.000Z");
export const done: Dispatch = async () => ({ status: "succeeded", output: { number: 7 } });

interface Setting {
  readonly options?: Partial<ExecutorOptions>;
  readonly fails?: (append: number) => boolean;
}
export function scene({ options = {}, fails = () => false }: Setting = {}) {
  const journal = memoryJournal(fails);
  /** What a restart would read. */
  const entries: (Input | SealedNode)[] = [];
  let now = START;
  let counter = 0;
  let active: Policy = policy;
  let dispatched = 0;
  const timers = new Map<() => void, number>();
  const books: string[] = [];
  const executor = createExecutor({
    journal: {
      append(drafts, inputs) {
        const appended = journal.append(drafts, inputs);
        entries.push(...inputs, ...appended.nodes);
        return appended;
      },
    },
    clock: {
      now: () => now,
      after(ms, run) {
        timers.set(run, ms);
        return () => timers.delete(run);
      },
    },
    random: () => {
      const bytes = new Uint8Array(16);
      new DataView(bytes.buffer).setUint32(0, ++counter);
      return bytes;
    },
    budget: {
      reserve: (key) => books.push(`reserve ${key.slice(0, 4)}`),
      settle: (_key, used) => books.push(`settle ${used.calls} ${used.cost_microusd}`),
      release: () => books.push("release"),
    },
    ...options,
  });
  const run = (
    call: ToolCall = issue,
    over: Partial<Facts> = {},
    dispatch: Dispatch = done,
  ): Promise<Result> =>
    executor.run({
      call,
      policy: () => active,
      gather: () => factsOf(active, { now: timestampOf(now), ...over }),
      dispatch: (permit, signal) => {
        dispatched++;
        return dispatch(permit, signal);
      },
    });
  return {
    executor,
    journal,
    entries,
    run,
    books,
    timers,
    dispatched: () => dispatched,
    pass: (ms: number) => void (now += ms),
    swap: (next: Policy) => void (active = next),
    receipts: () => journal.nodes.map((n) => parseReceipt(n.node.body)),
  };
}
export const codeOf = (r: Result): string => (r.kind === "done" ? "done" : `${r.kind} ${r.code}`);
