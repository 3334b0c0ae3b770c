// The ordinary SDKs, unmodified, against a provider that answers as written: what each of them sees of each story.

import { Agent, request as httpRequest } from "node:http";
import Anthropic from "@anthropic-ai/sdk";
import {
  Client as NextClient,
  StreamableHTTPClientTransport as NextTransport,
} from "@modelcontextprotocol/client";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import OpenAI from "openai";
import OpenAISix from "openai-v6";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  chatAnswer,
  chatEvents,
  embeddingsAnswer,
  messagesAnswer,
  messagesEvents,
  provider,
  responsesAnswer,
  responsesEvents,
} from "./provider.ts";
import type { Part, Provider, Script } from "./provider.ts";
import { scene } from "./scene.ts";
import type { Scene } from "./scene.ts";

let s: Scene;
let p: Provider;
beforeAll(async () => {
  p = await provider();
  s = await scene({
    modelTimeoutMs: 400,
    policy(document) {
      document["connectors"] = {
        ...(document["connectors"] as object),
        openai: { kind: "openai", url: p.url, credential: "MODEL_KEY" },
        anthropic: { kind: "anthropic", url: p.url, credential: "MODEL_KEY" },
      };
      const models = ["model:openai/stand-in", "model:openai/embed", "model:anthropic/claude"];
      document["models"] = models.map((name) => ({
        name,
        price: { inputMicroUsdPerMTok: 1, outputMicroUsdPerMTok: 1 },
      }));
      const [profile] = document["profiles"] as Record<string, unknown>[];
      if (profile === undefined) throw new Error("the demo's policy has no profile");
      profile["models"] = models;
      profile["budgets"] = {};
      // Some stories bring untrusted content into the one session that all of them share.
      document["threat"] = { taintedMaxEffect: "E4" };
      document["limits"] = { requestsPerSecond: 10_000 };
    },
  });
});
afterAll(async () => {
  await s.close();
  await p.close();
});
beforeEach(async () => {
  p.seen.length = 0;
  // Fifty denials a second are the most that a session gets receipts for.
  await new Promise((resolve) => setTimeout(resolve, 40));
});

let serial = 0;
const note = (text = "hello"): Part => ({
  call: "write_note",
  id: `call_n${++serial}`,
  args: `{"text":"${text}"}`,
});
const SECRET = "drop_all_tables";
const shell = (): Part => ({ call: "run_shell", id: `call_s${++serial}`, args: `{"command":"${SECRET}"}` });
const say = (text = "Grüße ☃."): Part => ({ text });

const six = OpenAISix as unknown as typeof OpenAI;
const openai = (of: typeof OpenAI = OpenAI): OpenAI =>
  new of({ baseURL: `${s.base}/v1`, apiKey: "placeholder", maxRetries: 0 });
const anthropic = (): Anthropic => new Anthropic({ baseURL: s.base, apiKey: "placeholder", maxRetries: 0 });
const names = ["write_note", "run_shell", "github__create_issue"];
const functions = names.map((name) => ({
  type: "function" as const,
  function: { name, parameters: { type: "object" } },
}));
const USER = [{ role: "user" as const, content: "go" }];
const CHAT = { model: "openai/stand-in", messages: USER, tools: functions };
const RESPONSE = {
  model: "openai/stand-in",
  input: "go",
  tools: names.map((name) => ({
    type: "function" as const,
    name,
    parameters: { type: "object" },
    strict: false,
  })),
};
const MESSAGE = {
  model: "anthropic/claude",
  max_tokens: 100,
  messages: USER,
  tools: names.map((name) => ({ name, input_schema: { type: "object" as const } })),
};
const sent = (at = -1): Record<string, unknown> => JSON.parse(p.seen.at(at)?.body ?? "{}");
/** What an SDK raised. */
async function raised(call: Promise<unknown>): Promise<{ status: number; code: string; message: string }> {
  const error: unknown = await call.then(
    () => expect.fail("it was not refused"),
    (e: unknown) => e,
  );
  const o = error as {
    status?: number;
    code?: string;
    message: string;
    error?: { error?: { code?: string } };
  };
  return { status: o.status ?? 0, code: o.code ?? o.error?.error?.code ?? "", message: o.message };
}
/** The bytes of an answer as they come, for what no SDK shows. */
async function raw(path: string, body: object): Promise<string> {
  const reply = await fetch(`${s.base}${path}`, { method: "POST", body: JSON.stringify(body) });
  return `${JSON.stringify([...reply.headers])}${await reply.text()}`;
}
function clean(text: string): void {
  for (const secret of [SECRET, SECRET.slice(0, 8), "drop_", '"run_shell"'])
    expect(text).not.toContain(secret);
}
const nodes = (): { kind: string; body: Record<string, unknown> }[] =>
  [...s.guardian.journal.entries()].flatMap((e) =>
    e.kind === "node" ? [{ kind: e.sealed.node.kind, body: e.sealed.node.body }] : [],
  );
