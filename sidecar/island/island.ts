// `atoll guard --island`: a command shut in without Kubernetes. Its network namespace has nothing but loopback, behind the
// same lock as a pod's; the guardian stays outside and is handed the two listening sockets that exist in there. The gate
// proves it before the command starts and every five seconds after; when it no longer holds, the command is killed.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { createServer, Server, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { dirname, join, resolve as absolute } from "node:path";
import { type GateVerdict, receiveReports, type ReportReceiver } from "../gate/gate.ts";
import { AGENT_PORTS, GATE_UID, GUARDIAN_UID, LOCK_UID, lockRules } from "../lock/lock.ts";
import { listeningSockets, viewScript } from "./mounts.ts";

export const COMMAND_UID = 64530;

/** Listening sockets inside the island; each needs its connections passed on, as `http.emit("connection", socket)`. */
export type IslandSockets = { readonly api: readonly Server[]; readonly proxy: readonly Server[] };

export type IslandOptions = {
  readonly command: readonly string[];
  /** The command's whole environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly cwd?: string;
  /** The guardian's own files and folders (journal, credentials, keys): shown empty to the command. */
  readonly hide?: readonly string[];
  /** Must serve them before it resolves: the gate asks the guardian before the command starts. */
  readonly onSockets: (sockets: IslandSockets) => Promise<void> | void;
  /** Told every verdict of the gate that differs from the one before. */
  readonly onProof?: (verdict: GateVerdict) => void;
  /** Stops the command, as a signal would. */
  readonly signal?: AbortSignal;
  /** How long to wait for the first proof, in milliseconds. */
  readonly proofMs?: number;
};

/** `breach`: why the command was killed or never started. */
export type IslandExit = { readonly code: number; readonly breach?: string };

const FOLDER = import.meta.dirname;
const NODE = [process.execPath, "--disable-warning=ExperimentalWarning"];
const TOOLS = ["unshare", "nsenter", "setpriv", "ip", "nft", "mount"];
/** Dies with us, also when we are killed; sets no_new_privs; keeps only what becoming another UID takes. */
const CONFINED = [
  "setpriv",
  "--pdeathsig",
  "KILL",
  "--no-new-privs",
  "--inh-caps=-all",
  "--bounding-set=-all,+setuid,+setgid,+setpcap,+dac_read_search",
];

const checkMachine = (uid: number): void => {
  if (process.platform !== "linux") throw new Error("--island needs Linux");
  if (process.getuid?.() !== 0) throw new Error("--island needs root");
  if (
    !Number.isInteger(uid) ||
    uid < 1 ||
    uid > 0xffff_fffe ||
    [LOCK_UID, GATE_UID, GUARDIAN_UID].includes(uid)
  )
    throw new Error(`--uid \`${uid}\` is root, one of Atoll's own, or no UID`);
  for (const tool of TOOLS)
    try {
      execFileSync("sh", ["-c", `command -v ${tool}`], { stdio: "ignore" });
    } catch {
      throw new Error(`--island needs the program \`${tool}\` (util-linux, iproute2, nftables)`);
    }
};

const ended = (child: ChildProcess): Promise<number> =>
  new Promise((resolve) => {
    child.once("error", () => resolve(127));
    child.once("exit", (code, signal) => resolve(code ?? (signal === null ? 1 : 128 + 15)));
  });

/** Makes the network namespace with its lock, and the guardian's sockets in it. The process holds the namespace. */
const openSockets = async (): Promise<{ holder: ChildProcess; sockets: IslandSockets }> => {
  const script = 'ip link set lo up && nft -f - && exec "$@" </dev/null';
  const holder = spawn(
    "unshare",
    ["--net", "sh", "-c", script, "sh", ...CONFINED, ...NODE, join(FOLDER, "opener.ts")],
    {
      stdio: ["pipe", "inherit", "inherit", "ipc"],
    },
  );
  holder.stdin?.on("error", () => undefined);
  holder.stdin?.end(lockRules());
  const api: Server[] = [];
  const proxy: Server[] = [];
  await new Promise<void>((resolve, reject) => {
    holder.on("message", (message, handle) => {
      if (typeof message !== "object" || message === null) return;
      if ("opened" in message) return resolve();
      if (handle instanceof Server && "port" in message)
        (message.port === AGENT_PORTS[0] ? api : proxy).push(handle);
    });
    holder.once("error", reject);
    holder.once("exit", () => reject(new Error("the island's sockets could not be opened")));
  });
  return { holder, sockets: { api, proxy } };
};

