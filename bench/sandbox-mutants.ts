// node bench/sandbox-mutants.ts [count] [seed]: the mutants of test/sandbox in number, for a night.

import { FIXTURES } from "../test/sandbox/fixtures.ts";
import { tryMutants } from "../test/sandbox/mutants.ts";

const count = Number(process.argv[2] ?? 100_000);
const seeds = await Promise.all(FIXTURES.map((fixture) => fixture.build()));
const counts = tryMutants(seeds, count, Number(process.argv[3] ?? 2));
console.log(JSON.stringify({ ...counts, faults: counts.faults.slice(0, 10) }));
process.exitCode = counts.faults.length === 0 ? 0 : 1;
