// The process that a running cluster belongs to. `up` starts it and returns; it lives until `down`. The kernel ends
// the cluster with it, so there is one thing to stop and nothing to forget, also after a crash.
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { Failure } from "./failure.ts";
import { lastLines } from "./process.ts";
import type { Mode } from "./arguments.ts";

export type State = {
  readonly name: string;
  readonly mode: Mode;
  /** The holder, and when it began: a process number alone may by now be another's. */
  readonly pid: number;
  readonly began: string;
  readonly phase: "starting" | "ready" | "failed";
  readonly message: string;
  readonly kubeconfig: string;
  readonly url: string;
  /** Node mode: the first process of the cluster's namespaces. */
  readonly node?: number;
};

export const runFolder = (name: string): string =>
  join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "atoll", "clusters", name);
const stateFile = (name: string): string => join(runFolder(name), "state.json");

/** When a process began, in clock ticks since boot; undefined if there is none. */
export function processBegan(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in parentheses and may hold anything.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export function writeState(state: State): void {
  const file = stateFile(state.name);
  writeFileSync(`${file}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** The state of a cluster whose holder lives; undefined if there is none. */
export function readState(name: string): State | undefined {
  try {
    const state: State = JSON.parse(readFileSync(stateFile(name), "utf8"));
    return processBegan(state.pid) === state.began ? state : undefined;
  } catch {
    return undefined;
  }
}

export const requireState = (name: string): State => {
  const state = readState(name);
  if (state?.phase !== "ready")
    throw new NotRunning(`no cluster \`${name}\` is running; start it with \`up --name ${name}\``);
  return state;
};
export class NotRunning extends Failure {}

/** Starts a holder and returns when its cluster is ready, telling meanwhile what it tells. */
export async function startHolder(
  name: string,
  argv: readonly string[],
  report: (line: string) => void,
): Promise<State> {
  if (readState(name))
    throw new Failure(
      `a cluster \`${name}\` is already there: \`down --name ${name}\` first, or another --name`,
    );
  const folder = runFolder(name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const log = join(folder, "holder.log");
  const descriptor = openSync(log, "a", 0o600);
  const child = spawn(process.execPath, [join(import.meta.dirname, "cluster.ts"), "hold", ...argv], {
    detached: true,
    stdio: ["ignore", descriptor, descriptor],
  });
  closeSync(descriptor);
  let ended = false;
  child.once("exit", () => {
    ended = true;
  });
  let told = 0;
  const tell = (): void => {
    const text = existsSync(log) ? readFileSync(log, "utf8") : "";
    const whole = text.lastIndexOf("\n") + 1;
    for (const line of text.slice(told, whole).split("\n")) if (line !== "") report(line);
    told = Math.max(told, whole);
  };
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    tell();
    const state = readState(name);
    if (state?.phase === "ready") {
      child.unref();
      return state;
    }
    if (ended)
      throw new Failure(`the cluster \`${name}\` did not come up${told === 0 ? `:\n${lastLines(log)}` : ""}`);
  }
}

/** Ends a holder, by asking and then by force, and removes what a crashed one may have left. */
export async function stopHolder(name: string): Promise<boolean> {
  const state = readState(name);
  if (state) {
    process.kill(state.pid, "SIGTERM");
    for (let waited = 0; processBegan(state.pid) === state.began; waited += 50) {
      if (waited === 20_000) process.kill(state.pid, "SIGKILL");
      if (waited > 25_000) throw new Failure(`process ${state.pid} does not end`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  rmSync(runFolder(name), { recursive: true, force: true });
  return state !== undefined;
}
