// A streamed response: text and reasoning flow at once, a function call is held until its item is complete and ruled.

import { LIMITS, isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import { pick } from "./answer.ts";
import type { AnswerStream, Step, Written } from "./asked.ts";
import type { Proposed, Ruling } from "./proposal.ts";
import { RESPONSE_MEMBERS, callIn, ruledItem, shownItem } from "./responses.ts";
import { SseError } from "./sse.ts";

interface Item {
  /** Its place in what the client sees; undefined while it is held or when it is not shown. */
  shown: number | undefined;
  /** A function call is measured while it is held. */
  held: number;
  done: JsonObject | undefined;
}

/** Events within an item that is shown, with the members that the client gets. */
const WITHIN: Readonly<Record<string, readonly string[]>> = {
  "response.content_part.added": ["content_index", "part"],
  "response.content_part.done": ["content_index", "part"],
  "response.output_text.delta": ["content_index", "delta", "logprobs", "obfuscation"],
  "response.output_text.done": ["content_index", "text", "logprobs"],
  "response.output_text.annotation.added": ["content_index", "annotation_index", "annotation"],
  "response.refusal.delta": ["content_index", "delta"],
  "response.refusal.done": ["content_index", "refusal"],
  "response.reasoning_summary_part.added": ["summary_index", "part"],
  "response.reasoning_summary_part.done": ["summary_index", "part"],
  "response.reasoning_summary_text.delta": ["summary_index", "delta", "obfuscation"],
  "response.reasoning_summary_text.done": ["summary_index", "text"],
  "response.reasoning_text.delta": ["content_index", "delta", "obfuscation"],
  "response.reasoning_text.done": ["content_index", "text"],
};
const OPENS: ReadonlySet<string> = new Set(["response.created", "response.queued", "response.in_progress"]);

export class ResponseStream implements AnswerStream {
  readonly #items = new Map<number, Item>();
  readonly #output: JsonObject[] = [];
  #next = 0;
  #number = 0;
  #answer: JsonObject | undefined;
  #usage: JsonValue | undefined;

  feed(event: JsonObject): Step[] {
    if (this.#answer !== undefined) throw new SseError("an event follows the end of the response");
    const { type } = event;
    if (typeof type !== "string") throw new SseError("an event of the stream has no type");
    if (OPENS.has(type)) {
      const response = isObject(event["response"]) ? event["response"] : {};
      return [this.#send(type, { response: { ...pick(response, RESPONSE_MEMBERS), output: [] } })];
    }
    switch (type) {
      case "response.output_item.added":
        return this.#open(event);
      case "response.output_item.done":
        return this.#close(event);
      case "response.function_call_arguments.delta": {
        const item = this.#itemOf(event);
        item.held += typeof event["delta"] === "string" ? event["delta"].length : 0;
        if (item.held > LIMITS.args.bytes) throw new SseError("the arguments of a tool call are too large");
        return [];
      }
      case "response.completed":
      case "response.incomplete":
        return this.#finish(type, event);
      case "response.failed":
        throw new SseError("the upstream reported a failed response in its stream");
      default: {
        const members = Object.hasOwn(WITHIN, type) ? WITHIN[type] : undefined;
        // An event that is not known is not passed on: nothing of a call can hide in it.
        if (members === undefined) return [];
        const { shown } = this.#itemOf(event);
        if (shown === undefined) return [];
        const data = pick(event, new Set(["item_id", ...members]));
        return [this.#send(type, { ...data, output_index: shown })];
      }
    }
  }

  end(): boolean {
    return this.#answer !== undefined;
  }
  get usage(): JsonValue | undefined {
    return this.#usage;
  }
  answer(): JsonObject {
    const output = [...this.#items.entries()]
      .sort(([a], [b]) => a - b)
      .flatMap(([, i]) => (i.done === undefined ? [] : [i.done]));
    return this.#answer ?? { output };
  }

  #open(event: JsonObject): Step[] {
    const at = indexOf(event);
    const { item } = event;
    if (!isObject(item) || this.#items.has(at)) throw new SseError("an item does not start once");
    const shown = shownItem(item);
    const entry: Item = { shown: undefined, held: 0, done: undefined };
    this.#items.set(at, entry);
    if (shown === undefined) return [];
    entry.shown = this.#next++;
    return [this.#send("response.output_item.added", { output_index: entry.shown, item: shown })];
  }

  #close(event: JsonObject): Step[] {
    const entry = this.#itemOf(event);
    const { item } = event;
    if (!isObject(item) || entry.done !== undefined) throw new SseError("an item does not end once");
    entry.done = item;
    const call = callIn(item, indexOf(event), "item");
    if (call !== undefined) {
      if (entry.shown !== undefined) throw new SseError("an item of the stream turned into a tool call");
      return [this.#rule(entry, item, call)];
    }
    const shown = shownItem(item);
    if (shown === undefined || entry.shown === undefined) return [];
    this.#output[entry.shown] = shown;
    return [this.#send("response.output_item.done", { output_index: entry.shown, item: shown })];
  }

  #rule(entry: Item, item: JsonObject, call: Proposed): Step {
    return {
      kind: "rule",
      calls: [call],
      settle: ([ruling]) => this.#settle(entry, item, call, ruling),
    };
  }

  #settle(entry: Item, item: JsonObject, call: Proposed, ruling: Ruling | undefined): Written[] {
    const at = this.#next++;
    entry.shown = at;
    const out = ruledItem(item, call, ruling);
    this.#output[at] = out;
    const within = { item_id: out["id"] ?? "", output_index: at };
    const send = (type: string, data: JsonObject): Written => this.#written(type, data);
    if (out["type"] === "function_call") {
      const args = out["arguments"] ?? "";
      return [
        send("response.output_item.added", {
          output_index: at,
          item: { ...out, arguments: "", status: "in_progress" },
        }),
        send("response.function_call_arguments.delta", { ...within, delta: args }),
        send("response.function_call_arguments.done", { ...within, name: call.name, arguments: args }),
        send("response.output_item.done", { output_index: at, item: out }),
      ];
    }
    const [part] = Array.isArray(out["content"]) ? out["content"] : [];
    const text = isObject(part) ? (part["text"] ?? "") : "";
    const place = { ...within, content_index: 0 };
    const empty = { type: "output_text", text: "", annotations: [], logprobs: [] };
    return [
      send("response.output_item.added", {
        output_index: at,
        item: { ...out, status: "in_progress", content: [] },
      }),
      send("response.content_part.added", { ...place, part: empty }),
      send("response.output_text.delta", { ...place, delta: text, logprobs: [] }),
      send("response.output_text.done", { ...place, text, logprobs: [] }),
      send("response.content_part.done", { ...place, part: part ?? empty }),
      send("response.output_item.done", { output_index: at, item: out }),
    ];
  }

  #finish(type: string, event: JsonObject): Step[] {
    const { response } = event;
    if (!isObject(response)) throw new SseError("the end of the response has no response");
    const list = Array.isArray(response["output"]) ? response["output"] : [];
    const steps: Step[] = [];
    // What only the end tells of is judged like all else before the end is shown.
    list.forEach((item: JsonValue, at) => {
      if (!isObject(item) || this.#items.get(at)?.done !== undefined) return;
      if (!this.#items.has(at)) steps.push(...this.#open({ output_index: at, item }));
      steps.push(...this.#close({ output_index: at, item }));
    });
    this.#answer = response;
    this.#usage = response["usage"];
    steps.push({
      kind: "rule",
      calls: [],
      settle: () => {
        const output = this.#output.filter(isObject);
        return [this.#written(type, { response: { ...pick(response, RESPONSE_MEMBERS), output } })];
      },
    });
    return steps;
  }

  #itemOf(event: JsonObject): Item {
    const item = this.#items.get(indexOf(event));
    if (item === undefined) throw new SseError("an event of the stream is for an item that is not open");
    return item;
  }
  #written(type: string, data: JsonObject): Written {
    return { event: type, data: { type, sequence_number: this.#number++, ...data } };
  }
  #send(type: string, data: JsonObject): Step {
    return { kind: "send", chunk: this.#written(type, data) };
  }
}

function indexOf(event: JsonObject): number {
  const { output_index: index } = event;
  if (typeof index !== "number" || !Number.isSafeInteger(index) || index < 0 || index > 4095)
    throw new SseError("an item of the stream has no index");
  return index;
}