const lastEffect = (tool: string) =>
  nodes().findLast((n) => n.kind === "EFFECT" && n.body["tool"] === tool)?.body ?? {};
/** What is recorded of the outcome of the first call of an answer. */
function effectsOf(answer: unknown): unknown[] {
  const { atoll } = answer as { atoll?: { tool_calls: { receipt_id: string }[] } };
  const intent = nodes().find((n) => n.body["receipt_id"] === atoll?.tool_calls[0]?.receipt_id);
  return nodes().flatMap((n) =>
    n.kind === "EFFECT" && n.body["effect_id"] === intent?.body["effect_id"] ? [n.body["status"]] : [],
  );
}
const toolNames = (m: OpenAI.ChatCompletionMessage | undefined): string[] =>
  (m?.tool_calls ?? []).map((c) => (c.type === "function" ? c.function.name : c.type));

const CASES: [string, () => Promise<void>][] = [];
const add = (name: string, run: () => Promise<void>): void => void CASES.push([name, run]);

for (const [major, of] of [
  ["openai 7", OpenAI],
  ["openai 6", six],
] as const) {
  const streamed = (script: string, more: object = {}) => {
    p.script = { body: script };
    return openai(of)
      .chat.completions.stream({ ...CHAT, ...more })
      .finalChatCompletion();
  };
  const whole = (script: string, more: object = {}) => {
    p.script = { body: script };
    return openai(of).chat.completions.create({ ...CHAT, ...more, stream: false });
  };
  add(`${major}: an allowed call arrives whole`, async () => {
    const [c] = (await whole(chatAnswer([[say(), note()]]))).choices;
    expect(toolNames(c?.message)).toEqual(["write_note"]);
    expect(c?.finish_reason).toBe("tool_calls");
    expect(c?.message.content).toBe("Grüße ☃.");
  });
  add(`${major}: a denied call is words`, async () => {
    const answer = await whole(chatAnswer([[shell()]]));
    expect(answer.choices[0]?.message.tool_calls).toBeUndefined();
    expect(answer.choices[0]?.message.content).toContain("DENY_NO_MATCH");
    expect(answer.choices[0]?.message.content).toMatch(/rcp_[0-9a-f]{32}/);
    expect(answer.choices[0]?.finish_reason).toBe("stop");
    expect(answer.usage?.total_tokens).toBe(30);
    clean(JSON.stringify(answer));
  });
  add(`${major}: an allowed call arrives by stream`, async () => {
    const [c] = (await streamed(chatEvents([[say(), note()]]))).choices;
    expect(toolNames(c?.message)).toEqual(["write_note"]);
    expect(c?.finish_reason).toBe("tool_calls");
    expect(c?.message.content).toBe("Grüße ☃.");
  });
  add(`${major}: a denied call by stream is words`, async () => {
    const answer = await streamed(chatEvents([[say(), shell()]]));
    expect(answer.choices[0]?.message.tool_calls ?? []).toEqual([]);
    expect(answer.choices[0]?.message.content).toMatch(/^Grüße ☃\.\n\n.*DENY_NO_MATCH/s);
    expect(answer.choices[0]?.finish_reason).toBe("stop");
    clean(JSON.stringify(answer));
  });
  add(`${major}: of parallel calls only the denied one is taken out`, async () => {
    for (const answer of [
      await whole(chatAnswer([[note("a"), shell(), note("b")]])),
      await streamed(chatEvents([[note("a"), shell(), note("b")]])),
    ]) {
      const calls = answer.choices[0]?.message.tool_calls ?? [];
      expect(calls.map((c) => (c.type === "function" ? c.function.arguments : ""))).toEqual([
        '{"text":"a"}',
        '{"text":"b"}',
      ]);
      expect(answer.choices[0]?.finish_reason).toBe("tool_calls");
      clean(JSON.stringify(answer));
    }
  });
  add(`${major}: each of several choices is judged for itself`, async () => {
    for (const answer of [
      await whole(chatAnswer([[note()], [shell()], [say()]]), { n: 3 }),
      await streamed(chatEvents([[note()], [shell()], [say()]]), { n: 3 }),
    ]) {
      expect(answer.choices.map((c) => toolNames(c.message))).toEqual([["write_note"], [], []]);
      expect(answer.choices.map((c) => c.finish_reason)).toEqual(["tool_calls", "stop", "stop"]);
      clean(JSON.stringify(answer));
    }
    expect(sent()["n"]).toBe(3);
  });
  add(`${major}: the legacy function_call is judged like any other`, async () => {
    const legacy = { functions: functions.map((f) => f.function), tools: undefined };
    const o = { legacy: true };
    const good = await whole(chatAnswer([[note()]], o), legacy);
    expect(good.choices[0]?.message.function_call?.name).toBe("write_note");
    const bad = await whole(chatAnswer([[shell()]], o), legacy);
    expect(bad.choices[0]?.message.function_call).toBeUndefined();
    expect(bad.choices[0]?.finish_reason).toBe("stop");
    p.script = { body: chatEvents([[shell()]], o) };
    clean(JSON.stringify(bad) + (await raw("/v1/chat/completions", { ...CHAT, ...legacy, stream: true })));
  });
  add(`${major}: a refusal of the model passes`, async () => {
    const refuse: Part = { refuse: "I will not." };
    const a = await whole(chatAnswer([[refuse]]));
    const b = await streamed(chatEvents([[refuse]]));
    for (const answer of [a, b]) expect(answer.choices[0]?.message.refusal).toBe("I will not.");
  });
  add(`${major}: usage comes at the end of a stream to those who asked`, async () => {
    const asked = await streamed(chatEvents([[say()]]), { stream_options: { include_usage: true } });
    expect(asked.usage?.total_tokens).toBe(30);
    const not = await streamed(chatEvents([[say()]]));
    expect(not.usage ?? undefined).toBeUndefined();
    expect(sent()["stream_options"]).toEqual({ include_usage: true });
    expect(lastEffect("model:openai/stand-in")["usage"]).toMatchObject({ tokens_in: 20, tokens_out: 10 });
  });
  add(`${major}: responses, whole and by stream`, async () => {
    const parts = (): Part[] => [{ think: "hm" }, say(), note(), shell()];
    p.script = { body: responsesAnswer(parts()) };
    const a = await openai(of).responses.create(RESPONSE);
    p.script = { body: responsesEvents(parts()) };
    const b = await openai(of).responses.stream(RESPONSE).finalResponse();
    for (const answer of [a, b]) {
      expect(answer.output.map((o) => o.type)).toEqual(["reasoning", "message", "function_call", "message"]);
      expect(answer.output_text).toMatch(/^Grüße ☃\..*DENY_NO_MATCH/s);
      expect(answer.usage?.total_tokens).toBe(30);
      clean(JSON.stringify(answer));
    }
  });
  add(`${major}: embeddings as numbers and as the SDK asks for them`, async () => {
    p.script = { body: embeddingsAnswer() };
    const made = await openai(of).embeddings.create({
      model: "openai/embed",
      input: ["a", "b"],
      encoding_format: "float",
    });
    expect(made.data[0]?.embedding).toEqual([0.25, -0.5, 1]);
    expect(sent()).toEqual({ model: "embed", input: ["a", "b"], encoding_format: "float" });
    await raised(openai(of).embeddings.create({ model: "openai/other", input: "a" })).then((e) =>
      expect(e).toMatchObject({ status: 403, code: "DENY_MODEL" }),
    );
  });
  add(`${major}: models are those that the principal may use`, async () => {
    const listed = [];
    for await (const m of await openai(of).models.list()) listed.push(m.id);
    expect(listed.sort()).toEqual(["anthropic/claude", "openai/embed", "openai/stand-in"]);
    expect((await openai(of).models.retrieve("openai/embed")).id).toBe("openai/embed");
    expect(await raised(openai(of).models.retrieve("openai/gpt"))).toMatchObject({ status: 404 });
  });
  add(
    `${major}: an upstream that breaks within a stream is an error, and no byte of a held call is shown`,
    async () => {
      const body = chatEvents([[say(), shell()]]);
      p.script = { body, breakAt: body.length - 300 };
      const e = await raised(openai(of).chat.completions.stream(CHAT).finalChatCompletion());
      expect(e.message).toContain("ERR_CONNECTOR_FAILED");
      clean(await raw("/v1/chat/completions", { ...CHAT, stream: true }));
      expect(lastEffect("model:openai/stand-in")["status"]).toBe("FAILED");
    },
  );
}

