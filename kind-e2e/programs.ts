// The cluster's programs: found where someone put them, else built from their Go modules and kept.
import { spawn, spawnSync } from "node:child_process";
import {
  accessSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, homedir } from "node:os";
import { join } from "node:path";
import {
  linkerFlags,
  modulesFolder,
  patches,
  pinHash,
  programs,
  type Program,
  type ProgramName,
} from "./pins.ts";
import { Failure } from "./failure.ts";

export type Report = (line: string) => void;

export const cacheFolder = (environment: NodeJS.ProcessEnv = process.env): string =>
  join(environment["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "atoll", "cluster");

const isExecutable = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/** Where a program lies or will lie: ATOLL_CLUSTER_BIN's folder wins, the cache is named by the pins. */
export function programPath(name: ProgramName, environment: NodeJS.ProcessEnv = process.env): string {
  const given = environment["ATOLL_CLUSTER_BIN"];
  if (given) return join(given, name);
  const { module } = programOf(name);
  return join(cacheFolder(environment), `${module}-${pinHash(module)}`, name);
}

const programOf = (name: ProgramName): Program => {
  const found = programs.find((p) => p.name === name);
  if (!found) throw new Failure(`no such program: \`${name}\``);
  return found;
};

export const missingPrograms = (wanted: readonly ProgramName[]): Program[] =>
  programs.filter((p) => wanted.includes(p.name) && !isExecutable(programPath(p.name)));

/** The line that a person waiting reads. */
export const progressLine = (done: number, all: number, name: string, secondsLeft: number): string =>
  `building ${name} (${done + 1} of ${all}; about ${secondsLeft < 90 ? `${secondsLeft} s` : `${Math.ceil(secondsLeft / 60)} min`} left)`;

const run = async (
  command: string,
  args: readonly string[],
  folder: string,
  report: Report,
  label: string,
): Promise<void> => {
  const environment = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false", GOWORK: "off" };
  // The compiler must not outlive an interrupted start, nor take the machine from those who work on it.
  const child = spawn("setpriv", ["--pdeathsig", "TERM", "nice", command, ...args], {
    cwd: folder,
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let tail = "";
  let downloads = 0;
  const keep = (chunk: Buffer): void => {
    const text = chunk.toString("utf8");
    downloads += text.match(/go: downloading/gu)?.length ?? 0;
    tail = (tail + text).slice(-4000);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const started = Date.now();
  const beat = setInterval(() => {
    const seconds = Math.round((Date.now() - started) / 1000);
    report(`  … ${label}: ${seconds} s${downloads > 0 ? `, ${downloads} modules downloaded` : ""}`);
  }, 20_000);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    if (code !== 0)
      throw new Failure(`\`${command} ${args.join(" ")}\` in ${folder} ended with ${code}:\n${tail}`);
  } finally {
    clearInterval(beat);
  }
};

/** Go 1.26 itself, or one from 1.21 on that is allowed to fetch it: the modules name the version they need. */
export const goSuffices = (version: string, toolchain: string): boolean => {
  const minor = Number(/^go1\.(\d+)/u.exec(version)?.[1] ?? 0);
  return minor >= 26 || (minor >= 21 && toolchain !== "local");
};

const requireGo = (): void => {
  const told = spawnSync("go", ["env", "GOVERSION", "GOTOOLCHAIN"], { encoding: "utf8" });
  const [version = "", toolchain = ""] = (told.stdout ?? "").split("\n");
  if (!goSuffices(version, toolchain))
    throw new Failure(
      `building the cluster's programs needs Go 1.26, or 1.21 and later to fetch it, found ${version || "none"}; install it, or name a folder with the programs in ATOLL_CLUSTER_BIN`,
    );
};

// A patched module is vendored into a work folder first: the module cache itself is never written to.
const sourceFolder = async (
  program: Program,
  report: Report,
): Promise<{ folder: string; flags: string[] }> => {
  const folder = join(modulesFolder, program.module);
  const changes = patches[program.module];
  if (!changes) return { folder, flags: ["-mod=readonly"] };
  const work = join(cacheFolder(), `${program.module}-${pinHash(program.module)}`, "source");
  const finished = join(work, ".patched");
  if (existsSync(finished)) return { folder: work, flags: ["-mod=vendor"] };
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  for (const name of ["go.mod", "go.sum"]) copyFileSync(join(folder, name), join(work, name));
  await run("go", ["mod", "vendor"], work, report, `${program.module} source`);
  for (const { file, from, to } of changes) {
    const before = readFileSync(join(work, file), "utf8");
    if (before.split(from).length !== 2)
      throw new Failure(`patch of ${file}: \`${from}\` does not occur exactly once`);
    writeFileSync(join(work, file), before.replace(from, to));
  }
  writeFileSync(finished, "");
  return { folder: work, flags: ["-mod=vendor"] };
};

const build = async (program: Program, report: Report): Promise<void> => {
  const target = programPath(program.name);
  const { folder, flags } = await sourceFolder(program, report);
  const unfinished = `${target}.${process.pid}`;
  await run(
    "go",
    [
      "build",
      ...flags,
      "-trimpath",
      ...(program.tags ? ["-tags", program.tags] : []),
      "-ldflags",
      linkerFlags(program.module),
      "-o",
      unfinished,
      program.package,
    ],
    folder,
    report,
    program.name,
  );
  if (program.beside) {
    const { of, folder: part, name } = program.beside;
    const listed = spawnSync("go", ["list", "-mod=mod", "-m", "-f", "{{.Dir}}", of], {
      cwd: folder,
      encoding: "utf8",
    });
    if (listed.status !== 0) throw new Failure(`\`go list -m ${of}\`: ${listed.stderr}`);
    const copy = join(target, "..", name);
    rmSync(copy, { recursive: true, force: true });
    mkdirSync(copy, { recursive: true });
    for (const file of readdirSync(join(listed.stdout.trim(), part)))
      writeFileSync(join(copy, file), readFileSync(join(listed.stdout.trim(), part, file)));
  }
  renameSync(unfinished, target);
};

/**
 * Makes the wanted programs available and returns their paths. Two callers at once share the work: who comes second
 * waits for the lock and finds the program built. A lock whose holder is dead is taken over.
 */
export async function ensurePrograms(
  wanted: readonly ProgramName[],
  report: Report = (line) => process.stderr.write(`${line}\n`),
): Promise<Readonly<Record<string, string>>> {
  const missing = missingPrograms(wanted);
  if (missing.length > 0) {
    const given = process.env["ATOLL_CLUSTER_BIN"];
    if (given)
      throw new Failure(
        `ATOLL_CLUSTER_BIN=${given} lacks ${missing.map((p) => p.name).join(", ")}; unset it, and they are built from their Go modules`,
      );
    requireGo();
    const total = missing.reduce((sum, p) => sum + p.seconds, 0);
    report(
      `${missing.length} programs are built from their Go modules, once: up to ${Math.ceil((total * 2) / Math.max(2, availableParallelism()) / 60)} min, then kept in ${cacheFolder()}`,
    );
    let left = total;
    for (const [index, program] of missing.entries()) {
      mkdirSync(join(programPath(program.name), ".."), { recursive: true });
      await locked(`${programPath(program.name)}.lock`, report, async () => {
        if (isExecutable(programPath(program.name))) return;
        report(progressLine(index, missing.length, program.name, left));
        const started = Date.now();
        await build(program, report);
        report(`  ${program.name} built in ${Math.round((Date.now() - started) / 1000)} s`);
      });
      left -= program.seconds;
    }
  }
  return Object.fromEntries(wanted.map((name) => [name, programPath(name)]));
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

const locked = async (file: string, report: Report, work: () => Promise<void>): Promise<void> => {
  let told = false;
  for (;;) {
    try {
      writeFileSync(file, `${process.pid}\n`, { flag: "wx" });
      break;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      const holder = Number(existsSync(file) ? readFileSync(file, "utf8") : "0");
      if (holder > 0 && !alive(holder)) {
        rmSync(file, { force: true });
        continue;
      }
      if (!told) report(`  waiting for process ${holder}, which is building the same`);
      told = true;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
  try {
    await work();
  } finally {
    rmSync(file, { force: true });
  }
};
