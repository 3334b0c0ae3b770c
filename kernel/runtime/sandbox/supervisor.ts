// The guardian's end of the executor: starts it, hands it calls, ends it with SIGKILL when it overruns, and starts
// the next one. A call is sent to one executor once; when that one dies the call is answered, never sent again.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { ExecutorConfig } from "./executor.ts";
import { encodeFrame, FrameReader, KIND } from "./frames.ts";
import type { Frame } from "./frames.ts";

export interface SupervisorOptions {
  /** The executor's file; by default the one beside this. */
  readonly entry: string;
  readonly node: string;
  readonly flags: readonly string[];
  readonly config: ExecutorConfig;
}

export interface ModuleSource {
  readonly hash: string;
  /** Asked for only where the executor has not the module yet. */
  bytes(): Promise<Uint8Array | undefined>;
}

/** What the guardian sends for one call. */
export interface Order {
  readonly kind: number;
  readonly meta: object;
  readonly payload: Uint8Array;
  /** The module, where the executor may have to be given it first. */
  readonly module: ModuleSource | undefined;
  readonly timeMs: number;
}

export type Reply = { readonly frame: Frame } | { readonly lost: "overrun" | "fault" };

interface Pending {
  readonly order: Order;
  readonly timer: NodeJS.Timeout;
  readonly done: (reply: Reply) => void;
}

/** Slack over a call's own time before the guardian no longer waits for the executor to see to it. */
const GRACE_MS = 2_000;
const LONGEST_FRAME = 80 * 1024 * 1024;
const HEAP_MIB = 256;

/** The optimising compiler alone, so that a guest runs as fast in its first loop as in its last. What it inlines widens
 * real frames, not logical ones: that has to stay small beside the real stack. */
export const COMPILER = ["--no-liftoff", "--wasm-inlining-budget=500"];

/** No environment, no file but its own code, no socket, no process, no code from text. */
const FLAGS = [
  "--permission",
  "--allow-worker",
  "--disallow-code-generation-from-strings",
  "--disable-proto=throw",
  ...COMPILER,
  "--expose-gc",
  "--no-warnings",
  `--max-old-space-size=${HEAP_MIB}`,
];

/** Everything is compiled before it runs, so that a call's time is its own. From source Node strips types with a large
 * module of its own, which would be compiled whole at every start: there, functions are compiled as they are called. */
export const EAGER = "--no-wasm-lazy-compilation";

export class Supervisor {
  readonly #options: SupervisorOptions;
  #child: ChildProcess | undefined;
  #loaded = new Set<string>();
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  #closed = false;
  #ready = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#spawn();
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }
  get underWay(): number {
    return this.#pending.size;
  }

  async call(order: Order): Promise<Reply> {
    if (this.#closed) return { lost: "fault" };
    if (this.#child === undefined) this.#spawn();
    const known = order.module === undefined || this.#loaded.has(order.module.hash);
    if (order.module !== undefined && !known && !(await this.#load(order.module))) return { lost: "fault" };
    const call = this.#next;
    this.#next = (this.#next % 0xffff_fffe) + 1;
    return new Promise((resolve) => {
      const { compileMs } = this.#options.config;
      const wait = (this.#ready ? 0 : compileMs) + order.timeMs + (known ? 0 : compileMs) + GRACE_MS;
      const timer = setTimeout(() => this.#kill(call), wait);
      this.#pending.set(call, { order, timer, done: resolve });
      this.#send(encodeFrame(call, order.kind, order.meta, order.payload));
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    const child = this.#child;
    if (child === undefined) return;
    await new Promise<void>((resolve) => {
      child.once("exit", () => resolve());
      child.kill("SIGKILL");
    });
  }

  async #load(module: ModuleSource): Promise<boolean> {
    const bytes = await module.bytes();
    if (bytes === undefined) return false;
    this.#loaded.add(module.hash);
    this.#send(encodeFrame(0, KIND.load, { hash: module.hash }, bytes));
    return true;
  }

  #send(bytes: Buffer): void {
    this.#child?.stdin?.write(bytes);
  }

  #spawn(): void {
    const { entry, node, flags, config } = this.#options;
    const unbundled = entry.endsWith(".ts");
    const readable = unbundled ? fileURLToPath(new URL("../../", import.meta.url)) : dirname(entry);
    const child = spawn(
      node,
      [
        ...FLAGS,
        ...(unbundled ? [] : [EAGER]),
        `--allow-fs-read=${readable}`,
        ...flags,
        entry,
        JSON.stringify(config),
      ],
      { env: {}, cwd: "/", stdio: ["pipe", "pipe", "ignore"] },
    );
    this.#child = child;
    this.#ready = false;
    this.#loaded = new Set();
    const reader = new FrameReader(LONGEST_FRAME, (frame) => this.#receive(frame));
    child.stdout.on("data", (chunk: Buffer) => {
      if (this.#child !== child) return;
      try {
        reader.add(chunk);
      } catch {
        this.#end(child);
      }
    });
    child.stdin.on("error", () => undefined); // its exit follows
    child.on("error", () => this.#end(child));
    child.on("exit", () => this.#end(child));
  }

  #receive(frame: Frame): void {
    if (frame.kind === KIND.ready) {
      this.#ready = true;
      return;
    }
    const pending = this.#pending.get(frame.call);
    if (pending === undefined) return; // answered already, as overrun
    if (frame.kind === KIND.need) {
      void this.#again(frame.call, pending.order);
      return;
    }
    this.#settle(frame.call, { frame });
    if (frame.meta["stuck"] === true) this.#end(this.#child);
  }

  /** The executor has forgotten the module, so that the call has not begun: it gets both once more. */
  async #again(call: number, order: Order): Promise<void> {
    const child = this.#child;
    const found = order.module !== undefined && (await this.#load(order.module));
    if (!found) this.#settle(call, { lost: "fault" });
    else if (this.#child === child && this.#pending.has(call))
      this.#send(encodeFrame(call, order.kind, order.meta, order.payload));
  }

  #settle(call: number, reply: Reply): void {
    const pending = this.#pending.get(call);
    if (pending === undefined) return;
    this.#pending.delete(call);
    clearTimeout(pending.timer);
    pending.done(reply);
  }

  #kill(call: number): void {
    this.#settle(call, { lost: "overrun" });
    this.#end(this.#child);
  }

  /** Ends an executor, whether or not it is gone already: its calls are answered, the next one starts. */
  #end(child: ChildProcess | undefined): void {
    if (child === undefined || this.#child !== child) return;
    const early = !this.#ready;
    this.#child = undefined;
    child.kill("SIGKILL");
    for (const call of this.#pending.keys()) this.#settle(call, { lost: "fault" });
    // One that dies before it is ready would die again: wait for the next call to try.
    if (!this.#closed && !early) this.#spawn();
  }
}
