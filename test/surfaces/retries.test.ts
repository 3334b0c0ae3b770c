// The SDKs repeat 408, 409, 429 and 5xx by themselves. None of their repetitions may pay or act twice.

import { createServer } from "node:http";
import type { Server } from "node:http";
import Anthropic from "@anthropic-ai/sdk";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import OpenAI from "openai";
import OpenAISix from "openai-v6";
import { afterEach, expect, test } from "vitest";
import { CODES } from "../../kernel/contracts/contracts.ts";
import type { Code } from "../../kernel/contracts/contracts.ts";
import { errorReply } from "../../sidecar/surfaces/surfaces.ts";
import type { Refusal } from "../../sidecar/surfaces/surfaces.ts";
import { chatAnswer, chatEvents, messagesAnswer, provider } from "./provider.ts";
import type { Provider, Script } from "./provider.ts";
import { scene } from "./scene.ts";
import type { Scene, SceneOptions } from "./scene.ts";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const RETRIES = 2;
const USER = [{ role: "user" as const, content: "go" }];
const SDKS = {
  "openai 7": (base: string, model = "openai/stand-in") =>
    new OpenAI({ baseURL: `${base}/v1`, apiKey: "x", maxRetries: RETRIES }).chat.completions.create({
      model,
      messages: USER,
    }),
  "openai 6": (base: string, model = "openai/stand-in") =>
    new OpenAISix({ baseURL: `${base}/v1`, apiKey: "x", maxRetries: RETRIES }).chat.completions.create({
      model,
      messages: USER,
    }),
  anthropic: (base: string, model = "anthropic/claude") =>
    new Anthropic({ baseURL: base, apiKey: "x", maxRetries: RETRIES }).messages.create({
      model: model.replace("openai/", "anthropic/"),
      max_tokens: 10,
      messages: USER,
    }),
} as const;

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
}

for (const [name, call] of Object.entries(SDKS))
  test(`${name}: after an INTENT no refusal of any code is repeated, and before it only those that say so`, async () => {
    let refusal: Refusal = { code: "OVERLOADED", detail: "", stamp: undefined, begun: false };
    let attempts = 0;
    const shape = name === "anthropic" ? "anthropic" : "openai";
    const base = await listening(
      createServer((request, response) => {
        attempts++;
        const e = errorReply(refusal, shape);
        request.resume().on("end", () => {
          response.writeHead(e.status, { "content-type": "application/json", ...e.headers });
          response.end(JSON.stringify(e.body));
        });
      }),
    );
    const statuses = new Set<number>();
    for (const code of Object.keys(CODES) as Code[]) {
      refusal = { code, detail: "", stamp: undefined, begun: true, retryAfter: 0.01 };
      attempts = 0;
      const status = await call(base).then(
        () => 0,
        (e: { status: number }) => e.status,
      );
      statuses.add(status);
      expect(attempts, `${code} ${status}`).toBe(1);
    }
    expect([...statuses].sort((a, b) => a - b)).toEqual([400, 401, 403, 409, 429, 500, 502, 503, 504]);
    for (const code of [
      "POLICY_STALE",
      "JOURNAL_UNAVAILABLE",
      "DENY_BUDGET_EXCEEDED",
      "DENY_APPROVAL_REQUIRED",
    ] as const) {
      refusal = { code, detail: "", stamp: undefined, begun: false };
      attempts = 0;
      await call(base).catch(() => undefined);
      expect(attempts, code).toBe(1);
    }
    // The planted twin: what nothing has happened for is repeated, so the attempts are really counted.
    refusal = { code: "POLICY_NOT_READY", detail: "", stamp: undefined, begun: false };
    attempts = 0;
    await call(base).catch(() => undefined);
    expect(attempts).toBe(RETRIES + 1);
  });

async function stage(more?: SceneOptions["policy"]): Promise<{ s: Scene; p: Provider }> {
  const p = await provider();
  closing.push(() => p.close());
  const s = await scene({
    modelTimeoutMs: 300,
    policy(document, two) {
      document["connectors"] = {
        ...(document["connectors"] as object),
        openai: { kind: "openai", url: p.url, credential: "MODEL_KEY" },
        anthropic: { kind: "anthropic", url: p.url, credential: "MODEL_KEY" },
      };
      const models = ["openai/stand-in", "openai/ask", "anthropic/claude", "anthropic/ask"].map(
        (m) => `model:${m}`,
      );
      document["models"] = models.map((name) => ({
        name,
        price: { inputMicroUsdPerMTok: 1, outputMicroUsdPerMTok: 1 },
      }));
      Object.assign((document["profiles"] as object[])[0] ?? {}, { models });
      (document["rules"] as unknown[]).push({
        id: "ask",
        tools: ["model:openai/ask", "model:anthropic/ask"],
        then: "escalate",
        approval: "one-person",
      });
      more?.(document, two);
    },
  });
  closing.push(() => s.close());
  return { s, p };
}
const answers = (path: string): Script => ({
  body: path.includes("messages") ? messagesAnswer([{ text: "hi" }]) : chatAnswer([[{ text: "hi" }]]),
});
const statusOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => 200,
    (e: { status?: number }) => e.status,
  );

