// The bypass laboratory in namespaces: nothing opens under both legs, and each attempt opens when its leg is taken away,
// so that the laboratory is known to bite (9.4).
import { spawn } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AGENT_PORTS, GUARDIAN_UID, HEALTH_PORT } from "../../sidecar/lock/lock.ts";
import { AGENT_UID, asUid, HERE, makePod, type Pod } from "./pod.ts";
import { attempts } from "./lab/attempts.ts";
import { deadEnds } from "./lab/dead-ends.ts";

type Line = { name: string; leg: string; open: boolean; by: string; twin: boolean; deadEnd: boolean };
const PORT = 7000;
let pod: Pod;
let work = "";

beforeAll(async () => {
  work = mkdtempSync("/var/tmp/atoll-lab-");
  chmodSync(work, 0o755);
  pod = await makePod();
  const [peer, guardian] = await Promise.all([pod.actor("outside", 0), pod.actor("pod", GUARDIAN_UID)]);
  await peer.ask({ do: "serve", host: "::", port: PORT, text: "canary" });
  for (const host of ["0.0.0.0", "::"]) await peer.ask({ do: "echo", host, port: PORT });
  for (const port of [...AGENT_PORTS, HEALTH_PORT, 15070])
    await guardian.ask({ do: "serve", host: "::", port, text: "guardian" });
  // The metadata address answers as the peer, so that reaching it can be seen.
  pod.run("outside", ["ip", "addr", "add", "169.254.169.254/32", "dev", "veth0"]);
  await peer.ask({ do: "serve", host: "169.254.169.254", port: 80, text: "credentials" });
  const bash = join(work, "bash");
  if (existsSync("/bin/bash")) {
    copyFileSync("/bin/bash", bash);
    chownSync(bash, GUARDIAN_UID, GUARDIAN_UID);
    chmodSync(bash, 0o4755);
  }
});
afterAll(async () => {
  await pod.remove();
  rmSync(work, { recursive: true });
});

/** Runs the laboratory under a shape: the agent's, or one that an admission policy would have refused. */
const laboratory = (
  shape: "agent" | "root" | "loose",
  names: readonly string[] = [],
): Promise<{ code: number | null; lines: Line[] }> => {
  const loose = [
    "setpriv",
    "--reuid",
    `${AGENT_UID}`,
    "--regid",
    `${AGENT_UID}`,
    "--clear-groups",
    "--inh-caps=+net_raw,+net_admin,+setuid",
    "--ambient-caps=+net_raw,+net_admin,+setuid",
  ];
  // As root runs in a container that drops all capabilities.
  const root = [
    "setpriv",
    "--reuid",
    "0",
    "--regid",
    "0",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--no-new-privs",
  ];
  const at = {
    out4: HERE.out4,
    out6: HERE.out6,
    port: PORT,
    pod4: HERE.pod4,
    device: "eth0",
    closedPorts: [15070, HEALTH_PORT],
    guardianUid: GUARDIAN_UID,
    places: [{ name: "peer", host: HERE.out4, port: PORT }],
    setuidShell: join(work, "bash"),
  };
  const program = join(import.meta.dirname, "lab", "lab.ts");
  const child = spawn(
    "ip",
    [
      "netns",
      "exec",
      pod.name,
      ...{ agent: asUid(AGENT_UID), root, loose }[shape],
      process.execPath,
      "--disable-warning=ExperimentalWarning",
      program,
      ...names,
    ],
    {
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ATOLL_LAB: JSON.stringify(at) },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  let out = "";
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  return new Promise((resolve) =>
    child.on("close", (code) =>
      resolve({
        code,
        lines: out
          .trim()
          .split("\n")
          .map((line): Line => JSON.parse(line)),
      }),
    ),
  );
};
const openNames = (lines: readonly Line[]): string[] =>
  lines.filter((line) => line.open).map((line) => line.name);
const named = (leg: string): string[] => attempts.filter((each) => each.leg === leg).map((each) => each.name);

test("under lock and shape nothing opens, nothing leaves, every twin works, and each attempt says what stopped it", async () => {
  pod.lock();
  await pod.forget();
  const { code, lines } = await laboratory("agent");
  expect(lines.map((line) => line.name)).toEqual([...attempts, ...deadEnds].map((each) => each.name));
  expect(openNames(lines)).toEqual([]);
  expect(code).toBe(0);
  expect(lines.filter((line) => !line.twin)).toEqual([]);
  expect(lines.filter((line) => line.by === "")).toEqual([]);
  expect(
    (await pod.seen()).filter(
      (line) =>
        line.includes(`IP ${HERE.pod4}`) || line.includes(`IP6 ${HERE.pod6}`) || line.includes("igmp"),
    ),
  ).toEqual([]);
});

test("root without capabilities gets no further than anybody else", async () => {
  pod.lock();
  await pod.forget();
  const { lines } = await laboratory(
    "root",
    attempts.map((each) => each.name),
  );
  expect(lines.map((line) => line.name)).toEqual(attempts.map((each) => each.name));
  expect(openNames(lines)).toEqual([]);
  expect(lines.filter((line) => !line.twin)).toEqual([]);
  expect(
    (await pod.seen()).filter(
      (line) => line.includes(`IP ${HERE.pod4}`) || line.includes(`IP6 ${HERE.pod6}`),
    ),
  ).toEqual([]);
});

test("without the lock every attempt that the lock stops opens, and those of the shape stay shut", async () => {
  pod.unlock();
  const { code, lines } = await laboratory("agent", named("lock"));
  expect(openNames(lines)).toEqual(named("lock"));
  expect(code).toBe(1);
  const shape = await laboratory(
    "agent",
    named("shape").filter((name) => name !== "net-admin" && name !== "setuid-call" && name !== "setuid-file"),
  );
  expect(openNames(shape.lines)).toEqual([]);
});

test("without the shape every attempt that the shape stops opens, past the lock", async () => {
  for (const name of named("shape")) {
    pod.lock();
    expect(openNames((await laboratory("loose", [name])).lines), name).toEqual([name]);
  }
  pod.lock();
  expect(openNames((await laboratory("loose", named("lock"))).lines)).toEqual([]);
});
