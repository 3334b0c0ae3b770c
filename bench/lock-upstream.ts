// The tool server of `bench/lock.ts`, outside the pod.   node bench/lock-upstream.ts ADDRESS
// Tells its URL; then, for each line `{"fresh":…}`, closes what connections it holds and tells how many calls it has done
// since the last one. Fresh: it answers one request on each connection.
import { createInterface } from "node:readline";
import { startUpstream } from "../test/guard/upstream.ts";

const up = await startUpstream(process.argv[2]);
const text = "A line of what a tool had to say about it.\n".repeat(1_525).slice(0, 65_536);
let done = 0;
up.tools.set("do", () => void done++);
up.tools.set("large", () => {
  done++;
  return { content: [{ type: "text", text }], structuredContent: { ok: true } };
});
console.log(JSON.stringify({ mcp: up.mcp }));
for await (const line of createInterface({ input: process.stdin })) {
  const { fresh } = JSON.parse(line) as { fresh: boolean };
  up.server.maxRequestsPerSocket = fresh ? 1 : 0;
  up.server.closeIdleConnections();
  up.done.clear();
  console.log(JSON.stringify({ done }));
  done = 0;
}
