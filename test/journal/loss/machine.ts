// A machine that loses its power: a file system on a loop device, shut down by its own ioctl without its log, mounted again.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const KINDS = ["ext4", "xfs"] as const;
export type Kind = (typeof KINDS)[number];

function must(command: string, ...args: string[]): void {
  const run = spawnSync(command, args, { encoding: "utf8" });
  if (run.status !== 0) throw new Error(`${command} ${args.join(" ")}: ${run.stderr}${run.error ?? ""}`);
}

// FS_IOC_GOINGDOWN of both, with FSOP_GOING_FLAGS_NOLOGFLUSH: nothing more reaches the device, not even the log.
const SWITCH = `
import fcntl, os, struct, sys
for line in sys.stdin:
    fd = os.open(line.rstrip("\\n"), os.O_RDONLY)
    fcntl.ioctl(fd, 0x8004587D, struct.pack("I", 2))
    os.close(fd)
    print("off", flush=True)
`;

export interface Machine {
  readonly kind: Kind;
  /** Where its disk is mounted. */
  readonly root: string;
  /** Without power: what was not synced is gone from memory and never reaches the device. */
  off(): Promise<void>;
  on(): void;
  remove(): void;
}

export function createMachine(kind: Kind): Machine {
  if (spawnSync(`mkfs.${kind}`, ["-V"]).error !== undefined)
    must("apt-get", "install", "-y", "-q", kind === "xfs" ? "xfsprogs" : "e2fsprogs");
  const home = mkdtempSync(join(tmpdir(), `atoll-loss-${kind}-`));
  const image = join(home, "disk");
  const root = join(home, "mount");
  mkdirSync(root);
  writeFileSync(image, "");
  truncateSync(image, kind === "xfs" ? 320 << 20 : 96 << 20);
  must(`mkfs.${kind}`, "-q", image);
  const python: ChildProcessWithoutNullStreams = spawn("python3", ["-c", SWITCH]);
  python.stderr.pipe(process.stderr);
  const answers = createInterface(python.stdout)[Symbol.asyncIterator]();
  // The loop device ends with its mount.
  const on = (): void => must("mount", "-o", "loop", "-t", kind, image, root);
  on();
  return {
    kind,
    root,
    async off() {
      python.stdin.write(`${root}\n`);
      const said = await answers.next();
      if (said.value !== "off") throw new Error("the file system was not shut down");
    },
    on() {
      must("umount", root);
      on();
    },
    remove() {
      python.kill();
      spawnSync("umount", ["-l", root]);
      rmSync(home, { recursive: true, force: true });
    },
  };
}
