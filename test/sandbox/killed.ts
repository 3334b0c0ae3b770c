// Calls under way while the executor is killed again and again, and what was sent to each executor.

import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FrameReader, KIND } from "../../kernel/runtime/sandbox/frames.ts";
import { createSandbox } from "../../kernel/runtime/sandbox/sandbox.ts";
import { generator } from "./mutants.ts";

export interface Killed {
  readonly finished: number;
  readonly faults: number;
  /** Endings that are neither. */
  readonly others: readonly string[];
  readonly executors: number;
  readonly kills: number;
  /** Calls that were sent to more than one executor, or more than once to one. */
  readonly twice: number;
  readonly sent: number;
}

export interface KillPlan {
  readonly entry: string;
  readonly module: Uint8Array;
  readonly calls: number;
  readonly kills: number;
  readonly seed: number;
}

/** Each executor's input is written down on its way: a call that ran twice would be in there twice. */
export async function killedUnderLoad({ entry, module, calls, kills, seed }: KillPlan): Promise<Killed> {
  const folder = mkdtempSync(join(tmpdir(), "atoll-killed-"));
  const node = join(folder, "node.sh");
  execFileSync("bash", ["-c", "true"]);
  writeFileSync(node, `#!/bin/bash\nexec "${process.execPath}" "$@" < <(tee "${folder}/$$.in")\n`);
  chmodSync(node, 0o755);
  const random = generator(seed);
  const sandbox = createSandbox({ entry, node, workers: 2 });
  let killed = 0;
  try {
    const count = { begun: 0, done: 0 };
    const endings: string[] = [];
    const caller = async (): Promise<void> => {
      while (count.begun < calls) {
        count.begun++;
        const stdin = new Uint8Array(1_000);
        const result = await sandbox.run({ module, stdin, seed: "", clock: 0 });
        count.done++;
        endings.push(result.ok ? "" : result.code);
      }
    };
    const all = Promise.all(Array.from({ length: 50 }, caller));
    // Spread over the calls, not over time: a slow machine must not see all the kills at the start.
    const marks = Array.from({ length: kills }, () => Math.floor(random() * calls * 0.9)).sort(
      (a, b) => a - b,
    );
    for (const mark of marks) {
      while (count.done < mark) await new Promise((resolve) => setTimeout(resolve, 1));
      await new Promise((resolve) => setTimeout(resolve, random() * 5));
      const { pid } = sandbox;
      if (pid === 0) continue;
      killed++;
      process.kill(pid, "SIGKILL");
    }
    await all;
    await sandbox.close();
    const inputs = readdirSync(folder).filter((name) => name.endsWith(".in"));
    const times = new Map<number, number>();
    for (const name of inputs) {
      const reader = new FrameReader(2 ** 30, ({ kind, call }) => {
        if (kind === KIND.run) times.set(call, (times.get(call) ?? 0) + 1);
      });
      reader.add(readFileSync(join(folder, name)));
    }
    return {
      finished: endings.filter((code) => code === "").length,
      faults: endings.filter((code) => code === "ERR_COMPUTE_HOST_FAULT").length,
      others: endings.filter((code) => code !== "" && code !== "ERR_COMPUTE_HOST_FAULT"),
      executors: inputs.length,
      kills: killed,
      twice: [...times.values()].filter((count) => count > 1).length,
      sent: times.size,
    };
  } finally {
    await sandbox.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
