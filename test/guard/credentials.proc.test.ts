// Real credentials exist in the guardian alone: an agent under another user greps its environment, files, processes,
// answers and error texts, in front of upstreams that send back what they were sent.

import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  constants,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { UpstreamError } from "../../sidecar/dispatch/dispatch.ts";
import { withoutSecrets } from "../../sidecar/dispatch/leak.ts";
import { place } from "./lab.ts";
import type { Guardian, Place } from "./lab.ts";

const TOOL = "ghp_thisIsTheToolSecret0123456789abcdefgh";
const MODEL = "sk-thisIsTheModelSecret/with+signs=0123456789";
const AGENT_UID = 64_530;

let server: Server;
let p: Place;
let g: Guardian;
let reached = 0;
beforeAll(async () => {
  // Upstreams that tell what they were told, in every way that services have.
  server = createServer((request, response) => {
    let text = "";
    request.on("data", (part) => (text += String(part)));
    request.on("end", () => {
      reached++;
      const told = request.headers.authorization ?? "";
      const secret = told.replace("Bearer ", "");
      const send = (status: number, value: unknown): void => {
        response.writeHead(status, { "content-type": "application/json", "x-echo": told });
        response.end(typeof value === "string" ? value : JSON.stringify(value));
      };
      const body = (text === "" ? {} : JSON.parse(text)) as {
        id?: number;
        method?: string;
        model?: string;
        stream?: boolean;
        params?: { name?: string };
      };
      if (request.url === "/mcp") {
        const result = (value: unknown): void => send(200, { jsonrpc: "2.0", id: body.id, result: value });
        if (body.method === "initialize")
          return result({
            protocolVersion: "2025-11-25",
            capabilities: { tools: {} },
            serverInfo: { name: "e", version: "1" },
          });
        if (body.method === "tools/list")
          return result({
            tools: ["plain", "refused", "rpc", "iserror", "coded"].map((name) => ({
              name,
              inputSchema: { type: "object" },
            })),
          });
        if (body.method !== "tools/call") return void response.writeHead(202).end();
        switch (body.params?.name ?? "") {
          case "plain":
            return result({ content: [{ type: "text", text: `you sent ${told}` }] });
          case "coded":
            return result({ content: [{ type: "text", text: Buffer.from(secret).toString("base64") }] });
          case "iserror":
            return result({ isError: true, content: [{ type: "text", text: `bad token ${secret}` }] });
          case "rpc":
            return send(200, {
              jsonrpc: "2.0",
              id: body.id,
              error: { code: -1, message: `no right: ${told}` },
            });
          default:
            return send(500, `<html>${told} ${encodeURIComponent(secret)}</html>`);
        }
      }
      if (body.model === "refused")
        return send(401, {
          error: {
            message: `Incorrect API key provided: ${secret}. ${secret.slice(0, 14)}…${secret.slice(-6)}`,
          },
        });
      if (body.model === "broken") return send(500, `Authorization: ${told}`);
      const message = { role: "assistant", content: `your key is ${secret}`, refusal: null };
      if (body.stream !== true)
        return send(200, {
          id: "c",
          object: "chat.completion",
          created: 1,
          model: "m",
          choices: [{ index: 0, message, logprobs: null, finish_reason: "stop" }],
          usage: {},
        });
      response.writeHead(200, { "content-type": "text/event-stream" });
      const chunk = (delta: object, finish: string | null = null): string =>
        `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
      response.write(chunk({ role: "assistant", content: "your key is " }));
      // Cut in the middle of the credential, on the wire.
      const whole = chunk({ content: secret });
      const cut = whole.indexOf(secret) + 9;
      response.write(whole.slice(0, cut));
      setTimeout(() => {
        response.write(whole.slice(cut));
        response.end(`${chunk({}, "stop")}data: [DONE]\n\n`);
      }, 50);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  p = place();
  p.credential("TOOL_KEY", TOOL);
  p.credential("MODEL_KEY", `${MODEL}\n`);
  const tools = ["plain", "refused", "rpc", "iserror", "coded"].map(
    (name): JsonObject => ({
      name: `tool:t/${name}`,
      effect: "E1",
      sideEffect: "read_only",
      sandbox: "isolated",
      trust: "trusted",
      input: { type: "object" },
    }),
  );
  g = await p.start({
    policy: {
      apiVersion: "atoll.dev/policy/v1",
      name: "credentials",
      layer: "P1",
      connectors: {
        t: { kind: "mcp", url: `${url}/mcp`, credential: "TOOL_KEY" },
        m: { kind: "openai", url: `${url}/v1`, credential: "MODEL_KEY" },
      },
      tools,
      models: [{ name: "model:m/refused" }, { name: "model:m/broken" }, { name: "model:m/echo" }],
      toolsets: { all: tools.map((t) => (typeof t["name"] === "string" ? t["name"] : "")) },
      profiles: [
        {
          match: { principal: "*" },
          toolsets: ["all"],
          models: ["model:m/refused", "model:m/broken", "model:m/echo"],
          maxSideEffect: "full",
        },
      ],
      rules: [{ id: "yes", tools: ["tool:*"], then: "allow" }],
      perimeter: { requireTls: false },
    },
  });
});
afterAll(async () => {
  await g.kill();
  server.close();
  p.remove();
});

/** The agent as its own user, with a copy of its program where it may read it. */
async function agent(
  env: NodeJS.ProcessEnv,
  secrets: readonly string[],
): Promise<{ looked: number; found: string[] }> {
  const room = mkdtempSync(join(tmpdir(), "atoll-agent-"));
  try {
    chmodSync(room, 0o755);
    copyFileSync(fileURLToPath(new URL("./agent.mjs", import.meta.url)), join(room, "agent.mjs"));
    chmodSync(join(room, "agent.mjs"), 0o644);
    // Node too: a checkout may lie where only root may go.
    copyFileSync(process.execPath, join(room, "node"), constants.COPYFILE_FICLONE);
    chmodSync(join(room, "node"), 0o755);
    const other = process.getuid?.() === 0 ? { uid: AGENT_UID, gid: AGENT_UID } : {};
    // Not waited for in one go: the upstreams live in this process.
    const child = spawn(
      join(room, "node"),
      [join(room, "agent.mjs"), ...secrets.map((s) => Buffer.from(s).toString("base64"))],
      { cwd: room, env: { PATH: process.env["PATH"], ...env }, stdio: ["ignore", "pipe", "pipe"], ...other },
    );
    let out = "";
    let err = "";
    child.stdout.on("data", (part) => (out += String(part)));
    child.stderr.on("data", (part) => (err += String(part)));
    const code = await new Promise<number | null>((resolve, reject) =>
      child.once("error", reject).once("close", resolve),
    );
    if (code !== 0) throw new Error(`the agent ended with ${code}: ${err}`);
    return JSON.parse(out) as { looked: number; found: string[] };
  } finally {
    rmSync(room, { recursive: true, force: true });
  }
}
const governed = (): NodeJS.ProcessEnv => ({
  OPENAI_BASE_URL: `${g.base}/v1`,
  OPENAI_API_KEY: "held-by-the-guardian",
  // Without another user the files are the agent's own, as under `atoll guard` without --island.
  ...(process.getuid?.() === 0 ? { LOOK_IN: p.folder, SOCKETS: join(p.journal, "admin.sock") } : {}),
  MODELS: "m/refused,m/broken,m/echo",
  TOOLS: "plain,refused,rpc,iserror,coded",
});

test("an agent that looks everywhere finds no credential", async () => {
  const before = reached;
  const { looked, found } = await agent(governed(), [TOOL, MODEL]);
  expect(found).toEqual([]);
  expect(looked).toBeGreaterThan(40);
  // It did reach the upstreams, which had been given the real ones.
  expect(reached - before).toBeGreaterThan(12);
});

test("the same agent finds what lies about: a file, an environment, an answer without a guardian", async () => {
  const room = mkdtempSync(join(tmpdir(), "atoll-loose-"));
  try {
    chmodSync(room, 0o755);
    writeFileSync(join(room, "key"), TOOL, { mode: 0o644 });
    const { found } = await agent({ ...governed(), LOOK_IN: room, LOOSE: MODEL }, [TOOL, MODEL]);
    expect(found).toContain("environment");
    expect(found).toContain(join(room, "key"));
  } finally {
    rmSync(room, { recursive: true, force: true });
  }
});

test("neither journal nor log nor metrics hold a credential", async () => {
  const answer = await fetch(`${g.base}/atoll/v1/session`);
  expect(answer.status).toBe(200);
  const held = spawnSync("grep", ["-rlaF", "-e", TOOL, "-e", MODEL, p.journal], { encoding: "utf8" });
  expect(held.stdout).toBe("");
  expect(g.words()).not.toContain(TOOL);
  expect(readFileSync(join(dirname(p.journal), "credentials", "TOOL_KEY"), "utf8")).toBe(TOOL);
});

test("an answer that carries a credential ends before its first byte, at every cut", async () => {
  const bytes = Buffer.from(`before ${TOOL} after`);
  const read = async (parts: readonly Buffer[], secrets: readonly string[]): Promise<string> => {
    let text = "";
    try {
      for await (const part of withoutSecrets(
        (async function* () {
          yield* parts;
        })(),
        secrets,
      ))
        text += String(Buffer.from(part));
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error;
      return `${text}|ended`;
    }
    return text;
  };
  for (let cut = 0; cut <= bytes.length; cut++) {
    const parts = [bytes.subarray(0, cut), bytes.subarray(cut)];
    const shown = await read(parts, [TOOL]);
    expect(
      "before |ended".startsWith(shown.replace("|ended", "")) && shown.endsWith("|ended"),
      `${cut}: ${shown}`,
    ).toBe(true);
    expect(await read(parts, ["another-secret"])).toBe(String(bytes));
  }
  // What only begins like one passes.
  expect(await read([Buffer.from(`x ${TOOL.slice(0, 20)}`), Buffer.from(" y")], [TOOL])).toBe(
    `x ${TOOL.slice(0, 20)} y`,
  );
  expect(await read([Buffer.from(`x ${TOOL.slice(0, 20)}`)], [TOOL])).toBe(`x ${TOOL.slice(0, 20)}`);
});
