// Loaded into a measured program (`--import`): how long its event loop was blocked, and how much of that was the machine's.
// A timer that is late was kept by the program's own turn, or by a processor that others had; the kernel counts the latter,
// as the time for which the thread could have run and did not. Each longer block is told as a line on standard output.
import { subscribe } from "node:diagnostics_channel";
import { openSync, readSync } from "node:fs";
import { PerformanceObserver } from "node:perf_hooks";

const STEP_MS = 10;
const TOLD_MS = 25;

const file = openSync(`/proc/${process.pid}/schedstat`, "r");
const buffer = Buffer.alloc(80);
/** Milliseconds for which the main thread ran, and for which it waited for a processor. */
function scheduled(): readonly [ran: number, waited: number] {
  const text = buffer.toString("latin1", 0, readSync(file, buffer, 0, buffer.length, 0));
  const [ran = "0", waited = "0"] = text.split(" ");
  return [Number(ran) / 1e6, Number(waited) / 1e6];
}
let collected = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) collected = Math.max(collected, entry.duration);
}).observe({ entryTypes: ["gc"] });

// While a program is being loaded it serves nobody: counted from where it first listens.
let at = Number.NaN;
let before = scheduled();
subscribe("tracing:net.server.listen:asyncStart", () => {
  if (!Number.isNaN(at)) return;
  at = performance.now();
  before = scheduled();
});
setInterval(() => {
  const now = performance.now();
  const after = scheduled();
  const wall = now - at - STEP_MS;
  if (wall >= TOLD_MS) {
    const own = Math.max(0, wall - (after[1] - before[1]));
    const told = { event: "turn", at: now, wall, own, ran: after[0] - before[0], gc: collected };
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
  collected = 0;
  if (!Number.isNaN(at)) at = now;
  before = after;
}, STEP_MS).unref();
