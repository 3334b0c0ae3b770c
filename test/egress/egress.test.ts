// The egress gateway and the guardian's way through it, both ends in one process.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import { createServer as createHttps, request } from "node:https";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeAuthority, makeLeaf } from "../../operator/certificates/certificates.ts";
import { destination, startGateway } from "../../operator/gateway/gateway.ts";
import type { Gateway } from "../../operator/gateway/gateway.ts";
import { GATEWAY_NAME } from "../../operator/island/island.ts";
import { createUpstreams } from "../../sidecar/dispatch/dispatch.ts";
import { connectorBy, openEgress } from "../../sidecar/egress/egress.ts";
import type { Egress } from "../../sidecar/egress/egress.ts";
import { makeResolver } from "../../sidecar/resolve/resolve.ts";
import { openStream } from "../../sidecar/stream/stream.ts";

const HOUR = 3_600_000;
const now = new Date();
const authority = makeAuthority(now, HOUR);
const stranger = makeAuthority(now, HOUR);
const leaf = makeLeaf(authority, { dnsNames: [GATEWAY_NAME] }, now, HOUR);
const GUARDIAN = { commonName: "pod-1", organizations: ["atoll:guardian"], client: true };

let folder = "";
let gateway: Gateway;
let echo: Server;
let http: ReturnType<typeof createHttp>;
let control: ReturnType<typeof createHttps>;
const asked: string[] = [];
const listening = (server: Server): Promise<number> =>
  new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)),
  );

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "atoll-egress-"));
  writeFileSync(join(folder, "ca"), authority.certificate);
  writeFileSync(join(folder, "token"), "good");
  writeFileSync(join(folder, "bad"), "bad");
  // Answers only after the other half has ended, so that a half that closes both would lose everything.
  echo = createServer({ allowHalfOpen: true }, (socket) => {
    const parts: Buffer[] = [];
    socket.on("data", (part: Buffer) => parts.push(part));
    socket.on("end", () => socket.end(Buffer.concat(parts)));
  });
  http = createHttp((_, response) => response.end('{"well":true}'));
  const own = makeLeaf(authority, { dnsNames: ["control.test"] }, now, HOUR);
  control = createHttps({ key: own.key, cert: own.certificate }, (request, response) =>
    response.end(JSON.stringify({ path: request.url, token: request.headers.authorization })),
  );
  const ports: Record<string, number> = {
    "10.5.5.5": await listening(control),
    "10.1.2.3": await listening(echo),
    "10.9.9.9": await listening(http),
  };
  gateway = await startGateway({
    port: 0,
    tls: { leaf, authority, bundle: authority.certificate },
    guardianOf: (token) => Promise.resolve(token === "good" ? "pod-1" : undefined),
    lookup: (name) =>
      Promise.resolve(
        name === "inner.test"
          ? { found: ["10.9.9.9"], codes: [] }
          : name === "control.test"
            ? { found: ["10.5.5.5"], codes: [] }
            : name === "evil.test"
              ? { found: ["169.254.169.254"], codes: [] }
              : { found: [], codes: ["ENOTFOUND", "ENOTFOUND"] },
      ),
    log: () => undefined,
    dial: (address, port) => {
      asked.push(`${address}:${port}`);
      return connect({ host: "127.0.0.1", port: ports[address] ?? 1, allowHalfOpen: true });
    },
  });
});
afterAll(async () => {
  await gateway.stop();
  echo.close();
  http.close();
  control.close();
  rmSync(folder, { recursive: true });
});

const egress = (token = "token", ca = "ca"): Egress =>
  openEgress({
    at: `127.0.0.1:${gateway.port}`,
    caFile: join(folder, ca),
    tokenFile: join(folder, token),
  });
const whole = async (socket: Socket): Promise<Buffer> => {
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
};

describe("a guardian", () => {
  test("reaches an address by way of the gateway, every byte, each half ended by itself", async () => {
    const sent = Buffer.alloc(3 << 20, "x");
    const socket = await egress().dial("10.1.2.3", 443);
    socket.end(sent);
    const got = await whole(socket);
    expect(got.length).toBe(sent.length);
    expect(got.equals(sent)).toBe(true);
    expect(asked).toContain("10.1.2.3:443");
  });

  test("is told when nobody is there", async () => {
    await expect(egress().dial("10.7.7.7", 9)).rejects.toMatchObject({ code: "EHOSTUNREACH" });
  });

  test("has names resolved there, and judges the addresses itself", async () => {
    const resolver = makeResolver({ tcp: true, ask: egress().ask });
    const listed = [{ bytes: [10, 0, 0, 0], prefix: 8 }];
    expect(await resolver.resolve("inner.test", listed)).toEqual({
      kind: "addresses",
      addresses: ["10.9.9.9"],
    });
    expect(await resolver.resolve("inner.test")).toMatchObject({ kind: "refused", address: "10.9.9.9" });
    expect(await resolver.resolve("evil.test", listed)).toMatchObject({ kind: "refused" });
    expect(await resolver.resolve("none.test")).toEqual({ kind: "failed", reason: "not found" });
  });

  test("calls its upstreams that way", async () => {
    const way = egress();
    const resolver = makeResolver({ tcp: true, ask: way.ask });
    const upstreams = createUpstreams({ credentials: "", connect: connectorBy(way, () => resolver) });
    const reply = await upstreams.send(
      { kind: "http", url: "http://inner.test:8080", credential: "" } as never,
      { method: "GET", path: "/x", headers: {}, body: "", timeoutMs: 5000 },
    );
    expect(reply.status).toBe(200);
    expect(asked).toContain("10.9.9.9:8080");
    await upstreams.close();
  });
});

