// The client of bench/webhook.ts: reviews over kept TLS connections, one at a time on each, as the API server sends them.
// Raw sockets and a body made once, so that it is not the client that saturates.
import { readFileSync } from "node:fs";
import { connect } from "node:tls";
import type { TLSSocket } from "node:tls";

export interface Load {
  readonly port: number;
  readonly ca: string;
  readonly bodyFile: string;
  readonly connections: number;
  readonly seconds: number;
  /** Reviews a second; 0 = as many as there are answers. */
  readonly rate: number;
}
export interface Loaded {
  readonly answers: number;
  readonly bad: number;
  readonly firstBad: string;
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** Milliseconds from the moment at which each was due. */
  readonly p50: number;
  readonly p99: number;
  readonly worst: number;
}

async function run(load: Load): Promise<Loaded> {
  const body = readFileSync(load.bodyFile);
  const head = `POST /mutate?timeout=5s HTTP/1.1\r\nhost: atoll-webhook.atoll-system.svc\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\naccept: application/json, */*\r\n\r\n`;
  const request = Buffer.concat([Buffer.from(head), body]);
  const took: number[] = [];
  let bad = 0;
  let firstBad = "";
  let over = false;
  const idle: TLSSocket[] = [];
  const since = new Map<TLSSocket, number>();
  const due: number[] = [];
  const send = (socket: TLSSocket, at: number): void => {
    since.set(socket, at);
    socket.write(request);
  };
  const free = (socket: TLSSocket): void => {
    if (over) return;
    if (load.rate === 0) return send(socket, performance.now());
    const next = due.shift();
    if (next === undefined) idle.push(socket);
    else send(socket, next);
  };
  const open = (): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const socket = connect({
        host: "127.0.0.1",
        port: load.port,
        servername: "atoll-webhook.atoll-system.svc",
        ca: load.ca,
      });
      let parts: Buffer[] = [];
      let size = 0;
      let end = Number.NaN;
      socket.on("error", reject);
      socket.once("secureConnect", () => resolve(socket));
      socket.on("data", (part: Buffer) => {
        parts.push(part);
        size += part.length;
        if (Number.isNaN(end)) {
          const text = Buffer.concat(parts).toString("latin1");
          const at = text.indexOf("\r\n\r\n");
          if (at === -1) return;
          end = at + 4 + Number(/content-length: (\d+)/i.exec(text)?.[1]);
          if (!text.startsWith("HTTP/1.1 200") || Number.isNaN(end)) {
            bad++;
            firstBad ||= text.slice(0, 300);
          }
        }
        if (size < end) return;
        const answer = Buffer.concat(parts);
        if (!answer.includes('"allowed":true') || !answer.includes('"patch":"')) {
          bad++;
          firstBad ||= answer.toString("utf8").slice(0, 600);
        }
        took.push(performance.now() - (since.get(socket) ?? 0));
        parts = [];
        size = 0;
        end = Number.NaN;
        free(socket);
      });
    });
  const sockets = await Promise.all(Array.from({ length: load.connections }, open));
  const began = performance.now();
  const cpu = process.cpuUsage();
  for (const socket of sockets) free(socket);
  for (let sent = 0; performance.now() - began < load.seconds * 1000; ) {
    if (load.rate === 0) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      continue;
    }
    const wanted = ((performance.now() - began) / 1000) * load.rate;
    for (; sent < wanted; sent++) {
      const at = began + (sent / load.rate) * 1000;
      const socket = idle.shift();
      if (socket === undefined) due.push(at);
      else send(socket, at);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const seconds = (performance.now() - began) / 1000;
  const used = process.cpuUsage(cpu);
  over = true;
  for (const socket of sockets) socket.destroy();
  took.sort((a, b) => a - b);
  const at = (q: number): number =>
    took[Math.min(took.length - 1, Math.floor(took.length * q))] ?? Number.NaN;
  return {
    answers: took.length,
    bad,
    firstBad,
    seconds,
    cpuSeconds: (used.user + used.system) / 1e6,
    p50: at(0.5),
    p99: at(0.99),
    worst: at(1),
  };
}

const load = JSON.parse(process.argv[2] ?? "{}") as Load;
const loaded = await run(load);
process.stdout.write(JSON.stringify(loaded));
