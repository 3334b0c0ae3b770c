// The API server is killed and comes back, again and again; the operator converges each time, and keeps nothing of it.
//   node --expose-gc test/long/restart.ts [--cycles 10] [--json] [--plant leak]
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { asked, oneOf, amount } from "../../kind-e2e/asked.ts";
import { apply, until } from "../operator/api.ts";
import { sidecarSpec } from "../operator/shapes.ts";
import { bundle, pod, startWhole } from "../operator/whole.ts";

const wish = asked(
  `usage: node --expose-gc test/long/restart.ts [--cycles 10] [--json] [--plant leak]
Each cycle: SIGKILL to kube-apiserver, two seconds without one, the same again with the same store; meanwhile the operator, its webhook and
the control stream run in this process. Then a new version of the bundle has to become active, and a deleted policy has to be back.
The heap after a collection may not grow from the third cycle to the last by more than 8 MiB, nor the number of open resources by more
than 10. --plant leak keeps 2 MiB a cycle: it must be seen.
`,
  { cycles: amount(10, 4), plant: oneOf("leak"), json: false },
);
if (globalThis.gc === undefined) {
  process.stderr.write("the heap is measured after a collection: node --expose-gc test/long/restart.ts\n");
  process.exit(2);
}
const cycles = wish.cycles;
const whole = await startWhole();
const { api } = whole;
let server: ChildProcess | undefined;
const kept: Buffer[] = [];
try {
  await apply(api, bundle({ version: 1 }));
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec(),
  });
  await until(
    "a pod is governed",
    async () => (await api.call("POST", "/api/v1/namespaces/team-a/pods", pod("one"))).status === 201,
    60,
  );
  const flag = `--etcd-servers=`;
  const first = api.plane.processes
    .map((r) => r.pid)
    .find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(flag));
  if (first === undefined) throw new Error("there is no kube-apiserver");
  const [program = "", ...flags] = readFileSync(`/proc/${first}/cmdline`, "utf8")
    .split("\0")
    .filter((a) => a !== "");
  let pid = first;
  const samples: { heap: number; handles: number; seconds: number }[] = [];
  for (let i = 0; i < cycles; i++) {
    process.kill(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 2000));
    server = spawn(program, flags, { stdio: "ignore" });
    pid = server.pid ?? 0;
    const began = performance.now();
    const quietly = <T>(what: Promise<T>): Promise<T | undefined> => what.catch(() => undefined);
    await until(
      "the API server is back",
      async () => (await quietly(api.call("GET", "/readyz")))?.status === 200,
      60,
    );
    const version = i + 2;
    await until(
      "a new version is stored",
      async () => {
        const reply = await quietly(
          api.call("POST", "/apis/atoll.dev/v1alpha1/policybundles", bundle({ version })),
        );
        return reply?.status === 201 || reply?.message.includes("already exists") === true;
      },
      60,
    );
    await until(
      `version ${version} is active`,
      async () => {
        const { body } = await api.call("GET", "/apis/atoll.dev/v1alpha1/guardiansidecars/strong");
        return (body["status"] as { policy?: { version: number } }).policy?.version === version;
      },
      90,
    );
    const path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/atoll-keep";
    await api.call("DELETE", path);
    await until("the policy is back", async () => (await api.call("GET", path)).status === 200, 90);
    if (wish.plant === "leak") kept.push(Buffer.from("x".repeat(2 << 20)));
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 500));
    globalThis.gc();
    const { heapUsed, external } = process.memoryUsage();
    samples.push({
      heap: (heapUsed + external) / 2 ** 20,
      handles: process.getActiveResourcesInfo().length,
      seconds: (performance.now() - began) / 1000,
    });
    const { heap, handles, seconds } = samples[i] ?? { heap: 0, handles: 0, seconds: 0 };
    process.stderr.write(
      `cycle ${i + 1}: converged ${seconds.toFixed(1)} s after the start, ${heap.toFixed(1)} MiB kept, ${handles} resources open\n`,
    );
  }
  const [early, late] = [samples[Math.min(2, samples.length - 1)], samples.at(-1)];
  const grown = (late?.heap ?? 0) - (early?.heap ?? 0);
  const opened = (late?.handles ?? 0) - (early?.handles ?? 0);
  const missed = [
    ...(grown <= 8 ? [] : [`${grown.toFixed(1)} MiB more are kept`]),
    ...(opened <= 10 ? [] : [`${opened} more resources are open`]),
  ];
  process.stdout.write(
    wish.json
      ? `${JSON.stringify({ cycles, samples, grownMiB: grown, opened, missed })}\n`
      : `${cycles} restarts of the API server: converged each time, slowest after ${Math.max(...samples.map((s) => s.seconds)).toFixed(1)} s; from the third to the last ${grown.toFixed(1)} MiB and ${opened} resources more\n${missed.length === 0 ? "nothing is kept" : `missed: ${missed.join("; ")}`}\n`,
  );
  process.exitCode = missed.length === 0 ? 0 : 1;
} finally {
  await whole.stop().catch(() => undefined);
  server?.kill("SIGKILL");
}
process.exit();
