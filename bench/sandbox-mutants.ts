// The mutants of test/sandbox in number, for a night.

import { asked, amount } from "../kind-e2e/asked.ts";
import { FIXTURES } from "../test/sandbox/fixtures.ts";
import { tryMutants } from "../test/sandbox/mutants.ts";

const { mutants, seed } = asked("usage: node bench/sandbox-mutants.ts [--mutants 100000] [--seed 2]", {
  mutants: amount(100_000, 1),
  seed: 2,
});
const seeds = await Promise.all(FIXTURES.map((fixture) => fixture.build()));
const counts = tryMutants(seeds, mutants, seed);
console.log(JSON.stringify({ ...counts, faults: counts.faults.slice(0, 10) }));
process.exitCode = counts.faults.length === 0 ? 0 : 1;
