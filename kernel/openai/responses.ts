// OpenAI's responses: the request, the whole answer with its tool calls, and the answer with the rulings applied.

import { ContractError, isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import { pick } from "./answer.ts";
import { replaced, textsIn } from "./asked.ts";
import type { Asked } from "./asked.ts";
import type { Proposed, Ruling } from "./proposal.ts";
import { countOf, flagOf, listOf, objectOf, onlyMembers, remoteUrls, textOf } from "./request.ts";
import type { OfferedFunction, ProviderTool, ToolResult } from "./request.ts";

// Left out on purpose, and so refused by name: `background`, `conversation` and `prompt`, which hold turns and tools at the
// provider that nobody here has seen.
const MEMBERS: ReadonlySet<string> = new Set([
  "model",
  "input",
  "include",
  "instructions",
  "max_output_tokens",
  "max_tool_calls",
  "metadata",
  "parallel_tool_calls",
  "previous_response_id",
  "prompt_cache_key",
  "prompt_cache_options",
  "prompt_cache_retention",
  "reasoning",
  "safety_identifier",
  "service_tier",
  "store",
  "stream",
  "stream_options",
  "temperature",
  "text",
  "tool_choice",
  "tools",
  "top_logprobs",
  "top_p",
  "truncation",
  "user",
]);
const ITEMS: ReadonlySet<string> = new Set([
  "message",
  "function_call",
  "function_call_output",
  "reasoning",
  "item_reference",
  "compaction",
]);
const ROLES: ReadonlySet<string> = new Set(["user", "assistant", "system", "developer"]);

export function parseResponses(value: JsonValue): Asked {
  const body = objectOf(value, "");
  onlyMembers(body, MEMBERS);
  const results: ToolResult[] = [];
  const urls: string[] = [];
  const texts: string[] = [];
  if (typeof body["instructions"] === "string") texts.push(body["instructions"]);
  const { input } = body;
  if (typeof input === "string") texts.push(input);
  else if (input !== undefined && input !== null)
    listOf(input, "input").forEach((v, i) => {
      const path = `input[${i}]`;
      const item = objectOf(v, path);
      const type = item["type"] ?? "message";
      if (typeof type !== "string" || !ITEMS.has(type))
        throw new ContractError(`${path}.type`, "this item is not known and is not passed on");
      if (type === "function_call_output") {
        results.push({
          callId: textOf(item["call_id"], `${path}.call_id`),
          content: item["output"] ?? null,
          position: i,
        });
        textsIn(item["output"], texts);
        remoteUrls(item["output"] ?? null, urls);
      }
      if (type !== "message") return;
      const role = textOf(item["role"], `${path}.role`);
      if (!ROLES.has(role)) throw new ContractError(`${path}.role`, "this role is not known");
      if (role !== "assistant") textsIn(item["content"], texts);
      remoteUrls(item["content"] ?? null, urls);
    });
  const functions: OfferedFunction[] = [];
  const providerTools: ProviderTool[] = [];
  if (body["tools"] !== undefined && body["tools"] !== null)
    listOf(body["tools"], "tools").forEach((t, i) => {
      const path = `tools[${i}]`;
      const tool = objectOf(t, path);
      const type = textOf(tool["type"], `${path}.type`);
      if (type !== "function") {
        providerTools.push({ type, path });
        return;
      }
      onlyMembers(tool, new Set(["type", "name", "description", "parameters", "strict"]), path);
      functions.push({ name: textOf(tool["name"], `${path}.name`), position: i, legacy: false });
    });
  return {
    model: textOf(body["model"], "model"),
    stream: flagOf(body["stream"], "stream"),
    n: 1,
    functions,
    providerTools,
    results,
    remoteUrls: urls,
    texts,
    maxOutput: countOf(body["max_output_tokens"], "max_output_tokens"),
    dispatched(model, keep) {
      const kept = functions.filter(keep);
      const dropped = new Set(functions.filter((f) => !kept.includes(f)).map((f) => f.position));
      const out: Record<string, JsonValue> = { ...body, model };
      if (Array.isArray(body["tools"])) {
        const left = body["tools"].filter((_, i) => !dropped.has(i));
        if (left.length > 0) out["tools"] = left;
        else delete out["tools"];
      }
      const { tool_choice: choice } = out;
      if (out["tools"] === undefined) {
        delete out["tool_choice"];
        delete out["parallel_tool_calls"];
      } else if (isObject(choice)) {
        const named = Array.isArray(choice["tools"])
          ? choice["tools"].map((t: JsonValue) => (isObject(t) ? t["name"] : undefined))
          : [choice["name"]];
        // A choice that would force the model to a function which was taken out is itself taken out.
        if (named.some((n) => typeof n === "string" && !kept.some((f) => f.name === n)))
          delete out["tool_choice"];
      }
      return out;
    },
  };
}

export const RESPONSE_MEMBERS: ReadonlySet<string> = new Set([
  "id",
  "object",
  "created_at",
  "completed_at",
  "status",
  "background",
  "error",
  "incomplete_details",
  "instructions",
  "max_output_tokens",
  "max_tool_calls",
  "metadata",
  "model",
  "parallel_tool_calls",
  "previous_response_id",
  "prompt_cache_key",
  "prompt_cache_retention",
  "reasoning",
  "safety_identifier",
  "service_tier",
  "store",
  "temperature",
  "text",
  "tool_choice",
  "tools",
  "top_logprobs",
  "top_p",
  "truncation",
  "usage",
  "user",
]);
const SHOWN: Readonly<Record<string, ReadonlySet<string>>> = {
  message: new Set(["type", "id", "role", "status", "content", "phase"]),
  reasoning: new Set(["type", "id", "status", "summary", "content", "encrypted_content"]),
  compaction: new Set(["type", "id", "encrypted_content"]),
};
/** An item that the agent may see without a ruling; undefined for every other one. */
export function shownItem(item: JsonObject): JsonObject | undefined {
  const { type } = item;
  const members = typeof type === "string" && Object.hasOwn(SHOWN, type) ? SHOWN[type] : undefined;
  return members === undefined ? undefined : pick(item, members);
}

/** A function call of the model; undefined for any other item. */
export function callIn(item: JsonObject, index: number, path: string): Proposed | undefined {
  if (item["type"] !== "function_call") return undefined;
  return {
    choice: 0,
    index,
    id: textOf(item["call_id"], `${path}.call_id`),
    name: textOf(item["name"], `${path}.name`),
    argsText: textOf(item["arguments"], `${path}.arguments`),
  };
}

export function responseProposals(answer: JsonObject): Proposed[] {
  return listOf(answer["output"], "output").flatMap((v, i) => {
    const call = callIn(objectOf(v, `output[${i}]`), i, `output[${i}]`);
    return call === undefined ? [] : [call];
  });
}

/** What stands in the output where the model proposed a call. */
export function ruledItem(item: JsonObject, call: Proposed, ruling: Ruling | undefined): JsonObject {
  const text = replaced(ruling);
  const id = typeof item["id"] === "string" ? item["id"] : `fc_${call.index}`;
  if (text === undefined && ruling?.state === "released")
    return {
      type: "function_call",
      id,
      call_id: call.id,
      name: call.name,
      arguments: ruling.argsText,
      status: "completed",
    };
  const part: JsonObject = { type: "output_text", text: text ?? "", annotations: [], logprobs: [] };
  return { type: "message", id: `msg_${id}`, role: "assistant", status: "completed", content: [part] };
}

export function ruledResponse(
  answer: JsonObject,
  calls: readonly Proposed[],
  rulings: readonly Ruling[],
): Record<string, JsonValue> {
  const output = listOf(answer["output"], "output").flatMap((v, i): JsonValue[] => {
    const item = objectOf(v, `output[${i}]`);
    const at = calls.findIndex((c) => c.index === i);
    const call = calls[at];
    if (call !== undefined) return [ruledItem(item, call, rulings[at])];
    const shown = shownItem(item);
    return shown === undefined ? [] : [shown];
  });
  return { ...pick(answer, RESPONSE_MEMBERS), output };
}
