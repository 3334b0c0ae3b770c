// The guardian's door under abuse: what two parsers may read in two ways, what never ends, what is too much. Nothing of
// it has an effect, nothing is forwarded, and a client that behaves is served meanwhile.

import { connect } from "node:net";
import type { Socket } from "node:net";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { place } from "./lab.ts";
import type { Guardian, Place } from "./lab.ts";
import { Load, account, loadPolicy, sessionOf } from "./load.ts";
import { startUpstream } from "./upstream.ts";
import type { Upstream } from "./upstream.ts";

let up: Upstream;
let p: Place;
let g: Guardian;
beforeAll(async () => {
  up = await startUpstream();
  for (const name of ["do", "denied", "keyed", "fails"]) up.tools.set(name, () => undefined);
  p = place();
  g = await p.start({ policy: loadPolicy(up) });
  await sessionOf(g);
});
afterAll(async () => {
  await g.kill();
  await up.close();
  p.remove();
});
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Said {
  readonly text: string;
  readonly closed: boolean;
}
/** Sends parts with pauses, and reads until the socket is closed or has been silent for a while. */
function say(parts: readonly (string | Uint8Array)[], quietMs = 400, half = false): Promise<Said> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port: g.port, allowHalfOpen: true });
    let text = "";
    let timer: NodeJS.Timeout | undefined;
    const done = (closed: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text, closed });
    };
    const wait = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => done(false), quietMs);
    };
    socket.on("data", (part: Buffer) => {
      text += part.toString("latin1");
      wait();
    });
    socket.on("error", () => done(true));
    socket.on("end", () => done(true));
    socket.on("close", () => done(true));
    socket.on("connect", () => {
      void (async () => {
        for (const part of parts) {
          socket.write(part);
          await pause(10);
        }
        if (half) socket.end();
        wait();
      })();
    });
  });
}

const BODY = JSON.stringify({ tool: "tool:t/do", arguments: { n: 900_000_001, repo: "acme/web" } });
const chunk = (text: string, size = Buffer.byteLength(text).toString(16)): string => `${size}\r\n${text}\r\n`;
const line = "POST /mcp/v1/execute HTTP/1.1\r\n";
const type = "Content-Type: application/json\r\n";
const host = "Host: 127.0.0.1\r\n";
const length = `Content-Length: ${BODY.length}\r\n`;
const chunked = "Transfer-Encoding: chunked\r\n";

