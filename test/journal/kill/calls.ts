// Counts this process's calls that change files, and kills it with SIGKILL where the one that is asked for begins: no
// tracer, so that a point costs little more than the start of a process.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const SYNC = [
  "openSync",
  "writeSync",
  "writeFileSync",
  "fsyncSync",
  "fdatasyncSync",
  "closeSync",
  "renameSync",
  "unlinkSync",
  "rmSync",
  "mkdirSync",
  "mkdtempSync",
  "ftruncateSync",
] as const;
const LATER = ["open", "write", "fsync", "fdatasync", "close", "rename", "unlink", "ftruncate"] as const;
const PROMISED = ["open", "rename", "unlink", "rm", "writeFile", "mkdir"] as const;

/** Answers the number of calls so far. */
export function countCalls(killAt: number): () => number {
  let calls = 0;
  const begins = (): void => {
    if (++calls === killAt) process.kill(process.pid, "SIGKILL");
  };
  const counted = (holder: object, name: string): void => {
    const real: unknown = Reflect.get(holder, name);
    if (typeof real !== "function") throw new Error(`there is no ${name}`);
    Reflect.set(
      holder,
      name,
      // oxlint-disable-next-line func-style -- `this` is the file handle's
      function (this: unknown, ...args: unknown[]): unknown {
        begins();
        return Reflect.apply(real, this, args);
      },
    );
  };
  for (const name of SYNC) counted(fs, name);
  for (const name of LATER) counted(fs, name);
  for (const name of PROMISED) counted(fs.promises, name);
  const open = fs.promises.open.bind(fs.promises);
  fs.promises.open = async (...args: Parameters<typeof open>) => {
    const handle = await open(...args);
    counted(handle, "sync");
    counted(handle, "close");
    return handle;
  };
  syncBuiltinESMExports();
  return () => calls;
}
