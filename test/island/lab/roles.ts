// What the laboratory's pods run besides the attempts. Plain Node. `node roles.ts ROLE …`
//   race HOST PORT…   dials in its first millisecond, again and again for a second, says what came of it, and stays
//   sink PORT…        answers everybody over TCP and UDP, and prints who it was
//   app               an agent with an HTTP, a TCP and a gRPC port to be probed; `GET /sick` makes it fail from then on
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
  print({ race: [...words].sort() });
  datagrams.close();
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

const stay = (): void => {
  const alive = setInterval(() => undefined, 60_000);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => clearInterval(alive));
};

switch (role) {
  case "race":
    await race(rest[0] ?? "", rest.slice(1).map(Number));
    stay();
    break;
  case "sink":
    for (const port of rest) sink(Number(port));
    break;
  case "app":
    app();
    break;
  case "stay":
    stay();
    break;
  default:
    throw new Error("usage: roles race HOST PORT… | sink PORT… | app | stay");
}
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(0));
