import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { gate, type GateReport, receiveReports, type ReportReceiver } from "../../sidecar/gate/gate.ts";
import { judgeReport, readReport } from "../../sidecar/gate/report.ts";
import { gateTargets, type Surroundings } from "../../sidecar/gate/targets.ts";

const clean: GateReport = {
  type: "atoll.dev/gate-report/v1",
  round: 1,
  probes: 12,
  guardian: true,
  failing: [],
  duration_ms: 1003,
};
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

let work = "";
beforeEach(() => {
  work = mkdtempSync("/tmp/atoll-gate-");
});
afterEach(() => rmSync(work, { recursive: true }));

describe("a report", () => {
  test("is read back as it was written", () => expect(readReport(bytes(clean))).toEqual(clean));

  test.each([
    ["another type", { ...clean, type: "atoll.dev/gate-report/v2" }],
    ["a text for a truth", { ...clean, guardian: "true" }],
    ["failing that is no list", { ...clean, failing: "" }],
    ["failing with a number", { ...clean, failing: [1] }],
    ["a negative count", { ...clean, probes: -1 }],
    ["a missing member", { ...clean, probes: undefined }],
    ["a list", [clean]],
  ])("with %s is none", (_, value) => expect(readReport(bytes(value))).toBeUndefined());

  test("proves while it is younger than 15 s, and not after", () => {
    expect(judgeReport(clean, 14_999)).toEqual({ proved: true });
    expect(judgeReport(clean, 15_000)).toMatchObject({
      proved: false,
      reason: "the gate's last report is 15 s old",
    });
  });

  test("proves nothing when absent, empty, unanswered by the guardian, or when something was reached", () => {
    expect(judgeReport(undefined, 0)).toMatchObject({ proved: false, reason: "the gate has not reported" });
    expect(judgeReport({ ...clean, probes: 0 }, 0)).toMatchObject({
      proved: false,
      reason: "the gate tried nothing",
    });
    expect(judgeReport({ ...clean, guardian: false }, 0)).toMatchObject({
      proved: false,
      reason: "the guardian did not answer the gate",
    });
    expect(judgeReport({ ...clean, failing: ["dns UDP 10.96.0.10:53"] }, 0)).toEqual({
      proved: false,
      reason: "reached from inside the pod: dns UDP 10.96.0.10:53",
      failing: ["dns UDP 10.96.0.10:53"],
    });
  });
});

describe("the receiver", () => {
  let receiver: ReportReceiver;
  let clock = 0;
  const seen: GateReport[] = [];
  const open = () =>
    receiveReports({ path: join(work, "s"), now: () => clock, onReport: (report) => seen.push(report) });
  const write = (text: string | Buffer) =>
    new Promise<void>((resolve) => {
      const socket = connect(join(work, "s"));
      socket.on("error", () => undefined);
      socket.on("close", () => resolve());
      socket.end(text);
    });
  beforeEach(async () => {
    clock = 1_000_000;
    seen.length = 0;
    receiver = await open();
  });
  afterEach(() => receiver.close());

  test("believes a report for 15 s of its own clock", async () => {
    expect(receiver.verdict()).toMatchObject({ proved: false, reason: "the gate has not reported" });
    await write(`${JSON.stringify(clean)}\n`);
    expect(receiver.verdict()).toEqual({ proved: true });
    expect(seen).toEqual([clean]);
    clock += 14_999;
    expect(receiver.verdict()).toEqual({ proved: true });
    clock += 1;
    expect(receiver.verdict()).toMatchObject({ proved: false });
    await write(`${JSON.stringify({ ...clean, round: 2 })}\n`);
    expect(receiver.verdict()).toEqual({ proved: true });
    expect(receiver.last()).toMatchObject({ round: 2 });
  });

  test("takes no notice of what is no report, and of a line without its end", async () => {
    await write("not json\n");
    await write(JSON.stringify(clean));
    await write(Buffer.alloc(200_000, 32));
    expect(receiver.verdict()).toMatchObject({ reason: "the gate has not reported" });
    await write(`${JSON.stringify(clean)}\n${JSON.stringify({ ...clean, failing: ["x"] })}\n`);
    expect(receiver.verdict()).toEqual({ proved: true });
  });

  test("can be reopened over what a killed guardian left", async () => {
    writeFileSync(join(work, "t"), "");
    const again = await receiveReports({ path: join(work, "t"), now: () => clock });
    expect(statSync(join(work, "t")).isSocket()).toBe(true);
    await again.close();
  });
});

