// `npm run mutation`: every mutant of the guardian, the receipts and the proof graph, each tried with the tests that
// reach it. ATOLL_SAMPLE=10 tries every tenth, ATOLL_MUTATE names other folders of kernel/; ATOLL_SHOW=1 prints every survivor.

import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import type { Site } from "./mutate.ts";
import { TESTS } from "./plugin.ts";
import { cases, reading } from "./shim.ts";
import type { Case } from "./shim.ts";

interface Mutation {
  active: number;
  readonly hits: Set<number>;
  ticks: number;
  limit: number;
}
declare global {
  var __mutation: Mutation;
  var __sites: Site[] | undefined;
}
const mutation = globalThis.__mutation;
const LEAST = 90;
/** Every so many mutants one is tried. */
const SAMPLE = Number(process.env["ATOLL_SAMPLE"] ?? 1);
const LOG = process.env["ATOLL_MUTATION_LOG"];

async function load(): Promise<void> {
  cases.length = 0;
  for (const name of TESTS) {
    const path = join("../..", `${name}.test.ts`);
    if (!existsSync(join("test", `${name}.test.ts`))) continue;
    reading(name);
    await import(path);
  }
}
interface Measured {
  readonly one: Case;
  readonly hits: ReadonlySet<number>;
  readonly ms: number;
  readonly ticks: number;
}
const timeout = async (ms: number): Promise<never> =>
  await new Promise((_, reject) => setTimeout(() => reject(new Error("too long")), ms));
async function fails({ one, ms, ticks }: Measured): Promise<boolean> {
  mutation.ticks = 0;
  mutation.limit = ticks * 10 + 100_000;
  try {
    await Promise.race([one.run(), timeout(ms * 20 + 10_000)]);
    return false;
  } catch {
    return true;
  } finally {
    mutation.limit = Number.POSITIVE_INFINITY;
  }
}

async function measureAll(): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const one of cases) {
    mutation.hits.clear();
    mutation.ticks = 0;
    const start = performance.now();
    try {
      await one.run();
    } catch (error) {
      throw new Error(`${one.file}: ${one.name} fails without a mutant`, { cause: error });
    }
    measured.push({
      one,
      hits: new Set(mutation.hits),
      ms: performance.now() - start,
      ticks: mutation.ticks,
    });
  }
  return measured.toSorted((a, b) => a.ms - b.ms);
}

test("nine in ten mutants are found", async () => {
  mutation.hits.clear();
  await load();
  const atLoad = new Set(mutation.hits);
  const measured = await measureAll();
  const sites = [...(globalThis.__sites ?? [])];
  const said = (s: Site): string => `${s.file}:${s.line} ${s.operator}: ${s.from} → ${s.to}`;
  const survivors: Site[] = [];
  const unreached: Site[] = [];
  let found = 0;
  let reloads = 0;
  // What is decided once, when a file is read, cannot be switched: tables of names, and the like.
  const fixed = sites.filter((s) => atLoad.has(s.id) && !measured.some((m) => m.hits.has(s.id)));
  const tried = sites.filter((s) => !fixed.includes(s)).filter((_, i) => i % SAMPLE === 0);
  for (const site of tried) {
    const reach = measured.filter((m) => m.hits.has(site.id));
    let killed = false;
    mutation.active = site.id;
    for (const m of reach) {
      if (!(await fails(m))) continue;
      // What was killed has to pass again, else the mutant has left something behind.
      mutation.active = 0;
      killed = !(await fails(m));
      if (!killed) {
        vi.resetModules();
        await load();
        reloads++;
        killed = true;
      }
      break;
    }
    mutation.active = 0;
    if (killed) found++;
    else if (reach.length === 0) unreached.push(site);
    else survivors.push(site);
    if (LOG !== undefined && !killed)
      appendFileSync(LOG, `${reach.length === 0 ? "unreached" : "survived"} ${said(site)}\n`);
  }
  const score = (100 * found) / tried.length;
  if (process.env["ATOLL_SHOW"] === "1") for (const s of [...survivors, ...unreached]) console.log(said(s));
  console.log(
    `mutants: ${sites.length}, ${fixed.length} of them fixed on reading; tried ${tried.length}, found ${found} (${score.toFixed(2)} %), survived ${survivors.length}, unreached ${unreached.length}; ${measured.length} tests, ${reloads} reloads`,
  );
  expect(score).toBeGreaterThanOrEqual(LEAST);
});
