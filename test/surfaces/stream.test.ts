import { expect, test } from "vitest";
import {
  ChatStream,
  SseParser,
  chatProposals,
  parseChat,
  ruledChat,
  withFunctions,
  writeSse,
} from "../../kernel/openai/openai.ts";
import type { Proposed, Ruling } from "../../kernel/openai/openai.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";

const chunk = (choice: number, delta: JsonObject, finish: string | null = null): JsonObject => ({
  id: "c1",
  object: "chat.completion.chunk",
  created: 1,
  model: "m",
  choices: [{ index: choice, delta, finish_reason: finish }],
});
const SECRET = "drop_all_tables";
const STORY: readonly JsonObject[] = [
  chunk(0, { role: "assistant", content: "" }),
  chunk(0, { content: "Grüße ☃ " }),
  chunk(0, {
    tool_calls: [{ index: 0, id: "a", type: "function", function: { name: "danger", arguments: "" } }],
  }),
  chunk(0, { tool_calls: [{ index: 0, function: { arguments: `{"q":"${SECRET.slice(0, 6)}` } }] }),
  chunk(1, { role: "assistant", content: "other" }),
  chunk(0, {
    tool_calls: [{ index: 1, id: "b", type: "function", function: { name: "fine", arguments: '{"z":1,' } }],
  }),
  chunk(0, { tool_calls: [{ index: 0, function: { arguments: `${SECRET.slice(6)}"}` } }] }),
  chunk(0, { tool_calls: [{ index: 1, function: { arguments: '"a":2}' } }] }),
  chunk(1, {}, "stop"),
  chunk(0, {}, "tool_calls"),
  {
    id: "c1",
    object: "chat.completion.chunk",
    created: 1,
    model: "m",
    choices: [],
    usage: { prompt_tokens: 3, completion_tokens: 4 },
  },
];
const rule = (calls: readonly Proposed[]): Ruling[] =>
  calls.map((c) =>
    c.name === "fine"
      ? { state: "released", argsText: '{"a":2,"z":1}' }
      : { state: "replaced", text: "refused: receipt rcp_1" },
  );

function through(bytes: Uint8Array, cut: (n: number) => number): string[] {
  const parser = new SseParser();
  const stream = new ChatStream();
  const sent: string[] = [];
  const take = (data: string): void => {
    if (data === "[DONE]") return;
    const value: JsonObject = JSON.parse(data);
    for (const step of stream.feed(value))
      for (const c of step.kind === "send" ? [step.chunk] : step.settle(rule(step.calls)))
        sent.push(JSON.stringify(c));
  };
  for (let at = 0; at < bytes.length; ) {
    const next = Math.min(bytes.length, at + cut(at));
    for (const e of parser.feed(bytes.subarray(at, next))) take(e.data);
    at = next;
  }
  for (const e of parser.end()) take(e.data);
  expect(stream.end()).toBe(true);
  return sent;
}
const wire = (newline: string, bom = ""): Uint8Array =>
  new TextEncoder().encode(
    `${bom}: hello\n\n${STORY.map((c) => writeSse(JSON.stringify(c))).join(": keep-alive\n\n")}${writeSse("[DONE]")}`.replaceAll(
      "\n",
      newline,
    ),
  );