const FORMS: readonly (readonly [what: string, bytes: string])[] = [
  [
    "Content-Length and Transfer-Encoding",
    `${line}${host}${type}${length}${chunked}\r\n${chunk(BODY)}0\r\n\r\n`,
  ],
  [
    "Transfer-Encoding and Content-Length",
    `${line}${host}${type}${chunked}${length}\r\n${chunk(BODY)}0\r\n\r\n`,
  ],
  ["two lengths that differ", `${line}${host}${type}${length}Content-Length: 5\r\n\r\n${BODY}`],
  ["two lengths that agree", `${line}${host}${type}${length}${length}\r\n${BODY}`],
  ["a list of lengths", `${line}${host}${type}Content-Length: ${BODY.length}, ${BODY.length}\r\n\r\n${BODY}`],
  ["a length with a sign", `${line}${host}${type}Content-Length: +${BODY.length}\r\n\r\n${BODY}`],
  ["a negative length", `${line}${host}${type}Content-Length: -1\r\n\r\n${BODY}`],
  ["a length in hex", `${line}${host}${type}Content-Length: 0x${BODY.length.toString(16)}\r\n\r\n${BODY}`],
  ["a length beyond 64 bits", `${line}${host}${type}Content-Length: 99999999999999999999\r\n\r\n${BODY}`],
  [
    "an encoding in disguise",
    `${line}${host}${type}Transfer-Encoding: xchunked\r\n\r\n${chunk(BODY)}0\r\n\r\n`,
  ],
  [
    "an encoding after a tab",
    `${line}${host}${type}Transfer-Encoding:\tchunked\u000b\r\n\r\n${chunk(BODY)}0\r\n\r\n`,
  ],
  [
    "two encodings",
    `${line}${host}${type}${chunked}Transfer-Encoding: identity\r\n\r\n${chunk(BODY)}0\r\n\r\n`,
  ],
  [
    "a list of encodings",
    `${line}${host}${type}Transfer-Encoding: chunked, identity\r\n\r\n${chunk(BODY)}0\r\n\r\n`,
  ],
  ["a space before the colon", `${line}${host}${type}Content-Length : ${BODY.length}\r\n\r\n${BODY}`],
  [
    "a header folded over lines",
    `${line}${host}${type}X-A: a\r\n b\r\nContent-Length\r\n : 5\r\n\r\n${BODY}`,
  ],
  ["a bare CR in a header", `${line}${host}${type}X-A: a\rContent-Length: 5\r\n${length}\r\n${BODY}`],
  ["bare line feeds", `POST /mcp/v1/execute HTTP/1.1\nHost: 127.0.0.1\n${length.trim()}\n\n${BODY}`],
  ["a zero byte in a header", `${line}${host}${type}X-A: a\0b\r\n${length}\r\n${BODY}`],
  ["a header without a colon", `${line}${host}${type}nonsense\r\n${length}\r\n${BODY}`],
  ["a chunk size that is no number", `${line}${host}${type}${chunked}\r\n${chunk(BODY, "zz")}0\r\n\r\n`],
  [
    "a chunk size with a sign",
    `${line}${host}${type}${chunked}\r\n${chunk(BODY, `+${BODY.length.toString(16)}`)}0\r\n\r\n`,
  ],
  [
    "a chunk size that overflows",
    `${line}${host}${type}${chunked}\r\n${chunk(BODY, "fffffffffffffffff")}0\r\n\r\n`,
  ],
  ["a whole body and then a bad chunk", `${line}${host}${type}${chunked}\r\n${chunk(BODY)}zz\r\n\r\n`],
  [
    "a chunk longer than it says",
    `${line}${host}${type}${chunked}\r\n${chunk(BODY, (BODY.length - 3).toString(16))}0\r\n\r\n`,
  ],
  [
    "a chunk ended by a line feed",
    `${line}${host}${type}${chunked}\r\n${BODY.length.toString(16)}\r\n${BODY}\n0\n\n`,
  ],
  ["two Host headers", `${line}${host}Host: 127.0.0.1\r\n${type}${length}\r\n${BODY}`],
  ["no Host header", `${line}${type}${length}\r\n${BODY}`],
  ["a rebound Host", `${line}Host: evil.example\r\n${type}${length}\r\n${BODY}`],
  ["a Host that begins like ours", `${line}Host: 127.0.0.1.evil.example\r\n${type}${length}\r\n${BODY}`],
  ["a Host with a user", `${line}Host: 127.0.0.1@evil.example\r\n${type}${length}\r\n${BODY}`],
  ["another Origin", `${line}${host}Origin: https://evil.example\r\n${type}${length}\r\n${BODY}`],
  ["an Origin of null", `${line}${host}Origin: null\r\n${type}${length}\r\n${BODY}`],
  ["HTTP/0.9", "POST /mcp/v1/execute\r\n"],
  ["HTTP/2 in the clear", `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`],
  ["a version that does not exist", `POST /mcp/v1/execute HTTP/9.9\r\n${host}${type}${length}\r\n${BODY}`],
  [
    "an address in place of a path",
    `POST http://evil.example/mcp/v1/execute HTTP/1.1\r\n${host}${type}${length}\r\n${BODY}`,
  ],
  ["CONNECT at the API", `CONNECT evil.example:443 HTTP/1.1\r\n${host}\r\n`],
  ["an upgrade", `GET /mcp HTTP/1.1\r\n${host}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n`],
  ["headers without end", `${line}${host}X-A: ${"a".repeat(200_000)}\r\n\r\n`],
  ["too many headers", `${line}${host}${"X-A: a\r\n".repeat(20_000)}${length}\r\n${BODY}`],
  ["TLS at a plain port", "\u0016\u0003\u0001\u0000\u00a5\u0001\u0000\u0000\u00a1\u0003\u0003"],
  ["a body announced and never begun, then the end", `${line}${host}${type}Content-Length: 500\r\n\r\n`],
];

test("no form of a request that can be read in two ways has an effect", async () => {
  const done = up.done.get("do")?.length ?? 0;
  for (const [what, bytes] of FORMS) {
    for (const parts of [[bytes], [bytes.slice(0, 40), bytes.slice(40)]]) {
      const { text } = await say(parts, 150, true);
      expect(text.startsWith("HTTP/1.1 2") && text.includes("ALLOW"), `${what}: ${text.slice(0, 200)}`).toBe(
        false,
      );
      const statuses = [...text.matchAll(/HTTP\/1\.1 (\d\d\d)/g)].map((m) => m[1]);
      expect(
        statuses.every((s) => s?.startsWith("4") === true),
        `${what}: ${statuses.join()}`,
      ).toBe(true);
    }
    expect(up.done.get("do")?.length ?? 0, what).toBe(done);
  }
  // The twin: the same bytes in a form with one reading.
  const good = await say([`${line}${host}${type}${length}\r\n${BODY}`]);
  expect(good.text).toContain('"verdict":"ALLOW"');
  const parts = await say([
    `${line}${host}${type}${chunked}\r\n`,
    chunk(BODY.slice(0, 20)),
    chunk(BODY.slice(20)),
    "0\r\n\r\n",
  ]);
  expect(parts.text).toContain('"verdict":"ALLOW"');
  expect(up.done.get("do")?.length ?? 0).toBe(done + 2);
});

