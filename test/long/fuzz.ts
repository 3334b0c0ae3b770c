// Fuzz of the policy parser and of the loader of expressions: no crash, no hang over a second of processor time.
//
//   node test/long/fuzz.ts [--runs N] [--from N] [--seed S] [--json] [--plant crash|hang]
//
// Ten million executions take about forty minutes on one core. Anything but a value or our own refusal is a find, and
// so is what takes more than a second. Execution n of a seed is always the same: `--from n --runs 1` asks it again.
// --plant puts a fault in the middle of the run, which has to be found. Exit 1 with a find.

import { asked, oneOf, amount } from "../../kind-e2e/asked.ts";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { executionAt, run } from "../policy/fuzzing.ts";

const LIMIT_MS = 1000;
/** When an execution that does not end is given up. */
const GIVEN_UP_MS = 5000;

interface Task {
  readonly seed: number;
  readonly from: number;
  readonly runs: number;
  readonly plant?: "crash" | "hang";
}
interface Find {
  readonly execution: number;
  readonly what: string;
  readonly input: string;
}
interface Tally {
  executions: number;
  value: number;
  refused: number;
  none: number;
  /** The most processor time that one execution took, and which. */
  worstMs: number;
  worst: number;
}
export interface Fuzzed {
  readonly task: Task;
  readonly executions: number;
  readonly finds: readonly Find[];
  readonly kinds: Readonly<Record<string, Tally>>;
  readonly worstMs: number;
  readonly rssMiB: number;
}

const inputOf = (task: Task, index: number): string =>
  JSON.stringify(executionAt(task.seed, index)).slice(0, 4000);

/** Runs the task in a thread of its own, which is given up when it hangs. */
export function fuzz(task: Task, progress: (line: string) => void = () => undefined): Promise<Fuzzed> {
  const done = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL(import.meta.url), { workerData: { task, done } });
  return new Promise((resolve, reject) => {
    let [moved, since, last] = [0, process.cpuUsage(), performance.now()];
    const watch = setInterval(() => {
      const now = Atomics.load(done, 0);
      if (now !== moved) [moved, since] = [now, process.cpuUsage()];
      const spent = process.cpuUsage(since);
      if (performance.now() - last > 30_000) {
        last = performance.now();
        progress(`${now} of ${task.runs}`);
      }
      // The processor time is that of the whole process, with its compiler and collector: a hang goes far beyond.
      if (now === task.runs || spent.user < GIVEN_UP_MS * 1000) return;
      const index = task.from + now;
      const what = `no end within ${GIVEN_UP_MS} ms of processor time`;
      finish({
        task,
        executions: now,
        kinds: {},
        worstMs: Number.POSITIVE_INFINITY,
        finds: [{ execution: index, what, input: inputOf(task, index) }],
        rssMiB: 0,
      });
    }, 200);
    const finish = (result: Fuzzed): void => {
      clearInterval(watch);
      resolve(result);
      void worker.terminate();
    };
    worker.on("message", finish);
    worker.on("error", (error) => {
      clearInterval(watch);
      reject(error);
    });
  });
}

function work(task: Task, done: Int32Array): Fuzzed {
  const kinds: Record<string, Tally> = {};
  const finds = new Map<string, Find>();
  for (let n = 0; n < task.runs; n++) {
    Atomics.store(done, 0, n);
    const index = task.from + n;
    const execution = executionAt(task.seed, index);
    const tally = (kinds[execution.kind] ??= {
      executions: 0,
      value: 0,
      refused: 0,
      none: 0,
      worstMs: 0,
      worst: 0,
    });
    const before = process.threadCpuUsage();
    try {
      if (task.plant !== undefined && n === task.runs >> 1) planted(task.plant);
      tally[run(execution)]++;
    } catch (error) {
      const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
      const what = stack.split("\n").slice(0, 6).join("\n");
      if (finds.size < 50 && !finds.has(what))
        finds.set(what, { execution: index, what, input: inputOf(task, index) });
    }
    const used = process.threadCpuUsage(before);
    // What the system takes for paging is not ours.
    const ms = used.user / 1000;
    tally.executions++;
    if (ms > tally.worstMs) [tally.worstMs, tally.worst] = [ms, index];
    if (ms > LIMIT_MS) {
      const what = `took ${Math.round(ms)} ms of processor time`;
      finds.set(what, { execution: index, what, input: inputOf(task, index) });
    }
  }
  Atomics.store(done, 0, task.runs);
  return {
    task,
    executions: task.runs,
    kinds,
    finds: [...finds.values()],
    worstMs: Math.max(...Object.values(kinds).map((t) => t.worstMs)),
    rssMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  };
}

function planted(plant: "crash" | "hang"): void {
  if (plant === "crash") throw new TypeError("planted");
  for (;;);
}

async function main(): Promise<number> {
  const { plant, json, ...named } = asked(
    `usage: node test/long/fuzz.ts [--runs N] [--from N] [--seed S] [--json] [--plant crash|hang]
Fuzz of the policy parser and of the loader of expressions; ten million executions take about forty minutes.`,
    { runs: amount(100_000, 1), from: 0, seed: 1, plant: oneOf("crash", "hang"), json: false },
  );
  const task: Task = { ...named, ...(plant === "" ? {} : { plant }) };
  const started = performance.now();
  const result = await fuzz(task, (line) => console.error(line));
  const seconds = Math.round((performance.now() - started) / 1000);
  if (json) console.log(JSON.stringify({ ...result, seconds }, null, 2));
  else {
    for (const f of result.finds) console.log(`FOUND at ${f.execution}: ${f.what}\n  ${f.input}`);
    for (const [kind, t] of Object.entries(result.kinds))
      console.log(
        `${kind}: ${t.executions} executions, ${t.value} values, ${t.refused} refused, ${t.none} without an answer; the longest ${t.worstMs.toFixed(1)} ms (${t.worst})`,
      );
    console.log(
      `seed ${task.seed}: ${result.executions} executions in ${seconds} s, the longest ${result.worstMs.toFixed(1)} ms of processor time, ${result.rssMiB} MiB, ${result.finds.length} finds`,
    );
  }
  return result.finds.length === 0 ? 0 : 1;
}

const port = isMainThread ? null : parentPort;
if (port !== null && isTask(workerData)) port.postMessage(work(workerData.task, workerData.done), []);
else if (import.meta.main) process.exitCode = await main();

function isTask(data: unknown): data is { readonly task: Task; readonly done: Int32Array } {
  return typeof data === "object" && data !== null && "task" in data && "done" in data;
}
