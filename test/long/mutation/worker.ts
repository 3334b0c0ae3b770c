// A process that keeps the sources and the tests loaded and tries one mutant after another. A mutant is switched on in
// place; one that decides something while a file is read is tried with everything read anew.

import { registerHooks, stripTypeScriptTypes } from "node:module";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { mutate } from "./mutate.ts";

export interface Plan {
  readonly root: string;
  /** Sources with mutants, and tests, from the root on. */
  readonly sources: readonly string[];
  readonly tests: readonly string[];
  /** What an earlier worker measured of the same files. */
  readonly measured: Measured | null;
}
export interface Measured {
  readonly cases: readonly {
    readonly file: string;
    readonly name: string;
    readonly ms: number;
    readonly ticks: number;
    readonly hits: Uint32Array;
  }[];
  /** Mutants that are asked for while each test file, with the sources it needs, is read. */
  readonly reading: readonly { readonly file: string; readonly hits: Uint32Array }[];
}
export interface Ready {
  readonly ready: true;
  readonly measured: Measured;
}
export interface Tried {
  readonly id: number;
  readonly status: "killed" | "survived" | "unreached";
  /** The test file that found it. */
  readonly by: string;
  /** What is left behind makes another process advisable. */
  readonly tired: boolean;
}

const STRIDE = 10_000;
const mutation = {
  active: 0,
  hits: new Uint8Array(0),
  ticks: 0,
  limit: Number.POSITIVE_INFINITY,
  tick(): void {
    if (++this.ticks > this.limit) throw new Error("a loop without end");
  },
};
// Some of vitest's expectations ask for the file that runs.
Object.assign(globalThis, { __mutation: mutation, __vitest_worker__: { filepath: "mutants" } });
process.env["ATOLL_RUNS"] ??= "150";
for (const name of ["log", "warn", "error"] as const) console[name] = () => undefined;

let fault: unknown = null;
const noted = (error: unknown): void => void (fault ??= error ?? new Error("rejected"));
process.on("unhandledRejection", noted);
process.on("uncaughtException", noted);

/** One reading of everything; a further one finds every file again. */
let version = 0;
const written = new Map<string, string>();

function hook(plan: Plan): void {
  const root = pathToFileURL(`${plan.root}/`).href;
  const own = (url: string): boolean =>
    (url.startsWith(`${root}kernel/`) || url.startsWith(`${root}test/`)) && !url.includes("/test/long/");
  const first = new Map(plan.sources.map((path, i) => [path, 1 + i * STRIDE]));
  for (const [path, id] of first) {
    const { text, sites: found } = mutate(path, readFileSync(`${plan.root}/${path}`, "utf8"), id);
    if (found.length >= STRIDE) throw new Error(`${path} has too many mutants`);
    written.set(path, stripTypeScriptTypes(text, { mode: "strip" }));
  }
  mutation.hits = new Uint8Array(plan.sources.length * STRIDE + 1);
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === "vitest" && own(context.parentURL ?? ""))
        return { url: new URL("stand-in.ts", import.meta.url).href, shortCircuit: true };
      if (specifier === "fast-check" && own(context.parentURL ?? ""))
        return { url: new URL("properties.ts", import.meta.url).href, shortCircuit: true };
      const found = next(specifier, context);
      return own(found.url) ? { ...found, url: `${found.url.split("?")[0]}?${version}` } : found;
    },
    load(url, context, next) {
      if (!own(url)) return next(url, context);
      const path = fileURLToPath(url.split("?")[0] ?? url);
      const name = path.slice(plan.root.length + 1);
      let source = written.get(name);
      if (source === undefined) {
        source = stripTypeScriptTypes(readFileSync(path, "utf8"), { mode: "strip" });
        written.set(name, source);
      }
      return { format: "module", source, shortCircuit: true };
    },
  });
}

const { casesOf } = await import("./shim.ts");
type Case = Awaited<ReturnType<typeof casesOf>>[number];

const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
/** Rejects when the process has had turns and has done nothing in them: whatever the load of the machine is. */
function quiet(): { readonly rejects: Promise<never>; readonly stop: () => void } {
  let stop = (): void => {};
  const rejects = new Promise<never>((_, reject) => {
    let before = cpu();
    let idle = 0;
    const timer = setInterval(() => {
      const now = cpu();
      idle = now - before < 3 ? idle + 1 : 0;
      before = now;
      if (idle > 40) reject(new Error("waits for ever"));
    }, 50);
    stop = () => clearInterval(timer);
  });
  return { rejects, stop };
}
async function passes(one: Case, limit: number): Promise<boolean> {
  mutation.ticks = 0;
  mutation.limit = limit;
  fault = null;
  const still = quiet();
  try {
    await Promise.race([(async () => await one.run())(), still.rejects]);
    // What a test left unawaited counts as well.
    await new Promise((resolve) => setImmediate(resolve));
    return fault === null;
  } catch (error) {
    fault = error;
    return false;
  } finally {
    still.stop();
    mutation.limit = Number.POSITIVE_INFINITY;
  }
}
const limitOf = (ticks: number): number => ticks * 5 + 20_000;

