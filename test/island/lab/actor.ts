// One party of a test (agent, guardian, peer outside): does what it is asked, a JSON object a line, and answers likewise.
import { createSocket } from "node:dgram";
import { connect, createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { ping } from "./sockets.ts";

type Ask = {
  id: number;
  do: string;
  host?: string;
  port?: number;
  localPort?: number;
  text?: string;
  bytes?: number;
  wait?: number;
  scope?: number;
};

const servers: Server[] = [];
const held: Socket[] = [];
const accepted: string[] = [];
const sunk: number[] = [];
const datagrams: string[] = [];
const chunk = Buffer.alloc(65_536, "atoll ");

/** Writes so many bytes and closes at once, so that most of them leave after the descriptor is gone. */
const pour = (socket: Socket, bytes: number): void => {
  let left = bytes;
  for (; left > 0; left -= chunk.length) socket.write(chunk.subarray(0, Math.min(left, chunk.length)));
  socket.end();
};

const serve = (ask: Ask): Promise<object> =>
  new Promise((resolve) => {
    const server = createServer((socket) => {
      accepted.push(`${socket.remoteAddress} ${socket.remotePort}`);
      socket.on("error", () => undefined);
      if (ask.bytes !== undefined) pour(socket, ask.bytes);
      else {
        socket.write(ask.text ?? "hello");
        let got = 0;
        socket.on("data", (data) => (got += data.length));
        socket.on("end", () => {
          sunk.push(got);
          socket.end();
        });
      }
    });
    server.on("error", (error: NodeJS.ErrnoException) => resolve({ error: error.code }));
    server.listen(ask.port, ask.host, () => {
      servers.push(server);
      resolve({ listening: true });
    });
  });

/** Dials and reads: the first words, or everything to the end when `bytes` is given (sends so many when `text` is "pour"). */
const dial = (ask: Ask): Promise<object> =>
  new Promise((resolve) => {
    let got = 0;
    let first = "";
    const socket = connect({
      host: ask.host ?? "",
      port: ask.port ?? 0,
      ...(ask.localPort === undefined ? {} : { localPort: ask.localPort }),
    });
    const timer = setTimeout(() => done({ error: "time-out" }), ask.wait ?? 1000);
    const done = (reply: object): void => {
      clearTimeout(timer);
      const localPort = socket.localPort;
      if (ask.text === "hold") held.push(socket);
      else if (ask.text === "pour") socket.on("close", () => undefined);
      else socket.destroy();
      resolve({ localPort, ...reply });
    };
    socket.on("error", (error: NodeJS.ErrnoException) => done({ error: error.code }));
    socket.on("connect", () => {
      if (ask.text === "pour") {
        socket.resume();
        pour(socket, ask.bytes ?? 0);
        socket.on("close", () => done({ poured: true }));
      }
    });
    socket.on("data", (data) => {
      got += data.length;
      if (first === "") first = data.toString("utf8").slice(0, 40);
      if (ask.bytes === undefined) done({ answer: first });
    });
    socket.on("end", () => {
      if (ask.bytes !== undefined && ask.text !== "pour") done({ got });
      else if (ask.text !== "pour") done({ error: "closed" });
    });
  });

const datagram = (ask: Ask): Promise<object> =>
  new Promise((resolve) => {
    const host = ask.host ?? "";
    const socket = createSocket({ type: host.includes(":") ? "udp6" : "udp4", reuseAddr: true });
    const finish = (reply: object): void => {
      clearTimeout(timer);
      socket.close();
      resolve(reply);
    };
    const timer = setTimeout(() => finish({ error: "time-out" }), ask.wait ?? 500);
    socket.on("error", (error: NodeJS.ErrnoException) => finish({ error: error.code }));
    socket.on("message", (message) => finish({ answer: message.toString() }));
    // A refused send is no proof that nothing left: go on listening.
    socket.bind(ask.localPort ?? 0, () => {
      if (ask.port !== undefined) socket.send(ask.text ?? "hello", ask.port, host, () => undefined);
    });
  });

/** Echoes datagrams, after a pause of `wait`. */
const echo = (ask: Ask): Promise<object> =>
  new Promise((resolve) => {
    const socket = createSocket(
      (ask.host ?? "").includes(":") ? { type: "udp6", ipv6Only: true } : { type: "udp4" },
    );
    socket.on("error", (error: NodeJS.ErrnoException) => resolve({ error: error.code }));
    socket.on("message", (message, from) => {
      datagrams.push(message.toString());
      setTimeout(() => socket.send(`echo ${message.toString()}`, from.port, from.address), ask.wait ?? 0);
    });
    socket.bind(ask.port, ask.host, () => resolve({ listening: true }));
  });

const act = async (ask: Ask): Promise<object> => {
  switch (ask.do) {
    case "serve":
      return serve(ask);
    case "dial":
      return dial(ask);
    case "datagram":
      return datagram(ask);
    case "echo":
      return echo(ask);
    case "ping":
      return ping(ask.host ?? "", ask.wait ?? 500, ask.scope ?? 0);
    case "report":
      return { accepted, sunk, datagrams };
    case "write held":
      for (const socket of held) socket.write("more");
      return { held: held.length, open: held.filter((socket) => !socket.destroyed).length };
    case "close servers":
      await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
      return {};
    default:
      return { error: `nobody knows how to ${ask.do}` };
  }
};

const say = (reply: object): void => void process.stdout.write(`${JSON.stringify(reply)}\n`);
process.on("uncaughtException", (error) => console.error("actor:", error));
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const ask: Ask = JSON.parse(line);
    void act(ask).then((reply) => say({ id: ask.id, ...reply }));
  })
  .on("close", () => process.exit());
say({ id: -1 });
