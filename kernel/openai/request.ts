// What a chat completion request may say. Unknown members are refused by name: what is not understood is not passed on.

import { ContractError, isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";

const CHAT_MEMBERS: ReadonlySet<string> = new Set([
  "model",
  "messages",
  "audio",
  "frequency_penalty",
  "function_call",
  "functions",
  "logit_bias",
  "logprobs",
  "max_completion_tokens",
  "max_tokens",
  "metadata",
  "modalities",
  "n",
  "parallel_tool_calls",
  "prediction",
  "presence_penalty",
  "prompt_cache_key",
  "prompt_cache_retention",
  "reasoning_effort",
  "response_format",
  "safety_identifier",
  "seed",
  "service_tier",
  "stop",
  "store",
  "stream",
  "stream_options",
  "temperature",
  "tool_choice",
  "tools",
  "top_logprobs",
  "top_p",
  "user",
  "verbosity",
  "web_search_options",
]);
const ROLES: ReadonlySet<string> = new Set(["developer", "system", "user", "assistant", "tool", "function"]);

/** A tool that the provider itself would run, as `<type>` of `tool:<connector>/<type>`. */
export interface ProviderTool {
  readonly type: string;
  readonly path: string;
}
/** What the agent says came of an earlier call. */
export interface ToolResult {
  readonly callId: string;
  readonly content: JsonValue;
  readonly position: number;
  /** The agent says that its tool failed. */
  readonly failed?: boolean;
}
/** A function that the request offers to the model. */
export interface OfferedFunction {
  readonly name: string;
  readonly position: number;
  readonly legacy: boolean;
}
export interface ChatRequest {
  readonly model: string;
  readonly stream: boolean;
  readonly n: number;
  readonly body: JsonObject;
  readonly messages: readonly JsonObject[];
  readonly functions: readonly OfferedFunction[];
  readonly providerTools: readonly ProviderTool[];
  readonly results: readonly ToolResult[];
  readonly remoteUrls: readonly string[];
  readonly texts: readonly string[];
  readonly maxOutput: number | undefined;
}

export function onlyMembers(body: JsonObject, known: ReadonlySet<string>, path = ""): void {
  for (const key of Object.keys(body))
    if (!known.has(key))
      throw new ContractError(join(path, key), "this member is not known and is not passed on");
}
const join = (path: string, key: string): string => (path === "" ? key : `${path}.${key}`);

export const textOf = (v: JsonValue | undefined, path: string): string => {
  if (typeof v === "string") return v;
  throw new ContractError(path, "expected a string");
};
export const listOf = (v: JsonValue | undefined, path: string): readonly JsonValue[] => {
  if (Array.isArray(v)) return v;
  throw new ContractError(path, "expected a list");
};
export const objectOf = (v: JsonValue | undefined, path: string): JsonObject => {
  if (isObject(v)) return v;
  throw new ContractError(path, "expected an object");
};
export function countOf(v: JsonValue | undefined, path: string): number | undefined {
  if (v === undefined || v === null) return undefined;
  if (typeof v === "number" && Number.isSafeInteger(v) && v >= 0) return v;
  throw new ContractError(path, "expected a whole number");
}
export function flagOf(v: JsonValue | undefined, path: string): boolean {
  if (v === undefined || v === null) return false;
  if (typeof v === "boolean") return v;
  throw new ContractError(path, "expected true or false");
}

export function parseChat(value: JsonValue): ChatRequest {
  const body = objectOf(value, "");
  onlyMembers(body, CHAT_MEMBERS);
  const n = countOf(body["n"], "n") ?? 1;
  if (n < 1 || n > 128) throw new ContractError("n", "expected 1 to 128");
  const messages = listOf(body["messages"], "messages").map((m, i) => objectOf(m, `messages[${i}]`));
  const found: Found = { results: [], urls: [], texts: [] };
  messages.forEach((m, i) => message(m, i, found));
  const functions: OfferedFunction[] = [];
  const providerTools: ProviderTool[] = [];
  if (body["web_search_options"] !== undefined)
    providerTools.push({ type: "web_search", path: "web_search_options" });
  if (body["tools"] !== undefined)
    listOf(body["tools"], "tools").forEach((t, i) => {
      const path = `tools[${i}]`;
      const tool = objectOf(t, path);
      const type = textOf(tool["type"], `${path}.type`);
      if (type !== "function") {
        providerTools.push({ type, path });
        return;
      }
      onlyMembers(tool, new Set(["type", "function"]), path);
      const f = objectOf(tool["function"], `${path}.function`);
      functions.push({ name: textOf(f["name"], `${path}.function.name`), position: i, legacy: false });
    });
  if (body["functions"] !== undefined)
    listOf(body["functions"], "functions").forEach((t, i) => {
      const f = objectOf(t, `functions[${i}]`);
      functions.push({ name: textOf(f["name"], `functions[${i}].name`), position: i, legacy: true });
    });
  return {
    model: textOf(body["model"], "model"),
    stream: flagOf(body["stream"], "stream"),
    n,
    body,
    messages,
    functions,
    providerTools,
    results: found.results,
    remoteUrls: found.urls,
    texts: found.texts,
    maxOutput:
      countOf(body["max_completion_tokens"], "max_completion_tokens") ??
      countOf(body["max_tokens"], "max_tokens"),
  };
}

interface Found {
  readonly results: ToolResult[];
  readonly urls: string[];
  readonly texts: string[];
}

function message(m: JsonObject, position: number, found: Found): void {
  const path = `messages[${position}]`;
  const role = textOf(m["role"], `${path}.role`);
  if (!ROLES.has(role)) throw new ContractError(`${path}.role`, "this role is not known");
  const content = m["content"];
  if (role === "tool") {
    found.results.push({
      callId: textOf(m["tool_call_id"], `${path}.tool_call_id`),
      content: content ?? null,
      position,
    });
  } else if (role === "function") {
    // The legacy form has no id: the result belongs to the call of that name which was released last.
    found.results.push({
      callId: `function:${textOf(m["name"], `${path}.name`)}`,
      content: content ?? null,
      position,
    });
  }
  if (typeof content === "string") return void (role === "assistant" || found.texts.push(content));
  if (content === undefined || content === null) return;
  listOf(content, `${path}.content`).forEach((p, i) => {
    const part = objectOf(p, `${path}.content[${i}]`);
    const text = part["text"];
    if (typeof text === "string" && role !== "assistant") found.texts.push(text);
    remoteUrls(part, found.urls);
  });
}

const REMOTE = /^(?:https?|ftp|wss?):\/\//i;
const URL_MEMBERS: ReadonlySet<string> = new Set([
  "url",
  "image_url",
  "file_url",
  "file_data",
  "data",
  "audio_url",
  "video_url",
]);

/** Every address in a content part that the provider would fetch for us. */
export function remoteUrls(part: JsonValue, out: string[], depth = 0): void {
  if (depth > 8) return;
  if (Array.isArray(part)) {
    for (const p of part) remoteUrls(p, out, depth + 1);
    return;
  }
  if (!isObject(part)) return;
  for (const [key, v] of Object.entries(part)) {
    if (typeof v === "string" && URL_MEMBERS.has(key)) {
      if (REMOTE.test(v.trim())) out.push(v.trim());
    } else if (typeof v === "object") remoteUrls(v, out, depth + 1);
  }
}

/** The request as it is dispatched: the offered functions cut down to those that may be called. */
export function withFunctions(
  request: ChatRequest,
  model: string,
  keep: (f: OfferedFunction) => boolean,
): JsonObject {
  const kept = request.functions.filter(keep);
  const body: Record<string, JsonValue> = { ...request.body, model };
  if (request.stream)
    body["stream_options"] = {
      ...(isObject(body["stream_options"]) ? body["stream_options"] : {}),
      include_usage: true,
    };
  const cut = (member: "tools" | "functions", legacy: boolean): void => {
    const list = request.body[member];
    if (!Array.isArray(list)) return;
    const dropped = new Set(
      request.functions.filter((f) => f.legacy === legacy && !kept.includes(f)).map((f) => f.position),
    );
    const left = list.filter((_, i) => !dropped.has(i));
    if (left.length > 0) body[member] = left;
    else delete body[member];
  };
  cut("tools", false);
  cut("functions", true);
  const names = new Set(kept.map((f) => f.name));
  if (body["tools"] === undefined) {
    delete body["parallel_tool_calls"];
    delete body["tool_choice"];
  } else if (isObject(body["tool_choice"])) {
    const f = body["tool_choice"]["function"];
    // A choice that would force the model to a function which was taken out is itself taken out.
    if (isObject(f) && typeof f["name"] === "string" && !names.has(f["name"])) delete body["tool_choice"];
  }
  if (body["functions"] === undefined) delete body["function_call"];
  else if (isObject(body["function_call"]) && !named(names, body["function_call"]["name"]))
    delete body["function_call"];
  return body;
}

const named = (names: ReadonlySet<string>, v: JsonValue | undefined): boolean =>
  typeof v === "string" && names.has(v);