test("a stream cut at any byte gives the same chunks, and none of them holds a byte of a denied call", () => {
  const whole = through(wire("\n"), () => 1 << 20);
  expect(whole.join("\n")).not.toContain("danger");
  expect(whole.join("\n")).not.toContain(SECRET.slice(0, 6));
  expect(whole.join("\n")).toContain('"arguments":"{\\"a\\":2,\\"z\\":1}"');
  for (const newline of ["\n", "\r\n", "\r"])
    for (const bom of ["", "\ufeff"]) {
      const bytes = wire(newline, bom);
      expect(through(bytes, () => 1)).toEqual(whole);
      for (let offset = 1; offset < bytes.length; offset++)
        if (offset % 7 === 0 || (bytes[offset] ?? 0) > 127 || bytes[offset] === 13)
          expect(through(bytes, (at) => (at === 0 ? offset : bytes.length))).toEqual(whole);
    }
});
test("indexes are given anew and the finish keeps its reason while a call is left", () => {
  const sent = through(wire("\n"), () => 1 << 20);
  expect(sent.join("\n")).toContain('"tool_calls":[{"index":0,"id":"b"');
  expect(sent.join("\n")).toContain('"finish_reason":"tool_calls"');
  const stream = new ChatStream();
  const out = STORY.slice(0, 5)
    .concat([chunk(0, {}, "tool_calls")])
    .flatMap((c) => stream.feed(c));
  const last = out.at(-1);
  if (last?.kind !== "rule") throw new Error("the finish waits for a ruling");
  expect(JSON.stringify(last.settle(rule(last.calls)))).toContain('"finish_reason":"stop"');
});
test("a tool call after the finish of its choice ends the stream", () => {
  const stream = new ChatStream();
  stream.feed(chunk(0, { content: "x" }, "stop"));
  expect(() =>
    stream.feed(chunk(0, { tool_calls: [{ index: 0, id: "a", function: { name: "danger" } }] })),
  ).toThrow("follows the finish");
});
test("a stream without a finish does not count as ended", () => {
  const stream = new ChatStream();
  stream.feed(chunk(0, { content: "x" }));
  expect(stream.end()).toBe(false);
});
test("the answer as if unstreamed is what the model said before anything was replaced", () => {
  const stream = new ChatStream();
  for (const c of STORY) stream.feed(c);
  const answer = stream.answer();
  expect(JSON.stringify(answer)).toContain(SECRET);
  const calls = chatProposals(answer);
  expect(calls.map((c) => c.name)).toEqual(["danger", "fine"]);
  const shown = JSON.stringify(ruledChat(answer, calls, rule(calls)));
  expect(shown).not.toContain("danger");
  expect(shown).toContain("refused: receipt rcp_1");
});
test("a legacy function call is ruled like any other", () => {
  const answer = {
    id: "x",
    object: "chat.completion",
    created: 1,
    model: "m",
    choices: [
      {
        index: 0,
        finish_reason: "function_call",
        message: { role: "assistant", content: null, function_call: { name: "danger", arguments: "{}" } },
      },
    ],
  };
  const calls = chatProposals(answer);
  const out = ruledChat(answer, calls, rule(calls));
  expect(JSON.stringify(out)).not.toContain("danger");
  expect(JSON.stringify(out)).toContain('"finish_reason":"stop"');
});
test("members that are not known are refused by name, and known ones pass", () => {
  const good = { model: "m", messages: [{ role: "user", content: "hi" }], temperature: 0 };
  expect(parseChat(good).model).toBe("m");
  expect(() => parseChat({ ...good, background: true })).toThrow("background");
  expect(() => parseChat({ ...good, messages: [{ role: "root", content: "x" }] })).toThrow(
    "messages[0].role",
  );
});
test("functions that may not be called are taken out of the request, with the choice that would force one", () => {
  const f = (name: string): JsonObject => ({ type: "function", function: { name, parameters: {} } });
  const request = parseChat({
    model: "m",
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "hi" },
          { type: "image_url", image_url: { url: "https://x.example/a.png" } },
        ],
      },
    ],
    tools: [f("danger"), f("fine"), { type: "web_search" }],
    tool_choice: { type: "function", function: { name: "danger" } },
  });
  expect(request.providerTools.map((t) => t.type)).toEqual(["web_search"]);
  expect(request.remoteUrls).toEqual(["https://x.example/a.png"]);
  const body = withFunctions(request, "m2", (x) => x.name === "fine");
  expect(JSON.stringify(body)).not.toContain("danger");
  expect(body["model"]).toBe("m2");
  expect(body["tool_choice"]).toBeUndefined();
});
