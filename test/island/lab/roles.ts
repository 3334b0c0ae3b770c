// What the laboratory's pods run besides the attempts. Plain Node. `node roles.ts ROLE …`
//   race HOST PORT…   dials in its first millisecond, again and again for a second, leaves what came of it as its
//                     termination message, and ends
//   sink PORT…        answers everybody over TCP and UDP, and prints who it was
//   app               an agent with an HTTP, a TCP and a gRPC port to be probed; `GET /sick` makes it fail from then on
//   work              governed calls without a pause until it is told to stop; then says what came of them
//   squat             binds the guardian's ports as soon as they are free, and says whether anybody got an answer there
//   stay              nothing
import { createSocket } from "node:dgram";
import { writeFileSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { connect, createServer } from "node:net";

const [role = "", ...rest] = process.argv.slice(2);
const print = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

const dial = (host: string, port: number): Promise<string> =>
  new Promise((resolve) => {
    const stream = connect({ host, port });
    const done = (word: string): void => {
      stream.destroy();
      resolve(word);
    };
    stream.setTimeout(1000, () => done("silence"));
    stream.on("connect", () => done("OPEN"));
    stream.on("error", (error: NodeJS.ErrnoException) => done(error.code ?? "error"));
  });

const race = async (host: string, ports: readonly number[]): Promise<void> => {
  const began = performance.now();
  const words = new Set<string>();
  const datagrams = createSocket("udp4");
  datagrams.on("message", () => words.add("OPEN UDP"));
  datagrams.on("error", () => undefined);
  const tries: Promise<void>[] = [];
  for (let n = 0; performance.now() - began < 1000; n++) {
    for (const port of ports) {
      if (n < 20) tries.push(dial(host, port).then((word) => void words.add(word)));
      datagrams.send(`race ${process.env["HOSTNAME"] ?? ""}`, port, host, () => undefined);
    }
    await new Promise((resolve) => setTimeout(resolve, n < 20 ? 1 : 50));
  }
  await Promise.all(tries);
  const said = [...words].sort().join(", ");
  print({ race: said });
  writeFileSync("/dev/termination-log", said);
  datagrams.close();
  process.exit(0);
};

const sink = (port: number): void => {
  createServer((socket) => {
    print({ from: socket.remoteAddress, port, over: "TCP" });
    socket.on("error", () => undefined);
    socket.end("canary\n");
  }).listen(port, "::");
  const datagrams = createSocket("udp6");
  datagrams.on("message", (message, from) => {
    print({ from: from.address, port, over: "UDP", text: message.toString("latin1").slice(0, 40) });
    datagrams.send("canary\n", from.port, from.address);
  });
  datagrams.bind(port, "::");
};

const app = (): void => {
  let well = true;
  createHttp((request, response) => {
    if (request.url === "/sick") {
      well = false;
      response.end("sick\n");
      return;
    }
    if (request.url === "/hook") writeFileSync("/tmp/hook", "called");
    response.writeHead(well ? 200 : 500).end("app\n");
  }).listen(8080);
  createServer((socket) => socket.on("error", () => undefined).end()).listen(8081);
  createHttp2((_, response) => {
    response.writeHead(200, { "content-type": "application/grpc" });
    response.addTrailers({ "grpc-status": "0" });
    response.end(Buffer.from([0, 0, 0, 0, 2, 8, well ? 1 : 2]));
  }).listen(8082);
};

const work = async (): Promise<void> => {
  const stopping = new AbortController();
  process.once("SIGTERM", () => stopping.abort());
  const counts: Record<string, number> = {};
  while (!stopping.signal.aborted) {
    let outcome: string;
    try {
      const response = await fetch("http://127.0.0.1:15080/mcp/v1/execute", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ tool: "tool:github/list_issues", arguments: { repo: "acme/one" } }),
        signal: AbortSignal.timeout(10_000),
      });
      const body: { verdict?: string; reason_code?: string; receipt_id?: string } = JSON.parse(
        await response.text(),
      );
      // A denial with its receipt is an answer too: of a guardian that has not heard its operator for a while.
      outcome =
        body.receipt_id?.startsWith("rcp_") !== true
          ? "lost: no receipt"
          : body.verdict === "ALLOW"
            ? "allowed"
            : `${body.reason_code}`;
    } catch (error) {
      outcome = `lost: ${error instanceof Error ? error.message : ""}`;
    }
    counts[outcome] = (counts[outcome] ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  print({ work: counts });
  process.exit(0);
};

/** Until twenty seconds after the first port was taken: whoever dials the squatted ports must hear nothing. */
const squat = async (): Promise<void> => {
  const bound = new Set<number>();
  const words = new Set<string>();
  const servers = [15_080, 15_081, 15_090].map((port) => {
    const server = createServer((socket) => socket.on("error", () => undefined).end("squatter"));
    const bind = (): void => void server.listen(port, "127.0.0.1");
    server.on("listening", () => bound.add(port));
    server.on("error", () => setTimeout(bind, 5));
    bind();
    return server;
  });
  const hear = (port: number): Promise<string> =>
    new Promise((resolve) => {
      const stream = connect({ host: "127.0.0.1", port });
      stream.setTimeout(500, () => {
        stream.destroy();
        resolve("silence");
      });
      stream.on("data", (data) => {
        stream.destroy();
        resolve(data.toString() === "squatter" ? "SQUATTER" : "guardian");
      });
      stream.on("connect", () => stream.write("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
      stream.on("error", () => resolve("refused"));
      stream.on("close", () => resolve("silence"));
    });
  let end = Date.now() + 600_000;
  for (let taken = false; Date.now() < end; ) {
    if (!taken && bound.size > 0) {
      taken = true;
      end = Date.now() + 20_000;
    }
    // 15090 over loopback is a port like any other there: what counts is that nobody outside hears it.
    for (const port of [15_080, 15_081]) words.add(await hear(port));
  }
  print({ squat: { bound: [...bound], words: [...words].sort() } });
  for (const server of servers)
    server
      .removeAllListeners("error")
      .on("error", () => undefined)
      .close();
};

const stay = (): void => {
  const alive = setInterval(() => undefined, 60_000);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => clearInterval(alive));
};

switch (role) {
  case "race":
    await race(rest[0] ?? "", rest.slice(1).map(Number));
    break;
  case "sink":
    for (const port of rest) sink(Number(port));
    break;
  case "app":
    app();
    break;
  case "work":
    await work();
    break;
  case "squat":
    await squat();
    stay();
    break;
  case "stay":
    stay();
    break;
  default:
    throw new Error("usage: roles race HOST PORT… | sink PORT… | app | work | squat | stay");
}
if (role !== "work")
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(0));
