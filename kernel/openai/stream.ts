// A streamed chat completion: text flows at once, tool calls are held per choice and index until they are ruled.

import { LIMITS, isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import { pick } from "./answer.ts";
import { UNJUDGED } from "./asked.ts";
import type { Step } from "./asked.ts";
import { SseError } from "./sse.ts";
import type { Proposed, Ruling } from "./proposal.ts";

interface Held {
  readonly index: number;
  id: string;
  name: string;
  args: string;
}
interface Choice {
  readonly calls: Map<number, Held>;
  legacy: Held | undefined;
  content: string;
  refusal: string;
  finish: string | undefined;
}

const CHUNK_MEMBERS: ReadonlySet<string> = new Set([
  "id",
  "object",
  "created",
  "model",
  "service_tier",
  "system_fingerprint",
  "usage",
]);
const DELTA_MEMBERS: ReadonlySet<string> = new Set([
  "role",
  "content",
  "refusal",
  "audio",
  "annotations",
  "reasoning",
  "reasoning_content",
]);

export class ChatStream {
  readonly #choices = new Map<number, Choice>();
  #base: Record<string, JsonValue> = {};
  #usage: JsonValue | undefined;
  #held = 0;

  feed(chunk: JsonObject): Step<JsonObject>[] {
    const base = pick(chunk, CHUNK_MEMBERS);
    const usage = base["usage"];
    if (isObject(usage)) this.#usage = usage;
    delete base["usage"];
    this.#base = { ...this.#base, ...base };
    const steps: Step<JsonObject>[] = [];
    const list = chunk["choices"];
    if (!Array.isArray(list)) throw new SseError("a chunk of the stream has no `choices`");
    if (list.length === 0) {
      steps.push({ kind: "send", chunk: { ...pick(chunk, CHUNK_MEMBERS), choices: [] } });
      return steps;
    }
    let usageLeft: JsonValue | undefined = usage;
    for (const entry of list) {
      if (!isObject(entry)) throw new SseError("a choice of the stream is not an object");
      this.#one(entry, { ...base, ...(usageLeft === undefined ? {} : { usage: usageLeft }) }, steps);
      usageLeft = undefined;
    }
    return steps;
  }

  /** The stream ended. True when every choice was finished, so that nothing held is lost. */
  end(): boolean {
    return this.#choices.size > 0 && [...this.#choices.values()].every((c) => c.finish !== undefined);
  }

  get usage(): JsonValue | undefined {
    return this.#usage;
  }

  /** The answer as if it had not been streamed and nothing had been replaced. */
  answer(): JsonObject {
    const choices = [...this.#choices.entries()]
      .sort(([a], [b]) => a - b)
      .map(([index, c]): JsonValue => {
        const message: Record<string, JsonValue> = {
          role: "assistant",
          content: c.content === "" ? null : c.content,
        };
        if (c.refusal !== "") message["refusal"] = c.refusal;
        const calls = [...c.calls.values()].sort((a, b) => a.index - b.index);
        if (calls.length > 0)
          message["tool_calls"] = calls.map((h) => ({
            id: h.id,
            type: "function",
            function: { name: h.name, arguments: h.args },
          }));
        if (c.legacy !== undefined)
          message["function_call"] = { name: c.legacy.name, arguments: c.legacy.args };
        return { index, message, finish_reason: c.finish ?? null };
      });
    return {
      ...this.#base,
      object: "chat.completion",
      choices,
      ...(this.#usage === undefined ? {} : { usage: this.#usage }),
    };
  }

  #one(entry: JsonObject, base: Record<string, JsonValue>, steps: Step<JsonObject>[]): void {
    const index = entry["index"];
    if (typeof index !== "number" || !Number.isSafeInteger(index) || index < 0 || index > 127)
      throw new SseError("a choice of the stream has no index");
    const choice = this.#choiceAt(index);
    const delta = isObject(entry["delta"]) ? entry["delta"] : {};
    const shown = pick(delta, DELTA_MEMBERS);
    if (typeof shown["content"] === "string") choice.content += shown["content"];
    if (typeof shown["refusal"] === "string") choice.refusal += shown["refusal"];
    const before = this.#held;
    this.#hold(choice, delta);
    const carried = this.#held !== before;
    const finish = entry["finish_reason"];
    const finished = typeof finish === "string";
    const head = { ...base };
    const logprobs = !carried && entry["logprobs"] !== undefined ? { logprobs: entry["logprobs"] } : {};
    if (!finished) {
      if (Object.keys(shown).length === 0 && base["usage"] === undefined && carried) return;
      steps.push({
        kind: "send",
        chunk: { ...head, choices: [{ index, delta: shown, ...logprobs, finish_reason: null }] },
      });
      return;
    }
    if (choice.finish !== undefined) throw new SseError("a choice of the stream is finished twice");
    choice.finish = finish;
    const calls = this.#proposals(index, choice);
    if (calls.length === 0) {
      steps.push({
        kind: "send",
        chunk: { ...head, choices: [{ index, delta: shown, ...logprobs, finish_reason: finish }] },
      });
      return;
    }
    if (Object.keys(shown).length > 0)
      steps.push({
        kind: "send",
        chunk: { ...pick(head, NO_USAGE), choices: [{ index, delta: shown, finish_reason: null }] },
      });
    steps.push({
      kind: "rule",
      calls,
      settle: (rulings) => settle(index, choice, calls, rulings, head, finish),
    });
  }

  #choiceAt(index: number): Choice {
    let choice = this.#choices.get(index);
    if (choice === undefined) {
      choice = { calls: new Map(), legacy: undefined, content: "", refusal: "", finish: undefined };
      this.#choices.set(index, choice);
    }
    return choice;
  }

  #hold(choice: Choice, delta: JsonObject): void {
    const calls = delta["tool_calls"];
    const legacy = delta["function_call"];
    if ((Array.isArray(calls) && calls.length > 0) || isObject(legacy)) {
      if (choice.finish !== undefined) throw new SseError("a tool call follows the finish of its choice");
    }
    if (Array.isArray(calls))
      for (const piece of calls) {
        if (!isObject(piece)) throw new SseError("a tool call of the stream is not an object");
        const at = piece["index"] ?? 0;
        if (typeof at !== "number" || !Number.isSafeInteger(at) || at < 0 || at > 1023)
          throw new SseError("a tool call of the stream has no index");
        let held = choice.calls.get(at);
        if (held === undefined) choice.calls.set(at, (held = { index: at, id: "", name: "", args: "" }));
        if (typeof piece["id"] === "string" && held.id === "") held.id = piece["id"];
        this.#fill(held, piece["function"]);
      }
    if (isObject(legacy)) {
      choice.legacy ??= { index: -1, id: "", name: "", args: "" };
      this.#fill(choice.legacy, legacy);
    }
  }

  #fill(held: Held, piece: JsonValue | undefined): void {
    this.#held++;
    if (!isObject(piece)) return;
    if (typeof piece["name"] === "string") held.name += piece["name"];
    if (typeof piece["arguments"] === "string") held.args += piece["arguments"];
    if (held.args.length > LIMITS.args.bytes)
      throw new SseError("the arguments of a tool call are too large");
  }

  #proposals(index: number, choice: Choice): Proposed[] {
    const out: Proposed[] = [...choice.calls.values()]
      .sort((a, b) => a.index - b.index)
      .map((h) => ({ choice: index, index: h.index, id: h.id, name: h.name, argsText: h.args }));
    if (choice.legacy !== undefined)
      out.push({ choice: index, index: -1, id: "", name: choice.legacy.name, argsText: choice.legacy.args });
    return out;
  }
}