// What both majors share is tried with one.

const chat = (more: object = {}) => openai().chat.completions.create({ ...CHAT, ...more, stream: false });
add("a choice that forces an unlisted function is taken out with it", async () => {
  p.script = { body: chatAnswer([[say()]]) };
  const other = { type: "function" as const, function: { name: "other", parameters: {} } };
  await chat({
    tools: [...functions, other],
    tool_choice: { type: "function", function: { name: "other" } },
  });
  expect(sent()["tool_choice"]).toBeUndefined();
  expect((sent()["tools"] as unknown[]).length).toBe(3);
});
add("a choice of a listed function passes", async () => {
  p.script = { body: chatAnswer([[note()]]) };
  await chat({ tool_choice: { type: "function", function: { name: "write_note" } } });
  expect(sent()["tool_choice"]).toEqual({ type: "function", function: { name: "write_note" } });
});
for (const status of [400, 404, 422, 429])
  add(`an upstream's ${status} passes, scrubbed, and is not repeated`, async () => {
    const key = p.seen.length;
    p.script = (_path, _body): Script => ({
      status,
      body: JSON.stringify({ error: { message: "no, sk-standin-0123456789abcdefghij", code: "odd" } }),
    });
    const many = new OpenAI({ baseURL: `${s.base}/v1`, apiKey: "x", maxRetries: 3 });
    const e = await raised(many.chat.completions.create({ ...CHAT, stream: false }));
    expect(e.status).toBe(status);
    expect(e.message).toContain("[redacted]");
    expect(p.seen.length - key).toBe(1);
  });
