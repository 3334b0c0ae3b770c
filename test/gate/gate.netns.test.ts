// The gate as a process in a pod of its own: what it proves, what it finds, and how soon (9.3).
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { receiveReports, type ReportReceiver } from "../../sidecar/gate/gate.ts";
import { AGENT_PORTS, GATE_UID, GUARDIAN_UID } from "../../sidecar/lock/lock.ts";
import { type Actor, asUid, HERE, makePod, type Pod } from "../island/pod.ts";

const CANARY = 7000;
let pod: Pod;
let peer: Actor;
let guardian: Actor;
let receiver: ReportReceiver;
let program: ChildProcess;
let work = "";
const env = () => ({
  ...process.env,
  ATOLL_CANARY: `${HERE.out4}:${CANARY},[${HERE.out6}]:${CANARY}`,
  ATOLL_NODE_IPS: HERE.out4,
  ATOLL_GATE_SOCKET: join(work, "report.sock"),
  ATOLL_GATE_STATE: join(work, "report.json"),
});
const file = join(import.meta.dirname, "../../sidecar/gate/program.ts");
const command = (...args: string[]) => [
  "netns",
  "exec",
  pod.name,
  ...asUid(GATE_UID),
  process.execPath,
  "--disable-warning=ExperimentalWarning",
  file,
  ...args,
];
const startupProbe = () => {
  const { status, stderr } = spawnSync("ip", command("check"), { env: env() });
  return { code: status, said: stderr.toString() };
};
/** Waits for a verdict, no longer than the 15 s within which it must come. */
const within15s = (check: () => void) => vi.waitFor(check, { timeout: 15_000, interval: 200 });

beforeAll(async () => {
  work = mkdtempSync("/tmp/atoll-gate-");
  chmodSync(work, 0o777);
  pod = await makePod();
  peer = await pod.actor("outside", 0);
  guardian = await pod.actor("pod", GUARDIAN_UID);
  await guardian.ask({
    do: "serve",
    host: "127.0.0.1",
    port: AGENT_PORTS[0],
    text: "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
  });
  await peer.ask({ do: "serve", host: "::", port: CANARY, text: "canary" });
  for (const host of ["0.0.0.0", "::"]) await peer.ask({ do: "echo", host, port: CANARY });
  receiver = await receiveReports({ path: join(work, "report.sock"), now: () => performance.now() });
  pod.lock();
  program = spawn("ip", command(), { env: env(), stdio: "inherit" });
});
afterAll(async () => {
  program.kill("SIGKILL");
  await receiver.close();
  await pod.remove();
  rmSync(work, { recursive: true });
});

test("behind the lock it reports a pod that is shut, sends nothing out, and its startup probe passes", async () => {
  await within15s(() => expect(receiver.verdict()).toEqual({ proved: true }));
  expect(startupProbe()).toEqual({ code: 0, said: "" });
  expect(receiver.last()?.probes).toBeGreaterThan(12);
  expect(receiver.last()?.duration_ms).toBeLessThan(5000);
  expect(
    (await pod.seen()).filter(
      (line) => line.includes(`IP ${HERE.pod4}`) || line.includes(`IP6 ${HERE.pod6}`),
    ),
  ).toEqual([]);
});

test("the lock flushed from outside is found within 15 s, with the probes' names, and its return too", async () => {
  pod.unlock();
  await within15s(() =>
    expect(receiver.verdict()).toMatchObject({
      proved: false,
      failing: expect.arrayContaining([expect.stringContaining("canary")]),
    }),
  );
  const verdict = receiver.verdict();
  for (const name of [
    `canary TCP ${HERE.out4}:${CANARY}`,
    `canary UDP ${HERE.out4}:${CANARY}`,
    `canary ICMP ${HERE.out4}`,
    `canary TCP ${HERE.out6}:${CANARY}`,
    `canary UDP ${HERE.out6}:${CANARY}`,
    `canary ICMP ${HERE.out6}`,
    // A refusal is an answer.
    `node TCP ${HERE.out4}:10250`,
    `node UDP ${HERE.out4}:10250`,
    "neighbours ICMP ff02::1",
  ])
    expect(verdict.proved ? [] : verdict.failing).toContain(name);
  expect(startupProbe()).toMatchObject({
    code: 1,
    said: expect.stringContaining(`canary TCP ${HERE.out4}:${CANARY}`),
  });
  pod.lock();
  await within15s(() => expect(receiver.verdict()).toEqual({ proved: true }));
});

test("each single opening is found by the name of its probe", async () => {
  for (const [rule, name] of [
    ["meta l4proto 17", `canary UDP ${HERE.out4}:${CANARY}`],
    ["meta l4proto 58", `canary ICMP ${HERE.out6}`],
  ] as const) {
    for (const chain of ["out", "in"])
      pod.run("pod", ["nft", "insert", "rule", "inet", "atoll_lock", chain, ...rule.split(" "), "accept"]);
    await within15s(() => {
      const verdict = receiver.verdict();
      expect(verdict.proved ? [] : verdict.failing).toContain(name);
    });
    const verdict = receiver.verdict();
    expect((verdict.proved ? [] : verdict.failing).filter((each) => each.includes(" TCP "))).toEqual([]);
    pod.lock();
    await within15s(() => expect(receiver.verdict()).toEqual({ proved: true }));
  }
});

test("a dead guardian and a dead gate are no proof", async () => {
  await guardian.kill();
  await within15s(() =>
    expect(receiver.verdict()).toMatchObject({
      proved: false,
      reason: "the guardian did not answer the gate",
    }),
  );
  guardian = await pod.actor("pod", GUARDIAN_UID);
  await guardian.ask({
    do: "serve",
    host: "127.0.0.1",
    port: AGENT_PORTS[0],
    text: "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
  });
  await within15s(() => expect(receiver.verdict()).toEqual({ proved: true }));
  program.kill("SIGKILL");
  await vi.waitFor(
    () =>
      expect(receiver.verdict()).toMatchObject({ proved: false, reason: expect.stringContaining("s old") }),
    { timeout: 20_000, interval: 200 },
  );
});
