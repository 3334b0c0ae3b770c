// A machine inside the machine: namespaces of its own for network, mounts, processes, host name and IPC. Ending its
// first process ends all in it at once, and with the last of them go its mounts, links, routes and rules.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { Failure } from "./failure.ts";
import { start, waitFor, type Running } from "./process.ts";

/** Where the cluster's folder appears inside. */
export const inside = "/run/atoll";

export type Machine = {
  readonly name: string;
  /** Its first process, as this machine counts. */
  readonly pid: number;
  readonly address: string;
  readonly keeper: Running;
};

// Runs as the first process. Whatever a component writes outside its own folder lands in memory and goes with it.
const firstProcess = `
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p ${inside} /run/lock /run/over
mount --bind . ${inside}
for folder in etc var opt; do
  mkdir -p /run/over/$folder.upper /run/over/$folder.work
  mount -t overlay -o lowerdir=/$folder,upperdir=/run/over/$folder.upper,workdir=/run/over/$folder.work overlay /$folder
done
mount -t tmpfs -o mode=755 tmpfs /var/log
cd /
# What is mounted for a pod from now on is seen by others of this machine, and never outside it.
mount --make-rshared /
hostname "$1"
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
# A connection whose process was killed and whose peer is gone keeps the namespace for minutes if it may.
echo 1 > /proc/sys/net/ipv4/tcp_orphan_retries
: > ${inside}/machine-is-up
# It reaps whatever is orphaned to it.
while :; do sleep 3600 & wait $!; done
`;

const ip = (...args: readonly string[]): void => {
  const done = spawnSync("ip", args, { encoding: "utf8" });
  if (done.status !== 0) throw new Failure(`\`ip ${args.join(" ")}\`: ${done.stderr.trim()}`);
};

export const linkName = (name: string): string => `at-${name}`;

/** The first 10.88.N.0/30 of which this machine has no address, beginning with one that the name chooses. */
export function freeSubnet(name: string, taken: readonly string[]): number {
  let first = 0;
  for (const letter of name) first = (first * 31 + letter.charCodeAt(0)) % 250;
  for (let i = 0; i < 250; i++) {
    const n = (first + i) % 250;
    if (!taken.some((address) => address.startsWith(`10.88.${n}.`))) return n;
  }
  throw new Failure("no free 10.88.N.0/30 for another cluster");
}

export async function startMachine(name: string, folder: string, log: string): Promise<Machine> {
  rmSync(join(folder, "machine-is-up"), { force: true });
  const keeper = start(
    "machine",
    [
      "unshare",
      "--net",
      "--mount",
      "--pid",
      "--fork",
      "--mount-proc",
      "--uts",
      "--ipc",
      "--kill-child=KILL",
      "/bin/sh",
      "-c",
      firstProcess,
      "sh",
      name,
    ],
    log,
    { folder },
  );
  try {
    await waitFor(
      "the machine's namespaces",
      10,
      async () => existsSync(join(folder, "machine-is-up")) || "not yet",
      [keeper],
    );
    const pid = Number(readFileSync(`/proc/${keeper.pid}/task/${keeper.pid}/children`, "utf8").trim());
    if (!(pid > 1)) throw new Failure("the machine has no first process");
    const taken = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((i) => i.address));
    // A machine that starts again keeps its address: it stands in certificates.
    const kept = join(folder, "subnet");
    const subnet = existsSync(kept) ? Number(readFileSync(kept, "utf8")) : freeSubnet(name, taken);
    writeFileSync(kept, String(subnet));
    const link = linkName(name);
    // One of a machine that just ended: the kernel takes its time.
    spawnSync("ip", ["link", "delete", link]);
    ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", String(pid));
    ip("address", "add", `10.88.${subnet}.1/30`, "dev", link);
    ip("link", "set", link, "up");
    const address = `10.88.${subnet}.2`;
    const machine = { name, pid, address, keeper };
    for (const args of [
      ["address", "add", `${address}/30`, "dev", "eth0"],
      ["link", "set", "eth0", "up"],
      ["route", "add", "default", "via", `10.88.${subnet}.1`],
    ]) {
      const done = await run(machine.pid, ["ip", ...args]);
      if (done.code !== 0) throw new Failure(`\`ip ${args.join(" ")}\` inside: ${done.stderr.trim()}`);
    }
    return machine;
  } catch (error) {
    await keeper.stop(0);
    throw error;
  }
}

/** The words that run a command inside, from here. */
export const entering = (pid: number, argv: readonly string[]): string[] => [
  "nsenter",
  `--target=${pid}`,
  "--mount",
  "--uts",
  "--ipc",
  "--net",
  "--pid",
  "--wd=/",
  "--",
  ...argv,
];

export type Output = { readonly code: number; readonly stdout: string; readonly stderr: string };

export function run(
  pid: number,
  argv: readonly string[],
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Output> {
  return new Promise((resolve, reject) => {
    const [command = "", ...args] = entering(pid, argv);
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: environment });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (d: Buffer) => (stdout += d.toString("utf8")));
    child.stderr.on("data", (d: Buffer) => (stderr += d.toString("utf8")));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, stdout, stderr }));
  });
}

// Control groups are the one thing that no namespace of ours holds: they are made here and removed by the process
// that removes the cluster's folder (process.ts).

export const controlGroup = (name: string): string => `atoll-${name}`;
const root = "/sys/fs/cgroup";

const hierarchies = (): string[] =>
  existsSync(join(root, "cgroup.controllers"))
    ? [root]
    : readdirSync(root, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => join(root, entry.name));

const removeTree = (folder: string): void => {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true }))
    if (entry.isDirectory()) removeTree(join(folder, entry.name));
  rmdirSync(folder);
};

/** Fresh groups, as after a boot: kubelet waits three seconds for each container that an old one seems to hold. */
export async function makeControlGroups(name: string): Promise<void> {
  // A group can be removed once its last process is reaped, which the kernel does in its own time.
  await waitFor(`the end of old control groups ${controlGroup(name)}`, 10, async () => {
    for (const hierarchy of hierarchies()) removeTree(join(hierarchy, controlGroup(name)));
    return true;
  });
  for (const hierarchy of hierarchies()) {
    mkdirSync(join(hierarchy, controlGroup(name)), { recursive: true });
    if (hierarchy !== root) continue;
    // The second version hands controllers down one level at a time.
    const controllers = readFileSync(join(root, "cgroup.controllers"), "utf8").trim().split(" ");
    for (const folder of [root, join(root, controlGroup(name))])
      for (const controller of controllers)
        try {
          writeFileSync(join(folder, "cgroup.subtree_control"), `+${controller}`);
        } catch {
          // Some controllers cannot be handed down here; kubelet names the one it misses.
        }
  }
}
