// The parts of the guardian that only a pod has: what it is told, the control stream's bytes, the agent's probes.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { probeTargets, startHealth } from "../../sidecar/health/health.ts";
import { downwardLabels, podSettings, readPolicyFile } from "../../sidecar/pod/environment.ts";
import { createKeeper, keptBundles } from "../../sidecar/pod/kept.ts";
import { eventReader } from "../../sidecar/stream/events.ts";

const folder = (): string => mkdtempSync(join(tmpdir(), "atoll-pod-"));

const environment = (dir: string, sha: string): Record<string, string> => ({
  ATOLL_SIDECAR: "s",
  ATOLL_LEVEL: "L1",
  ATOLL_BUNDLE_ID: "b",
  ATOLL_LOCK: "nftables",
  ATOLL_PROOF_MAX_AGE_SECONDS: "15",
  ATOLL_POLICY_DIR: dir,
  ATOLL_TRUST_ROOTS: join(dir, "roots.pem"),
  ATOLL_TRUST_ROOTS_SHA256: sha,
  ATOLL_POD_DIR: dir,
  ATOLL_JOURNAL_DIR: dir,
  ATOLL_ADMIN_SOCKET: join(dir, "admin.sock"),
  ATOLL_GATE_SOCKET: join(dir, "gate.sock"),
  ATOLL_CANARY: "none",
  ATOLL_CONTROL_URL: "https://c:1",
  ATOLL_CONTROL_CA: join(dir, "ca"),
  ATOLL_CONTROL_TOKEN: join(dir, "token"),
  ATOLL_POD_NAME: "p",
  ATOLL_POD_NAMESPACE: "n",
  ATOLL_POD_UID: "u",
  ATOLL_SERVICE_ACCOUNT: "a",
});