for (const status of [500, 502, 503, 529])
  add(`an upstream's ${status} is 502 and is not repeated`, async () => {
    p.script = { status, body: '{"error":{"message":"boom"}}' };
    const many = new OpenAI({ baseURL: `${s.base}/v1`, apiKey: "x", maxRetries: 3 });
    const e = await raised(many.chat.completions.create({ ...CHAT, stream: false }));
    expect(e).toMatchObject({ status: 502, code: "ERR_CONNECTOR_FAILED" });
    expect(p.seen.length).toBe(1);
  });
add("an answer that is no JSON, or no object, is 502", async () => {
  for (const body of ["<html>", "[]", '{"choices":{}}', '{"a":1,"a":2}']) {
    p.script = { body };
    expect(await raised(chat())).toMatchObject({ status: 502, code: "ERR_CONNECTOR_FAILED" });
  }
});
add("an upstream that says nothing is 504", async () => {
  p.script = { body: chatAnswer([[say()]]), silentMs: 3_000 };
  expect(await raised(chat())).toMatchObject({ status: 504, code: "ERR_CONNECTOR_TIMEOUT" });
});
add("an upstream that falls silent within a stream is an error", async () => {
  p.script = { body: chatEvents([[say()]]), stallAt: 200 };
  const e = await raised(openai().chat.completions.stream(CHAT).finalChatCompletion());
  expect(e.message).toContain("ERR_CONNECTOR_TIMEOUT");
});
add("an error that the upstream puts into its stream is an error", async () => {
  p.script = { body: 'data: {"error":{"message":"overloaded"}}\n\n' };
  const e = await raised(openai().chat.completions.stream(CHAT).finalChatCompletion());
  expect(e.message).toContain("ERR_CONNECTOR_FAILED");
});
add("a stream without [DONE] is whole when its choices are finished", async () => {
  p.script = { body: chatEvents([[note()]], { done: false }) };
  const answer = await openai().chat.completions.stream(CHAT).finalChatCompletion();
  expect(toolNames(answer.choices[0]?.message)).toEqual(["write_note"]);
});
add("comments, CRLF and a byte order mark change nothing", async () => {
  const body = chatEvents([[say(), note()]]).replaceAll("\n\n", "\r\n: hi\r\n\r\n");
  p.script = { body: `\ufeff${body}`, headers: { "content-type": "text/event-stream" } };
  const answer = await openai().chat.completions.stream(CHAT).finalChatCompletion();
  expect(toolNames(answer.choices[0]?.message)).toEqual(["write_note"]);
});
add("a client that goes away in mid-stream ends the upstream's answer and leaves a record", async () => {
  p.script = { body: chatEvents([[say("x".repeat(2000))]]), cut: () => 20 };
  const before = p.abandoned;
  const stream = await openai().chat.completions.create({ ...CHAT, stream: true });
  for await (const _ of stream) break;
  while (p.abandoned === before) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(s.guardian.governor.underWay).toBeLessThanOrEqual(1);
  while (s.guardian.governor.underWay > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(lastEffect("model:openai/stand-in")["status"]).not.toBe("SUCCEEDED");
});
add("one connection serves many answers, streamed and whole", async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set<number | undefined>();
  for (const stream of [true, false, true]) {
    p.script = { body: stream ? chatEvents([[say()]]) : chatAnswer([[say()]]) };
    await new Promise<void>((resolve, reject) => {
      const call = httpRequest(`${s.base}/v1/chat/completions`, { method: "POST", agent }, (r) => {
        ports.add(r.socket.localPort);
        r.resume().on("end", resolve);
      });
      call.on("error", reject);
      call.end(JSON.stringify({ ...CHAT, stream }));
    });
  }
  expect(ports.size).toBe(1);
  agent.destroy();
});
add("arguments of ten megabytes are refused, whole and by stream", async () => {
  const big = (): Part => ({
    call: "write_note",
    id: `call_b${++serial}`,
    args: `{"text":"${"a".repeat(10 << 20)}"}`,
  });
  p.script = { body: chatAnswer([[big()]]) };
  const answer = await chat();
  expect(answer.choices[0]?.message.tool_calls).toBeUndefined();
  expect(answer.choices[0]?.message.content).toContain("DENY_MALFORMED_CALL");
  const one = (d: object): string =>
    `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta: d, finish_reason: null }] })}\n\n`;
  const args = "b".repeat(1 << 20);
  p.script = {
    body:
      one({
        tool_calls: [
          {
            index: 0,
            id: `call_b${++serial}`,
            type: "function",
            function: { name: "write_note", arguments: "" },
          },
        ],
      }) + one({ tool_calls: [{ index: 0, function: { arguments: args } }] }).repeat(10),
  };
  const text = await raw("/v1/chat/completions", { ...CHAT, stream: true });
  expect(text).toContain("ERR_CONNECTOR_FAILED");
  expect(text).not.toContain("bbbb");
});
add("malformed arguments are denied: not JSON, no object, a key twice, a lone surrogate", async () => {
  for (const args of ['{"text":', '["x"]', '{"text":"a","text":"b"}', '{"text":"\\ud800"}', "12"]) {
    p.script = { body: chatAnswer([[{ call: "write_note", id: `call_m${++serial}`, args }]]) };
    expect((await chat()).choices[0]?.message.content, args).toContain("DENY_MALFORMED_CALL");
  }
});
add("what is released is the canonical text", async () => {
  const args = ' { "text" : "h\\u0069" } ';
  p.script = { body: chatAnswer([[{ call: "write_note", id: `call_c${++serial}`, args }]]) };
  const [call] = (await chat()).choices[0]?.message.tool_calls ?? [];
  expect(call?.type === "function" ? call.function.arguments : "").toBe('{"text":"hi"}');
});
for (const [what, more] of [
  ["web_search_options", { web_search_options: {} }],
  ["a custom tool", { tools: [{ type: "custom", custom: { name: "x" } }] }],
] as const)
  add(`chat: ${what} goes round the guardian and is refused`, async () => {
    const e = await raised(chat(more));
    expect(e).toMatchObject({ status: 403, code: "DENY_TOOL_NOT_FOUND" });
    expect(p.seen.length).toBe(0);
  });