function taken(): Uint32Array {
  const ids: number[] = [];
  mutation.hits.forEach((hit, id) => {
    if (hit === 1) ids.push(id);
  });
  mutation.hits.fill(0);
  return Uint32Array.from(ids);
}
const read = (root: string, file: string): Promise<readonly Case[]> =>
  casesOf(file, () => import(`${pathToFileURL(`${root}/${file}`).href}?${version}`));

async function main(plan: Plan): Promise<void> {
  hook(plan);
  const all = new Map<string, readonly Case[]>();
  const reading: { file: string; hits: Uint32Array }[] = [];
  async function readAll(): Promise<void> {
    version++;
    for (const file of plan.tests) {
      all.set(file, await read(plan.root, file));
      reading.push({ file, hits: taken() });
    }
  }
  await readAll();
  const measure = async (): Promise<Measured> => {
    const cases: Measured["cases"][number][] = [];
    for (const [file, list] of all)
      for (const one of list) {
        taken();
        const start = cpu();
        if (!(await passes(one, Number.POSITIVE_INFINITY)))
          throw new Error(`${file}: ${one.name} fails without a mutant`, { cause: fault });
        cases.push({ file, name: one.name, ms: cpu() - start, ticks: mutation.ticks, hits: taken() });
      }
    // What another reading asks for: the first one has read each source for one test file only.
    reading.length = 0;
    for (const file of plan.tests) {
      version++;
      taken();
      await read(plan.root, file);
      reading.push({ file, hits: taken() });
    }
    await readAll();
    reading.splice(plan.tests.length);
    return { cases, reading };
  };
  const measured = plan.measured ?? (await measure());
  /** Which cases reach a mutant, the quickest first; and which files ask for it while they are read. */
  const reach = new Map<number, number[]>();
  measured.cases.forEach(({ hits }, i) =>
    hits.forEach((id) => {
      const list = reach.get(id);
      if (list === undefined) reach.set(id, [i]);
      else list.push(i);
    }),
  );
  for (const list of reach.values())
    list.sort((a, b) => (measured.cases[a]?.ms ?? 0) - (measured.cases[b]?.ms ?? 0));
  const readers = new Map<number, string[]>();
  for (const { file, hits } of measured.reading)
    hits.forEach((id) => readers.set(id, [...(readers.get(id) ?? []), file]));
  const first = new Map<string, number>();
  measured.cases.forEach((c, i) => {
    if (!first.has(c.file)) first.set(c.file, i);
  });
  const caseAt = (i: number): Case | undefined => {
    const c = measured.cases[i];
    return c === undefined ? undefined : all.get(c.file)?.[i - (first.get(c.file) ?? 0)];
  };
  let again = 0;
  let tired = false;

  async function inPlace(id: number): Promise<string> {
    for (const i of reach.get(id) ?? []) {
      const one = caseAt(i);
      const limit = limitOf(measured.cases[i]?.ticks ?? 0);
      if (one === undefined) throw new Error("a test is gone");
      mutation.active = id;
      const found = !(await passes(one, limit));
      mutation.active = 0;
      if (!found) continue;
      // What was found has to pass again, else the mutant, or chance, has left something behind.
      if (!(await passes(one, limit))) {
        await readAll();
        again++;
        const fresh = caseAt(i);
        if (fresh === undefined || !(await passes(fresh, limit))) continue;
      }
      return one.file;
    }
    return "";
  }
  /** With the mutant there from the first line on. */
  async function fromTheStart(id: number): Promise<string> {
    const files = readers.get(id) ?? [];
    again++;
    const cost = (file: string): number =>
      measured.cases.filter((c) => c.file === file).reduce((sum, c) => sum + c.ms, 0);
    // Who reads the source itself is the likeliest to see it.
    const source = `/${basename(plan.sources[Math.floor((id - 1) / STRIDE)] ?? "")}"`;
    const far = (file: string): number => (written.get(file)?.includes(source) === true ? 0 : 1);
    for (const file of files.toSorted((a, b) => far(a) - far(b) || cost(a) - cost(b))) {
      version++;
      mutation.active = id;
      try {
        const list = await read(plan.root, file);
        const at = first.get(file) ?? 0;
        if (list.length !== all.get(file)?.length) return file;
        for (const [n, one] of list.entries())
          if (!(await passes(one, limitOf(measured.cases[at + n]?.ticks ?? 0)))) return file;
      } catch {
        return file;
      } finally {
        mutation.active = 0;
      }
    }
    return "";
  }
  async function attempt(id: number): Promise<Tried> {
    const reached = reach.has(id) || readers.has(id);
    const by = (reach.has(id) ? await inPlace(id) : "") || (readers.has(id) ? await fromTheStart(id) : "");
    tired ||= again > 150 || process.memoryUsage().heapUsed > 900 << 20;
    return { id, status: by === "" ? (reached ? "survived" : "unreached") : "killed", by, tired };
  }
  process.on("message", (id: number) => {
    void attempt(id).then(
      (tried) => process.send?.(tried),
      () => process.exit(3),
    );
  });
  process.send?.({ ready: true, measured } satisfies Ready);
}
process.once("message", (plan: Plan) => {
  main(plan).catch((error: unknown) => {
    const cause = error instanceof Error ? error.cause : undefined;
    process.stderr.write(
      `${String(error)} ${cause instanceof Error ? (cause.stack ?? "") : String(cause)}\n`,
    );
    process.exit(2);
  });
});