test("the control stream takes that way", async () => {
  const way = egress();
  const stream = openStream({
    url: "https://control.test:8443",
    caFile: join(folder, "ca"),
    tokenFile: join(folder, "token"),
    podUid: "pod-1",
    signer: { publicKey: new Uint8Array(32), keyId: "", sign: () => "" } as never,
    onEvent: () => Promise.resolve(),
    report: () => ({}),
    log: () => undefined,
    resolver: makeResolver({ tcp: true, ask: way.ask }),
    dial: way.dial,
  });
  try {
    expect(await stream.fetchBundle("h")).toEqual({ path: "/v1/bundles/h", token: "Bearer good" });
    expect(asked).toContain("10.5.5.5:8443");
  } finally {
    stream.close();
  }
});

describe("nobody else", () => {
  test("gets a certificate: another token, no token", async () => {
    await expect(egress("bad").dial("10.1.2.3", 443)).rejects.toThrow("403");
  });

  test("is answered as the gateway: another authority's server", async () => {
    writeFileSync(join(folder, "other"), stranger.certificate);
    await expect(egress("token", "other").dial("10.1.2.3", 443)).rejects.toThrow();
  });

  const connectWith = (tls: { key?: string; cert?: string }, path = "10.1.2.3:443", method = "CONNECT") =>
    new Promise<number>((resolve, reject) => {
      const sent = request({
        host: "127.0.0.1",
        port: gateway.port,
        servername: GATEWAY_NAME,
        ca: authority.certificate,
        method,
        path,
        agent: false,
        ...tls,
      });
      sent.on("error", reject);
      sent.on("response", (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      sent.on("connect", (response, socket) => {
        socket.destroy();
        resolve(response.statusCode ?? 0);
      });
      sent.end();
    });
  const made = (by: typeof authority, names: object, life = HOUR) => {
    const { key, certificate } = makeLeaf(by, names, now, life);
    return { key, cert: certificate };
  };
  test.each([
    ["without a certificate", {}],
    ["with one of another authority", made(stranger, GUARDIAN)],
    ["with one that is no guardian's", made(authority, { ...GUARDIAN, organizations: ["atoll:other"] })],
    ["with a server's", made(authority, { ...GUARDIAN, client: false })],
    ["with one that has expired", made(authority, GUARDIAN, -60_000)],
  ])("goes on %s, nor has a name resolved", async (_, tls) => {
    expect(await connectWith(tls)).toBe(403);
    expect(await connectWith(tls, "/v1/addresses?name=inner.test", "GET")).toBe(403);
  });

  test("and the twin with a guardian's goes on", async () => {
    const tls = made(authority, GUARDIAN);
    expect(await connectWith(tls)).toBe(200);
    expect(await connectWith(tls, "/v1/addresses?name=inner.test", "GET")).toBe(200);
    expect(await connectWith(tls, "127.0.0.1:8080")).toBe(403);
    expect(await connectWith(tls, "inner.test:443")).toBe(403);
  });
});

test.each([
  "127.0.0.1:80",
  "0.0.0.0:80",
  "169.254.169.254:80",
  "224.0.0.1:80",
  "255.255.255.255:80",
  "[::1]:80",
  "[::]:80",
  "[::ffff:127.0.0.1]:80",
  "[::127.0.0.1]:80",
  "[64:ff9b::7f00:1]:80",
  "[fe80::1]:80",
  "[ff02::1]:80",
  "[fd00:ec2::254]:80",
  "0177.0.0.1:80",
  "10.0.0.1",
  "10.0.0.1:0",
  "10.0.0.1:65536",
  "[10.0.0.1]:80",
  "fd00::1:80",
  "name.test:80",
  "",
])("`%s` is never dialled from the gateway", (text) => expect(destination(text)).toBeUndefined());

test("addresses of the cluster and of the world are dialled", () => {
  expect(destination("10.96.0.10:53")).toEqual({ address: "10.96.0.10", port: 53 });
  expect(destination("[2606:2800::1]:443")).toEqual({ address: "2606:2800::1", port: 443 });
});