test("trust roots are taken only with the hash that the pod's shape names", () => {
  const dir = folder();
  try {
    writeFileSync(join(dir, "roots.pem"), "roots");
    expect(podSettings(environment(dir, sha256("roots"))).trustRoots).toBe("roots");
    expect(() => podSettings(environment(dir, sha256("others")))).toThrow("the installer's has");
    const { ATOLL_LOCK: _, ...without } = environment(dir, sha256("roots"));
    expect(() => podSettings(without)).toThrow("ATOLL_LOCK");
    expect(() => podSettings({ ...without, ATOLL_LOCK: "off" })).toThrow("neither nftables nor none");
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("labels are read as the downward API quotes them, and nothing else is", () => {
  expect({ ...downwardLabels('app="agent"\na/b="x=\\"y\\"\\n"\nbroken=x\n__proto__="p"\n') }).toEqual({
    app: "agent",
    "a/b": 'x="y"\n',
    ["__proto__"]: "p",
  });
});

test("a bundle that was kept is found again, a broken file is none, a missing one neither", () => {
  const dir = folder();
  try {
    expect(keptBundles(dir)).toEqual([]);
    createKeeper(dir)({ version: 2 }, undefined);
    expect(keptBundles(dir)).toEqual([{ bundle: { version: 2 }, ceiling: undefined }]);
    createKeeper(dir)({ version: 3 }, { version: 1 });
    expect(keptBundles(dir)).toEqual([{ bundle: { version: 3 }, ceiling: { version: 1 } }]);
    writeFileSync(join(dir, "policy/kept.json"), '{"bundle":');
    expect(keptBundles(dir)).toEqual([]);
    expect(readPolicyFile(dir, "bundle")).toBeUndefined();
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("events are the same at every chunking, split letters included", () => {
  const text = 'event: freeze\ndata: {"reason":"наб"}\n\nevent: synced\ndata: {}\n\nevent: half';
  const bytes = Buffer.from(text);
  const whole = eventReader()(bytes);
  expect(whole).toEqual([
    { event: "freeze", data: '{"reason":"наб"}' },
    { event: "synced", data: "{}" },
  ]);
  for (let at = 1; at < bytes.length; at++) {
    const read = eventReader();
    expect([...read(bytes.subarray(0, at)), ...read(bytes.subarray(at))]).toEqual(whole);
  }
  expect(() => eventReader()(Buffer.alloc(3 << 20, 97))).toThrow("too large");
});

test("probe targets are loopback's, never a port of ours, and keep their places", () => {
  const targets = probeTargets(
    JSON.stringify([
      { kind: "http", port: 15090, path: "/readyz" },
      {
        kind: "http",
        port: 8080,
        path: "/ok",
        headers: [
          { name: "x-a", value: "b" },
          { name: "a b", value: "" },
        ],
      },
      { kind: "exec", port: 1 },
      { kind: "tcp", port: 70000 },
    ]),
  );
  expect(targets.map((t) => t?.kind)).toEqual([undefined, "http", undefined, undefined]);
  expect(targets[1]).toMatchObject({ path: "/ok", headers: { "x-a": "b" } });
  expect(probeTargets("[")).toEqual([]);
  expect(probeTargets('{"0":{"kind":"tcp","port":1}}')).toEqual([]);
});

test("the health listener says what is so, and carries a probe to the agent", async () => {
  let asked = "";
  const agent = createServer((request, response) => {
    asked = request.url ?? "";
    response.writeHead(asked === "/ok" ? 204 : 500).end();
  });
  await new Promise<void>((resolve) => agent.listen(0, "127.0.0.1", resolve));
  const address = agent.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  let ready = false;
  const health = await startHealth({
    listen: { host: "127.0.0.1", port: 0 },
    started: () => ready,
    ready: () => ({ ok: ready, why: "the gate has not reported" }),
    metrics: () => Promise.resolve("atoll_lock_ok 0\n"),
    contentType: "text/plain",
    probes: () =>
      JSON.stringify([
        { kind: "http", port, path: "/ok" },
        { kind: "http", port, path: "/bad" },
        { kind: "tcp", port },
        { kind: "tcp", port: 1 },
      ]),
  });
  const get = async (path: string): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${health.port}${path}`);
    return [response.status, (await response.text()).trim()];
  };
  try {
    expect(await get("/livez")).toEqual([200, "alive"]);
    expect((await get("/startupz"))[0]).toBe(503);
    expect(await get("/readyz")).toEqual([503, "the gate has not reported"]);
    ready = true;
    expect((await get("/startupz"))[0]).toBe(200);
    expect((await get("/readyz"))[0]).toBe(200);
    expect(await get("/metrics")).toEqual([200, "atoll_lock_ok 0"]);
    expect(await get("/probe/0")).toEqual([200, "status 204"]);
    expect(asked).toBe("/ok");
    expect((await get("/probe/1"))[0]).toBe(503);
    expect((await get("/probe/2"))[0]).toBe(200);
    expect((await get("/probe/3"))[0]).toBe(503);
    expect((await get("/probe/4"))[0]).toBe(404);
  } finally {
    await health.close();
    agent.closeAllConnections();
    agent.close();
  }
});

test("a gRPC probe asks the agent's health service, and believes nothing but SERVING", async () => {
  let status = 1;
  let asked = "";
  const agent = createHttp2((request, response) => {
    asked = `${request.url} ${request.headers["content-type"] ?? ""}`;
    response.writeHead(200, { "content-type": "application/grpc" });
    response.end(Buffer.from([0, 0, 0, 0, 2, 0x08, status]));
  });
  await new Promise<void>((resolve) => agent.listen(0, "127.0.0.1", resolve));
  const address = agent.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const health = await startHealth({
    listen: { host: "127.0.0.1", port: 0 },
    started: () => true,
    ready: () => ({ ok: true, why: "" }),
    metrics: () => Promise.resolve(""),
    contentType: "text/plain",
    probes: () =>
      JSON.stringify([
        { kind: "grpc", port, service: "own" },
        { kind: "grpc", port: 1 },
      ]),
  });
  const get = async (path: string): Promise<number> =>
    (await fetch(`http://127.0.0.1:${health.port}${path}`)).status;
  try {
    expect(await get("/probe/0")).toBe(200);
    expect(asked).toBe("/grpc.health.v1.Health/Check application/grpc");
    status = 2;
    expect(await get("/probe/0")).toBe(503);
    expect(await get("/probe/1")).toBe(503);
  } finally {
    await health.close();
    agent.close();
  }
});
