// The agent that looks for credentials wherever it may look; what it finds it writes down, coded so that this file itself
// holds none. argv: the texts to look for, in base64. Environment: what a governed agent has.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";

const secrets = process.argv.slice(2).map((t) => Buffer.from(t, "base64").toString("utf8"));
const forms = secrets.flatMap((s) => [s, encodeURIComponent(s), Buffer.from(s).toString("base64").replace(/=+$/, ""), Buffer.from(s).toString("hex"), Array.from(s).reverse().join("")]);
const found = [];
let looked = 0;
function look(where, bytes) {
  looked++;
  const text = bytes.toString("latin1");
  if (forms.some((f) => text.includes(f))) found.push(where);
}
look("environment", Buffer.from(JSON.stringify(process.env)));
// Own arguments hold them in base64 by the test's doing: this process is left out.
for (const pid of readdirSync("/proc").filter((n) => /^\d+$/.test(n) && Number(n) !== process.pid))
  for (const file of ["environ", "cmdline", "maps", "fdinfo/3"]) {
    try {
      const bytes = readFileSync(join("/proc", pid, file));
      if (file !== "cmdline" || !bytes.toString("latin1").includes("agent.mjs")) look(`/proc/${pid}/${file}`, bytes);
    } catch {}
  }
function walk(folder, depth) {
  let names = [];
  try {
    names = readdirSync(folder);
  } catch {
    return;
  }
  for (const name of names) {
    const path = join(folder, name);
    try {
      const s = statSync(path);
      if (s.isDirectory() && depth > 0) walk(path, depth - 1);
      else if (s.isFile() && s.size < 64 << 20) look(path, readFileSync(path));
    } catch {}
  }
}
for (const folder of (process.env.LOOK_IN ?? "").split(":").filter((f) => f !== "")) walk(folder, 6);
for (const path of (process.env.SOCKETS ?? "").split(":").filter((f) => f !== ""))
  await new Promise((resolve) => {
    const s = connect(path, () => {
      found.push(`${path} is open`);
      s.destroy();
      resolve();
    });
    s.on("error", () => resolve());
  });
async function ask(what, url, init) {
  try {
    const r = await fetch(url, init);
    look(`${what}: headers`, Buffer.from(JSON.stringify([...r.headers])));
    look(`${what}: ${r.status}`, Buffer.from(await r.arrayBuffer()));
  } catch (error) {
    look(`${what}: error`, Buffer.from(String(error)));
  }
}
const base = process.env.OPENAI_BASE_URL ?? "";
const root = base.replace(/\/v1$/, "");
const json = (value) => ({ method: "POST", headers: { "content-type": "application/json", accept: "application/json, text/event-stream" }, body: JSON.stringify(value) });
const user = [{ role: "user", content: "hello" }];
for (const model of (process.env.MODELS ?? "").split(",").filter((m) => m !== ""))
  for (const stream of [false, true]) await ask(`${model} ${stream}`, `${base}/chat/completions`, json({ model, messages: user, stream }));
for (const tool of (process.env.TOOLS ?? "").split(",").filter((t) => t !== "")) {
  await ask(`rest ${tool}`, `${root}/mcp/v1/execute`, json({ tool: `tool:t/${tool}`, arguments: { n: 1 } }));
  await ask(`mcp ${tool}`, `${root}/mcp/t`, json({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: tool, arguments: { n: 1 } } }));
}
for (const path of ["/v1/models", "/mcp/v1/capabilities", "/atoll/v1/session", "/nowhere", "/status", "/metrics"]) await ask(path, `${root}${path}`);
await ask("mcp list", `${root}/mcp`, json({ jsonrpc: "2.0", id: 1, method: "tools/list" }));
process.stdout.write(JSON.stringify({ looked, found }));
