// The wire formats of models side by side: where each is served, where it goes, how its answers are read and ruled.

import type { FastifyRequest } from "fastify";
import { ContractError, isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue, Source } from "../../kernel/contracts/contracts.ts";
import {
  ChatStream,
  MessageStream,
  ResponseStream,
  chatProposals,
  messageProposals,
  parseChat,
  parseEmbeddings,
  parseMessages,
  parseResponses,
  responseProposals,
  ruledChat,
  ruledMessage,
  ruledResponse,
  shownEmbeddings,
  withFunctions,
} from "../../kernel/openai/openai.ts";
import type { AnswerStream, Asked, Proposed, Ruling, Step, Written } from "../../kernel/openai/openai.ts";

export interface Dialect {
  readonly path: string;
  readonly upstreamPath: string;
  /** The kind of connector that speaks it. */
  readonly kind: "openai" | "anthropic";
  readonly source: Source;
  parse(value: JsonValue): Asked;
  /** What else of the request's headers goes upstream. */
  headers(request: FastifyRequest): Record<string, string>;
  proposals(answer: JsonObject): Proposed[];
  ruled(
    answer: JsonObject,
    calls: readonly Proposed[],
    rulings: readonly Ruling[],
  ): Record<string, JsonValue>;
  stream(asked: Asked): AnswerStream;
  /** The data of the event after the last one; "" for none. */
  readonly closing: string;
  /** An error within a stream, as the clients of this format raise it. */
  failure(body: JsonObject): Written;
}

const noHeaders = (): Record<string, string> => ({});

/** The chat format's chunks have no event name, and its usage comes only to those who asked for it. */
function chatStream(wantsUsage: boolean): AnswerStream {
  const inner = new ChatStream();
  const written = (data: JsonObject): Written => ({ event: "", data });
  return {
    feed: (event) =>
      inner.feed(event).flatMap((step): Step[] => {
        if (step.kind === "rule") {
          const { calls } = step;
          return [{ kind: "rule", calls, settle: (rulings) => step.settle(rulings).map(written) }];
        }
        const { choices } = step.chunk;
        if (!wantsUsage && Array.isArray(choices) && choices.length === 0) return [];
        return [{ kind: "send", chunk: written(step.chunk) }];
      }),
    end: () => inner.end(),
    get usage() {
      return inner.usage;
    },
    answer: () => inner.answer(),
  };
}

const chat: Dialect = {
  path: "/v1/chat/completions",
  upstreamPath: "/chat/completions",
  kind: "openai",
  source: "openai",
  parse(value) {
    const request = parseChat(value);
    const options = request.body["stream_options"];
    return {
      ...request,
      wantsUsage: isObject(options) && options["include_usage"] === true,
      dispatched: (model, keep) => withFunctions(request, model, keep),
    };
  },
  headers: noHeaders,
  proposals: chatProposals,
  ruled: ruledChat,
  stream: (asked) => chatStream(asked.wantsUsage === true),
  closing: "[DONE]",
  failure: (body) => ({ event: "", data: body }),
};

const responses: Dialect = {
  path: "/v1/responses",
  upstreamPath: "/responses",
  kind: "openai",
  source: "openai",
  parse: parseResponses,
  headers: noHeaders,
  proposals: responseProposals,
  ruled: ruledResponse,
  stream: () => new ResponseStream(),
  closing: "",
  failure(body) {
    const error = isObject(body["error"]) ? body["error"] : {};
    const { code = null, message = "" } = error;
    return { event: "error", data: { type: "error", code, message, param: null, error } };
  },
};

// Features that change what the model reads or how it answers, none of which lets the provider run anything.
const BETAS: ReadonlySet<string> = new Set([
  "context-1m-2025-08-07",
  "extended-cache-ttl-2025-04-11",
  "fine-grained-tool-streaming-2025-05-14",
  "interleaved-thinking-2025-05-14",
  "output-128k-2025-02-19",
  "prompt-caching-2024-07-31",
  "token-efficient-tools-2025-02-19",
]);

const messages: Dialect = {
  path: "/v1/messages",
  upstreamPath: "/messages",
  kind: "anthropic",
  source: "anthropic",
  parse: parseMessages,
  headers(request) {
    const version = request.headers["anthropic-version"] ?? "2023-06-01";
    if (typeof version !== "string" || !/^\d{4}-\d{2}-\d{2}$/.test(version))
      throw new ContractError("anthropic-version", "expected a date");
    const named = String(request.headers["anthropic-beta"] ?? "");
    const betas = named.split(",").flatMap((b) => (b.trim() === "" ? [] : [b.trim()]));
    for (const beta of betas)
      if (!BETAS.has(beta))
        throw new ContractError(
          "anthropic-beta",
          `\`${beta.slice(0, 80)}\` is not known and is not passed on`,
        );
    return {
      "anthropic-version": version,
      ...(betas.length === 0 ? {} : { "anthropic-beta": betas.join(",") }),
    };
  },
  proposals: messageProposals,
  ruled: ruledMessage,
  stream: () => new MessageStream(),
  closing: "",
  failure: (body) => ({ event: "error", data: body }),
};

const embeddings: Dialect = {
  path: "/v1/embeddings",
  upstreamPath: "/embeddings",
  kind: "openai",
  source: "openai",
  parse: parseEmbeddings,
  headers: noHeaders,
  proposals(answer) {
    shownEmbeddings(answer);
    return [];
  },
  ruled: shownEmbeddings,
  stream() {
    throw new ContractError("stream", "embeddings are not streamed");
  },
  closing: "",
  failure: (body) => ({ event: "", data: body }),
};

export const DIALECTS: readonly Dialect[] = [chat, responses, messages, embeddings];
