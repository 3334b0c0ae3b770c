// A model provider that answers as a test wrote it down, in three wire formats, cut where the test wants it.

import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";

export type Part =
  | { readonly text: string }
  | { readonly think: string }
  | { readonly refuse: string }
  | { readonly call: string; readonly id: string; readonly args: string };

export interface Script {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body: string;
  /** Sizes of the pieces in which the body is written; one piece when absent. */
  readonly cut?: (at: number) => number;
  /** After so many bytes: nothing more comes, or the connection breaks. */
  readonly stallAt?: number;
  readonly breakAt?: number;
  /** Before anything is sent. */
  readonly silentMs?: number;
}

export interface Provider {
  readonly url: string;
  readonly seen: {
    readonly path: string;
    readonly headers: IncomingMessage["headers"];
    readonly body: string;
  }[];
  /** Connections that were opened, and answers that the other side gave up. */
  connections: number;
  abandoned: number;
  script: Script | ((path: string, body: string) => Script);
  close(): Promise<void>;
}

export async function provider(): Promise<Provider> {
  const it: Provider = {
    url: "",
    seen: [],
    connections: 0,
    abandoned: 0,
    script: { body: "{}" },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(Buffer.from(part));
    const body = Buffer.concat(parts).toString("utf8");
    const path = request.url ?? "";
    it.seen.push({ path, headers: request.headers, body });
    response.on("close", () => {
      if (!response.writableFinished) it.abandoned++;
    });
    const script = typeof it.script === "function" ? it.script(path, body) : it.script;
    if (script.silentMs !== undefined) await new Promise((resolve) => setTimeout(resolve, script.silentMs));
    const event = script.body.startsWith("data:") || script.body.startsWith("event:");
    response.writeHead(script.status ?? 200, {
      "content-type": event ? "text/event-stream" : "application/json",
      ...script.headers,
    });
    const bytes = Buffer.from(script.body);
    const end = Math.min(bytes.length, script.stallAt ?? bytes.length, script.breakAt ?? bytes.length);
    for (let at = 0; at < end; ) {
      const next = Math.min(end, at + (script.cut?.(at) ?? bytes.length));
      response.write(bytes.subarray(at, next));
      at = next;
      // Each piece is a packet of its own.
      if (script.cut !== undefined) await new Promise((resolve) => setImmediate(resolve));
    }
    if (script.stallAt !== undefined) return;
    if (script.breakAt !== undefined) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      response.destroy();
    } else response.end();
  };
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  server.on("connection", () => it.connections++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return Object.assign(it, { url: `http://127.0.0.1:${port}/v1` });
}

const event = (data: object, name = ""): string =>
  `${name === "" ? "" : `event: ${name}\n`}data: ${JSON.stringify(data)}\n\n`;
const pieces = (text: string, size = 4): string[] => text.match(new RegExp(`[^]{1,${size}}`, "gu")) ?? [];

// Chat completions

const CHAT_USAGE = { prompt_tokens: 20, completion_tokens: 10, total_tokens: 30 };
interface ChatOptions {
  readonly legacy?: boolean;
  readonly usage?: boolean;
  readonly done?: boolean;
  readonly finish?: string;
}
const chatFinish = (parts: readonly Part[], o: ChatOptions): string =>
  o.finish ??
  (parts.some((p) => "call" in p) ? (o.legacy === true ? "function_call" : "tool_calls") : "stop");

export function chatAnswer(choices: readonly (readonly Part[])[], o: ChatOptions = {}): string {
  return JSON.stringify({
    id: "chatcmpl-1",
    object: "chat.completion",
    created: 1,
    model: "m",
    choices: choices.map((parts, index) => {
      const text = parts.flatMap((p) => ("text" in p ? [p.text] : [])).join("");
      const refusal = parts.flatMap((p) => ("refuse" in p ? [p.refuse] : [])).join("");
      const calls = parts.flatMap((p) => ("call" in p ? [p] : []));
      const message =
        o.legacy === true
          ? { function_call: { name: calls[0]?.call, arguments: calls[0]?.args } }
          : calls.length > 0
            ? {
                tool_calls: calls.map((c) => ({
                  id: c.id,
                  type: "function",
                  function: { name: c.call, arguments: c.args },
                })),
              }
            : {};
      return {
        index,
        message: {
          role: "assistant",
          content: text === "" ? null : text,
          refusal: refusal === "" ? null : refusal,
          ...message,
        },
        logprobs: null,
        finish_reason: chatFinish(parts, o),
      };
    }),
    usage: CHAT_USAGE,
  });
}

