// A pod and the world outside it, as two network namespaces joined by a veth pair, with a packet capture at the outer
// end. Everything has a name of its own and is removed by `remove`.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { lockRules } from "../../sidecar/lock/lock.ts";

export const AGENT_UID = 64530;
export const HERE = { pod4: "10.77.0.2", pod6: "fd77::2", out4: "10.77.0.1", out6: "fd77::1" };

const node = [process.execPath, "--disable-warning=ExperimentalWarning"];
const actorFile = join(import.meta.dirname, "lab", "actor.ts");

export type Reply = Record<string, unknown>;
export type Actor = {
  readonly process: ChildProcess;
  readonly ask: (question: Record<string, unknown>) => Promise<Reply>;
  /** Kills it at once, as the kernel would, and waits until it is gone. */
  readonly kill: () => Promise<void>;
};

export type Pod = {
  readonly name: string;
  readonly outside: string;
  readonly actor: (where: "pod" | "outside", uid: number) => Promise<Actor>;
  /** Runs a command in one of the two; its standard output. */
  readonly run: (where: "pod" | "outside", command: readonly string[], input?: string) => string;
  readonly lock: (rules?: string) => void;
  readonly unlock: () => void;
  /** Lines of the capture since it began, without ARP, neighbour discovery and what the kernels say to routers. */
  readonly seen: () => Promise<string[]>;
  readonly forget: () => Promise<void>;
  readonly remove: () => Promise<void>;
};

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export const asUid = (uid: number): string[] =>
  uid === 0
    ? []
    : [
        "setpriv",
        "--reuid",
        `${uid}`,
        "--regid",
        `${uid}`,
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--bounding-set=-all",
      ];

const startActor = async (namespace: string, uid: number): Promise<Actor> => {
  const child = spawn("ip", ["netns", "exec", namespace, ...asUid(uid), ...node, actorFile], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const waiting = new Map<number, (reply: Reply) => void>();
  let next = 0;
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { id, ...reply }: Reply & { id: number } = JSON.parse(line);
    if (id === -1) ready.resolve();
    waiting.get(id)?.(reply);
    waiting.delete(id);
  });
  const gone = new Promise<void>((resolve) => child.on("exit", () => resolve()));
  child.stdin.on("error", () => undefined);
  await Promise.race([
    ready.promise,
    gone.then(() => Promise.reject(new Error("actor ended before it began"))),
  ]);
  return {
    process: child,
    ask: (question) =>
      new Promise((resolve) => {
        const id = next++;
        waiting.set(id, resolve);
        void gone.then(() => resolve({ error: "actor is gone" }));
        child.stdin.write(`${JSON.stringify({ id, ...question })}\n`);
      }),
    kill: async () => {
      child.kill("SIGKILL");
      await gone;
    },
  };
};

/** Without a capture, which looks at every packet, where it is measured how fast they are. */
export const makePod = async (options: { capture?: boolean } = {}): Promise<Pod> => {
  const tag = `at${randomBytes(4).toString("hex")}`;
  const pod = `${tag}-pod`;
  const outside = `${tag}-out`;
  const work = mkdtempSync("/tmp/atoll-pod-");
  const ip = (...args: string[]): void => void execFileSync("ip", args);
  const run = (where: "pod" | "outside", command: readonly string[], input = ""): string =>
    execFileSync("ip", ["netns", "exec", where === "pod" ? pod : outside, ...command], {
      input,
      stdio: ["pipe", "pipe", "pipe"],
    }).toString();
  ip("netns", "add", pod);
  ip("netns", "add", outside);
  for (const name of [pod, outside]) {
    // Addresses at once: no duplicate address detection. Ping sockets for everybody: what containerd gives pods.
    execFileSync("ip", [
      "netns",
      "exec",
      name,
      "sysctl",
      "-qw",
      "net.ipv6.conf.all.accept_dad=0",
      "net.ipv6.conf.default.accept_dad=0",
      "net.ipv4.ping_group_range=0 2147483647",
    ]);
    ip("-n", name, "link", "set", "lo", "up");
  }
  ip("-n", outside, "link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", pod);
  for (const [name, device, four, six] of [
    [outside, "veth0", HERE.out4, HERE.out6],
    [pod, "eth0", HERE.pod4, HERE.pod6],
  ] as const) {
    ip("-n", name, "addr", "add", `${four}/24`, "dev", device);
    ip("-n", name, "addr", "add", `${six}/64`, "dev", device, "nodad");
    ip("-n", name, "link", "set", device, "up");
  }
  ip("-n", pod, "route", "add", "default", "via", HERE.out4);
  ip("-n", pod, "-6", "route", "add", "default", "via", HERE.out6);

  const actors: Actor[] = [];
  let lines: string[] = [];
  // Neighbour discovery (133 to 136) and multicast listener reports of the outer kernel are no traffic of the pod's.
  const noise =
    "not arp and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 136) and not (ip6 src host not fd77::2 and ip6 dst net ff02::/16)";
  const capture =
    options.capture === false
      ? undefined
      : spawn(
          "ip",
          ["netns", "exec", outside, "tcpdump", "-i", "veth0", "-nn", "-l", "--immediate-mode", "-p", noise],
          { stdio: ["ignore", "pipe", "pipe"] },
        );
  const captured = new Promise<void>((resolve) =>
    capture === undefined ? resolve() : capture.on("exit", () => resolve()),
  );
  if (capture !== undefined) {
    createInterface({ input: capture.stdout }).on("line", (line) => lines.push(line));
    await new Promise<void>((resolve, reject) => {
      let said = "";
      capture.stderr.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes("listening on")) resolve();
      });
      void captured.then(() => reject(new Error(`the capture ended: ${said}`)));
    });
  }

  return {
    name: pod,
    outside,
    run,
    actor: async (where, uid) => {
      const actor = await startActor(where === "pod" ? pod : outside, uid);
      actors.push(actor);
      return actor;
    },
    lock: (rules = lockRules()) => {
      const file = join(work, "lock.nft");
      writeFileSync(file, rules);
      run("pod", ["nft", "-f", file]);
    },
    unlock: () => void run("pod", ["nft", "flush", "ruleset"]),
    seen: async () => {
      await wait(250);
      return [...lines];
    },
    forget: async () => {
      await wait(250);
      lines = [];
    },
    remove: async () => {
      for (const actor of actors) await actor.kill();
      capture?.kill("SIGKILL");
      await captured;
      for (const name of [pod, outside]) ip("netns", "del", name);
      rmSync(work, { recursive: true });
    },
  };
};
