// The floor for `bench/guardian.ts`: fastify, two Ed25519 signatures and two group commits for each call, nothing else.
// Whatever a guardian does besides (strict parse, facts, thirteen gates, canonical forms, hashes) is its own cost.
//   node bench/guardian-floor.ts DIR [UPSTREAM [MODEL]]    with UPSTREAM a hop to it lies between the two commits, as in a
// governed call. With MODEL chat completions too: three signatures, two commits and the hop, nothing is looked at.

import { createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { closeSync, fdatasync, openSync, write } from "node:fs";
import { join } from "node:path";
import fastify from "fastify";
import { Pool } from "undici";

const [, , dir = ".", upstream, model] = process.argv;
const key = createPrivateKey(
  generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }),
);
const fd = openSync(join(dir, `floor-${process.pid}.log`), "w");
let at = 0;
let waiting: { lines: string[]; done: (() => void)[] } = { lines: [], done: [] };
let flying = false;
function flush(): void {
  if (flying || waiting.lines.length === 0) return;
  flying = true;
  const batch = waiting;
  waiting = { lines: [], done: [] };
  const bytes = Buffer.from(batch.lines.join(""));
  write(fd, bytes, 0, bytes.length, at, () =>
    fdatasync(fd, () => {
      flying = false;
      for (const done of batch.done) done();
      setImmediate(flush);
    }),
  );
  at += bytes.length;
}
/** A record of the size that a guardian's has, signed and durable. */
const PADDING = "x".repeat(1_100);
function commit(kind: string, args: unknown): Promise<void> {
  const text = JSON.stringify({ kind, args, at, PADDING });
  const sig = sign(null, Buffer.from(text), key).toString("hex");
  return new Promise((resolve) => {
    waiting.lines.push(`${text.slice(0, -1)},"sig":"${sig}"}\n`);
    waiting.done.push(resolve);
    setImmediate(flush);
  });
}

const pool = upstream === undefined ? undefined : new Pool(new URL(upstream).origin, { connections: 64 });
const app = fastify({ logger: false });
async function serve(args: unknown): Promise<object> {
  await commit("INTENT", args);
  if (pool !== undefined) {
    const reply = await pool.request({
      method: "POST",
      path: "/mcp",
      headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "tools/call",
        params: { name: "do", arguments: args },
      }),
    });
    await reply.body.json();
  }
  await commit("EFFECT", args);
  return { verdict: "ALLOW", reason_code: "", result: { ok: true } };
}
app.post<{ Body: { arguments: unknown } }>("/mcp/v1/execute", (request) => serve(request.body.arguments));
async function chat(body: unknown): Promise<Buffer> {
  const { pathname } = new URL(model ?? "");
  await commit("INTENT", body);
  const reply = await pool?.request({
    method: "POST",
    path: `${pathname}/chat/completions`,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = Buffer.from((await reply?.body.arrayBuffer()) ?? new ArrayBuffer(0));
  // What became of the request, and the intent of the tool call in its answer.
  await Promise.all([commit("EFFECT", body), commit("INTENT", body)]);
  return answer;
}
app.post("/v1/chat/completions", async (request, reply) =>
  reply.type("application/json").send(await chat(request.body)),
);
const base = await app.listen({ host: "127.0.0.1", port: 0 });
console.log(`serving ${base}`);
process.once("SIGTERM", () => {
  closeSync(fd);
  process.exit(0);
});
