// A bare streaming proxy: what the guardian's first byte is compared with. With a folder it writes and syncs one record
// before each hop, as a guardian must, and does nothing else.   node bench/guardian-proxy.ts URL [DIR]

import { fdatasync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { createServer, request } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

const [, , url = "", dir] = process.argv;
const target = new URL(url);
const pass = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
  const hop = request(
    {
      host: target.hostname,
      port: target.port,
      path: incoming.url,
      method: incoming.method,
      headers: incoming.headers,
    },
    (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    },
  );
  hop.on("error", () => outgoing.destroy());
  incoming.pipe(hop);
};

const RECORD = Buffer.alloc(3_000, "x");
const ROOM = 8 << 20;
function recording(folder: string): (then: () => void) => void {
  // Zeroed before, as a guardian's segments are: a sync has no metadata to write.
  const fd = openSync(join(folder, `proxy-${process.pid}.log`), "w");
  writeSync(fd, Buffer.alloc(ROOM), 0, ROOM, 0);
  fdatasyncSync(fd);
  let at = 0;
  return (then) => {
    writeSync(fd, RECORD, 0, RECORD.length, at);
    at = (at + RECORD.length) % (ROOM - RECORD.length);
    fdatasync(fd, then);
  };
}
const record = dir === undefined ? (then: () => void) => then() : recording(dir);
const proxy = createServer((incoming, outgoing) => record(() => pass(incoming, outgoing)));
await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
const { port } = proxy.address() as AddressInfo;
console.log(`serving http://127.0.0.1:${port}`);
