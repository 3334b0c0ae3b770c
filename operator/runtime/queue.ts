// Keys that need work: each at most once in the queue and at most once in flight, with a pause that grows on failure.

export interface QueueOptions {
  readonly work: (key: string) => Promise<void>;
  readonly onError?: (key: string, error: unknown, failures: number) => void;
  readonly concurrency?: number;
  readonly now?: () => number;
  /** Runs `f` after `ms`; the returned function takes it back. */
  readonly later?: (f: () => void, ms: number) => () => void;
}
export interface Queue {
  add(key: string): void;
  /** Adds the key after `ms`, or sooner if it is added otherwise. */
  addAfter(key: string, ms: number): void;
  readonly depth: () => number;
  /** Resolves when nothing is queued or in flight (delayed keys do not count). */
  idle(): Promise<void>;
  stop(): void;
}

const FIRST_MS = 5;
const LONGEST_MS = 16 * 60_000;

export function makeQueue(options: QueueOptions): Queue {
  const later =
    options.later ??
    ((f, ms) => {
      const timer = setTimeout(f, ms);
      timer.unref();
      return () => clearTimeout(timer);
    });
  const waiting = new Set<string>();
  const flying = new Set<string>();
  const again = new Set<string>();
  const delayed = new Map<string, { at: number; cancel: () => void }>();
  const failures = new Map<string, number>();
  const now = options.now ?? (() => performance.now());
  let idlers: (() => void)[] = [];
  let stopped = false;

  const finish = (key: string): void => {
    flying.delete(key);
    if (again.delete(key)) waiting.add(key);
    pump();
    if (waiting.size === 0 && flying.size === 0) {
      const done = idlers;
      idlers = [];
      for (const resolve of done) resolve();
    }
  };
  const run = async (key: string): Promise<void> => {
    try {
      await options.work(key);
      failures.delete(key);
    } catch (error) {
      const count = (failures.get(key) ?? 0) + 1;
      failures.set(key, count);
      options.onError?.(key, error, count);
      queue.addAfter(key, Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(count - 1, 20)));
    }
    finish(key);
  };
  const pump = (): void => {
    for (const key of waiting) {
      if (stopped || flying.size >= (options.concurrency ?? 1)) return;
      waiting.delete(key);
      flying.add(key);
      void run(key);
    }
  };
  const queue: Queue = {
    add(key) {
      if (stopped) return;
      delayed.get(key)?.cancel();
      delayed.delete(key);
      if (flying.has(key)) again.add(key);
      else waiting.add(key);
      pump();
    },
    addAfter(key, ms) {
      if (stopped) return;
      const at = now() + ms;
      const known = delayed.get(key);
      if (known !== undefined && known.at <= at) return;
      known?.cancel();
      delayed.set(key, {
        at,
        cancel: later(() => {
          delayed.delete(key);
          queue.add(key);
        }, ms),
      });
    },
    depth: () => waiting.size + flying.size,
    idle: () =>
      waiting.size === 0 && flying.size === 0
        ? Promise.resolve()
        : new Promise((resolve) => idlers.push(resolve)),
    stop() {
      stopped = true;
      for (const { cancel } of delayed.values()) cancel();
      delayed.clear();
      waiting.clear();
    },
  };
  return queue;
}