export function chatEvents(choices: readonly (readonly Part[])[], o: ChatOptions = {}): string {
  let out = "";
  const send = (list: object[], more: object = {}): void => {
    out += event({
      id: "chatcmpl-1",
      object: "chat.completion.chunk",
      created: 1,
      model: "m",
      choices: list,
      ...more,
    });
  };
  const delta = (index: number, d: object, finish: string | null = null): void =>
    send([{ index, delta: d, finish_reason: finish }]);
  choices.forEach((parts, i) => {
    delta(i, { role: "assistant", content: "" });
    let k = -1;
    for (const p of parts)
      if ("text" in p) for (const t of pieces(p.text)) delta(i, { content: t });
      else if ("refuse" in p) for (const t of pieces(p.refuse)) delta(i, { refusal: t });
      else if ("call" in p && o.legacy === true) {
        delta(i, { function_call: { name: p.call, arguments: "" } });
        for (const t of pieces(p.args)) delta(i, { function_call: { arguments: t } });
      } else if ("call" in p) {
        k++;
        delta(i, {
          tool_calls: [{ index: k, id: p.id, type: "function", function: { name: p.call, arguments: "" } }],
        });
        for (const t of pieces(p.args)) delta(i, { tool_calls: [{ index: k, function: { arguments: t } }] });
      }
  });
  choices.forEach((parts, i) => delta(i, {}, chatFinish(parts, o)));
  if (o.usage !== false) send([], { usage: CHAT_USAGE });
  return o.done === false ? out : `${out}data: [DONE]\n\n`;
}

// Responses

const item = (p: Part, i: number): Record<string, unknown> =>
  "call" in p
    ? {
        type: "function_call",
        id: `fc_${i}`,
        call_id: p.id,
        name: p.call,
        arguments: p.args,
        status: "completed",
      }
    : "think" in p
      ? { type: "reasoning", id: `rs_${i}`, summary: [{ type: "summary_text", text: p.think }] }
      : {
          type: "message",
          id: `msg_${i}`,
          role: "assistant",
          status: "completed",
          content: [
            "text" in p
              ? { type: "output_text", text: p.text, annotations: [], logprobs: [] }
              : { type: "refusal", refusal: p.refuse },
          ],
        };
const response = (output: unknown[], status: string): object => ({
  id: "resp_1",
  object: "response",
  created_at: 1,
  status,
  error: null,
  incomplete_details: null,
  instructions: null,
  metadata: {},
  model: "m",
  output,
  parallel_tool_calls: true,
  temperature: 1,
  tool_choice: "auto",
  tools: [],
  top_p: 1,
  usage:
    status === "completed"
      ? {
          input_tokens: 20,
          input_tokens_details: { cached_tokens: 0 },
          output_tokens: 10,
          output_tokens_details: { reasoning_tokens: 0 },
          total_tokens: 30,
        }
      : null,
});
export const responsesAnswer = (parts: readonly Part[], more: readonly object[] = []): string =>
  JSON.stringify(response([...parts.map(item), ...more], "completed"));