test("a request hidden in another's body is a body", async () => {
  const done = up.done.get("do")?.length ?? 0;
  const inner = `${line}${host}${type}${length}\r\n${BODY}`;
  const outer = JSON.stringify({ tool: "tool:t/denied", arguments: { n: 1, repo: inner.slice(0, 90) } });
  const said = await say([
    `${line}${host}${type}Content-Length: ${Buffer.byteLength(outer)}\r\n\r\n${outer}`,
  ]);
  expect([...said.text.matchAll(/HTTP\/1\.1 (\d\d\d)/g)].map((m) => m[1])).toEqual(["403"]);
  expect(up.done.get("do")?.length ?? 0).toBe(done);
});

test("a body beyond the limit is refused, and is not kept", async () => {
  const memory = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${g.pid}/status`, "latin1"))?.[1]) / 1024;
  const before = memory();
  const huge = await say([
    `${line}${host}${type}Content-Length: ${40 << 20}\r\n\r\n`,
    Buffer.alloc(64 << 10, 0x20),
  ]);
  expect(huge.text).toContain("HTTP/1.1 413");
  const args = JSON.stringify({
    tool: "tool:t/do",
    arguments: { n: 1, repo: "acme/web", text: "x".repeat(10 << 20) },
  });
  const ten = await fetch(`${g.base}/mcp/v1/execute`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: args,
  });
  expect(ten.status).toBe(400);
  expect(((await ten.json()) as { reason_code: string }).reason_code).toBe("DENY_MALFORMED_CALL");
  expect(memory() - before).toBeLessThan(150);
});

test("a flood of denials leaves a bounded record, and a client that behaves is served after it", async () => {
  await pause(1_100);
  const nodes = account(p, up, new Map()).nodes;
  const begun = performance.now();
  const load = new Load(g.base);
  const answers = await Promise.all(Array.from({ length: 1_500 }, () => load.fire("denied")));
  const seconds = (performance.now() - begun) / 1000;
  expect(answers.filter((a) => a.status === 429).length).toBeGreaterThan(0);
  expect(answers.every((a) => a.status === 429 || a.status === 403 || a.status === 503)).toBe(true);
  const more = account(p, up, new Map()).nodes - nodes;
  expect(more).toBeLessThan(60 * (seconds + 2));
  await pause(1_100);
  expect((await load.fire("do")).status).toBe(200);
  await load.close();
});

test("500 clients that never finish do not slow one that does, and are gone after the time-out", async () => {
  const load = new Load(g.base);
  const measured = async (): Promise<number[]> => {
    const times: number[] = [];
    for (let i = 0; i < 150; i++) {
      const s = await load.fire("do");
      expect(s.status).toBe(200);
      times.push(s.ms);
    }
    return times.sort((a, b) => a - b);
  };
  await measured();
  const alone = await measured();
  const open: Socket[] = [];
  for (let i = 0; i < 500; i++) {
    const socket = connect({ host: "127.0.0.1", port: g.port });
    socket.on("error", () => {});
    socket.resume();
    // Half of them dribble headers, half a body.
    socket.write(i % 2 === 0 ? `${line}${host}X-A: a` : `${line}${host}${type}Content-Length: 900\r\n\r\n{`);
    open.push(socket);
  }
  const dribble = setInterval(() => {
    for (const socket of open) if (!socket.destroyed) socket.write("a");
  }, 500);
  try {
    await pause(500);
    const among = await measured();
    const at = (list: readonly number[], q: number): number => list[Math.floor(list.length * q)] ?? 0;
    console.log(
      `alone p50 ${at(alone, 0.5).toFixed(1)} p99 ${at(alone, 0.99).toFixed(1)} ms, among 500 slow clients ` +
        `p50 ${at(among, 0.5).toFixed(1)} p99 ${at(among, 0.99).toFixed(1)} ms`,
    );
    // A shared machine stalls for longer than any of this takes.
    expect(at(among, 0.5)).toBeLessThan(Math.max(2 * at(alone, 0.5), 100));
    expect(at(among, 0.99)).toBeLessThan(Math.max(2 * at(alone, 0.99), 500));
    const gone = (): boolean => open.every((socket) => socket.closed);
    for (let i = 0; i < 300 && !gone(); i++) await pause(200);
    expect(gone()).toBe(true);
  } finally {
    clearInterval(dribble);
    for (const socket of open) socket.destroy();
    await load.close();
  }
}, 120_000);
