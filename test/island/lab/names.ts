// A name server that answers every name with one address, over UDP and TCP, and prints each question it was asked.
// `node names.ts ADDRESS ANSWER`
import { createSocket } from "node:dgram";
import { createServer } from "node:net";

const [host = "", answer = ""] = process.argv.slice(2);

/** The question's name, and the reply to the whole message. */
const reply = (message: Buffer): { name: string; bytes: Buffer } => {
  const labels: string[] = [];
  let at = 12;
  for (let size = message[at] ?? 0; size > 0; size = message[at] ?? 0) {
    labels.push(message.subarray(at + 1, at + 1 + size).toString("latin1"));
    at += 1 + size;
  }
  const question = message.subarray(12, at + 5);
  const wantsA = message.readUInt16BE(at + 1) === 1;
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...answer.split(".").map(Number)]);
  const head = Buffer.from([
    message[0] ?? 0,
    message[1] ?? 0,
    0x81,
    0x80,
    0,
    1,
    0,
    wantsA ? 1 : 0,
    0,
    0,
    0,
    0,
  ]);
  return { name: labels.join("."), bytes: Buffer.concat([head, question, ...(wantsA ? [record] : [])]) };
};
const tell = (name: string, over: string): void =>
  void process.stdout.write(`${JSON.stringify({ name, over })}\n`);

const datagrams = createSocket(host.includes(":") ? "udp6" : "udp4");
datagrams.on("message", (message, from) => {
  const { name, bytes } = reply(message);
  tell(name, "UDP");
  datagrams.send(bytes, from.port, from.address);
});
datagrams.bind(53, host, () => {
  createServer((socket) => {
    let held = Buffer.alloc(0);
    socket.on("error", () => undefined);
    socket.on("data", (data: Buffer) => {
      held = Buffer.concat([held, data]);
      while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
        const size = held.readUInt16BE(0);
        const { name, bytes } = reply(held.subarray(2, 2 + size));
        held = held.subarray(2 + size);
        tell(name, "TCP");
        const length = Buffer.alloc(2);
        length.writeUInt16BE(bytes.length);
        socket.write(Buffer.concat([length, bytes]));
      }
    });
  }).listen(53, host, () => process.stdout.write('{"name":"","over":"ready"}\n'));
});
