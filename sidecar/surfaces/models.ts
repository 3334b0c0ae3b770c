// Model names, prices and the upstream's answer: what the model surfaces share.

import type {
  Amounts,
  ConnectorPolicy,
  JsonObject,
  JsonValue,
  Usage,
} from "../../kernel/contracts/contracts.ts";
import { LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import { usageOf } from "../../kernel/openai/openai.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import type { Caller, Governor } from "../govern/govern.ts";
import type { UpstreamReply, Upstreams } from "../dispatch/dispatch.ts";
import { UpstreamError } from "../dispatch/dispatch.ts";

export interface Model {
  /** `model:<provider>/<model>`, declared or not. */
  readonly target: string;
  /** The name as the provider knows it. */
  readonly name: string;
  readonly connector: ConnectorPolicy | undefined;
}

/** `provider/model`, or a bare name that exactly one connector allows. */
export function modelOf(governor: Governor, caller: Caller, text: string): Model {
  const { policy } = governor.active;
  const declared = [...policy.models.keys()].map((t) => t.slice("model:".length));
  const whole = declared.find((n) => n === text);
  const suffix = declared.filter((n) => n.slice(n.indexOf("/") + 1) === text);
  const allowed = suffix.filter((n) => governor.offers(caller, `model:${n}`));
  const found = whole ?? (allowed.length === 1 ? allowed[0] : suffix.length === 1 ? suffix[0] : undefined);
  if (found === undefined) {
    const target = `model:${text.includes("/") ? text : `unknown/${text}`}`;
    return { target, name: text, connector: undefined };
  }
  const at = found.indexOf("/");
  return {
    target: `model:${found}`,
    name: found.slice(at + 1),
    connector: policy.connectors.get(found.slice(0, at)),
  };
}

/** What a request may use at most: every three bytes a token, and the answer's limit for each choice. */
export function estimateOf(
  governor: Governor,
  target: string,
  bytes: number,
  maxOutput: number | undefined,
  n: number,
): Amounts {
  const tokensIn = Math.ceil(bytes / 3);
  const tokensOut = (maxOutput ?? 4_096) * n;
  return {
    calls: 1,
    tokens: tokensIn + tokensOut,
    costMicroUsd: costOf(governor, target, tokensIn, tokensOut),
  };
}

export function costOf(governor: Governor, target: string, tokensIn: number, tokensOut: number): number {
  const price = governor.active.policy.models.get(target)?.price;
  if (price === undefined || price === null) return 0;
  return Math.ceil(
    (tokensIn * price.inputMicroUsdPerMTok + tokensOut * price.outputMicroUsdPerMTok) / 1_000_000,
  );
}

export function usageFor(
  governor: Governor,
  target: string,
  usage: JsonValue | undefined,
  fallback: Amounts,
): Partial<Usage> {
  const told = usageOf(usage);
  // An upstream that tells no usage is charged what was reserved.
  if (told === undefined)
    return { calls: 1, tokens_in: fallback.tokens, tokens_out: 0, cost_microusd: fallback.costMicroUsd };
  return {
    calls: 1,
    tokens_in: told.tokensIn,
    tokens_out: told.tokensOut,
    cost_microusd: costOf(governor, target, told.tokensIn, told.tokensOut),
  };
}

/** An upstream's refusal on its way to the client: its 4xx passes, scrubbed; everything else is a failed connector. */
export interface Passed {
  readonly status: number;
  readonly body: JsonValue;
}

export async function refusalOf(
  upstreams: Upstreams,
  { status, whole }: Pick<UpstreamReply, "status" | "whole">,
): Promise<{ readonly passed: Passed | undefined; readonly detail: string }> {
  const bytes = await whole().catch(() => new Uint8Array(0));
  const text = upstreams.scrub(new TextDecoder().decode(bytes.subarray(0, 64 << 10)));
  if (status < 400 || status >= 500) return { passed: undefined, detail: `the upstream answered ${status}` };
  let value: JsonValue;
  try {
    value = parseJson(new TextEncoder().encode(text), LIMITS.args);
  } catch {
    value = { error: { message: text.slice(0, 2_000), type: "upstream_error", param: null, code: null } };
  }
  return { passed: { status, body: value }, detail: `the upstream answered ${status}` };
}

export const failed = (error: unknown, usage?: Partial<Usage>): Outcome => {
  if (error instanceof UpstreamError && (error.unsent || error.code === "ERR_CONNECTOR_FAILED"))
    return error.unsent
      ? { status: "failed", code: error.code, detail: error.message }
      : { status: "failed", code: error.code, detail: error.message, usage: usage ?? { calls: 1 } };
  if (error instanceof UpstreamError)
    return { status: "failed", code: error.code, detail: error.message, usage: usage ?? { calls: 1 } };
  return { status: "unknown", detail: error instanceof Error ? error.message : "" };
};

export function answerObject(bytes: Uint8Array): JsonObject {
  let value: JsonValue;
  try {
    value = parseJson(bytes, LIMITS.chat);
  } catch (error) {
    throw new UpstreamError(
      "ERR_CONNECTOR_FAILED",
      `the upstream's answer is no JSON: ${error instanceof Error ? error.message : ""}`,
      false,
    );
  }
  if (!isObject(value))
    throw new UpstreamError("ERR_CONNECTOR_FAILED", "the upstream's answer is no object", false);
  return value;
}
