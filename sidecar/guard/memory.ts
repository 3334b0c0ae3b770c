// What a start leaves behind is given back once. The young generation has grown to its full size by then, and V8 makes it
// small again only when it collects as if nothing else helped; under load it grows to what the load needs.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const AFTER_MS = 1_500;
/**
 * In percent, how much the old generation may grow before it is marked again. For so small a heap V8 says a third, and
 * then marks it every four hundred calls, for a tenth of what they cost. Not before the start: code kept beside the
 * program is only taken under the flags that it was made with.
 */
const GROWTH = 80;

/** Collects once, in a moment in which no call is under way; the answer stops the wait for one. */
export function giveBackMemory(underWay: () => number): () => void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH}`);
  const timer = setInterval(() => {
    if (underWay() > 0) return;
    clearInterval(timer);
    setFlagsFromString("--expose-gc");
    const collect: unknown = runInNewContext("gc");
    if (typeof collect === "function") collect({ type: "major", execution: "sync", flavor: "last-resort" });
    setFlagsFromString("--no-expose-gc");
  }, AFTER_MS);
  timer.unref();
  return () => clearInterval(timer);
}
