// The executor's threads: each runs one task at a time and is replaced when it is ended. A guest that overruns is ended
// by ending its thread; a compilation cannot be ended that way, so there the whole process has to go.

import { Worker } from "node:worker_threads";
import { REAL_STACK_MIB } from "./limits.ts";
import type { Answer, Task, Up } from "./worker.ts";

/** `stuck`: the task goes on, and only the end of the process will end it. */
export type Ending = Answer | { readonly answer: "overrun"; readonly stuck: boolean };

interface Job {
  readonly task: Task;
  readonly timeMs: number;
  readonly done: (ending: Ending) => void;
  timer: NodeJS.Timeout | undefined;
  seat: Seat | undefined;
}
interface Seat {
  readonly worker: Worker;
  state: "starting" | "up" | "ending";
  job: Job | undefined;
}

/** How long a thread may take to end once told to; it needs the processor for that, and others may have it. */
const END_MS = 2_000;

export interface PoolEvents {
  /** The first thread is there. */
  up(): void;
  /** A thread does not start, or does not end: nothing within this process helps. */
  lost(): void;
}

export class Pool {
  readonly #entry: string;
  readonly #events: PoolEvents;
  readonly #idle: Seat[] = [];
  #queue: Job[] = [];
  #up = false;

  /** One thread more than tasks: the next guest need not wait until an ended thread is replaced. */
  constructor(entry: string, tasks: number, events: PoolEvents) {
    this.#entry = entry;
    this.#events = events;
    for (let i = 0; i <= tasks; i++) this.#seat();
  }

  give(task: Task, timeMs: number, done: (ending: Ending) => void): void {
    const job: Job = { task, timeMs, done, timer: undefined, seat: undefined };
    if (this.#up) this.#count(job);
    const seat = this.#idle.pop();
    if (seat === undefined) this.#queue.push(job);
    else this.#start(seat, job);
  }

  /** A call's time counts whether it runs or waits for a thread, so that its caller never waits longer; but not while
   * the process itself is starting. */
  #count(job: Job): void {
    job.timer = setTimeout(() => this.#overrun(job), job.timeMs);
  }

  #seat(): void {
    const worker = new Worker(this.#entry, {
      env: {},
      stdin: false,
      resourceLimits: { stackSizeMb: REAL_STACK_MIB, maxOldGenerationSizeMb: 128 },
    });
    const seat: Seat = { worker, state: "starting", job: undefined };
    worker.on("message", (answer: Answer | Up) => {
      if (seat.state === "ending") return;
      if (answer.answer === "up") {
        seat.state = "up";
        if (!this.#up) this.#first();
      } else if (seat.job !== undefined) this.#finish(seat.job, answer);
      this.#free(seat);
    });
    worker.on("error", () => undefined); // its exit follows
    worker.on("exit", () => {
      if (seat.job !== undefined) this.#finish(seat.job, { answer: "fault" });
      if (seat.state === "up") this.#seat();
      else if (seat.state === "starting") this.#events.lost();
      seat.state = "ending";
    });
  }

  #first(): void {
    this.#up = true;
    for (const job of this.#queue) this.#count(job);
    this.#events.up();
  }

  #free(seat: Seat): void {
    const job = this.#queue.shift();
    if (job === undefined) this.#idle.push(seat);
    else this.#start(seat, job);
  }

  #start(seat: Seat, job: Job): void {
    seat.job = job;
    job.seat = seat;
    seat.worker.postMessage(job.task, []);
  }

  #finish(job: Job, ending: Ending): void {
    clearTimeout(job.timer);
    if (job.seat !== undefined) job.seat.job = undefined;
    job.done(ending);
  }

  #overrun(job: Job): void {
    const { seat } = job;
    const stuck = seat !== undefined && job.task.task !== "run";
    this.#finish(job, { answer: "overrun", stuck });
    if (seat === undefined) this.#queue = this.#queue.filter((waiting) => waiting !== job);
    else if (!stuck) this.#replace(seat);
  }

  #replace(seat: Seat): void {
    seat.state = "ending";
    const timer = setTimeout(() => this.#events.lost(), END_MS);
    seat.worker.once("exit", () => clearTimeout(timer));
    void seat.worker.terminate();
    this.#seat();
  }
}
