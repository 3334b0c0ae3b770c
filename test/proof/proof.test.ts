import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  canaryList,
  type Island,
  type IslandState,
  notes,
  type ProbeNote,
  watchIsland,
} from "../../sidecar/proof/proof.ts";

let folder = "";
let island: Island | undefined;
let clock = 0;
let states: IslandState[] = [];
let written: ProbeNote[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "atoll-proof-"));
  clock = 0;
  states = [];
  written = [];
});
afterEach(async () => {
  await island?.close();
  island = undefined;
  rmSync(folder, { recursive: true });
});

const watch = async (more: Partial<Parameters<typeof watchIsland>[0]> = {}): Promise<Island> => {
  island = await watchIsland({
    lock: "nftables",
    socket: join(folder, "report.sock"),
    canaries: [],
    network: true,
    maxAgeMs: 15_000,
    everyMs: 30,
    dialMs: 300,
    now: () => clock,
    onChange: (state, probes) => {
      states.push(state);
      written.push(...probes);
    },
    ...more,
  });
  return island;
};
const report = (failing: readonly string[] = [], more: object = {}): Promise<void> =>
  new Promise((resolve) => {
    const line = {
      type: "atoll.dev/gate-report/v1",
      round: 1,
      probes: 20,
      guardian: true,
      failing,
      duration_ms: 1,
      ...more,
    };
    const socket = connect(join(folder, "report.sock"), () => socket.end(`${JSON.stringify(line)}\n`));
    socket.on("close", () => resolve());
  });
const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
};

test("nothing is proved until the gate reports; then it holds for 15 s and no longer", async () => {
  const { state } = await watch();
  expect(state()).toMatchObject({ ok: false, why: "the gate has not reported", lockProved: false });
  await report();
  await until(() => state().ok);
  expect(state()).toMatchObject({ why: "", failing: [], lockProved: true, networkProved: undefined });
  clock = 14_999;
  expect(state().ok).toBe(true);
  clock = 15_000;
  expect(state()).toMatchObject({ ok: false, why: "the gate's last report is 15 s old", lockProved: false });
  await until(() => states.at(-1)?.ok === false);
  expect(written.at(-1)).toMatchObject({ result: "unproved", target: "lock" });
});

test("a probe that was answered stops it at once, by name, is written down, and once more when it holds again", async () => {
  const { state } = await watch();
  await report();
  await until(() => state().ok);
  expect(written.splice(0)).toEqual([
    { type: "atoll.dev/probe/v1", name: "the island is proved", target: "lock", result: "held" },
  ]);
  await report(["canary TCP 10.96.0.7:7007", "node ICMP 10.0.0.1"]);
  await until(() => !state().ok);
  expect(state()).toMatchObject({
    why: "reached from inside the pod: canary TCP 10.96.0.7:7007 (lock), node ICMP 10.0.0.1 (lock)",
    lockProved: false,
  });
  expect(written).toEqual([
    { type: "atoll.dev/probe/v1", name: "canary TCP 10.96.0.7:7007", target: "lock", result: "answered" },
    { type: "atoll.dev/probe/v1", name: "node ICMP 10.0.0.1", target: "lock", result: "answered" },
  ]);
  await report(["node ICMP 10.0.0.1"]);
  await until(() => written.length === 3);
  await report();
  await until(() => state().ok);
  expect(written.slice(2).map((each) => [each.name, each.result])).toEqual([
    ["canary TCP 10.96.0.7:7007", "held"],
    ["node ICMP 10.0.0.1", "held"],
  ]);
});

test("a report of no probe, or of a guardian that did not answer, proves nothing", async () => {
  const { state } = await watch();
  await report([], { probes: 0 });
  await until(() => state().why !== "the gate has not reported");
  expect(state()).toMatchObject({ ok: false, why: "the gate tried nothing" });
});

/** A canary that can be shut and opened. */
const bird = async (): Promise<{ port: number; close: () => Promise<void> }> => {
  const server = createServer((socket) => socket.on("error", () => undefined).end("atoll-canary\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    close: () => new Promise((resolve) => void server.close(() => resolve())),
  };
};

test("the guardian's own dial that succeeds is the network's failure; a refusal is not taken for an answer", async () => {
  const canary = await bird();
  const { state } = await watch({ canaries: [{ host: "127.0.0.1", port: canary.port }] });
  await report();
  const probe = `canary TCP 127.0.0.1:${canary.port}`;
  await until(() => state().lockProved);
  expect(state()).toMatchObject({
    ok: false,
    why: `reached from inside the pod: ${probe} (network)`,
    networkProved: false,
    failing: [{ leg: "network", probe }],
  });
  expect(written).toContainEqual({
    type: "atoll.dev/probe/v1",
    name: probe,
    target: "network",
    result: "answered",
  });
  await canary.close();
  await until(() => state().ok);
  expect(state()).toMatchObject({ networkProved: true, failing: [] });
  expect(written.at(-1)).toMatchObject({ name: probe, result: "held" });
});

test("without the lock the network's proof is the one that counts, and it grows old too", async () => {
  const canary = await bird();
  const port = canary.port;
  await canary.close();
  const none = await watch({ lock: "none", canaries: [] });
  expect(none.state().ok).toBe(false);
  await none.close();
  const { state, close } = await watch({
    lock: "none",
    canaries: [{ host: "127.0.0.1", port }],
    everyMs: 60_000,
  });
  expect(state()).toMatchObject({ ok: true, networkProved: true, lockProved: false });
  clock = 15_000;
  expect(state()).toMatchObject({ ok: false, networkProved: undefined });
  await close();
});

test("where no NetworkPolicy is asked for, the guardian dials nobody", async () => {
  const canary = await bird();
  const { state } = await watch({ network: false, canaries: [{ host: "127.0.0.1", port: canary.port }] });
  await report();
  await until(() => state().ok);
  expect(state().networkProved).toBeUndefined();
  await canary.close();
});

test("the same state is told once", () => {
  const state: IslandState = { ok: true, why: "", failing: [], lockProved: true, networkProved: true };
  expect(notes(state, state)).toEqual([]);
  expect(notes(undefined, state)).toEqual([]);
});

test("the list of canaries is read exactly", () => {
  expect(canaryList("10.0.0.1:7,[fd00::1]:8")).toEqual([
    { host: "10.0.0.1", port: 7 },
    { host: "fd00::1", port: 8 },
  ]);
  expect(canaryList("none")).toEqual([]);
  for (const text of ["a:1", "10.0.0.1", "10.0.0.1:0", "::1:5"])
    expect(() => canaryList(text)).toThrow("is not address:port");
});