for (const tool of [
  { type: "web_search" },
  { type: "code_interpreter", container: { type: "auto" } },
  { type: "mcp", server_label: "x", server_url: "https://mcp.example" },
  { type: "computer_use_preview" },
  { type: "image_generation" },
])
  add(`responses: ${tool.type} is run by the provider and is refused`, async () => {
    const e = await raised(openai().responses.create({ ...RESPONSE, tools: [tool as never] }));
    expect(e).toMatchObject({ status: 403, code: "DENY_TOOL_NOT_FOUND" });
    expect(p.seen.length).toBe(0);
  });
for (const member of ["background", "conversation", "prompt", "context_management"])
  add(`responses: \`${member}\` is refused by name`, async () => {
    const e = await raised(openai().responses.create({ ...RESPONSE, [member]: true } as never));
    expect(e.status).toBe(400);
    expect(e.message).toContain(member);
  });
add("responses: an approval of a provider's own call is refused by name", async () => {
  const input = [{ type: "mcp_approval_response", approval_request_id: "x", approve: true }];
  const e = await raised(openai().responses.create({ ...RESPONSE, input: input as never }));
  expect(e).toMatchObject({ status: 400 });
});
add("responses: calls that only the end of a stream tells of are judged too", async () => {
  p.script = { body: responsesEvents([say(), shell(), note()], false) };
  const text = await raw("/v1/responses", { ...RESPONSE, stream: true });
  clean(text);
  expect(text).toContain("DENY_NO_MATCH");
  expect(text).toContain("write_note");
});
add("responses: items of the provider's own tools do not reach the agent unasked", async () => {
  p.script = {
    body: responsesAnswer([say()], [{ type: "mcp_call", id: "m", name: "run", arguments: SECRET }]),
  };
  const answer = await openai().responses.create(RESPONSE);
  expect(answer.output.map((o) => o.type)).toEqual(["message"]);
  clean(JSON.stringify(answer));
});
add("responses: an outcome is bound once, and a conversation goes on by the previous response", async () => {
  const call = note();
  p.script = { body: responsesAnswer([call]) };
  const first = await openai().responses.create(RESPONSE);
  p.script = { body: responsesAnswer([say()]) };
  const id = "id" in call ? call.id : "";
  await openai().responses.create({
    ...RESPONSE,
    previous_response_id: "resp_1",
    input: [{ type: "function_call_output", call_id: id, output: "written" }],
  });
  expect(effectsOf(first)).toEqual(["SUCCEEDED"]);
});
add("an unknown member of a chat is refused by name", async () => {
  const e = await raised(chat({ extra_body: 1 }));
  expect(e.status).toBe(400);
  expect(e.message).toContain("extra_body");
});
add("an unknown endpoint is refused by name", async () => {
  const e = await raised(openai().images.generate({ prompt: "x", model: "openai/stand-in" }));
  expect(e).toMatchObject({ status: 404, code: "DENY_MALFORMED_CALL" });
  const f = await raised(openai().files.list());
  expect(f.message).toContain("/v1/files");
});
add("a remote address in the content is judged as a connection", async () => {
  const content = [{ type: "image_url" as const, image_url: { url: "https://pictures.example/a.png" } }];
  const e = await raised(chat({ messages: [{ role: "user", content }] }));
  expect(e.status).toBe(403);
  expect(p.seen.length).toBe(0);
});
add("a repeated history binds an outcome once; the same again passes, another is no receipt", async () => {
  const call = note();
  if (!("id" in call)) throw new Error("a call");
  p.script = { body: chatAnswer([[call]]) };
  const answer = await chat();
  const first = answer.choices[0]?.message;
  p.script = { body: chatAnswer([[say()]]) };
  const history = (content: string) => ({
    messages: [...USER, first, { role: "tool", tool_call_id: call.id, content }],
  });
  expect(effectsOf(answer)).toEqual([]);
  await chat(history("done"));
  await chat(history("done"));
  await chat({ messages: [...(history("done").messages as never[]), { role: "user", content: "more" }] });
  expect(effectsOf(answer)).toEqual(["SUCCEEDED"]);
  await chat(history("something else"));
  await chat({ messages: [...USER, { role: "tool", tool_call_id: "call_never", content: "x" }] });
  expect(effectsOf(answer)).toEqual(["SUCCEEDED"]);
});
add("a call id that is still open is refused", async () => {
  const call = note();
  p.script = { body: chatAnswer([[call]]) };
  expect(toolNames((await chat()).choices[0]?.message)).toEqual(["write_note"]);
  expect((await chat()).choices[0]?.message.content).toContain("DENY_MALFORMED_CALL");
});
add(
  "a function that is also a tool of MCP is judged once: an attestation, and the MCP call is the call",
  async () => {
    const args = '{"repo":"acme/web","title":"x"}';
    p.script = { body: chatAnswer([[{ call: "github__create_issue", id: `call_d${++serial}`, args }]]) };
    const intents = () =>
      nodes().filter((n) => n.kind === "INTENT" && n.body["tool"] === "tool:github/create_issue");
    const before = intents().length;
    expect(toolNames((await chat()).choices[0]?.message)).toEqual(["github__create_issue"]);
    expect(intents().length).toBe(before);
    const agent = new Client({ name: "agent", version: "1.0.0" });
    await agent.connect(new StreamableHTTPClientTransport(new URL(`${s.base}/mcp`)));
    const made = await agent.callTool({ name: "github__create_issue", arguments: JSON.parse(args) });
    expect(made.isError).toBeFalsy();
    expect(intents().length).toBe(before + 1);
    await agent.close();
  },
);
add("cut at every size the OpenAI client sees the same", async () => {
  const parts = [say(), note(), shell()];
  const scrub = (o: unknown): string => JSON.stringify(o).replaceAll(/rcp_[0-9a-f]{32}|call_\w+/g, "");
  const seen = new Set<string>();
  for (const size of [1, 2, 3, 7, 64, 1 << 20]) {
    const fresh = parts.map((part) => ("call" in part ? { ...part, id: `call_z${++serial}` } : part));
    p.script = { body: chatEvents([fresh]), cut: () => size };
    seen.add(scrub(await openai().chat.completions.stream(CHAT).finalChatCompletion()));
  }
  expect(seen.size).toBe(1);
});

