// `npm run mutation`: changes the guardian, the receipts and the proof graph in every small way that the operators of
// mutate.ts know, one at a time, and asks the tests that reach the change whether they find it.
//
//   --folder NAMES    of kernel/, by commas                    guardian,receipts,proofgraph
//   --file PATH       one source instead of folders
//   --tests PATHS     test files, by commas, instead of the list below
//   --without PATHS   test files to leave out
//   --sample N        every Nth mutant                         1
//   --jobs N          processes                                1
//   --least PERCENT   of each folder, else the exit code is 1  90
//   --state FILE      what is known already; a found mutant stays found while its source and the test that found it are
//                     the same, another is tried again when any test changes
//   --fresh           asks everything again
//   --json            the result as one JSON object
//   --help            this
//
// Nothing is measured by the clock on the wall: loops are counted, what waits is seen by doing nothing, what never ends is
// ended by the processor time that it used. So a busy machine gives the same score.

import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { EQUAL } from "./equal.ts";
import { mutate } from "./mutate.ts";
import type { Site } from "./mutate.ts";
import type { Measured, Plan, Ready, Tried } from "./worker.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/$/, "");
const FOLDERS = ["guardian", "receipts", "proofgraph", "executor"];
const MORE = ["test/ceremony/ceremony.test.ts"];
/** Processor time for one mutant beyond what its tests need, in seconds. */
const PATIENCE = 10;

const { values } = parseArgs({
  options: {
    folder: { type: "string", default: "guardian,receipts,proofgraph" },
    file: { type: "string" },
    tests: { type: "string" },
    without: { type: "string", default: "" },
    sample: { type: "string", default: "1" },
    jobs: { type: "string", default: "1" },
    least: { type: "string", default: "90" },
    state: { type: "string", default: join(tmpdir(), "atoll-mutants.jsonl") },
    fresh: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h" },
  },
});

const listed = (text: string): string[] => text.split(",").filter((part) => part !== "");
const filesOf = (folder: string, fits: RegExp): string[] =>
  readdirSync(join(root, folder))
    .filter((name) => fits.test(name))
    .map((name) => `${folder}/${name}`);
const sources =
  values.file === undefined
    ? listed(values.folder).flatMap((name) => filesOf(`kernel/${name}`, /\.ts$/))
    : [values.file];
const without = new Set(listed(values.without));
const tests = (
  values.tests === undefined
    ? [...FOLDERS.flatMap((name) => filesOf(`test/${name}`, /^[^.]+\.test\.ts$/)), ...MORE]
    : listed(values.tests)
).filter((path) => !without.has(path));

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16);
const prints = new Map<string, string>();
const printOf = (path: string): string => {
  const found =
    prints.get(path) ??
    (existsSync(join(root, path)) ? digest(readFileSync(join(root, path), "utf8")) : "gone");
  prints.set(path, found);
  return found;
};
const allTests = digest(tests.map((path) => `${path} ${printOf(path)}`).join("\n"));
/** The same mutant of the same text. */
const nameOf = (site: Site, first: number): string => `${site.file} ${printOf(site.file)} ${site.id - first}`;

interface Known {
  readonly name: string;
  readonly status: Tried["status"];
  readonly by: string;
  readonly print: string;
}
function known(): Map<string, Known> {
  const found = new Map<string, Known>();
  if (values.fresh) rmSync(values.state, { force: true });
  if (!existsSync(values.state)) return found;
  for (const line of readFileSync(values.state, "utf8").split("\n")) {
    if (line === "") continue;
    const one: Known = JSON.parse(line);
    found.set(one.name, one);
  }
  return found;
}
const holds = (one: Known): boolean =>
  one.status === "killed" ? tests.includes(one.by) && one.print === printOf(one.by) : one.print === allTests;

const say = (line: string): void => void process.stderr.write(`${line}\n`);

let measured: Measured | null = null;
/** As each worker numbers them. */
const firstOf = new Map(sources.map((path, i) => [path, 1 + i * 10_000]));
const sites: readonly Site[] = sources.flatMap(
  (path) => mutate(path, readFileSync(join(root, path), "utf8"), firstOf.get(path) ?? 0).sites,
);
const children = new Set<ChildProcess>();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
async function started(): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL("worker.ts", import.meta.url)), [], {
    cwd: root,
    serialization: "advanced",
    execArgv: ["--max-old-space-size=2000", "--stack-size=900"],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  children.add(child);
  child.once("exit", () => children.delete(child));
  const plan: Plan = { root, sources, tests, measured };
  return await new Promise((resolve, reject) => {
    const ended = (code: number | null): void => reject(new Error(`the tests could not be run (${code})`));
    child.once("exit", ended);
    child.once("message", (ready: Ready) => {
      child.off("exit", ended);
      ({ measured } = ready);
      resolve(child);
    });
    child.send(plan);
  });
}
/** Processor time of a process, in seconds. */
function used(pid: number): number {
  try {
    const [user = "0", system = "0"] = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ")
      .slice(11, 13);
    return (Number(user) + Number(system)) / 100;
  } catch {
    return 0;
  }
}
/** Null when the process ended, or was ended, under the mutant. */
function tried(child: ChildProcess, id: number, seconds: number): Promise<Tried | "ended" | "crashed"> {
  return new Promise((resolve) => {
    const pid = child.pid ?? 0;
    const begun = used(pid);
    const watch = setInterval(() => {
      if (used(pid) - begun > seconds) finish("ended");
    }, 2_000);
    const crashed = (): void => finish("crashed");
    const told = (result: Tried): void => finish(result);
    function finish(result: Tried | "ended" | "crashed"): void {
      clearInterval(watch);
      child.off("exit", crashed).off("message", told);
      if (result === "ended") child.kill("SIGKILL");
      resolve(result);
    }
    child.once("exit", crashed).once("message", told).send(id);
  });
}

