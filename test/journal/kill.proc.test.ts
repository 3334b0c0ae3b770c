// Real processes, real kills, real files: a kill -9 at the calls of short runs on each path. Longer runs and more of them are in
// `test/long/kill.ts`.
import { afterAll, expect, test } from "vitest";
import { PATHS, bundledWorker, createLab } from "./kill/points.ts";
import type { Lab } from "./kill/points.ts";

const WIDTH = 4;
const worker = bundledWorker();
const labs: Lab[] = [];
afterAll(() => labs.forEach((lab) => lab.remove()));

test("kill -9 where a call to the file system begins: at 1,000 calls nothing acknowledged is lost (I1, I2, I5)", async () => {
  const points: { readonly lab: Lab; readonly call: number }[] = [];
  for (const path of PATHS) {
    // Runs that begin where a snapshot and a new segment are near.
    const lab = await createLab(
      path,
      worker,
      path === "run" ? { decisions: 60, before: 15 } : { decisions: 40 },
    );
    labs.push(lab);
    const calls = await lab.calls();
    expect(calls).toBeGreaterThan(8);
    console.log(`${path}: ${calls} calls`);
    for (let call = 1; call <= calls; call++) points.push({ lab, call });
  }
  // Calls at once change what shares a sync.
  for (let width = 2; points.length < 1000; width++) {
    const lab = await createLab("run", worker, { decisions: 60, before: 15, width });
    labs.push(lab);
    const calls = await lab.calls();
    for (let call = 1; call <= calls; call++) points.push({ lab, call });
  }
  let kills = 0;
  const wrong: string[] = [];
  const left = points.values();
  const some = async (): Promise<void> => {
    for (const { lab, call } of left) {
      const outcome = await lab.kill(call);
      if (outcome.killed) kills++;
      if (outcome.wrong !== "") wrong.push(`${lab.path} ${call}: ${outcome.wrong}`);
    }
  };
  await Promise.all(Array.from({ length: WIDTH }, some));
  console.log(`${kills} kills at ${points.length} calls`);
  expect(wrong).toEqual([]);
  expect(kills).toBeGreaterThanOrEqual(950);
});
