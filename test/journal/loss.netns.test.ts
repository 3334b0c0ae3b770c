// Loss of power, a few cycles of it; 200 on each file system are in `test/long/power.ts`.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const script = join(import.meta.dirname, "../long/power.ts");
const power = (...args: string[]) =>
  spawnSync(process.execPath, [script, ...args], { encoding: "utf8", timeout: 500_000 });
/** A root without loop devices has no disk to switch off; said, so that nobody takes it for a pass. */
function needs(kind: string): void {
  const can =
    spawnSync("losetup", ["-f"]).status === 0 &&
    (new RegExp(`\\b${kind}$`, "m").test(readFileSync("/proc/filesystems", "utf8")) ||
      spawnSync("modprobe", [kind]).status === 0);
  if (!can)
    throw new Error(
      `${kind} cannot be mounted on a loop device here: give the machine /dev/loop* and ${kind}`,
    );
}

for (const kind of ["ext4", "xfs"]) {
  test(`on ${kind} a loss of power loses nothing that was acknowledged (I2, I5)`, () => {
    needs(kind);
    const run = power("--kinds", kind, "--cycles", "4");
    expect(run.stdout).toMatch(
      new RegExp(`^${kind}: 4 losses of power, [1-9]\\d* acknowledged, 0 wrong`, "m"),
    );
    expect(run.status).toBe(0);
  });

  test(`on ${kind} a journal that does not sync loses what it has acknowledged`, () => {
    needs(kind);
    const run = power("--kinds", kind, "--cycles", "2", "--sync", "lying");
    expect(run.stdout).toContain(`WRONG ${kind}`);
    expect(run.status).toBe(1);
  });
}