interface Count {
  killed: number;
  survived: number;
  unreached: number;
}
const scoreOf = (c: Count): number => (100 * c.killed) / Math.max(1, c.killed + c.survived + c.unreached);

async function main(): Promise<number> {
  const begun = performance.now();
  const before = known();
  const results = new Map<number, Tried["status"]>();
  const chosen = sites.filter((_, i) => i % Number(values.sample) === 0);
  const open: Site[] = [];
  for (const site of chosen) {
    const one = before.get(nameOf(site, firstOf.get(site.file) ?? 0));
    if (one !== undefined && holds(one)) results.set(site.id, one.status);
    else open.push(site);
  }
  say(`${sites.length} mutants in ${sources.length} files, ${open.length} to try`);
  const crashes: string[] = [];
  let told = performance.now();
  async function work(own: ChildProcess): Promise<void> {
    let process_ = own;
    for (let site = open.shift(); site !== undefined; site = open.shift()) {
      const total = measured?.cases.reduce((sum, c) => sum + c.ms, 0) ?? 0;
      const seconds = PATIENCE + (total / 1000) * 5;
      let result = await tried(process_, site.id, seconds);
      if (result === "crashed") {
        process_ = await started();
        result = await tried(process_, site.id, seconds);
      }
      if (result === "crashed" || result === "ended") {
        crashes.push(said(site));
        process_ = await started();
        result = { id: site.id, status: "killed", by: tests[0] ?? "", tired: false };
      }
      results.set(site.id, result.status);
      const print = result.status === "killed" ? printOf(result.by) : allTests;
      const name = nameOf(site, firstOf.get(site.file) ?? 0);
      appendFileSync(
        values.state,
        `${JSON.stringify({ name, status: result.status, by: result.by, print })}\n`,
      );
      if (result.tired && open.length > 0) {
        process_.kill("SIGKILL");
        process_ = await started();
      }
      if (performance.now() - told > 30_000) {
        told = performance.now();
        const now = counted(chosen.filter((s) => results.has(s.id)));
        say(
          `${results.size} of ${chosen.length}: killed ${now.killed}, survived ${now.survived}, unreached ${now.unreached}`,
        );
      }
    }
    process_.kill("SIGKILL");
  }
  const said = (s: Site): string => `${s.file}:${s.line}:${s.column} ${s.operator}: ${s.from} → ${s.to}`;
  const counted = (of: readonly Site[]): Count => {
    const count: Count = { killed: 0, survived: 0, unreached: 0 };
    for (const site of of) count[results.get(site.id) ?? "unreached"]++;
    return count;
  };
  // The first one measures the tests for the others; where nothing is left to try none is needed.
  const workers: Promise<void>[] = [];
  for (let n = 0; n < Number(values.jobs) && open.length > 0; n++) workers.push(work(await started()));
  await Promise.all(workers);

  const excused = new Set<number>();
  const wrong: string[] = [];
  for (const e of EQUAL.filter((one) => sources.includes(one.file))) {
    const same = chosen.filter((s) => s.file === e.file && s.from === e.from && s.to === e.to);
    const alive = same.filter((s) => results.get(s.id) !== "killed");
    if (values.sample === "1" && (same.length === 0 || alive.length === 0))
      wrong.push(`${e.file}: ${e.from} → ${e.to} is no mutant that survives`);
    for (const s of alive) excused.add(s.id);
  }
  const judged = chosen.filter((s) => !excused.has(s.id));
  const folders = [...new Set(sources.map((path) => path.split("/").slice(0, 2).join("/")))].map((folder) => {
    const count = counted(judged.filter((s) => s.file.startsWith(`${folder}/`)));
    return { folder, score: scoreOf(count), ...count };
  });
  const all = counted(judged);
  const left = judged.filter((s) => results.get(s.id) !== "killed");
  const minutes = (performance.now() - begun) / 60_000;
  if (values.json)
    console.log(
      JSON.stringify({
        folders,
        all: { score: scoreOf(all), ...all },
        equal: excused.size,
        crashed: crashes,
        left: left.map((s) => ({ ...s, status: results.get(s.id) })),
        minutes,
      }),
    );
  else {
    for (const s of left) console.log(`${results.get(s.id)} ${said(s)}`);
    for (const c of crashes) console.log(`ended ${c}`);
    for (const f of [...folders, { folder: "all", score: scoreOf(all), ...all }])
      console.log(
        `${f.folder}: ${f.score.toFixed(2)} % (killed ${f.killed}, survived ${f.survived}, unreached ${f.unreached})`,
      );
    console.log(
      `${excused.size} that change nothing are not counted (equal.ts says why); ${minutes.toFixed(1)} min`,
    );
  }
  for (const w of wrong) say(w);
  return wrong.length > 0 || folders.some((f) => f.score < Number(values.least)) ? 1 : 0;
}

if (values.help === true)
  console.log(
    readFileSync(fileURLToPath(import.meta.url), "utf8")
      .split("\n\n", 1)[0]
      ?.replaceAll(/^\/\/ ?/gm, ""),
  );
else process.exitCode = await main();
