// Child processes that never outlive the process that started them, however that one ends.
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { Failure } from "./failure.ts";

export type Running = {
  readonly name: string;
  readonly log: string;
  readonly pid: number;
  /** Set once it has ended, with what ended it. */
  readonly ended: () => string | undefined;
  readonly stop: (graceMs?: number) => Promise<void>;
};

export const lastLines = (file: string, count = 12): string => {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-count).join("\n");
  } catch {
    return "";
  }
};

/** The kernel itself kills the child when its parent dies (PDEATHSIG): no clean-up code has to run for that. */
export function start(
  name: string,
  command: readonly string[],
  log: string,
  options: { readonly environment?: NodeJS.ProcessEnv; readonly folder?: string } = {},
): Running {
  const descriptor = openSync(log, "a", 0o600);
  let child: ChildProcess;
  try {
    child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
      stdio: ["ignore", descriptor, descriptor],
      // A control plane needs nothing of ours, so a test's environment does not reach it.
      env: options.environment ?? { PATH: process.env["PATH"], HOME: "/nonexistent" },
      cwd: options.folder,
    });
  } finally {
    closeSync(descriptor);
  }
  let end: string | undefined;
  const gone = new Promise<void>((resolve) => {
    child.once("error", (error) => {
      end ??= error.message;
      resolve();
    });
    child.once("exit", (code, signal) => {
      end ??= signal ?? `exit code ${code}`;
      resolve();
    });
  });
  return {
    name,
    log,
    pid: child.pid ?? 0,
    ended: () => end,
    stop: async (graceMs = 3000) => {
      if (end === undefined) child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await gone;
      clearTimeout(late);
    },
  };
}

// Waits for the end of its input, which only the starting process holds open, then removes what may be left. What was
// killed takes a moment to be gone, and control groups cannot be removed before, so it tries again for ten seconds.
const remover = `
cat >/dev/null
tries=0
while [ $tries -lt 100 ]; do
  rm -rf -- "$1" 2>/dev/null
  left=no
  if [ -n "$3" ]; then
    # The kernel takes a dead namespace's links away in its own time; this does not wait for it.
    ip link delete "$3" 2>/dev/null
    [ ! -e "/sys/class/net/$3" ] || left=yes
  fi
  [ ! -e "$1" ] || left=yes
  if [ -n "$2" ]; then
    for group in /sys/fs/cgroup/"$2" /sys/fs/cgroup/*/"$2"; do
      [ -d "$group" ] || continue
      find "$group" -depth -type d -exec rmdir -- {} \\; 2>/dev/null
      [ ! -d "$group" ] || left=yes
    done
  fi
  [ $left = yes ] || exit 0
  tries=$((tries + 1))
  sleep 0.1
done
exit 1
`;

/** Removes a folder, and a node's control groups and link, when this process is gone, also when it was killed. */
export function removeWithProcess(
  folder: string,
  more?: { readonly controlGroup: string; readonly link: string },
): { readonly now: () => Promise<void> } {
  const child = spawn("/bin/sh", ["-c", remover, "sh", folder, more?.controlGroup ?? "", more?.link ?? ""], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  const gone = new Promise<number | null>((resolve) => child.once("exit", resolve));
  child.unref();
  return {
    now: async () => {
      child.ref();
      child.stdin.end();
      if ((await gone) !== 0) throw new Failure(`${folder} could not be removed`);
    },
  };
}

/** Asks until the answer is yes; says who died, or what was last in the way. */
export async function waitFor(
  what: string,
  seconds: number,
  ask: () => Promise<true | string>,
  watched: readonly Running[] = [],
): Promise<void> {
  const until = Date.now() + seconds * 1000;
  let last = "";
  for (;;) {
    const dead = watched.find((r) => r.ended() !== undefined);
    if (dead)
      throw new Failure(
        `${dead.name} ended (${dead.ended()}) while waiting for ${what}:\n${lastLines(dead.log)}`,
      );
    const answer = await ask().catch((error: unknown) =>
      error instanceof Error ? error.message : String(error),
    );
    if (answer === true) return;
    last = answer;
    if (Date.now() > until) {
      const tails = watched.map((r) => `${r.name}:\n${lastLines(r.log, 6)}`).join("\n");
      throw new Failure(`${what}: not within ${seconds} s; last: ${last}\n${tails}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
