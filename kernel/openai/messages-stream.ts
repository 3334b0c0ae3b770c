// A streamed message: text and thinking flow at once, a tool call is held until its block is complete and ruled.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import { LIMITS, isObject, parseJson } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import { pick } from "./answer.ts";
import { replaced } from "./asked.ts";
import type { AnswerStream, Step, Written } from "./asked.ts";
import { MESSAGE_MEMBERS, shownBlock } from "./messages.ts";
import type { Ruling } from "./proposal.ts";
import { SseError } from "./sse.ts";

interface Block {
  readonly type: string;
  /** Its place in what the client sees; undefined while it is held or when it is not shown. */
  shown: number | undefined;
  readonly start: JsonObject;
  text: string;
  signature: string;
  stopped: boolean;
}

const DELTAS: Readonly<Record<string, readonly [string, string]>> = {
  text_delta: ["text", "text"],
  thinking_delta: ["thinking", "thinking"],
  signature_delta: ["thinking", "signature"],
  citations_delta: ["text", "citation"],
};

export class MessageStream implements AnswerStream {
  readonly #blocks = new Map<number, Block>();
  #message: Record<string, JsonValue> | undefined;
  #usage: Record<string, JsonValue> | undefined;
  #next = 0;
  #kept = 0;
  #ruled = 0;
  #delta: JsonObject = {};
  #stopped = false;

