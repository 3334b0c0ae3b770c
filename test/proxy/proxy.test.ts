// Chapter 5.4: what goes through the forward proxy, what does not, and what each leaves behind.

import { connect as tlsConnect } from "node:tls";
import { once } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Receipt } from "../../kernel/contracts/contracts.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { HTTP_AT, TLS_AT, lab, say } from "./lab.ts";
import type { Answer, Lab } from "./lab.ts";

let l: Lab;
beforeAll(async () => {
  l = await lab();
});
afterAll(() => l.close());

const connectTo = (authority: string, more = ""): Promise<Answer> =>
  say(l.proxyPort, `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${more}\r\n`);

const receipts = (of: Lab): Receipt[] =>
  [...of.s.guardian.journal.entries()].flatMap((e) =>
    e.kind === "node" && e.sealed.node.body["type"] === "atoll.dev/receipt/v1"
      ? [parseReceipt(e.sealed.node.body)]
      : [],
  );
const receiptOf = (a: Answer, of: Lab = l): Receipt | undefined =>
  receipts(of).find((r) => r.receipt_id === a.headers.get("x-atoll-receipt"));
/** The outcome of the call whose INTENT an answer names. */
async function outcomeOf(a: Answer, of: Lab = l): Promise<Receipt | undefined> {
  for (let i = 0; i < 100; i++) {
    const intent = receiptOf(a, of);
    const found = receipts(of).find((r) => r.effect_id === intent?.effect_id && r.status !== "PERMITTED");
    if (intent !== undefined && intent.effect_id !== "" && found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return undefined;
}

test("a tunnel to an allowed name carries TLS, and its receipt counts the bytes", async () => {
  const a = await connectTo("api.docs.test:443");
  expect(a.status).toBe(200);
  expect(a.headers.get("x-atoll-verdict")).toBe("ALLOW");
  const socket = tlsConnect({ socket: a.socket, servername: "api.docs.test", ca: l.ca });
  await once(socket, "secureConnect");
  socket.write("hello");
  const [echo] = await once(socket, "data");
  expect(String(echo)).toBe("echo hello");
  socket.end();
  const effect = await outcomeOf(a);
  expect(effect).toMatchObject({
    status: "SUCCEEDED",
    tool: "net:api.docs.test:443",
    source: "connect",
    effect_class: "E2",
    output_hash: "",
  });
  expect(effect?.usage.bytes_out).toBeGreaterThan(300);
  expect(effect?.usage.bytes_in).toBeGreaterThan(500);
  expect(l.asked).toContain("api.docs.test");
});

test("the final dot and capitals are the same name", async () => {
  const a = await connectTo("API.Docs.TEST.:443");
  expect(a.status).toBe(200);
  const socket = tlsConnect({ socket: a.socket, servername: "api.docs.test", ca: l.ca });
  await once(socket, "secureConnect");
  socket.destroy();
  expect((await outcomeOf(a))?.tool).toBe("net:api.docs.test:443");
});

const DENIED: readonly (readonly [what: string, authority: string])[] = [
  ["a name that nobody allowed", "evil.example:443"],
  ["a subdomain trick", "api.docs.test.evil.example:443"],
  ["the apex under a wildcard", "docs.test:443"],
  ["another port", "api.docs.test:8443"],
  ["the mail port of an allowed name", "api.docs.test:25"],
  ["a name that the profile denies", "secret.docs.test:443"],
  ["an address that is not listed", "93.184.215.99:443"],
  ["a listener of the guardian by name", "localhost:15080"],
];
for (const [what, authority] of DENIED)
  test(`${what} is denied before any name is resolved`, async () => {
    const before = [l.asked.length, l.dialled.length];
    const a = await connectTo(authority);
    expect(a.status).toBe(403);
    expect(JSON.parse(a.text)).toMatchObject({ error: { code: "DENY_DESTINATION" } });
    expect(receiptOf(a)).toMatchObject({
      status: "DENIED",
      reason_code: "DENY_DESTINATION",
      source: "connect",
    });
    expect([l.asked.length, l.dialled.length]).toEqual(before);
  });

const REFUSED: readonly (readonly [what: string, authority: string, addresses: readonly string[]])[] = [
  ["a rebinding name", "rebind.docs.test:443", ["127.0.0.1"]],
  ["a name that mixes a public address with a private one", "mixed.docs.test:443", [TLS_AT, "10.0.0.1"]],
  ["a name on the metadata service", "meta.docs.test:443", ["169.254.169.254"]],
  ["a name on the metadata service by IPv6", "meta6.docs.test:443", ["fd00:ec2::254"]],
  ["a mapped IPv4 address", "mapped.docs.test:443", ["::ffff:10.0.0.1"]],
  ["a mapped loopback address", "mapped2.docs.test:443", ["::ffff:127.0.0.1"]],
  ["a NAT64 address", "nat64.docs.test:443", ["64:ff9b::a00:1"]],
  ["a 6to4 address", "sixtofour.docs.test:443", ["2002:7f00:1::"]],
  ["a private address", "lan.docs.test:443", ["192.168.1.1"]],
  ["a private network beside the listed one", "lan2.docs.test:443", ["10.21.0.1"]],
  ["a link-local address", "link.docs.test:443", ["fe80::1"]],
  ["a unique local address", "ula.docs.test:443", ["fd12::1"]],
  ["the unspecified address", "zero.docs.test:443", ["0.0.0.0"]],
  ["shared address space", "cgnat.docs.test:443", ["100.64.0.1"]],
  ["the metadata address itself, even when listed", "169.254.169.254:80", []],
  ["loopback itself, even when listed", "127.0.0.1:443", []],
  ["mapped loopback itself, even when listed", "[::ffff:127.0.0.1]:443", []],
  ["NAT64 itself, even when listed", "[64:ff9b::7f00:1]:443", []],
];
for (const [what, authority, addresses] of REFUSED)
  test(`${what} is resolved, judged and never dialled`, async () => {
    if (addresses.length > 0) l.names.set(authority.replace(/:\d+$/, ""), addresses);
    const dialled = l.dialled.length;
    const a = await connectTo(authority);
    expect(a.status).toBe(403);
    expect(JSON.parse(a.text)).toMatchObject({ error: { code: "DENY_DESTINATION" } });
    expect(await outcomeOf(a)).toMatchObject({ status: "FAILED", reason_code: "DENY_DESTINATION" });
    expect(l.dialled.length).toBe(dialled);
  });

test("a private address passes where the policy lists its network", async () => {
  const a = await connectTo("private.docs.test:443");
  expect(a.status).toBe(200);
  expect(l.dialled.at(-1)).toBe("10.20.0.9");
  a.socket.destroy();
  expect((await outcomeOf(a))?.reason_code).toBe("DENY_DESTINATION");
});

const MALFORMED: readonly (readonly [what: string, request: string])[] = [
  ["a spelling that some parsers read as loopback", "CONNECT 0x7f.1:443 HTTP/1.1\r\n\r\n"],
  ["a number as a host", "CONNECT 2130706433:443 HTTP/1.1\r\n\r\n"],
  ["an octal address", "CONNECT 0177.0.0.1:443 HTTP/1.1\r\n\r\n"],
  ["a shortened address", "CONNECT 127.1:443 HTTP/1.1\r\n\r\n"],
  ["user information", "CONNECT api.docs.test@evil.example:443 HTTP/1.1\r\n\r\n"],
  ["a port of 0", "CONNECT api.docs.test:0 HTTP/1.1\r\n\r\n"],
  ["a port that is none", "CONNECT api.docs.test:70000 HTTP/1.1\r\n\r\n"],
  ["two Host headers", "CONNECT api.docs.test:443 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"],
  ["data before the answer", "CONNECT api.docs.test:443 HTTP/1.1\r\n\r\n\u0016\u0003\u0001"],
  ["a request for the proxy itself", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"],
  ["an address of another scheme", "GET https://api.docs.test/ HTTP/1.1\r\nHost: api.docs.test\r\n\r\n"],
  ["a Host that is not the address's", "GET http://plain.docs.test/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"],
  [
    "an upgrade",
    "GET http://plain.docs.test/ HTTP/1.1\r\nHost: plain.docs.test\r\nUpgrade: h2c\r\nConnection: close\r\n\r\n",
  ],
];
for (const [what, request] of MALFORMED)
  test(`${what} is malformed: nothing is resolved, a receipt is left`, async () => {
    const before = [l.asked.length, l.dialled.length];
    const a = await say(l.proxyPort, request);
    expect(a.status).toBe(400);
    expect(JSON.parse(a.text)).toMatchObject({ error: { code: "DENY_MALFORMED_CALL" } });
    expect(receiptOf(a)).toMatchObject({ status: "DENIED", reason_code: "DENY_MALFORMED_CALL" });
    expect([l.asked.length, l.dialled.length]).toEqual(before);
  });

test("a name that does not exist, and one where nobody listens, end as 502 with a record", async () => {
  for (const authority of ["nowhere.docs.test:443", "dead.docs.test:443"]) {
    const a = await connectTo(authority);
    expect(a.status).toBe(502);
    expect(await outcomeOf(a)).toMatchObject({ status: "FAILED", reason_code: "ERR_CONNECTOR_FAILED" });
  }
});

async function greeted(servername: string | undefined, first?: Uint8Array): Promise<Receipt | undefined> {
  const a = await connectTo("api.docs.test:443");
  expect(a.status).toBe(200);
  const closed = once(a.socket, "close");
  if (first !== undefined) a.socket.write(first);
  else {
    const socket = tlsConnect({
      socket: a.socket,
      ...(servername === undefined ? {} : { servername }),
      rejectUnauthorized: false,
    });
    socket.on("error", () => {});
  }
  a.socket.resume();
  await closed;
  return outcomeOf(a);
}
test("a client that asks for another name, for none, or speaks no TLS reaches nobody", async () => {
  for (const receipt of [
    await greeted("evil.example"),
    await greeted(undefined),
    await greeted("", Buffer.from("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")),
    await greeted("", Buffer.from("SSH-2.0-x\r\n")),
  ]) {
    expect(receipt).toMatchObject({ status: "FAILED", reason_code: "DENY_DESTINATION" });
    expect(receipt?.usage).toMatchObject({ bytes_out: 0, calls: 0 });
  }
});

test("a plain request is denied while the policy asks for TLS, and passes without it", async () => {
  const text =
    "POST http://plain.docs.test/a?b=c HTTP/1.1\r\nHost: plain.docs.test\r\nContent-Length: 4\r\n" +
    "Connection: close, x-hop\r\nX-Hop: 1\r\nProxy-Authorization: Basic eDp5\r\nX-Own: 2\r\n\r\nbody";
  const before = l.asked.length;
  const denied = await say(l.proxyPort, text);
  expect(denied.status).toBe(403);
  expect(JSON.parse(denied.text)).toMatchObject({ error: { code: "PERIMETER_VIOLATION" } });
  expect(l.asked.length).toBe(before);

  const lax = await lab((d) => void (d["perimeter"] = { requireTls: false }));
  try {
    const a = await say(lax.proxyPort, text);
    expect(a.status).toBe(200);
    expect(a.text).toContain("hello /a?b=c");
    expect(lax.seen.at(-1)).toMatchObject({
      url: "/a?b=c",
      body: "body",
      headers: { host: "plain.docs.test", "x-own": "2" },
    });
    expect(lax.seen.at(-1)?.headers["proxy-authorization"]).toBeUndefined();
    expect(lax.seen.at(-1)?.headers["x-hop"]).toBeUndefined();
    expect(a.headers.get("x-atoll-receipt")).toMatch(/^rcp_/);
    expect(await outcomeOf(a, lax)).toMatchObject({ status: "SUCCEEDED", tool: "net:plain.docs.test:80" });
    expect(lax.dialled).toEqual([HTTP_AT]);
  } finally {
    await lax.close();
  }
});
