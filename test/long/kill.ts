// kill -9 at every call to the file system of runs of decisions, of exports, condensations and recoveries.
//
//   node test/long/kill.ts [--points 10000] [--paths run,export,condense,recover] [--decisions 200] [--at-once 2]
//
// The killed process counts its own calls and kills itself where one begins, so that a point costs about the start of a
// process and a look at what is left. Prints a line for each round and exits 1 at a node that was acknowledged and lost, a
// store or pack that does not verify, a snapshot that says something else than the log, or a call that was done twice or
// without its intent.
import { asked, someOf, amount } from "../../kind-e2e/asked.ts";
import { PATHS, bundledWorker, createLab } from "../journal/kill/points.ts";

const wish = asked(
  "usage: node test/long/kill.ts [--points 10000] [--paths run,export,condense,recover] [--decisions 200] [--at-once 2]",
  { points: amount(10_000, 1), decisions: amount(200, 1), "at-once": amount(2, 1), paths: someOf(...PATHS) },
);
const wanted = wish.points;
const worker = bundledWorker();
const tally = { points: 0, kills: 0, wrong: 0 };
const decisions = wish.decisions;
for (let round = 0; tally.points < wanted; round++)
  for (const path of wish.paths) {
    // A run is taken in parts, each from where the last one ended, so that a point late in it costs no more than an early one.
    // Calls at once change which records share a sync, and so the order of calls.
    const part =
      path === "run"
        ? { decisions: 25, before: (round * 25) % decisions }
        : { decisions: 25 + (round % 4) * 25 };
    const lab = await createLab(path, worker, { ...part, width: 1 + (round % 8) });
    const calls = await lab.calls();
    const before = tally.points;
    let next = 1;
    const some = async (): Promise<void> => {
      while (next <= calls && tally.points < wanted) {
        const call = next++;
        tally.points++;
        const outcome = await lab.kill(call);
        if (outcome.killed) tally.kills++;
        if (outcome.wrong === "") continue;
        tally.wrong++;
        console.log(`WRONG ${path} round ${round} at call ${call}: ${outcome.wrong}`);
      }
    };
    await Promise.all(Array.from({ length: wish["at-once"] }, some));
    lab.remove();
    console.log(
      `${path} round ${round}: ${tally.points - before} points of ${calls}; ${tally.kills} kills of ${tally.points} so far, ${tally.wrong} wrong`,
    );
  }
console.log(`${tally.points} points, ${tally.kills} kills, ${tally.wrong} wrong`);
process.exitCode = tally.wrong === 0 ? 0 : 1;