const NO_USAGE: ReadonlySet<string> = new Set([...CHUNK_MEMBERS].filter((m) => m !== "usage"));

function settle(
  index: number,
  choice: Choice,
  calls: readonly Proposed[],
  rulings: readonly Ruling[],
  head: JsonObject,
  finish: string,
): JsonObject[] {
  const out: JsonObject[] = [];
  const send = (delta: JsonObject): void =>
    void out.push({ ...pick(head, NO_USAGE), choices: [{ index, delta, finish_reason: null }] });
  let kept = 0;
  let said = choice.content !== "";
  calls.forEach((call, k) => {
    const ruling = rulings[k];
    if (ruling === undefined || ruling.state === "replaced") {
      const text = ruling?.text ?? UNJUDGED;
      send({ content: said ? `\n\n${text}` : text });
      said = true;
      return;
    }
    const f = { name: call.name, arguments: ruling.argsText };
    // Indexes are given anew, so that a client which fills a list by index finds no hole where a call was taken out.
    if (call.index < 0) send({ function_call: f });
    else send({ tool_calls: [{ index: kept, id: call.id, type: "function", function: f }] });
    kept++;
  });
  out.push({
    ...head,
    choices: [{ index, delta: {}, finish_reason: kept === 0 ? "stop" : finish }],
  });
  return out;
}
