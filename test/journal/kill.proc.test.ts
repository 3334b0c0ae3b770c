// Real processes, real kills, real files: a kill -9 at every call of short runs on each path, 1,000 points in all. Longer
// runs and more of them are in `test/long/kill.ts`.
import { expect, test } from "vitest";
import { bundledWorker, createLab } from "./kill/points.ts";
import type { Path } from "./kill/points.ts";

const AT_ONCE = 4;
const worker = bundledWorker();
const tally = { points: 0, kills: 0 };

/** Runs begin where a snapshot and a new segment are near; calls at once change which records share a sync. */
const RUNS: readonly [
  Path,
  { readonly decisions: number; readonly before?: number; readonly width?: number },
][] = [
  ["run", { decisions: 40, before: 15 }],
  ["run", { decisions: 30, before: 15, width: 2 }],
  ["run", { decisions: 60, before: 45, width: 4 }],
  ["export", { decisions: 40 }],
  ["condense", { decisions: 40 }],
  ["recover", { decisions: 40 }],
  ["recover", { decisions: 70, width: 3 }],
];

for (const [path, run] of RUNS)
  test(`kill -9 at every call of ${path} ${JSON.stringify(run)} loses nothing acknowledged (I1, I2, I5)`, async () => {
    const lab = await createLab(path, worker, run);
    try {
      const calls = await lab.calls();
      expect(calls).toBeGreaterThan(8);
      const wrong: string[] = [];
      let next = 1;
      let kills = 0;
      const some = async (): Promise<void> => {
        while (next <= calls) {
          const call = next++;
          const outcome = await lab.kill(call);
          if (outcome.killed) kills++;
          if (outcome.wrong !== "") wrong.push(`${call}: ${outcome.wrong}`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, some));
      expect(wrong).toEqual([]);
      // A run's last calls may come in another number than when they were counted.
      expect(kills).toBeGreaterThan(calls * 0.9);
      tally.points += calls;
      tally.kills += kills;
    } finally {
      lab.remove();
    }
  });

test("and there are 1,000 of them", () => {
  console.log(`${tally.kills} kills at ${tally.points} calls`);
  expect(tally.kills).toBeGreaterThanOrEqual(1000);
});
