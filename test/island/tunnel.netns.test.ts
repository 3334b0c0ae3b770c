// A DNS tunnel through resolver, proxy and every surface that takes a name (9.4): not one question leaves, seen by the name
// server and by the capture; each way is known to bite where its obstacle is taken away.
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { GUARDIAN_UID } from "../../sidecar/lock/lock.ts";
import { AGENT_UID, asUid, HERE, makePod, type Pod } from "./pod.ts";

const PERMITTED = "api.docs.test";
const DIRECT = ["getaddrinfo", "cares-udp", "cares-txt", "tcp-53"];
const THROUGH = ["connect", "connect-dot", "connect-case", "connect-suffix"];
let pod: Pod;
let work = "";
let etc = "";
let guardian: ChildProcess | undefined;
let server: ChildProcess | undefined;
const questions: { name: string; over: string }[] = [];

const node = (file: string): string[] => [
  process.execPath,
  "--disable-warning=ExperimentalWarning",
  join(import.meta.dirname, "lab", file),
];
const start = async (
  namespace: string,
  uid: number,
  command: readonly string[],
  ready: string,
  onLine: (line: string) => void = () => undefined,
): Promise<ChildProcess> => {
  const child = spawn("ip", ["netns", "exec", namespace, ...asUid(uid), ...command], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env["PATH"], RES_OPTIONS: uid === GUARDIAN_UID ? "use-vc" : "" },
  });
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line.includes(ready)) resolve();
      else onLine(line);
    });
    child.on("exit", () => reject(new Error(`${command.join(" ")} ended`)));
  });
  return child;
};
const stop = (child: ChildProcess | undefined): Promise<void> =>
  new Promise((resolve) => {
    if (child === undefined || child.exitCode !== null) return resolve();
    child.on("exit", () => resolve());
    child.kill("SIGKILL");
  });
let guardians = 0;
const openGuardian = async (...destinations: string[]): Promise<void> => {
  await stop(guardian);
  const folder = join(work, `guardian-${guardians++}`);
  mkdirSync(folder);
  chownSync(folder, GUARDIAN_UID, GUARDIAN_UID);
  guardian = await start(
    pod.name,
    GUARDIAN_UID,
    [...node("guardian.ts"), folder, ...destinations],
    "serving",
  );
};

beforeAll(async () => {
  work = mkdtempSync("/var/tmp/atoll-tunnel-");
  chmodSync(work, 0o755);
  pod = await makePod();
  // What `ip netns exec` shows as the resolver's configuration.
  etc = join("/etc/netns", pod.name);
  mkdirSync(etc, { recursive: true });
  writeFileSync(join(etc, "resolv.conf"), `nameserver ${HERE.out4}\n`);
  server = await start(pod.outside, 0, [...node("names.ts"), HERE.out4, HERE.out4], '"ready"', (line) =>
    questions.push(JSON.parse(line)),
  );
  const peer = await pod.actor("outside", 0);
  await peer.ask({ do: "serve", host: HERE.out4, port: 443, text: "docs" });
});
afterAll(async () => {
  await stop(guardian);
  await stop(server);
  await pod.remove();
  for (const folder of [etc, work]) rmSync(folder, { recursive: true });
});

type Way = { way: string; names: number; results: string[] };
const tunnel = (): Promise<Way[]> => {
  questions.length = 0;
  const child = spawn(
    "ip",
    ["netns", "exec", pod.name, ...asUid(AGENT_UID), ...node("tunnel.ts"), HERE.out4, PERMITTED],
    { stdio: ["ignore", "pipe", "inherit"], env: { PATH: process.env["PATH"] } },
  );
  const ways: Way[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => ways.push(JSON.parse(line)));
  return new Promise((resolve) => child.on("close", () => resolve(ways)));
};
/** The ways whose names reached the name server. */
const leaked = (): string[] => [
  ...new Set(
    questions.flatMap(
      ({ name }) => /([a-z0-9-]+)[0-9]\.t\.tunnel\.test$/i.exec(name)?.[1]?.toLowerCase() ?? [],
    ),
  ),
];

test("no name of the tunnel is asked for, and the permitted one is, over TCP", async () => {
  await openGuardian(`${PERMITTED}:443`);
  pod.lock();
  await pod.forget();
  const ways = await tunnel();
  expect(ways).toHaveLength(17);
  expect(ways.slice(0, -1).every((each) => each.names >= 1)).toBe(true);
  expect(leaked()).toEqual([]);
  expect(questions.filter(({ name }) => name !== PERMITTED)).toEqual([]);
  expect(questions.filter(({ over }) => over !== "TCP")).toEqual([]);
  expect(questions.length).toBeGreaterThan(0);
  expect(ways.at(-1)).toMatchObject({ way: "twin", results: ["HTTP/1.1 200 Connection Established"] });
  expect(
    (await pod.seen()).filter((line) => / UDP,|\.53: \d+\+/.test(line) && !line.includes("Flags")),
  ).toEqual([]);
});

test("without the lock the direct ways leak, and those through the guardian do not", async () => {
  pod.unlock();
  await tunnel();
  expect(leaked()).toEqual(DIRECT);
  pod.lock();
});

test("under a policy that opens the tunnel's domain the ways through the guardian leak, and the direct ones do not", async () => {
  await openGuardian(`${PERMITTED}:443`, "*.t.tunnel.test:443", "*.t.tunnel.test:80");
  await tunnel();
  expect(leaked()).toEqual(THROUGH);
});
