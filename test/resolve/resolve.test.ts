import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { absoluteName, makeResolver, parseNetwork, type Resolver } from "../../sidecar/resolve/resolve.ts";

/** A name server for tests: TCP answers, UDP only counts what comes. */
const A: Record<string, string[]> = {
  "public.test": ["8.8.8.8", "1.1.1.1"],
  "four.test": ["8.8.4.4"],
  "inner.test": ["10.1.2.3"],
  "mixed.test": ["8.8.8.8", "127.0.0.1"],
};
const AAAA: Record<string, string[]> = {
  "public.test": ["2606:4700::1111"],
  "mapped.test": ["::ffff:8.8.8.8"],
};
const asked: string[] = [];
let datagrams = 0;
let port = 0;
let resolver: Resolver | undefined;

const ipv6 = (text: string): Buffer => {
  const [head = "", tail = ""] = text.replace("8.8.8.8", "808:808").split("::");
  const words = (part: string) => part.split(":").filter(Boolean);
  const all = [
    ...words(head),
    ...Array(8 - words(head).length - words(tail).length).fill("0"),
    ...words(tail),
  ];
  return Buffer.from(
    all.flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 255]),
  );
};

const answer = (query: Buffer): Buffer | undefined => {
  let at = 12;
  const labels: string[] = [];
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += length + 1;
  }
  const name = labels.join(".");
  const type = query.readUInt16BE(at + 1);
  asked.push(`${type === 1 ? "A" : "AAAA"} ${name}`);
  if (name === "silent.test") return undefined;
  const known = name in A || name in AAAA;
  const data =
    type === 1
      ? (A[name] ?? []).map((text) => Buffer.from(text.split(".").map(Number)))
      : (AAAA[name] ?? []).map(ipv6);
  const header = Buffer.from([
    query[0] ?? 0,
    query[1] ?? 0,
    0x81,
    known ? 0x80 : 0x83,
    0,
    1,
    0,
    data.length,
    0,
    0,
    0,
    0,
  ]);
  const records = data.map((bytes) =>
    Buffer.concat([Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, bytes.length]), bytes]),
  );
  return Buffer.concat([header, query.subarray(12, at + 5), ...records]);
};

const sockets = new Set<Socket>();
const server = createServer((socket) => {
  sockets.add(socket);
  let held = Buffer.alloc(0);
  socket.on("error", () => undefined);
  socket.on("data", (data: Buffer) => {
    held = Buffer.concat([held, data]);
    while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      const reply = answer(held.subarray(2, 2 + held.readUInt16BE(0)));
      held = held.subarray(2 + held.readUInt16BE(0));
      if (reply === undefined) continue;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(reply.length);
      socket.write(Buffer.concat([length, reply]));
    }
  });
});
const udp = createSocket("udp4", () => datagrams++);

beforeAll(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  port = (server.address() as AddressInfo).port;
  udp.bind(port, "127.0.0.1");
  await once(udp, "listening");
});
afterEach(() => resolver?.close());
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
  udp.close();
});

const over = (more: object = {}): Resolver =>
  (resolver = makeResolver({ tcp: true, servers: [`127.0.0.1:${port}`], timeoutMs: 200, tries: 1, ...more }));

describe("names", () => {
  test("absolute host names are lower-cased and lose their final dot", () => {
    expect(absoluteName("API.Example.COM.")).toBe("api.example.com");
    expect(absoluteName("_dmarc.example.com")).toBe("_dmarc.example.com");
  });
  test.each([
    "",
    ".",
    "a..b",
    "-a.b",
    "a-.b",
    "a b",
    "1.2.3",
    "0x7f.1",
    "a.0x7f",
    "2130706433",
    `${"a".repeat(64)}.b`,
    `${"a.".repeat(130)}b`,
    "a\0b",
    "b\u00fccher.de",
    "a/b",
    "a%2eb",
  ])("%j is no name", async (name) => {
    expect(absoluteName(name)).toBeUndefined();
    const before = asked.length;
    expect(await over().resolve(name)).toEqual({ kind: "failed", reason: "not a name" });
    expect(asked.length).toBe(before);
  });
});

describe("resolving", () => {
  test("asks for A and AAAA apart, over TCP alone, and adds no search domain", async () => {
    asked.length = 0;
    expect(await over().resolve("public.test")).toEqual({
      kind: "addresses",
      addresses: ["8.8.8.8", "1.1.1.1", "2606:4700::1111"],
    });
    expect([...asked].sort()).toEqual(["A public.test", "AAAA public.test"]);
    expect(await over().resolve("four")).toEqual({ kind: "failed", reason: "not found" });
    expect(new Set(asked)).toEqual(new Set(["A public.test", "AAAA public.test", "A four", "AAAA four"]));
    expect(datagrams).toBe(0);
  });

  test("without TCP it would have sent datagrams, so their count is known to rise", async () => {
    const saved = process.env["RES_OPTIONS"];
    delete process.env["RES_OPTIONS"];
    expect(await over({ tcp: false }).resolve("public.test")).toEqual({
      kind: "failed",
      reason: "no answer",
    });
    expect(datagrams).toBeGreaterThan(0);
    if (saved !== undefined) process.env["RES_OPTIONS"] = saved;
  });

  test("one family is enough", async () => {
    expect(await over().resolve("four.test")).toEqual({ kind: "addresses", addresses: ["8.8.4.4"] });
  });

  test("a name with one forbidden address is refused whole, whatever its others are", async () => {
    expect(await over().resolve("mixed.test")).toEqual({
      kind: "refused",
      address: "127.0.0.1",
      range: "loopback",
    });
    expect(await over().resolve("mapped.test")).toEqual({
      kind: "refused",
      address: "::ffff:8.8.8.8",
      range: "IPv4-mapped",
    });
  });

  test("a private address needs its network listed", async () => {
    expect(await over().resolve("inner.test")).toEqual({
      kind: "refused",
      address: "10.1.2.3",
      range: "private",
    });
    const listed = parseNetwork("10.0.0.0/8");
    expect(await over().resolve("inner.test", listed === undefined ? [] : [listed])).toEqual({
      kind: "addresses",
      addresses: ["10.1.2.3"],
    });
  });

  test("an address is judged and not asked", async () => {
    const before = asked.length;
    expect(await over().resolve("8.8.8.8")).toEqual({ kind: "addresses", addresses: ["8.8.8.8"] });
    expect(await over().resolve("169.254.169.254")).toEqual({
      kind: "refused",
      address: "169.254.169.254",
      range: "metadata",
    });
    expect(asked.length).toBe(before);
  });

  test("absent, silent and unreachable are told apart, each within its time", async () => {
    expect(await over().resolve("nobody.test")).toEqual({ kind: "failed", reason: "not found" });
    expect(await over().resolve("silent.test")).toEqual({ kind: "failed", reason: "no answer" });
    expect(await over({ timeoutMs: 60_000, deadlineMs: 100 }).resolve("silent.test")).toEqual({
      kind: "failed",
      reason: "no answer",
    });
    const closed = over();
    closed.close();
    expect(await closed.resolve("public.test")).toEqual({ kind: "failed", reason: "no answer" });
  });
});
