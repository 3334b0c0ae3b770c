// What a process has used, as the kernel counts it.
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** Seconds of processor time, user and system. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
/** Nanoseconds on a processor, of a process with all its threads that live. */
export const ranNs = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`).reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "latin1").split(" ")[0]),
    0,
  );
/** Resident memory in MiB: now, and the most it has been. */
export function memoryMiB(pid: number): { readonly rss: number; readonly peak: number } {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  const of = (key: string): number =>
    Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(text)?.[1] ?? Number.NaN) / 1024;
  return { rss: of("VmRSS"), peak: of("VmHWM") };
}

/** A process that only sleeps; the longest that it was kept from running since it was last asked, in milliseconds. */
export function startIdler(): { lateMs(): Promise<number>; stop(): void } {
  const code = `const { monitorEventLoopDelay } = require("node:perf_hooks"); const h = monitorEventLoopDelay({ resolution: 10 }); h.enable();
process.on("message", () => { process.send(h.max / 1e6); h.reset(); });`;
  const child = spawn(process.execPath, ["--eval", code], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  return {
    lateMs: () =>
      new Promise((resolve) => {
        child.once("message", (late) => resolve(Number(late)));
        child.send("late");
      }),
    stop: () => child.kill(),
  };
}

/** What bench/turns.ts told of a program's event loop: its longest block, and the longest that was the program's own doing. */
export interface Blocks {
  readonly wall: number;
  readonly own: number;
  /** The longest collection of garbage in a block that was told. */
  readonly gc: number;
}
export function longestBlocks(lines: readonly Readonly<Record<string, unknown>>[]): Blocks {
  const longest = (key: keyof Blocks): number =>
    Math.max(0, ...lines.filter((l) => l["event"] === "turn").map((l) => Number(l[key])));
  return { wall: longest("wall"), own: longest("own"), gc: longest("gc") };
}
export const blocksText = ({ wall, own }: Blocks): string =>
  `longest block ${own.toFixed(0)} ms (${wall.toFixed(0)} with the time in which it waited for a processor)`;
