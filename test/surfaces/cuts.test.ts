// Every wire format cut at every byte: the same events, and never a byte of a denied call among them.

import { expect, test } from "vitest";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { MessageStream, ResponseStream, SseParser, writeSse } from "../../kernel/openai/openai.ts";
import type { AnswerStream, Ruling } from "../../kernel/openai/openai.ts";
import { messagesEvents, responsesEvents } from "./provider.ts";
import type { Part } from "./provider.ts";

const SECRET = "drop_all_tables";
const PARTS: readonly Part[] = [
  { think: "hm ☃" },
  { text: "Grüße" },
  { call: "danger", id: "call_1", args: `{"q":"${SECRET}"}` },
  { call: "fine", id: "call_2", args: '{"z":1,"a":"ü"}' },
  { call: "danger", id: "call_3", args: `{"again":"${SECRET}"}` },
];
const rule = (name: string): Ruling =>
  name === "fine"
    ? { state: "released", argsText: '{"a":"ü","z":1}' }
    : { state: "replaced", text: "refused: receipt rcp_1" };

function through(stream: AnswerStream, bytes: Uint8Array, cuts: readonly number[]): string {
  const parser = new SseParser();
  let out = "";
  const take = (data: string): void => {
    const value: JsonObject = JSON.parse(data);
    for (const step of stream.feed(value))
      for (const w of step.kind === "send" ? [step.chunk] : step.settle(step.calls.map((c) => rule(c.name))))
        out += writeSse(JSON.stringify(w.data), w.event);
  };
  let from = 0;
  for (const at of [...cuts, bytes.length]) {
    for (const e of parser.feed(bytes.subarray(from, at))) take(e.data);
    from = at;
  }
  for (const e of parser.end()) take(e.data);
  expect(stream.end()).toBe(true);
  return out;
}

for (const [name, script, make] of [
  ["anthropic messages", messagesEvents(PARTS), () => new MessageStream()],
  ["openai responses", responsesEvents(PARTS), () => new ResponseStream()],
  ["openai responses told at the end", responsesEvents(PARTS, false), () => new ResponseStream()],
] as const)
  test(`${name}: cut anywhere the events are the same`, () => {
    const whole = through(make(), new TextEncoder().encode(script), []);
    for (const hidden of [SECRET, SECRET.slice(0, 6), "danger", "call_1", "call_3"])
      expect(whole).not.toContain(hidden);
    expect(whole).toContain("fine");
    expect(whole.split("refused: receipt rcp_1").length).toBeGreaterThan(2);
    for (const newline of ["\n", "\r\n"]) {
      const bytes = new TextEncoder().encode(script.replaceAll("\n", newline));
      for (let at = 1; at < bytes.length; at++)
        if ((newline === "\n" || bytes[at] === 10) && through(make(), bytes, [at]) !== whole)
          expect.fail(`it differs when cut at ${at}`);
      const every = Array.from({ length: bytes.length - 1 }, (_, i) => i + 1);
      expect(through(make(), bytes, every)).toBe(whole);
    }
  });

test("an answer as if unstreamed is what the model said before anything was replaced", () => {
  for (const [script, stream] of [
    [messagesEvents(PARTS), new MessageStream()],
    [responsesEvents(PARTS), new ResponseStream()],
  ] as const) {
    through(stream, new TextEncoder().encode(script), []);
    expect(JSON.stringify(stream.answer()).split(SECRET).length).toBe(3);
    expect(stream.usage).toMatchObject({ output_tokens: 10 });
  }
});

const broken = (stream: AnswerStream, events: readonly object[]) => () => {
  for (const e of events) stream.feed(JSON.parse(JSON.stringify(e)) as JsonObject);
};
const start = { type: "message_start", message: { id: "m", role: "assistant", usage: {} } };
const held = { type: "tool_use", id: "t", name: "danger", input: {} };
test("a stream that goes astray is an error, and what was held is never shown", () => {
  const open = { type: "content_block_start", index: 0, content_block: held };
  const end = { type: "message_delta", delta: { stop_reason: "tool_use" } };
  expect(broken(new MessageStream(), [start, open, end])).toThrow("within a tool call");
  expect(broken(new MessageStream(), [start, open, open])).toThrow("does not start once");
  expect(broken(new MessageStream(), [open])).toThrow("does not start once");
  expect(broken(new MessageStream(), [start, { type: "message_stop" }, { type: "ping" }])).toThrow("follows");
  const text = { type: "response.output_item.added", output_index: 0, item: { type: "message", id: "m" } };
  const turned = {
    type: "response.output_item.done",
    output_index: 0,
    item: { type: "function_call", call_id: "c", name: "danger", arguments: "{}" },
  };
  expect(broken(new ResponseStream(), [text, turned])).toThrow("turned into a tool call");
  expect(broken(new ResponseStream(), [{ type: "response.failed" }])).toThrow("failed");
  const unfinished = new ResponseStream();
  unfinished.feed({ type: "response.created", response: {} });
  expect(unfinished.end()).toBe(false);
});