describe("targets", () => {
  const around: Surroundings = {
    env: {
      ATOLL_CANARY: "10.96.1.1:7007,[fd00::7]:7007",
      ATOLL_NODE_IPS: "192.168.0.2,fd00::2",
      KUBERNETES_SERVICE_HOST: "10.96.0.1",
      KUBERNETES_SERVICE_PORT: "443",
    },
    resolvConf: "search x\nnameserver 10.96.0.10\nnameserver 127.0.0.53\n",
    routes4: "Iface\tDestination\tGateway\neth0\t00000000\t0101FEA9\t0003\neth0\t0101FEA9\t00000000\t0005\n",
    routes6: `${"0".repeat(32)} 00 ${"0".repeat(32)} 00 fe800000000000000000000000000001 00000400 1 0 3 eth0\n`,
    interfaces: [2],
  };

  test("are the canary, the node, the gateway, the API server, DNS, metadata and the neighbours", () => {
    expect(
      gateTargets(around).map(({ name, address, port, scope }) => `${name} ${address} ${port} ${scope}`),
    ).toEqual([
      "canary 10.96.1.1 7007 0",
      "canary fd00::7 7007 0",
      "node 192.168.0.2 10250 0",
      "node fd00::2 10250 0",
      "gateway 169.254.1.1 80 0",
      "gateway fe80:0000:0000:0000:0000:0000:0000:0001 80 2",
      "apiserver 10.96.0.1 443 0",
      "dns 10.96.0.10 53 0",
      "metadata 169.254.169.254 80 0",
      "metadata fd00:ec2::254 80 0",
      "neighbours ff02::1 0 2",
    ]);
  });

  test.each([[undefined], [""], ["canary.example:7007"], ["10.0.0.1"], ["10.0.0.1:0"], ["fd00::7:7007"]])(
    "ATOLL_CANARY=%j is refused",
    (canary) => {
      expect(() => gateTargets({ ...around, env: { ...around.env, ATOLL_CANARY: canary } })).toThrow(
        "canary",
      );
    },
  );

  test("a canary may be waived by name alone", () => {
    expect(gateTargets({ ...around, env: { ATOLL_CANARY: "none" } }).map((each) => each.name)).not.toContain(
      "canary",
    );
  });
});

describe("the startup probe", () => {
  const check = async (state: string, age = 0, waitMs = 0) => {
    let said = "";
    const io = {
      env: { ATOLL_GATE_STATE: state },
      stderr: { write: (text: string) => (said += text) },
      signal: new AbortController().signal,
      ageMs: () => age,
      waitMs,
    };
    return { code: await gate(["check"], io), said };
  };

  test("waits for the first report, and not for another after one that names what was reached", async () => {
    const state = join(work, "report.json");
    const waiting = check(state, 0, 600_000);
    writeFileSync(state, `${JSON.stringify(clean)}\n`);
    expect(await waiting).toEqual({ code: 0, said: "" });
    writeFileSync(state, `${JSON.stringify({ ...clean, failing: ["node ICMP 10.0.0.1"] })}\n`);
    expect(await check(state, 0, 600_000)).toEqual({
      code: 1,
      said: "gate: reached from inside the pod: node ICMP 10.0.0.1\n",
    });
  });

  test("passes on a fresh clean report, and else says why not", async () => {
    const state = join(work, "report.json");
    expect(await check(state)).toEqual({ code: 1, said: "gate: the gate has not reported\n" });
    writeFileSync(state, `${JSON.stringify(clean)}\n`);
    expect(await check(state)).toEqual({ code: 0, said: "" });
    expect(await check(state, 20_000)).toEqual({
      code: 1,
      said: "gate: the gate's last report is 20 s old\n",
    });
    writeFileSync(state, `${JSON.stringify({ ...clean, failing: ["canary TCP 10.96.1.1:7007"] })}\n`);
    expect(await check(state)).toEqual({
      code: 1,
      said: "gate: reached from inside the pod: canary TCP 10.96.1.1:7007\n",
    });
    expect(readFileSync(state, "utf8")).toContain("canary");
  });

  test("a gate without a canary does not run", async () => {
    let said = "";
    const io = {
      env: {},
      stderr: { write: (text: string) => (said += text) },
      signal: new AbortController().signal,
      ageMs: () => 0,
    };
    expect(await gate([], io)).toBe(2);
    expect(said).toContain("`ATOLL_CANARY` names no canary");
    expect(await gate(["walk"], io)).toBe(2);
  });
});
