// The one program of the sidecar image: the guardian, and the gate beside it under a UID of its own.
// Each is loaded only when it is asked for, so that the gate stays small.

import { statSync } from "node:fs";

const [role = "", ...rest] = process.argv.slice(2);
if (role === "guardian" && rest.length === 0) {
  const { runPod } = await import("./pod/pod.ts");
  await runPod(process.env);
} else if (role === "gate") {
  const { gate } = await import("./gate/gate.ts");
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => stop.abort());
  process.exitCode = await gate(rest, {
    env: process.env,
    stderr: process.stderr,
    signal: stop.signal,
    // By the file's own clock and not a report's: both are this machine's.
    ageMs: (path) => Math.max(0, Date.now() - statSync(path).mtimeMs),
  });
} else {
  process.stderr.write("usage: sidecar guardian | gate run | gate check\n");
  process.exitCode = 2;
}