/** The machine's own addresses, which nothing in the island may reach. */
const hostAddresses = (): string[] =>
  Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? [])
      .filter((each) => !each.internal && !each.address.startsWith("fe80"))
      .map((each) => each.address),
  );

const openCanary = async (host: string): Promise<{ server: Server; name: string } | undefined> =>
  new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.end("canary");
    });
    server.once("error", () => resolve(undefined));
    server.listen(0, host, () => {
      const at = server.address();
      const port = typeof at === "object" && at !== null ? at.port : 0;
      resolve({ server, name: host.includes(":") ? `[${host}]:${port}` : `${host}:${port}` });
    });
  });

const startGate = (
  netns: string,
  folder: string,
  canaries: readonly string[],
  addresses: readonly string[],
): ChildProcess =>
  spawn("nsenter", [`--net=${netns}`, "--", ...CONFINED, ...NODE, join(FOLDER, "../gate/program.ts")], {
    // Its standard input ends with us, however we end.
    stdio: ["pipe", "ignore", "inherit"],
    env: {
      PATH: process.env["PATH"],
      ATOLL_GATE_UID: `${GATE_UID}`,
      ATOLL_GATE_SOCKET: join(folder, "report.sock"),
      ATOLL_GATE_STATE: join(folder, "gate", "report.json"),
      ATOLL_CANARY: canaries.length === 0 ? "none" : canaries.join(","),
      ATOLL_NODE_IPS: addresses.join(","),
    },
  });