  feed(event: JsonObject): Step[] {
    if (this.#stopped) throw new SseError("an event follows the end of the message");
    const { type } = event;
    switch (typeof type === "string" ? type : "") {
      case "ping":
        return [send("ping", { type: "ping" })];
      case "message_start":
        return this.#begin(event);
      case "content_block_start":
        return this.#open(event);
      case "content_block_delta":
        return this.#add(event);
      case "content_block_stop":
        return this.#close(event);
      case "message_delta":
        return this.#finish(event);
      case "message_stop":
        if (this.#message === undefined) throw new SseError("the message stops before it starts");
        this.#stopped = true;
        return [send("message_stop", { type: "message_stop" })];
      default:
        // An event that is not known is not passed on: nothing of a call can hide in it.
        return [];
    }
  }

  end(): boolean {
    return this.#stopped;
  }
  get usage(): JsonValue | undefined {
    return this.#usage;
  }

  answer(): JsonObject {
    const content = [...this.#blocks.entries()]
      .sort(([a], [b]) => a - b)
      .map(([, b]): JsonValue => {
        if (b.type === "tool_use") return { ...b.start, input: valueOf(b.text) };
        if (b.type === "text") return { ...b.start, text: b.text };
        if (b.type === "thinking") return { ...b.start, thinking: b.text, signature: b.signature };
        return b.start;
      });
    return { ...this.#message, ...this.#delta, content, usage: this.#usage ?? null };
  }

  #begin(event: JsonObject): Step[] {
    const { message } = event;
    if (!isObject(message) || this.#message !== undefined)
      throw new SseError("the message does not start once");
    this.#message = pick(message, MESSAGE_MEMBERS);
    if (isObject(message["usage"])) this.#usage = { ...message["usage"] };
    return [send("message_start", { type: "message_start", message: { ...this.#message, content: [] } })];
  }

  #open(event: JsonObject): Step[] {
    const index = indexOf(event);
    const { content_block: start } = event;
    if (this.#message === undefined || !isObject(start) || this.#blocks.has(index))
      throw new SseError("a content block does not start once");
    const type = typeof start["type"] === "string" ? start["type"] : "";
    const block: Block = {
      type,
      shown: undefined,
      start,
      text: initial(start, type),
      signature: "",
      stopped: false,
    };
    this.#blocks.set(index, block);
    const shown = shownBlock(start);
    if (shown === undefined) return [];
    block.shown = this.#next++;
    return [
      send("content_block_start", {
        type: "content_block_start",
        index: block.shown,
        content_block: shown,
      }),
    ];
  }

  #add(event: JsonObject): Step[] {
    const block = this.#openBlock(event);
    const { delta } = event;
    if (!isObject(delta)) throw new SseError("a delta of the stream is not an object");
    const { type } = delta;
    if (block.type === "tool_use") {
      if (type === "input_json_delta" && typeof delta["partial_json"] === "string")
        block.text += delta["partial_json"];
      if (block.text.length > LIMITS.args.bytes)
        throw new SseError("the arguments of a tool call are too large");
      return [];
    }
    const known = typeof type === "string" && Object.hasOwn(DELTAS, type) ? DELTAS[type] : undefined;
    if (known === undefined || known[0] !== block.type || block.shown === undefined) return [];
    const value = delta[known[1]];
    if (typeof value === "string") {
      if (type === "signature_delta") block.signature += value;
      else block.text += value;
    }
    const shown = pick(delta, new Set(["type", known[1]]));
    return [send("content_block_delta", { type: "content_block_delta", index: block.shown, delta: shown })];
  }

  #close(event: JsonObject): Step[] {
    const block = this.#openBlock(event);
    block.stopped = true;
    if (block.type !== "tool_use")
      return block.shown === undefined
        ? []
        : [send("content_block_stop", { type: "content_block_stop", index: block.shown })];
    const { id, name } = block.start;
    if (typeof id !== "string" || typeof name !== "string")
      throw new SseError("a tool call of the stream has no id or name");
    const call = { choice: 0, index: indexOf(event), id, name, argsText: block.text };
    return [{ kind: "rule", calls: [call], settle: (rulings) => this.#settle(block, id, name, rulings[0]) }];
  }

  #settle(block: Block, id: string, name: string, ruling: Ruling | undefined): Written[] {
    const index = this.#next++;
    block.shown = index;
    this.#ruled++;
    const text = replaced(ruling);
    const released = text === undefined && ruling?.state === "released";
    if (released) this.#kept++;
    const start = released ? { type: "tool_use", id, name, input: {} } : { type: "text", text: "" };
    const delta = released
      ? { type: "input_json_delta", partial_json: ruling.argsText }
      : { type: "text_delta", text: text ?? "" };
    return [
      written("content_block_start", { type: "content_block_start", index, content_block: start }),
      written("content_block_delta", { type: "content_block_delta", index, delta }),
      written("content_block_stop", { type: "content_block_stop", index }),
    ];
  }

  #finish(event: JsonObject): Step[] {
    if ([...this.#blocks.values()].some((b) => b.type === "tool_use" && !b.stopped))
      throw new SseError("the message ends within a tool call");
    const { delta, usage } = event;
    if (isObject(usage)) this.#usage = { ...this.#usage, ...usage };
    const told = pick(
      isObject(delta) ? delta : {},
      new Set(["stop_reason", "stop_sequence", "stop_details"]),
    );
    this.#delta = { ...this.#delta, ...told };
    const shown =
      this.#ruled > 0 && this.#kept === 0 && told["stop_reason"] === "tool_use"
        ? { ...told, stop_reason: "end_turn" }
        : told;
    return [
      send("message_delta", {
        type: "message_delta",
        delta: shown,
        ...(isObject(usage) ? { usage } : {}),
      }),
    ];
  }

  #openBlock(event: JsonObject): Block {
    const block = this.#blocks.get(indexOf(event));
    if (block === undefined || block.stopped)
      throw new SseError("an event of the stream is for a content block that is not open");
    return block;
  }
}

function initial(start: JsonObject, type: string): string {
  if (type === "tool_use") {
    // Usually {} and filled by deltas; what is there already counts as the arguments.
    const { input } = start;
    return isObject(input) && Object.keys(input).length > 0 ? canonicalize(input) : "";
  }
  const value = start[type];
  return typeof value === "string" ? value : "";
}
/** The arguments as the value they spell; as text when they spell none. */
function valueOf(text: string): JsonValue {
  try {
    return parseJson(new TextEncoder().encode(text === "" ? "{}" : text), LIMITS.args);
  } catch {
    return text;
  }
}
function indexOf(event: JsonObject): number {
  const { index } = event;
  if (typeof index !== "number" || !Number.isSafeInteger(index) || index < 0 || index > 4095)
    throw new SseError("a content block of the stream has no index");
  return index;
}
const written = (event: string, data: JsonObject): Written => ({ event, data });
const send = (event: string, data: JsonObject): Step => ({ kind: "send", chunk: written(event, data) });
