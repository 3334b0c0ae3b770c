// How much memory one replica's control stream needs for many connected guardians that report, and how long a freeze takes
// to the last.
//   node bench/control.ts [--guardians 2000] [--seconds 30] [--json] [--leak KIB]
import { spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { connect } from "node:tls";
import type { TLSSocket } from "node:tls";
import { asked, amount } from "../kind-e2e/asked.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";
import { helloText } from "../operator/control/identity.ts";
import { bundled } from "./bundled.ts";

const wish = asked(
  `usage: node bench/control.ts [--guardians 2000] [--seconds 30] [--json] [--leak KIB]
The server is a process of its own, bundled and started as it ships, with the real control stream and the controllers loaded; the
guardians are TLS connections of this one. For --seconds each reports every 10 s, over a new connection, as a guardian does.
--leak keeps so many KiB for each stream: with 100 the bound must be missed.
`,
  { guardians: 2000, seconds: amount(30, 1), leak: 0, json: false },
);
const count = wish.guardians;
const seconds = wish.seconds;
const REPORT_MS = 10_000;

const child = spawn(
  process.execPath,
  ["--max-semi-space-size=2", "--expose-gc", await bundled("bench/control-server.ts"), String(wish.leak)],
  {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  },
);
const next = <T>(): Promise<T> => new Promise((resolve) => child.once("message", (m) => resolve(m as T)));
interface Measure {
  readonly rss: number;
  readonly heapUsed: number;
  readonly cpuSeconds: number;
  readonly connected: number;
  readonly reports: number;
}
const measure = (): Promise<Measure> => {
  child.send("measure");
  return next<Measure>();
};
const { port, ca, base } = await next<{ port: number; ca: string; base: number }>();
const pair = generateKeyPairSync("ed25519");
const signer = signerFromPem(pair.privateKey.export({ type: "pkcs8", format: "pem" }));
const key = Buffer.from(signer.publicKey).toString("hex");
const dial = (): TLSSocket => connect({ port, host: "127.0.0.1", servername: "localhost", ca });
const hello = (uid: string, nonce: string): string =>
  `x-atoll-key: ${key}\r\nx-atoll-nonce: ${nonce}\r\nx-atoll-signature: ${signer.sign(helloText(nonce, uid, key))}\r\n`;

const frozen: number[] = [];
let began = 0;
/** One connection as a guardian keeps it: nonce and stream over the same socket. */
const guardian = (uid: string): Promise<TLSSocket> =>
  new Promise((resolve, reject) => {
    const socket = dial();
    let text = "";
    let asked = false;
    let synced = false;
    socket.on("error", reject);
    socket.on("secureConnect", () =>
      socket.write(
        `POST /v1/nonce HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${uid}\r\ncontent-length: 2\r\n\r\n{}`,
      ),
    );
    socket.on("data", (part: Buffer) => {
      text = (text + part.toString("utf8")).slice(-4000);
      const nonce = asked ? undefined : /"nonce":"([0-9a-f]+)"/.exec(text)?.[1];
      if (nonce !== undefined) {
        asked = true;
        socket.write(
          `GET /v1/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${uid}\r\n${hello(uid, nonce)}\r\n`,
        );
      }
      if (!synced && text.includes("event: synced")) {
        synced = true;
        resolve(socket);
      }
      if (text.includes("event: freeze")) {
        text = "";
        frozen.push(performance.now() - began);
      }
    });
  });
/** One request over one new connection; its answer's body. */
const once = (uid: string, path: string, headers: string, body: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = dial();
    let text = "";
    socket.on("error", reject);
    socket.on("secureConnect", () =>
      socket.write(
        `POST ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer ${uid}\r\n${headers}content-length: ${body.length}\r\n\r\n${body}`,
      ),
    );
    socket.on("data", (part: Buffer) => (text += part.toString("utf8")));
    socket.on("end", () => resolve(text));
    socket.on("close", () => resolve(text));
  });