// Anthropic

const ask = (more: object = {}) => anthropic().messages.create({ ...MESSAGE, ...more, stream: false });
const stream = (more: object = {}) =>
  anthropic()
    .messages.stream({ ...MESSAGE, ...more })
    .finalMessage();
for (const [how, script, call] of [
  ["whole", messagesAnswer, ask],
  ["by stream", messagesEvents, stream],
] as const) {
  add(`anthropic ${how}: an allowed call, text and thinking arrive`, async () => {
    p.script = { body: script([{ think: "hm" }, say(), note()]) };
    const m = await call();
    expect(m.content.map((b) => b.type)).toEqual(["thinking", "text", "tool_use"]);
    expect(m.content[2]).toMatchObject({ name: "write_note", input: { text: "hello" } });
    expect(m.content[0]).toMatchObject({ thinking: "hm", signature: "sig" });
    expect(m.stop_reason).toBe("tool_use");
    expect(m.usage).toMatchObject({ input_tokens: 20, output_tokens: 10 });
  });
  add(`anthropic ${how}: a denied call is words and the turn ends`, async () => {
    p.script = { body: script([say(), shell()]) };
    const m = await call();
    expect(m.content.map((b) => b.type)).toEqual(["text", "text"]);
    expect(JSON.stringify(m.content[1])).toContain("DENY_NO_MATCH");
    expect(m.stop_reason).toBe("end_turn");
    clean(JSON.stringify(m));
  });
  add(`anthropic ${how}: of parallel calls only the denied one is taken out`, async () => {
    p.script = { body: script([note("a"), shell(), note("b")]) };
    const m = await call();
    expect(m.content.map((b) => b.type)).toEqual(["tool_use", "text", "tool_use"]);
    expect(m.stop_reason).toBe("tool_use");
    clean(JSON.stringify(m));
  });
}
add("anthropic: not one byte of a denied call is in the raw stream", async () => {
  p.script = { body: messagesEvents([shell()]), cut: () => 3 };
  clean(await raw("/v1/messages", { ...MESSAGE, stream: true }));
});
add("anthropic: an outcome, also a failed one, is bound", async () => {
  const call = note();
  if (!("id" in call)) throw new Error("a call");
  p.script = { body: messagesAnswer([call]) };
  const m = await ask();
  p.script = { body: messagesAnswer([say()]) };
  const result = { type: "tool_result" as const, tool_use_id: call.id, content: "disk full", is_error: true };
  await ask({
    messages: [...USER, { role: "assistant", content: m.content }, { role: "user", content: [result] }],
  });
  expect(effectsOf(m)).toEqual(["FAILED"]);
});
for (const tool of ["web_search_20250305", "code_execution_20250825", "bash_20250124"])
  add(`anthropic: ${tool} is refused`, async () => {
    const e = await raised(ask({ tools: [{ type: tool, name: tool.slice(0, -9) }] }));
    expect(e).toMatchObject({ status: 403, code: "DENY_TOOL_NOT_FOUND" });
    expect(p.seen.length).toBe(0);
  });
