// One thread of the executor: admits modules and runs guests, one at a time, and keeps nothing between them.

import type { MessagePort } from "node:worker_threads";
import { admit, invoke } from "./invoke.ts";
import type { Admitted, Outcome, RunRequest } from "./invoke.ts";
import { inspectModule } from "./inspect.ts";
import type { Inspection } from "./inspect.ts";
import type { ModuleLimits } from "./limits.ts";
import { PAGE } from "./limits.ts";
import { Refusal } from "./refusal.ts";
import type { Reason } from "./refusal.ts";

export type Task =
  | { readonly task: "admit"; readonly bytes: Uint8Array; readonly limits: ModuleLimits }
  | { readonly task: "inspect"; readonly bytes: Uint8Array; readonly limits: ModuleLimits }
  | { readonly task: "run"; readonly admitted: Admitted; readonly request: RunRequest };

export type Answer =
  | { readonly answer: "admitted"; readonly admitted: Admitted }
  | { readonly answer: "refused"; readonly reason: Reason }
  | { readonly answer: "inspected"; readonly inspection: Inspection }
  | { readonly answer: "ran"; readonly outcome: Outcome }
  | { readonly answer: "fault" };

/** The first thing a thread says. */
export interface Up {
  readonly answer: "up";
}

/** Memories wait for a collection, and the collector sees little of them: collect by what was used. */
const COLLECT_PAGES = (32 * 1024 * 1024) / PAGE;
const COLLECT_RUNS = 256;

export function serve(port: MessagePort): void {
  let pages = 0;
  let runs = 0;
  port.on("message", (task: Task) => {
    const answer = perform(task);
    port.postMessage(answer, []);
    if (answer.answer !== "ran") return;
    pages += answer.outcome.peakPages;
    runs++;
    if (pages < COLLECT_PAGES && runs < COLLECT_RUNS) return;
    pages = 0;
    runs = 0;
    globalThis.gc?.();
  });
  const up: Up = { answer: "up" };
  port.postMessage(up, []);
}

function perform(task: Task): Answer {
  try {
    if (task.task === "run") return { answer: "ran", outcome: invoke(task.admitted, task.request) };
    if (task.task === "admit") return { answer: "admitted", admitted: admit(task.bytes, task.limits) };
    return { answer: "inspected", inspection: inspectModule(task.bytes, task.limits) };
  } catch (error) {
    return error instanceof Refusal ? { answer: "refused", reason: error.reason } : { answer: "fault" };
  }
}
