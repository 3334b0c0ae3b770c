// The upstream of `bench/guardian.ts` as a process of its own, and a bare streaming proxy before it: what every
// guardian's hop and first byte are compared with.   node bench/guardian-upstream.ts

import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { startUpstream } from "../test/guard/upstream.ts";

const up = await startUpstream();
for (const name of ["do", "denied"]) up.tools.set(name, () => undefined);
let calls = 0;
// An id that is still open is refused, so each call has its own.
const note = () => ({
  id: `call_${++calls}`,
  type: "function",
  function: { name: "write_note", arguments: '{"text":"hi"}' },
});
const words = "word ".repeat(180);
up.chat = (body) =>
  body["stream"] === true
    ? { role: "assistant", content: "one two three four five six seven eight" }
    : { role: "assistant", content: words, refusal: null, tool_calls: [note()] };

const proxy = createServer((incoming, outgoing) => {
  const target = new URL(up.v1);
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
});
await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
const { port } = proxy.address() as AddressInfo;
console.log(JSON.stringify({ mcp: up.mcp, v1: up.v1, bare: `http://127.0.0.1:${port}` }));
