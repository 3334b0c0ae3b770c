// Real processes, real kills. Every call of a run is in `test/long/kill.ts`; here a sample, spread over each path.
import { afterAll, describe, expect, test } from "vitest";
import { PATHS, bundledWorker, createLab } from "./kill/points.ts";

const worker = bundledWorker();
const labs = PATHS.map((path) => createLab(path, worker, { decisions: 40 }));
afterAll(() => labs.forEach((lab) => lab.remove()));

describe("kill -9 at a system call (I1, I2, I5)", () => {
  for (const lab of labs)
    test(`of the path ${lab.path} loses nothing that was acknowledged`, async () => {
      const all = lab.points();
      expect(all.length).toBeGreaterThan(5);
      const most = lab.path === "run" ? 36 : 10;
      const some = all.filter((_, i) => i % Math.max(1, Math.floor(all.length / most)) === 0);
      let killed = 0;
      const wrong: string[] = [];
      for (const point of some) {
        const outcome = await lab.kill(point);
        if (outcome.killed) killed++;
        if (outcome.wrong !== "") wrong.push(`${point.call} ${point.when}: ${outcome.wrong}`);
      }
      expect(wrong).toEqual([]);
      expect(killed).toBeGreaterThan(some.length / 2);
      console.log(`${lab.path}: ${killed} kills at ${all.length} calls`);
    });
});
