// The executor's threads: each runs one task at a time and is replaced when it is ended. A guest that runs is ended by
// ending its thread; a compilation cannot be ended that way, so there the whole process has to go.

import { Worker } from "node:worker_threads";
import { REAL_STACK_MIB } from "./limits.ts";
import type { Answer, Task } from "./worker.ts";

export type Ending = Answer | { readonly answer: "overrun"; readonly stuck: boolean };

interface Job {
  readonly task: Task;
  readonly timeMs: number;
  readonly done: (ending: Ending) => void;
}
interface Seat {
  worker: Worker;
  job: Job | undefined;
  timer: NodeJS.Timeout | undefined;
}

/** How long a thread may take to end once told to. */
const END_MS = 200;

export class Pool {
  readonly #entry: string;
  readonly #idle: Seat[] = [];
  readonly #queue: Job[] = [];

  constructor(entry: string, size: number) {
    this.#entry = entry;
    for (let i = 0; i < size; i++) this.#seat();
  }

  give(task: Task, timeMs: number, done: (ending: Ending) => void): void {
    const job: Job = { task, timeMs, done };
    const seat = this.#idle.pop();
    if (seat === undefined) this.#queue.push(job);
    else this.#start(seat, job);
  }

  #seat(): void {
    const seat: Seat = { worker: this.#spawn(), job: undefined, timer: undefined };
    this.#listen(seat);
    this.#free(seat);
  }

  #spawn(): Worker {
    return new Worker(this.#entry, {
      env: {},
      stdin: false,
      resourceLimits: { stackSizeMb: REAL_STACK_MIB, maxOldGenerationSizeMb: 128 },
    });
  }

  #listen(seat: Seat): void {
    seat.worker.on("message", (answer: Answer) => {
      this.#finish(seat, answer);
      this.#free(seat);
    });
    seat.worker.on("error", () => undefined); // its exit follows
    seat.worker.on("exit", () => {
      this.#finish(seat, { answer: "fault" });
      seat.worker = this.#spawn();
      this.#listen(seat);
      this.#free(seat);
    });
  }

  #free(seat: Seat): void {
    const job = this.#queue.shift();
    if (job === undefined) this.#idle.push(seat);
    else this.#start(seat, job);
  }

  #finish(seat: Seat, ending: Ending): void {
    const job = seat.job;
    clearTimeout(seat.timer);
    seat.timer = undefined;
    seat.job = undefined;
    job?.done(ending);
  }

  #start(seat: Seat, job: Job): void {
    seat.job = job;
    seat.worker.postMessage(job.task, []);
    seat.timer = setTimeout(() => this.#overrun(seat, job), job.timeMs);
  }

  #overrun(seat: Seat, job: Job): void {
    if (job.task.task !== "run") return this.#finish(seat, { answer: "overrun", stuck: true });
    // Answered once the thread is gone: until then it still takes a core.
    const done = job.done;
    seat.job = { ...job, done: () => done({ answer: "overrun", stuck: false }) };
    seat.timer = setTimeout(() => {
      seat.job = { ...job, done: () => done({ answer: "overrun", stuck: true }) };
      this.#finish(seat, { answer: "fault" });
    }, END_MS);
    void seat.worker.terminate();
  }
}
