// Steps that are counted: what passed, what failed and why, and one closing line.
import { Failure } from "../failure.ts";

export type Step = (sentence: string, run: () => Promise<void>) => Promise<boolean>;
export type Counted = {
  readonly say: (text: string) => void;
  readonly step: Step;
  /** Prints `N passed, N failed`; the answer is the exit code. */
  readonly close: () => number;
};

export function counted(): Counted {
  const began = performance.now();
  let passed = 0;
  let failed = 0;
  const say = (text: string): void => {
    process.stdout.write(`${((performance.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}\n`);
  };
  return {
    say,
    step: async (sentence, run) => {
      const from = performance.now();
      const took = (): string => `(${((performance.now() - from) / 1000).toFixed(1)} s)`;
      try {
        await run();
        passed++;
        say(`ok      ${sentence} ${took()}`);
        return true;
      } catch (error) {
        failed++;
        const message =
          error instanceof Failure
            ? error.message
            : error instanceof Error
              ? (error.stack ?? error.message)
              : String(error);
        say(`FAILED  ${sentence} ${took()}\n            ${message.replaceAll("\n", "\n            ")}`);
        return false;
      }
    },
    close: () => {
      process.stdout.write(`${passed} passed, ${failed} failed\n`);
      return failed === 0 && passed > 0 ? 0 : 1;
    },
  };
}
