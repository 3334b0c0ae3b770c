// The process that a running cluster belongs to. `up` starts it and returns; it lives until `down`. The kernel ends
// the cluster with it, so there is one thing to stop and nothing to forget, also after a crash.
import { spawn } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { startControlPlane } from "./control-plane.ts";
import { Failure } from "./failure.ts";
import { controlGroup, linkName } from "./namespaces.ts";
import { startNode } from "./node.ts";
import { removeWithProcess } from "./process.ts";
import type { Mode } from "./arguments.ts";
import type { Report } from "./programs.ts";

export type Wish = {
  readonly name: string;
  readonly mode: Mode;
  readonly controllers: boolean;
  readonly staticPolicies: string | undefined;
};

export type State = {
  readonly name: string;
  readonly mode: Mode;
  /** The holder, and when it began: a process number alone may by now be another's. */
  readonly pid: number;
  readonly began: string;
  readonly phase: "starting" | "ready";
  /** How often it was started. */
  readonly start: number;
  readonly kubeconfig: string;
  readonly url: string;
  /** Node mode: the first process of the cluster's namespaces. */
  readonly node: number;
};

export class NotRunning extends Failure {}

export const runFolder = (name: string): string =>
  join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "atoll", "clusters", name);
const stateFile = (name: string): string => join(runFolder(name), "state.json");
const moment = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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

const nodeRemains = (name: string): { controlGroup: string; link: string } => ({
  controlGroup: controlGroup(name),
  link: linkName(name),
});

const writeState = (state: State): void => {
  const file = stateFile(state.name);
  writeFileSync(`${file}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
};

/** The state of a cluster whose holder lives; undefined if there is none. */
export function readState(name: string): State | undefined {
  try {
    const state: State = JSON.parse(readFileSync(stateFile(name), "utf8"));
    return processBegan(state.pid) === state.began ? state : undefined;
  } catch {
    return undefined;
  }
}

export function requireState(name: string): State {
  const state = readState(name);
  if (state?.phase !== "ready")
    throw new NotRunning(`no cluster \`${name}\` is running; start it with \`up --name ${name}\``);
  return state;
}

/** What the holder does all its life. */
export async function hold(wish: Wish, report: Report): Promise<void> {
  const { name } = wish;
  const remains = removeWithProcess(runFolder(name), wish.mode === "node" ? nodeRemains(name) : undefined);
  // Asked for before anything is started, so that no signal finds the default action.
  const asked: ("stop" | "again")[] = [];
  let wake = (): void => {};
  const ask = (what: "stop" | "again") => (): void => {
    asked.push(what);
    wake();
  };
  process.on("SIGTERM", ask("stop")).on("SIGINT", ask("stop")).on("SIGHUP", ask("again"));
  // Signals alone do not keep a process alive.
  const alive = setInterval(() => {}, 60_000);

  let start = 0;
  const begin = async (): Promise<() => Promise<void>> => {
    start += 1;
    const state: State = {
      name,
      mode: wish.mode,
      pid: process.pid,
      began: processBegan(process.pid) ?? "",
      phase: "starting",
      start,
      kubeconfig: "",
      url: "",
      node: 0,
    };
    writeState(state);
    const policies = wish.staticPolicies === undefined ? {} : { staticPolicies: wish.staticPolicies };
    if (wish.mode === "control-plane") {
      const plane = await startControlPlane({ name, controllers: wish.controllers, report, ...policies });
      writeState({ ...state, phase: "ready", kubeconfig: plane.kubeconfig, url: plane.url });
      return plane.stop;
    }
    const folder = join(runFolder(name), "node");
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const node = await startNode({ name, folder, report, ...policies });
    writeState({ ...state, phase: "ready", kubeconfig: node.kubeconfig, url: node.url, node: node.pid });
    return node.stop;
  };

  try {
    let end = await begin();
    for (;;) {
      const next = asked.shift();
      if (next === undefined) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      await end();
      if (next === "stop") return;
      end = await begin();
    }
  } finally {
    clearInterval(alive);
    await remains.now();
  }
}

/** Starts a holder and returns when its cluster is ready, telling meanwhile what it tells. */
export async function startHolder(wish: Wish, report: Report, bound: boolean): Promise<State> {
  const { name } = wish;
  if (readState(name))
    throw new Failure(
      `a cluster \`${name}\` is already there: \`down --name ${name}\` first, or another --name`,
    );
  const folder = runFolder(name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const log = join(folder, "holder.log");
  const writing = openSync(log, "a", 0o600);
  // Read through one descriptor: the last words stay readable when a failing holder has removed the folder.
  const reading = openSync(log, "r");
  const command = [
    process.execPath,
    join(import.meta.dirname, "cluster.ts"),
    "hold",
    `--name=${name}`,
    `--mode=${wish.mode}`,
    ...(wish.controllers ? ["--controllers"] : []),
    ...(wish.staticPolicies === undefined ? [] : [`--static-policies=${wish.staticPolicies}`]),
  ];
  const [program = "", ...args] = bound ? ["setpriv", "--pdeathsig", "KILL", "--", ...command] : command;
  const child = spawn(program, args, { detached: !bound, stdio: ["ignore", writing, writing] });
  closeSync(writing);
  let ended = false;
  child.once("error", () => (ended = true)).once("exit", () => (ended = true));
  let rest = "";
  const tell = (): void => {
    const chunk = Buffer.alloc(1 << 16);
    for (let size = 1; size > 0; ) {
      size = readSync(reading, chunk);
      rest += chunk.toString("utf8", 0, size);
    }
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) report(line);
  };
  try {
    for (;;) {
      const over = ended;
      tell();
      const state = readState(name);
      if (state?.phase === "ready") {
        child.unref();
        return state;
      }
      if (over) throw new Failure(`the cluster \`${name}\` did not come up`);
      await moment(50);
    }
  } finally {
    closeSync(reading);
  }
}

/** Stops all of a node's processes at once and starts them again over the same data. */
export async function restartHolder(name: string): Promise<State> {
  const before = requireState(name);
  if (before.mode !== "node") throw new Failure("`restart` is for node mode: a control plane keeps nothing");
  process.kill(before.pid, "SIGHUP");
  for (;;) {
    await moment(100);
    const state = readState(name);
    if (!state) throw new Failure(`the cluster \`${name}\` did not come up again`);
    if (state.phase === "ready" && state.start > before.start) return state;
  }
}

/** Ends a holder, by asking and then by force, and what a crashed one may have left. */
export async function stopHolder(name: string): Promise<boolean> {
  const state = readState(name);
  if (state) {
    process.kill(state.pid, "SIGTERM");
    for (let waited = 0; processBegan(state.pid) === state.began; waited += 50) {
      if (waited === 30_000) process.kill(state.pid, "SIGKILL");
      if (waited > 35_000) throw new Failure(`process ${state.pid} does not end`);
      await moment(50);
    }
  }
  // Its remover may still be at work, or may itself have been killed.
  await removeWithProcess(runFolder(name), nodeRemains(name)).now();
  return state !== undefined;
}
