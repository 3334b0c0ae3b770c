// Anthropic's messages: the request, the whole answer with its tool calls, and the answer with the rulings applied.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import { ContractError, LIMITS, isObject, parseJson } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import { pick } from "./answer.ts";
import { replaced, textsIn } from "./asked.ts";
import type { Asked } from "./asked.ts";
import type { Proposed, Ruling } from "./proposal.ts";
import { countOf, flagOf, listOf, objectOf, onlyMembers, remoteUrls, textOf } from "./request.ts";
import type { OfferedFunction, ProviderTool, ToolResult } from "./request.ts";

const MEMBERS: ReadonlySet<string> = new Set([
  "model",
  "messages",
  "max_tokens",
  "cache_control",
  "metadata",
  "output_config",
  "service_tier",
  "stop_sequences",
  "stream",
  "system",
  "temperature",
  "thinking",
  "tool_choice",
  "tools",
  "top_k",
  "top_p",
]);
const TOOL_MEMBERS: ReadonlySet<string> = new Set([
  "type",
  "name",
  "description",
  "input_schema",
  "cache_control",
  "strict",
  "eager_input_streaming",
  "input_examples",
]);
const BLOCKS: ReadonlySet<string> = new Set([
  "text",
  "image",
  "document",
  "search_result",
  "thinking",
  "redacted_thinking",
  "tool_use",
  "tool_result",
]);

export function parseMessages(value: JsonValue): Asked {
  const body = objectOf(value, "");
  onlyMembers(body, MEMBERS);
  const results: ToolResult[] = [];
  const urls: string[] = [];
  const texts: string[] = [];
  if (body["system"] !== undefined) textsIn(body["system"], texts);
  listOf(body["messages"], "messages").forEach((m, i) => {
    const message = objectOf(m, `messages[${i}]`);
    onlyMembers(message, new Set(["role", "content"]), `messages[${i}]`);
    const role = textOf(message["role"], `messages[${i}].role`);
    if (role !== "user" && role !== "assistant" && role !== "system")
      throw new ContractError(`messages[${i}].role`, "this role is not known");
    const { content } = message;
    if (role !== "assistant") textsIn(content, texts);
    if (typeof content === "string") return;
    listOf(content, `messages[${i}].content`).forEach((b, k) => {
      const path = `messages[${i}].content[${k}]`;
      const block = objectOf(b, path);
      if (!BLOCKS.has(textOf(block["type"], `${path}.type`)))
        throw new ContractError(`${path}.type`, "this block is not known and is not passed on");
      remoteUrls(block, urls);
      if (block["type"] === "tool_result")
        results.push({
          callId: textOf(block["tool_use_id"], `${path}.tool_use_id`),
          content: block["content"] ?? null,
          position: i,
          ...(flagOf(block["is_error"], `${path}.is_error`) ? { failed: true } : {}),
        });
    });
  });
  const functions: OfferedFunction[] = [];
  const providerTools: ProviderTool[] = [];
  if (body["tools"] !== undefined)
    listOf(body["tools"], "tools").forEach((t, i) => {
      const path = `tools[${i}]`;
      const tool = objectOf(t, path);
      const type = tool["type"] ?? "custom";
      if (type !== "custom") {
        providerTools.push({ type: textOf(type, `${path}.type`), path });
        return;
      }
      onlyMembers(tool, TOOL_MEMBERS, path);
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
    maxOutput: countOf(body["max_tokens"], "max_tokens"),
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
      const forced = isObject(choice) && typeof choice["name"] === "string" ? choice["name"] : undefined;
      if (out["tools"] === undefined || (forced !== undefined && !kept.some((f) => f.name === forced)))
        delete out["tool_choice"];
      return out;
    },
  };
}

export const MESSAGE_MEMBERS: ReadonlySet<string> = new Set([
  "id",
  "type",
  "role",
  "model",
  "stop_reason",
  "stop_sequence",
  "stop_details",
  "usage",
]);
const SHOWN: Readonly<Record<string, ReadonlySet<string>>> = {
  text: new Set(["type", "text", "citations"]),
  thinking: new Set(["type", "thinking", "signature"]),
  redacted_thinking: new Set(["type", "data"]),
};
/** A block that the agent may see without a ruling; undefined for every other one. */
export function shownBlock(block: JsonObject): JsonObject | undefined {
  const { type } = block;
  const members = typeof type === "string" && Object.hasOwn(SHOWN, type) ? SHOWN[type] : undefined;
  return members === undefined ? undefined : pick(block, members);
}

export function messageProposals(answer: JsonObject): Proposed[] {
  const out: Proposed[] = [];
  listOf(answer["content"], "content").forEach((b, i) => {
    const block = objectOf(b, `content[${i}]`);
    if (block["type"] !== "tool_use") return;
    out.push({
      choice: 0,
      index: i,
      id: textOf(block["id"], `content[${i}].id`),
      name: textOf(block["name"], `content[${i}].name`),
      argsText: canonicalize(block["input"] ?? {}),
    });
  });
  return out;
}

/** The canonical arguments as the value that this format carries. */
export function inputOf(argsText: string): JsonObject {
  const value = parseJson(new TextEncoder().encode(argsText), LIMITS.args);
  return isObject(value) ? value : {};
}

export function ruledMessage(
  answer: JsonObject,
  calls: readonly Proposed[],
  rulings: readonly Ruling[],
): Record<string, JsonValue> {
  const out = pick(answer, MESSAGE_MEMBERS);
  const content: JsonValue[] = [];
  let kept = 0;
  listOf(answer["content"], "content").forEach((b, i) => {
    const block = objectOf(b, `content[${i}]`);
    const shown = shownBlock(block);
    if (shown !== undefined) return void content.push(shown);
    const at = calls.findIndex((c) => c.index === i);
    const call = calls[at];
    if (call === undefined) return;
    const ruling = rulings[at];
    const text = replaced(ruling);
    if (text !== undefined || ruling?.state !== "released") {
      content.push({ type: "text", text: text ?? "" });
      return;
    }
    kept++;
    content.push({ type: "tool_use", id: call.id, name: call.name, input: inputOf(ruling.argsText) });
  });
  if (calls.length > 0 && kept === 0 && out["stop_reason"] === "tool_use") out["stop_reason"] = "end_turn";
  return { ...out, content };
}