const proved = async (receiver: ReportReceiver, gate: ChildProcess, ms: number): Promise<void> => {
  for (const end = performance.now() + ms; performance.now() < end; ) {
    const verdict = receiver.verdict();
    if (verdict.proved) return;
    if (verdict.failing.length > 0) throw new Error(verdict.reason);
    if (gate.exitCode !== null || gate.signalCode !== null)
      throw new Error("the gate ended before it proved anything");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const verdict = receiver.verdict();
  throw new Error(verdict.proved ? "" : verdict.reason);
};

/** A socket as standard input or output would be a way out by itself. */
const standard = (fd: number): "inherit" | "ignore" => {
  try {
    return fstatSync(fd).isSocket() ? "ignore" : "inherit";
  } catch {
    return "ignore";
  }
};

const machineSockets = (): string[] => {
  // Each process's table shows its own network namespace: together they show those of containers too.
  const tables = readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/net/unix`, "utf8");
      } catch {
        return "";
      }
    });
  return listeningSockets([...new Set(tables)].join("\n"));
};

const startCommand = (netns: string, options: IslandOptions, uid: number): ChildProcess => {
  const cwd = absolute(options.cwd ?? process.cwd());
  const script = viewScript({
    cwd,
    keep: [dirname(process.execPath), absolute(FOLDER, "../..")],
    hide: (options.hide ?? []).map((path) => absolute(path)),
    sockets: machineSockets(),
  });
  const namespaces = [
    "unshare",
    "--mount",
    "--pid",
    "--ipc",
    "--uts",
    "--cgroup",
    "--fork",
    "--kill-child=KILL",
    "--propagation",
    "private",
  ];
  const launch = [
    "setpriv",
    "--no-new-privs",
    ...NODE,
    join(FOLDER, "launch.ts"),
    `${uid}`,
    ...options.command,
  ];
  return spawn(
    "setpriv",
    [
      "--pdeathsig",
      "KILL",
      "nsenter",
      `--net=${netns}`,
      "--",
      ...namespaces,
      "sh",
      "-c",
      script,
      "sh",
      ...launch,
    ],
    {
      // The steps as root see none of the command's environment; the last one puts it in place.
      env: {
        PATH: process.env["PATH"],
        ATOLL_COMMAND_ENV: JSON.stringify({
          HOME: "/tmp",
          TMPDIR: "/tmp",
          PATH: process.env["PATH"],
          ...options.env,
        }),
      },
      stdio: [standard(0), standard(1), standard(2)],
      // A session of its own: without a controlling terminal nothing can be typed into ours.
      detached: true,
    },
  );
};

/** Asks the command to end: through the first process of its namespace, which passes the signal on. */
const terminate = (command: ChildProcess): void => {
  try {
    const children = readFileSync(`/proc/${command.pid}/task/${command.pid}/children`, "utf8");
    for (const child of children
      .trim()
      .split(" ")
      .filter((pid) => pid !== ""))
      process.kill(Number(child), "SIGTERM");
  } catch {
    command.kill("SIGKILL");
  }
};

/** Runs the command in an island; resolves when it has ended and everything made for it is gone. */
export const runIsland = async (options: IslandOptions): Promise<IslandExit> => {
  const uid = options.uid ?? COMMAND_UID;
  checkMachine(uid);
  if (options.command.length === 0) throw new Error("--island needs a command");
  const cleanups: (() => Promise<unknown> | void)[] = [];
  const reap = (child: ChildProcess): void => {
    const end = ended(child);
    cleanups.push(() => {
      child.kill("SIGKILL");
      return end;
    });
  };
  try {
    const folder = mkdtempSync("/tmp/atoll-island-");
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
    chmodSync(folder, 0o711);
    mkdirSync(join(folder, "gate"), { mode: 0o700 });
    chownSync(join(folder, "gate"), GATE_UID, GATE_UID);

    const { holder, sockets } = await openSockets();
    reap(holder);
    const connections = new Set<Socket>();
    for (const server of [...sockets.api, ...sockets.proxy])
      server.on("connection", (socket) => {
        connections.add(socket);
        socket.on("close", () => connections.delete(socket));
      });
    cleanups.push(() => {
      for (const server of [...sockets.api, ...sockets.proxy]) server.close();
      for (const socket of connections) socket.destroy();
    });
    await options.onSockets(sockets);
    const netns = `/proc/${holder.pid}/ns/net`;

    const addresses = hostAddresses();
    const canaries = (await Promise.all(addresses.map(openCanary))).filter((each) => each !== undefined);
    cleanups.push(
      ...canaries.map(
        ({ server }) =>
          () =>
            void server.close(),
      ),
    );
    const receiver = await receiveReports({
      path: join(folder, "report.sock"),
      now: () => performance.now(),
    });
    cleanups.push(() => receiver.close());
    const gate = startGate(
      netns,
      folder,
      canaries.map((each) => each.name),
      addresses,
    );
    reap(gate);
    await proved(receiver, gate, options.proofMs ?? 15_000);
    options.onProof?.({ proved: true });

    const command = startCommand(netns, options, uid);
    reap(command);
    const stop = (): void => terminate(command);
    options.signal?.addEventListener("abort", stop);
    cleanups.push(() => options.signal?.removeEventListener("abort", stop));
    const breach = Promise.withResolvers<string>();
    const watch = setInterval(() => {
      const verdict = receiver.verdict();
      if (verdict.proved) return;
      options.onProof?.(verdict);
      breach.resolve(verdict.reason);
    }, 250);
    cleanups.push(() => clearInterval(watch));
    holder.once("exit", () => breach.resolve("the process that holds the network namespace ended"));
    return await Promise.race([
      ended(command).then((code) => ({ code })),
      breach.promise.then((reason) => ({ code: 125, breach: reason })),
    ]);
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
};
