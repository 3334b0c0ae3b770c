// A chat completion that arrived whole: its tool calls, and the answer with the rulings applied.

import { isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import { objectOf, listOf, textOf } from "./request.ts";
import { UNJUDGED } from "./asked.ts";
import type { Proposed, Ruling } from "./proposal.ts";

const CHOICE_MEMBERS: ReadonlySet<string> = new Set(["index", "finish_reason", "logprobs"]);
const MESSAGE_MEMBERS: ReadonlySet<string> = new Set([
  "role",
  "content",
  "refusal",
  "annotations",
  "audio",
  "reasoning",
  "reasoning_content",
]);
const ANSWER_MEMBERS: ReadonlySet<string> = new Set([
  "id",
  "object",
  "created",
  "model",
  "service_tier",
  "system_fingerprint",
  "usage",
]);

/** Only members that are known: nothing of a call can hide in a member that nobody looks at. */
export function pick(o: JsonObject, members: ReadonlySet<string>): Record<string, JsonValue> {
  const out: Record<string, JsonValue> = {};
  for (const [k, v] of Object.entries(o)) if (members.has(k)) out[k] = v;
  return out;
}

function callOf(v: JsonValue, choice: number, index: number, path: string): Proposed {
  const call = objectOf(v, path);
  const f = objectOf(call["function"], `${path}.function`);
  return {
    choice,
    index,
    id: textOf(call["id"], `${path}.id`),
    name: textOf(f["name"], `${path}.function.name`),
    argsText: textOf(f["arguments"], `${path}.function.arguments`),
  };
}

export function chatProposals(answer: JsonObject): Proposed[] {
  const out: Proposed[] = [];
  listOf(answer["choices"], "choices").forEach((c, i) => {
    const message = objectOf(objectOf(c, `choices[${i}]`)["message"], `choices[${i}].message`);
    const path = `choices[${i}].message`;
    const calls = message["tool_calls"];
    if (calls !== undefined && calls !== null)
      listOf(calls, `${path}.tool_calls`).forEach((v, k) =>
        out.push(callOf(v, i, k, `${path}.tool_calls[${k}]`)),
      );
    const legacy = message["function_call"];
    if (isObject(legacy))
      out.push({
        choice: i,
        index: -1,
        id: "",
        name: textOf(legacy["name"], `${path}.function_call.name`),
        argsText: textOf(legacy["arguments"], `${path}.function_call.arguments`),
      });
  });
  return out;
}

/** The answer that the agent may see; `rulings` are in the order of `chatProposals`. */
export function ruledChat(
  answer: JsonObject,
  calls: readonly Proposed[],
  rulings: readonly Ruling[],
): Record<string, JsonValue> {
  const choices = listOf(answer["choices"], "choices").map((c, i): JsonValue => {
    const choice = objectOf(c, `choices[${i}]`);
    const message = objectOf(choice["message"], `choices[${i}].message`);
    const out = pick(message, MESSAGE_MEMBERS);
    const kept: JsonValue[] = [];
    const said: string[] =
      typeof message["content"] === "string" && message["content"] !== "" ? [message["content"]] : [];
    let replaced = false;
    let any = false;
    calls.forEach((call, k) => {
      if (call.choice !== i) return;
      any = true;
      const ruling = rulings[k];
      if (ruling === undefined || ruling.state === "replaced") {
        replaced = true;
        said.push(ruling?.text ?? UNJUDGED);
      } else if (call.index < 0) out["function_call"] = { name: call.name, arguments: ruling.argsText };
      else
        kept.push({
          id: call.id,
          type: "function",
          function: { name: call.name, arguments: ruling.argsText },
        });
    });
    if (kept.length > 0) out["tool_calls"] = kept;
    if (replaced) out["content"] = said.join("\n\n");
    const outer = pick(choice, CHOICE_MEMBERS);
    if (any) outer["logprobs"] = null;
    if (replaced && kept.length === 0 && out["function_call"] === undefined) outer["finish_reason"] = "stop";
    return { ...outer, index: i, message: out };
  });
  return { ...pick(answer, ANSWER_MEMBERS), choices };
}

export interface TokenUsage {
  readonly tokensIn: number;
  readonly tokensOut: number;
}

/** The usage of any of the formats; undefined when the upstream told none. */
export function usageOf(usage: JsonValue | undefined): TokenUsage | undefined {
  if (!isObject(usage)) return undefined;
  const number = (...keys: string[]): number | undefined => {
    for (const k of keys) {
      const v = usage[k];
      if (typeof v === "number" && Number.isSafeInteger(v) && v >= 0) return v;
    }
    return undefined;
  };
  const tokensIn = number("prompt_tokens", "input_tokens");
  const tokensOut = number("completion_tokens", "output_tokens") ?? 0;
  if (tokensIn === undefined) return undefined;
  const cached = (number("cache_creation_input_tokens") ?? 0) + (number("cache_read_input_tokens") ?? 0);
  return { tokensIn: tokensIn + cached, tokensOut };
}
