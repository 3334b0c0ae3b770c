// The gate container's program. Apart from the door, so that importing the door starts nothing.
import { statSync } from "node:fs";
import { gate } from "./gate.ts";

// Outside a pod the gate is started as root, because its UID need not be able to read these files.
const uid = Number(process.env["ATOLL_GATE_UID"] ?? process.getuid?.());
if (process.getuid?.() === 0 && uid !== 0) {
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
  // Whoever started it holds the other end of its standard input, and may be killed.
  process.stdin.on("close", () => process.exit()).resume();
}

const stop = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => stop.abort());
process.exitCode = await gate(process.argv.slice(2), {
  env: process.env,
  stderr: process.stderr,
  signal: stop.signal,
  // By the file's own clock and not a report's: both are this machine's.
  ageMs: (path) => Math.max(0, Date.now() - statSync(path).mtimeMs),
});