/** `announced` false: the end alone tells of the items. */
export function responsesEvents(parts: readonly Part[], announced = true): string {
  let out = "";
  let n = 0;
  const send = (type: string, data: object): void => {
    out += event({ type, sequence_number: n++, ...data }, type);
  };
  send("response.created", { response: response([], "in_progress") });
  send("response.in_progress", { response: response([], "in_progress") });
  parts.forEach((p, i) => {
    if (!announced) return;
    const whole = item(p, i);
    const at = { item_id: whole["id"], output_index: i };
    if ("call" in p) {
      send("response.output_item.added", {
        output_index: i,
        item: { ...whole, arguments: "", status: "in_progress" },
      });
      for (const t of pieces(p.args)) send("response.function_call_arguments.delta", { ...at, delta: t });
      send("response.function_call_arguments.done", { ...at, name: p.call, arguments: p.args });
    } else if ("think" in p) {
      send("response.output_item.added", { output_index: i, item: { ...whole, summary: [] } });
      const place = { ...at, summary_index: 0 };
      send("response.reasoning_summary_part.added", { ...place, part: { type: "summary_text", text: "" } });
      for (const t of pieces(p.think)) send("response.reasoning_summary_text.delta", { ...place, delta: t });
      send("response.reasoning_summary_text.done", { ...place, text: p.think });
      send("response.reasoning_summary_part.done", {
        ...place,
        part: { type: "summary_text", text: p.think },
      });
    } else {
      send("response.output_item.added", {
        output_index: i,
        item: { ...whole, status: "in_progress", content: [] },
      });
      const place = { ...at, content_index: 0 };
      if ("text" in p) {
        const part = { type: "output_text", text: "", annotations: [], logprobs: [] };
        send("response.content_part.added", { ...place, part });
        for (const t of pieces(p.text))
          send("response.output_text.delta", { ...place, delta: t, logprobs: [] });
        send("response.output_text.done", { ...place, text: p.text, logprobs: [] });
        send("response.content_part.done", { ...place, part: { ...part, text: p.text } });
      } else {
        send("response.content_part.added", { ...place, part: { type: "refusal", refusal: "" } });
        for (const t of pieces(p.refuse)) send("response.refusal.delta", { ...place, delta: t });
        send("response.refusal.done", { ...place, refusal: p.refuse });
        send("response.content_part.done", { ...place, part: { type: "refusal", refusal: p.refuse } });
      }
    }
    send("response.output_item.done", { output_index: i, item: whole });
  });
  send("response.completed", { response: response(parts.map(item), "completed") });
  return out;
}

// Messages

const block = (p: Part): Record<string, unknown> =>
  "call" in p
    ? { type: "tool_use", id: p.id, name: p.call, input: JSON.parse(p.args) }
    : "think" in p
      ? { type: "thinking", thinking: p.think, signature: "sig" }
      : { type: "text", text: "text" in p ? p.text : p.refuse, citations: null };
const message = (parts: readonly Part[]): Record<string, unknown> => ({
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: "m",
  content: parts.map(block),
  stop_reason: parts.some((p) => "call" in p)
    ? "tool_use"
    : parts.some((p) => "refuse" in p)
      ? "refusal"
      : "end_turn",
  stop_sequence: null,
  usage: { input_tokens: 20, output_tokens: 10 },
});
export const messagesAnswer = (parts: readonly Part[]): string => JSON.stringify(message(parts));

export function messagesEvents(parts: readonly Part[]): string {
  let out = "";
  const send = (type: string, data: object): void => {
    out += event({ type, ...data }, type);
  };
  const whole = message(parts);
  send("message_start", {
    message: { ...whole, content: [], stop_reason: null, usage: { input_tokens: 20, output_tokens: 1 } },
  });
  send("ping", {});
  parts.forEach((p, index) => {
    const start =
      "call" in p
        ? { type: "tool_use", id: p.id, name: p.call, input: {} }
        : "think" in p
          ? { type: "thinking", thinking: "", signature: "" }
          : { type: "text", text: "" };
    send("content_block_start", { index, content_block: start });
    const delta = (d: object): void => send("content_block_delta", { index, delta: d });
    if ("call" in p) for (const t of pieces(p.args)) delta({ type: "input_json_delta", partial_json: t });
    else if ("think" in p) {
      for (const t of pieces(p.think)) delta({ type: "thinking_delta", thinking: t });
      delta({ type: "signature_delta", signature: "sig" });
    } else for (const t of pieces("text" in p ? p.text : p.refuse)) delta({ type: "text_delta", text: t });
    send("content_block_stop", { index });
  });
  send("message_delta", {
    delta: { stop_reason: whole["stop_reason"], stop_sequence: null },
    usage: { output_tokens: 10 },
  });
  send("message_stop", {});
  return out;
}

export const embeddingsAnswer = (): string =>
  JSON.stringify({
    object: "list",
    data: [{ object: "embedding", index: 0, embedding: [0.25, -0.5, 1] }],
    model: "m",
    usage: { prompt_tokens: 3, total_tokens: 3 },
  });