add("anthropic: servers, containers and unknown betas are refused by name", async () => {
  for (const more of [{ mcp_servers: [] }, { container: "x" }])
    expect((await raised(ask(more))).message).toContain(Object.keys(more)[0]);
  const beta = anthropic().messages.create(MESSAGE as never, {
    headers: { "anthropic-beta": "mcp-client-2025-11-20" },
  });
  expect((await raised(beta)).message).toContain("mcp-client-2025-11-20");
});
add("anthropic: the guardian's own credential goes upstream, with the version", async () => {
  p.script = { body: messagesAnswer([say()]) };
  await ask();
  expect(p.seen[0]?.headers).toMatchObject({
    "x-api-key": "sk-standin-0123456789abcdefghij",
    "anthropic-version": expect.stringMatching(/^\d{4}-\d{2}-\d{2}$/),
  });
  expect(JSON.stringify(p.seen[0]?.headers)).not.toContain("placeholder");
});
add("anthropic: errors of the upstream before and within a stream", async () => {
  p.script = { status: 529, body: '{"type":"error","error":{"type":"overloaded_error","message":"busy"}}' };
  const many = new Anthropic({ baseURL: s.base, apiKey: "x", maxRetries: 3 });
  expect(await raised(many.messages.create({ ...MESSAGE, stream: false }))).toMatchObject({ status: 502 });
  expect(p.seen.length).toBe(1);
  const body = messagesEvents([say(), shell()]);
  p.script = {
    body: `${body.slice(0, body.indexOf("event: content_block_stop"))}event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n`,
  };
  const e = await raised(stream());
  expect(e.message).toContain("ERR_CONNECTOR_FAILED");
});
add("anthropic: a model of the other format is not served there", async () => {
  expect(await raised(ask({ model: "openai/stand-in" }))).toMatchObject({ status: 403, code: "DENY_MODEL" });
  expect(await raised(chat({ model: "anthropic/claude" }))).toMatchObject({
    status: 403,
    code: "DENY_MODEL",
  });
});

