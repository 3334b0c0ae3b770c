// `atoll guard --island` whole: a command shut in with the real guardian, governed through it, and out by no other way.
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { atoll, place } from "./lab.ts";
import { startUpstream } from "./upstream.ts";

let work = "";
beforeEach(() => {
  // The command sees its working folder, wherever it lies.
  work = mkdtempSync("/var/tmp/atoll-test-");
  chmodSync(work, 0o777);
  writeFileSync(join(work, "out"), "");
  chmodSync(join(work, "out"), 0o666);
});
afterEach(() => rmSync(work, { recursive: true, force: true }));

const policy = (mcp: string): JsonObject => ({
  apiVersion: "atoll.dev/policy/v1",
  name: "island",
  layer: "P1",
  connectors: { t: { kind: "mcp", url: mcp } },
  tools: [
    {
      name: "tool:t/do",
      effect: "E1",
      sideEffect: "read_only",
      sandbox: "isolated",
      trust: "trusted",
      input: { type: "object" },
    },
  ],
  toolsets: { all: ["tool:t/do"] },
  profiles: [{ match: { principal: "*" }, toolsets: ["all"], maxSideEffect: "full" }],
  rules: [{ id: "do", tools: ["tool:t/do"], then: "allow" }],
  perimeter: { requireTls: false },
});

test("a command in the island calls its tool through the guardian, reaches nothing else, and its end is the guardian's", async () => {
  const up = await startUpstream();
  up.tools.set("do", () => undefined);
  let reached = 0;
  const outside = createServer((socket) => {
    reached++;
    socket.on("error", () => undefined);
    socket.end("outside");
  });
  await new Promise<void>((resolve) => outside.listen(0, "::", resolve));
  const at = outside.address();
  const port = typeof at === "object" && at !== null ? at.port : 0;
  const address = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find((each) => !each.internal && each.family === "IPv4")?.address;
  writeFileSync(
    join(work, "agent.mjs"),
    `import { connect } from "node:net";
import { appendFileSync, readdirSync } from "node:fs";
const say = (name, value) => appendFileSync("${work}/out", name + " " + value + "\\n");
const call = await fetch(new URL("/mcp/v1/execute", process.env.ATOLL_SESSION_URL), {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ tool: "tool:t/do", arguments: {} }),
});
say("call", call.status + " " + (await call.json()).verdict);
const dial = (host) => new Promise((resolve) => {
  const socket = connect({ host, port: ${port} });
  const end = (word) => { socket.destroy(); resolve(word); };
  socket.setTimeout(700, () => end("silence"));
  socket.on("data", () => end("REACHED"));
  socket.on("error", (e) => end(e.code));
});
for (const host of ${JSON.stringify(["127.0.0.1", ...(address === undefined ? [] : [address])])}) say("dial", await dial(host));
const files = (path) => { try { return readdirSync(path).length; } catch (e) { return e.code; } };
say("journal", files(process.argv[2]));
// More clients than one agent has: some are turned away, and the guardian serves on.
let turnedAway = 0;
const crowd = Array.from({ length: 2_300 }, () => {
  const socket = connect({ host: "127.0.0.1", port: 15080 });
  socket.on("error", () => undefined);
  socket.on("close", () => turnedAway++);
  return socket;
});
for (let wait = 0; wait < 100 && turnedAway < 200; wait++) await new Promise((resolve) => setTimeout(resolve, 100));
say("crowd", turnedAway >= 200 && turnedAway < 1_000 ? "bounded" : turnedAway);
for (const socket of crowd) socket.destroy();
process.exit(7);
`,
  );
  const p = place();
  try {
    const run = await p.start({
      policy: policy(up.mcp),
      cwd: work,
      more: ["--island", "--", process.execPath, join(work, "agent.mjs"), p.journal],
    });
    const code = await new Promise<number | null>((resolve) => run.child.once("exit", resolve));
    const lines = readFileSync(join(work, "out"), "utf8").trim().split("\n");
    expect(lines[0], run.words()).toBe("call 200 ALLOW");
    expect(lines.pop()).toBe("crowd bounded");
    const dials = lines.slice(1, -1);
    expect(dials.length).toBeGreaterThan(0);
    for (const dial of dials) expect(dial).toMatch(/^dial (?:E[A-Z]+|silence)$/);
    expect(lines.at(-1)).toMatch(/^journal (?:0|ENOENT|EACCES)$/);
    expect(code).toBe(7);
    expect(reached).toBe(0);
    expect(run.words()).toContain("the island is proved");
    const { code: verdict, text } = p.verified();
    expect(verdict, text).toBe(0);
  } finally {
    p.remove();
    outside.close();
    await up.close();
  }
});

test("an island without a command, or with ports of somebody's choice, is refused before anything starts", () => {
  for (const [args, word] of [
    [["--island"], "needs a COMMAND"],
    [["--island", "--port", "1", "--", "true"], "--port does not go with it"],
    [["--uid", "5", "--", "true"], "goes with --island"],
  ] as const) {
    const refused = atoll("guard", "--policy", "none", "--trust", "none", ...args);
    expect(refused.code).toBe(2);
    expect(refused.text).toContain(word);
  }
});