const nonceOf = (answer: string): string | undefined => /"nonce":"([0-9a-f]+)"/.exec(answer)?.[1];
/** What the last report's answer brought for the next. */
const spare = new Map<string, string>();
const report = async (uid: string): Promise<void> => {
  const nonce = spare.get(uid) ?? nonceOf(await once(uid, "/v1/nonce", "", "{}")) ?? "";
  const answer = await once(
    uid,
    "/v1/report",
    hello(uid, nonce),
    JSON.stringify({
      policy_hash: `sha256:${"a".repeat(64)}`,
      lock_proved: true,
      decisions: { total: 1, denied: 0 },
    }),
  );
  const given = nonceOf(answer);
  if (given === undefined) throw new Error(answer.slice(0, 80));
  spare.set(uid, given);
};

const sockets: TLSSocket[] = [];
const opening = performance.now();
for (let i = 0; i < count; i += 50)
  sockets.push(
    ...(await Promise.all(
      Array.from({ length: Math.min(50, count - i) }, (_, k) => guardian(`pod-${i + k}`)),
    )),
  );
const opened = performance.now() - opening;
const before = await measure();
const since = performance.now();
let failed = 0;
const flying = new Set<Promise<void>>();
/** The most that were seen, for memory that goes back when all is over is needed all the same. */
let most = before;
for (let sent = 0; performance.now() - since < seconds * 1000; ) {
  // Those whose turn has come; of a machine that is too slow no more than a few at once.
  const due = Math.floor(((performance.now() - since) / REPORT_MS) * count);
  while (sent < due && flying.size < 64) {
    const one: Promise<void> = report(`pod-${sent++ % count}`)
      .catch(() => void failed++)
      .finally(() => void flying.delete(one));
    flying.add(one);
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  if (Math.floor((performance.now() - since) / 1000) % 3 === 0) {
    const now = await measure();
    if (now.rss > most.rss) most = now;
  }
}
await Promise.allSettled(flying);
const reporting = (performance.now() - since) / 1000;
const after = await measure();
if (after.rss > most.rss) most = after;
began = performance.now();
child.send("freeze");
while (frozen.length < count && performance.now() - began < 30_000)
  await new Promise((resolve) => setTimeout(resolve, 5));
frozen.sort((a, b) => a - b);
const at = (q: number): number =>
  Math.round(frozen[Math.min(frozen.length - 1, Math.floor(frozen.length * q))] ?? Number.NaN);
const mib = (bytes: number): number => Math.round(bytes / 2 ** 20);
const rate = after.reports / reporting;
const cpu = (after.cpuSeconds - before.cpuSeconds) / reporting;
const missed = [
  ...(after.connected === count ? [] : ["not every guardian is connected"]),
  ...(most.rss <= 256 * 2 ** 20 ? [] : ["more than 256 MiB"]),
  ...(failed === 0 ? [] : [`${failed} reports failed`]),
  ...(frozen.length === count ? [] : ["not every guardian heard of the freeze"]),
  ...(at(0.99) <= 1000 ? [] : ["the freeze took more than 1 s"]),
];
process.stdout.write(
  wish.json
    ? `${JSON.stringify({ connected: after.connected, openSeconds: opened / 1000, baseMiB: mib(base), connectedMiB: mib(before.rss), mostMiB: mib(most.rss), heapMiB: mib(after.heapUsed), reportsPerSecond: rate, cpu, freezeMs: { heard: frozen.length, p50: at(0.5), p99: at(0.99), last: at(1) }, missed })}\n`
    : `${after.connected} guardians connected in ${(opened / 1000).toFixed(1)} s
RSS of the server ${mib(most.rss)} MiB at most (bound 256): ${mib(base)} before the first, ${mib(before.rss)} with all connected, then ${seconds} s of reports
${rate.toFixed(0)} reports/s, ${(cpu * 100).toFixed(0)} % of a core
freeze heard by ${frozen.length}: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, last ${at(1)} ms (bound 1000)
${missed.length === 0 ? "all within their bounds" : `missed: ${missed.join("; ")}`}\n`,
);
for (const s of sockets) s.destroy();
child.send("stop");
process.exitCode = missed.length === 0 ? 0 : 1;
