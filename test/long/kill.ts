// kill -9 at every system call of runs of 200 decisions, of exports, condensations and recoveries.
//
//   node test/long/kill.ts [--points N] [--paths run,export,condense,recover]
//
// Takes about a third of a second for each point and core; 10,000 points take an hour on one. Needs strace. Prints a line
// for each path and exits 1 at a node that was acknowledged and lost, a store that does not verify, or a call that was
// done twice or without its intent.
import { parseArgs } from "node:util";
import { PATHS, bundledWorker, createLab } from "../journal/kill/points.ts";

const { values } = parseArgs({
  options: {
    points: { type: "string", default: "10000" },
    paths: { type: "string", default: PATHS.join(",") },
    help: { type: "boolean", short: "h" },
  },
});
if (values.help === true) {
  console.log("usage: node test/long/kill.ts [--points N] [--paths run,export,condense,recover]");
  process.exit(0);
}
const wanted = Number(values.points);
const paths = PATHS.filter((path) => values.paths.split(",").includes(path));
const worker = bundledWorker();
let points = 0;
let kills = 0;
let wrong = 0;
for (let round = 0; points < wanted; round++)
  for (const path of paths) {
    // Calls at once change which records share a sync, and so the order of system calls.
    const lab = createLab(path, worker, { decisions: 200, width: 1 + (round % 8) });
    const all = lab.points();
    const before = points;
    for (const point of all) {
      if (points >= wanted) break;
      const outcome = await lab.kill(point);
      points++;
      if (outcome.killed) kills++;
      if (outcome.wrong === "") continue;
      wrong++;
      console.log(`WRONG ${path} round ${round} at ${point.call} ${point.when}: ${outcome.wrong}`);
    }
    lab.remove();
    console.log(
      `${path} round ${round}: ${points - before} points of ${all.length}; ${kills} kills so far, ${wrong} wrong`,
    );
  }
console.log(`${points} points, ${kills} kills, ${wrong} wrong`);
process.exitCode = wrong === 0 ? 0 : 1;
