// What a request to a model says, whatever its wire format: what the guardian has to know before it lets one go.

import { isObject } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import type { Proposed, Ruling } from "./proposal.ts";
import type { OfferedFunction, ProviderTool, ToolResult } from "./request.ts";

export interface Asked {
  readonly model: string;
  readonly stream: boolean;
  readonly n: number;
  readonly functions: readonly OfferedFunction[];
  readonly providerTools: readonly ProviderTool[];
  readonly results: readonly ToolResult[];
  readonly remoteUrls: readonly string[];
  /** What did not come from the model itself: the threat scan reads it. */
  readonly texts: readonly string[];
  readonly maxOutput: number | undefined;
  /** Whether the client asked for the usage at the end of a stream. */
  readonly wantsUsage?: boolean;
  /** The request as it is dispatched: the provider's own name of the model, the functions that may be called. */
  dispatched(model: string, keep: (f: OfferedFunction) => boolean): JsonObject;
}

/** One event of a stream as the client gets it. */
export interface Written {
  readonly event: string;
  readonly data: JsonObject;
}
/** What to do next, in order: send an event, or have calls ruled and then send what `settle` returns. */
export type Step<T = Written> =
  | { readonly kind: "send"; readonly chunk: T }
  | {
      readonly kind: "rule";
      readonly calls: readonly Proposed[];
      settle(rulings: readonly Ruling[]): T[];
    };

export interface AnswerStream {
  feed(event: JsonObject): Step[];
  /** The stream ended. True when the answer did too, so that nothing held is lost. */
  end(): boolean;
  readonly usage: JsonValue | undefined;
  /** The answer as if it had not been streamed and nothing had been replaced. */
  answer(): JsonObject;
}

export const UNJUDGED = "This tool call was not judged and is not shown.";
export const replaced = (ruling: Ruling | undefined): string | undefined =>
  ruling === undefined ? UNJUDGED : ruling.state === "replaced" ? ruling.text : undefined;

/** Every text of a content that is a string or a list of parts. */
export function textsIn(content: JsonValue | undefined, out: string[], depth = 0): void {
  if (typeof content === "string") out.push(content);
  else if (Array.isArray(content) && depth < 8)
    for (const part of content) {
      if (!isObject(part)) continue;
      if (typeof part["text"] === "string") out.push(part["text"]);
      textsIn(part["content"], out, depth + 1);
    }
}
