// The laboratory: runs every attempt as the agent, prints a line of JSON for each (what it tried, what stopped it, whether
// its benign twin works), and exits 1 when any way was open. Plain Node, no dependency: the same program runs in a
// namespace and in a pod. `node lab.ts [NAME…]`; its surroundings are JSON in ATOLL_LAB.
import { type Attempt, attempts, dialTcp, type Surroundings } from "./attempts.ts";
import { deadEnds } from "./dead-ends.ts";

const GUARDIAN = 15080;
const surroundings: Surroundings = JSON.parse(process.env["ATOLL_LAB"] ?? "{}");
const wanted = new Set(process.argv.slice(2));

/** The benign twin of every way out: the guardian's own port, which must work in the same breath. */
const twin = async (): Promise<boolean> =>
  (await dialTcp("127.0.0.1", GUARDIAN, 2000, "GET / HTTP/1.1\r\nHost: 127.0.0.1:15080\r\n\r\n")).open;

let opened = 0;
const show = async (attempt: Attempt, deadEnd: boolean): Promise<void> => {
  const { name, leg, tried } = attempt;
  const { open, by } = await attempt.run(surroundings);
  if (open) opened++;
  console.log(JSON.stringify({ name, leg, tried, open, by, twin: await twin(), deadEnd }));
};

for (const attempt of attempts) if (wanted.size === 0 || wanted.has(attempt.name)) await show(attempt, false);
for (const attempt of deadEnds) if (wanted.size === 0 || wanted.has(attempt.name)) await show(attempt, true);
process.exit(opened > 0 ? 1 : 0);