for (const [name, call] of Object.entries(SDKS))
  test(`${name}: the provider is asked once, whatever goes wrong there`, async () => {
    const { s, p } = await stage();
    const asked = async (script: Provider["script"], model?: string): Promise<[unknown, number]> => {
      p.seen.length = 0;
      p.script = script;
      return [await statusOf(call(s.base, model)), p.seen.length];
    };
    expect(await asked(answers)).toEqual([200, 1]);
    for (const status of [408, 409, 429]) expect(await asked({ status, body: "{}" })).toEqual([status, 1]);
    for (const status of [500, 503]) expect(await asked({ status, body: "{}" })).toEqual([502, 1]);
    expect(await asked({ body: "{}", silentMs: 3_000 })).toEqual([504, 1]);
    expect(await asked({ body: "{}{}{}{}", breakAt: 3 })).toEqual([502, 1]);
    expect(await asked(answers, "openai/none")).toEqual([403, 0]);
    expect(await asked(answers, "openai/ask")).toEqual([409, 0]);
    await s.guardian.freezer.freeze("test", "test");
    expect(await asked(answers)).toEqual([403, 0]);
  });

for (const [name, call] of Object.entries(SDKS))
  test(`${name}: an answer that is lost on its way is not asked for twice, also over a restart`, async () => {
    const { s, p } = await stage();
    let target = s;
    let lose = true;
    let attempts = 0;
    // Between agent and guardian: carries the first request there and loses the answer.
    const base = await listening(
      createServer((request, response) => {
        attempts++;
        const parts: Buffer[] = [];
        request.on("data", (part: Buffer) => parts.push(part));
        request.on("end", () => {
          void (async () => {
            const headers: Record<string, string> = {};
            for (const [k, v] of Object.entries(request.headers))
              if (typeof v === "string" && !["host", "connection", "content-length"].includes(k))
                headers[k] = v;
            const leave = new AbortController();
            const reply = fetch(`${target.base}${request.url ?? ""}`, {
              method: "POST",
              headers,
              body: Buffer.concat(parts),
              signal: leave.signal,
            });
            if (lose) {
              while (p.seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
              lose = false;
              leave.abort();
              await reply.catch(() => undefined);
              if (attempts === 1 && name === "openai 7") target = await target.again();
              response.destroy();
              return;
            }
            const got = await reply;
            response.writeHead(got.status, Object.fromEntries(got.headers));
            response.end(await got.text());
          })().catch(() => response.destroy());
        });
      }),
    );
    p.script = (path) => ({ ...answers(path), silentMs: 150 });
    expect(await statusOf(call(base))).toBe(500);
    expect(attempts).toBe(2);
    expect(p.seen.length).toBe(1);
    // Asked for anew, by the agent and not by its SDK, it is another request.
    expect(await statusOf(call(target.base))).toBe(200);
    expect(p.seen.length).toBe(2);
    if (target !== s) closing.push(() => target.guardian.drain(100));
  });

test("too many calls in a second are repeated after a while, each is carried out once", async () => {
  const { s, p } = await stage((document) => {
    document["limits"] = { requestsPerSecond: 1 };
  });
  p.script = answers;
  expect(await Promise.all([1, 2].map(() => statusOf(SDKS["openai 7"](s.base))))).toEqual([200, 200]);
  expect(p.seen.length).toBe(2);
});
test("an error within a stream is not repeated", async () => {
  const { s, p } = await stage();
  const body = chatEvents([[{ text: "hello" }]]);
  p.script = { body, breakAt: body.length - 250 };
  const client = new OpenAI({ baseURL: `${s.base}/v1`, apiKey: "x", maxRetries: RETRIES });
  const stream = client.chat.completions.stream({ model: "openai/stand-in", messages: USER });
  await expect(stream.finalChatCompletion()).rejects.toThrow("ERR_CONNECTOR_FAILED");
  expect(p.seen.length).toBe(1);
});
test("a guardian that is stopping, or has no journal, lets nothing be carried out however often it is asked", async () => {
  const { s, p } = await stage();
  p.script = answers;
  s.guardian.governor.stop();
  expect(await statusOf(SDKS["openai 7"](s.base))).toBe(503);
  const other = await stage();
  other.p.script = answers;
  await other.s.guardian.journal.close();
  expect(await statusOf(SDKS["openai 7"](other.s.base))).toBe(503);
  expect(p.seen.length + other.p.seen.length).toBe(0);
});
test("an MCP client does not repeat what failed, and the server carried it out at most once", async () => {
  const { s } = await stage();
  const agent = new Client({ name: "agent", version: "1.0.0" });
  await agent.connect(new StreamableHTTPClientTransport(new URL(`${s.base}/mcp`)));
  const issue = { name: "github__create_issue", arguments: { repo: "acme/web", title: "x" } };
  await agent.callTool(issue);
  expect(s.tools.done.get("create_issue")).toBe(1);
  await s.tools.close();
  expect((await agent.callTool(issue)).isError).toBe(true);
  expect(s.tools.done.get("create_issue")).toBe(1);
  await agent.close();
});