// MCP

add("mcp sdk: tools are listed, called and refused", async () => {
  const agent = new Client({ name: "agent", version: "1.0.0" });
  await agent.connect(new StreamableHTTPClientTransport(new URL(`${s.base}/mcp/github`)));
  expect((await agent.listTools()).tools.map((t) => t.name)).toContain("create_issue");
  const made = await agent.callTool({ name: "create_issue", arguments: { repo: "acme/web", title: "x" } });
  expect(made.structuredContent).toMatchObject({ repo: "acme/web" });
  for (const [name, args, reason] of [
    ["delete_repo", { repo: "acme/web" }, "DENY_RULE"],
    ["create_issue", undefined, "DENY_SCHEMA_MISMATCH"],
    ["no_such", {}, "DENY_TOOL_NOT_FOUND"],
  ] as const) {
    const r = await agent.callTool({ name, arguments: args });
    expect(r).toMatchObject({ isError: true, _meta: { "dev.atoll/reason": reason } });
    expect(r._meta?.["dev.atoll/receipt"]).toMatch(/^rcp_/);
  }
  await agent.close();
});
add("mcp client: the same with the next package", async () => {
  const agent = new NextClient({ name: "agent", version: "1.0.0" });
  await agent.connect(new NextTransport(new URL(`${s.base}/mcp`)));
  expect((await agent.listTools()).tools.map((t) => t.name)).toContain("github__create_issue");
  const made = await agent.callTool({
    name: "github__create_issue",
    arguments: { repo: "acme/web", title: "x" },
  });
  expect(made.structuredContent).toMatchObject({ repo: "acme/web" });
  const denied = await agent.callTool({ name: "github__delete_repo", arguments: { repo: "acme/web" } });
  expect(denied).toMatchObject({ isError: true, _meta: { "dev.atoll/reason": "DENY_RULE" } });
  await agent.close();
});

for (const [name, run] of CASES) test(name, run);
test("the matrix has at least sixty cases", () => {
  expect(CASES.length).toBeGreaterThanOrEqual(60);
});
