// POST /v1/chat/completions: the request governed as a model call, every tool call of the answer governed for itself.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ContractError, LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { Amounts, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import {
  ChatStream,
  SseError,
  SseParser,
  chatProposals,
  parseChat,
  ruledChat,
  withFunctions,
  writeSse,
} from "../../kernel/openai/openai.ts";
import type { ChatRequest } from "../../kernel/openai/openai.ts";
import { scanTexts } from "../../kernel/threat/threat.ts";
import type { Caller } from "../govern/govern.ts";
import { UpstreamError, upstreamError, wholeBody } from "../dispatch/dispatch.ts";
import { bodyOf, goneSignal, send } from "./http.ts";
import { answerObject, estimateOf, failed, modelOf, refusalOf, usageFor } from "./models.ts";
import type { Model, Passed } from "./models.ts";
import { errorReply, stampHeaders } from "./replies.ts";
import type { Stamp } from "./replies.ts";
import { mayOffer, notesValue, ruleCalls } from "./rulings.ts";
import type { CallNote } from "./rulings.ts";
import { bindResults, judgeExtras } from "./inbound.ts";
import type { Surface } from "./surface.ts";

export function chatSurface(app: FastifyInstance, s: Surface): void {
  app.post("/v1/chat/completions", async (request, reply) => {
    const caller = s.callerOf(request);
    const malformed = async (why: string): Promise<FastifyReply> => {
      const told = await s.governor.refuse(
        "DENY_MALFORMED_CALL",
        why,
        "openai",
        caller,
        "model:unknown/unnamed",
      );
      return told.kind === "refused" ? send(reply, told.refusal) : reply;
    };
    const body = bodyOf(request, LIMITS.chat);
    if ("fault" in body) return malformed(body.fault);
    let chat: ChatRequest;
    try {
      chat = parseChat(body.value);
    } catch (error) {
      if (error instanceof ContractError) return malformed(error.message);
      throw error;
    }
    const extra = await judgeExtras(s, caller, "openai", chat);
    if (extra !== undefined) return send(reply, extra);
    const drifted = await bindResults(s, caller, chat.results);
    if (drifted !== undefined) return send(reply, drifted);
    const model = modelOf(s.governor, caller, chat.model);
    const args = withFunctions(chat, model.name, (f) => mayOffer(s.governor, caller, f.name));
    const size = Buffer.isBuffer(request.body) ? request.body.byteLength : 0;
    const estimate = estimateOf(s.governor, model.target, size, chat.maxOutput, chat.n);
    const job: Job = { s, caller, chat, model, args, estimate, signal: goneSignal(request, reply), request };
    return chat.stream ? await streamed(job, reply) : await whole(job, reply);
  });
}

interface Job {
  readonly s: Surface;
  readonly caller: Caller;
  readonly chat: ChatRequest;
  readonly model: Model;
  readonly args: JsonObject;
  readonly estimate: Amounts;
  readonly signal: AbortSignal;
  readonly request: FastifyRequest;
}

const ask = (job: Job, dispatch: (signal: AbortSignal, stamp: Stamp) => Promise<Outcome>) =>
  job.s.governor.ask({
    target: job.model.target,
    source: "openai",
    args: job.args,
    caller: job.caller,
    scan: scanTexts(job.chat.texts),
    estimate: job.estimate,
    dispatch,
  });

async function upstream(job: Job, signal: AbortSignal) {
  const { connector } = job.model;
  if (connector === undefined) throw new UpstreamError("ERR_CONNECTOR_FAILED", "no connector", true);
  const started = performance.now();
  const reply = await job.s.upstreams.send(connector, {
    method: "POST",
    path: "/chat/completions",
    headers: {
      accept: job.chat.stream ? "text/event-stream" : "application/json",
      ...job.s.traceHeaders(job.request),
    },
    body: JSON.stringify(job.args),
    timeoutMs: job.s.modelTimeoutMs,
    signal: AbortSignal.any([signal, job.signal]),
  });
  job.s.telemetry.upstream((performance.now() - started) / 1000);
  return reply;
}

async function whole(job: Job, reply: FastifyReply): Promise<FastifyReply> {
  const { s, caller } = job;
  let passed: Passed | undefined;
  const told = await ask(job, async (signal) => {
    try {
      const up = await upstream(job, signal);
      if (up.status !== 200) {
        const refusal = await refusalOf(s.upstreams, up.status, up.body);
        passed = refusal.passed;
        return { status: "failed", code: "ERR_CONNECTOR_FAILED", detail: refusal.detail };
      }
      const answer = answerObject(await wholeBody(up.body));
      chatProposals(answer);
      return {
        status: "succeeded",
        output: answer,
        usage: usageFor(s.governor, job.model.target, answer["usage"], job.estimate),
      };
    } catch (error) {
      return failed(
        error instanceof ContractError
          ? new UpstreamError("ERR_CONNECTOR_FAILED", error.message, false)
          : error,
      );
    }
  });
  if (told.kind === "refused") {
    if (passed !== undefined)
      return reply
        .status(passed.status)
        .headers({ ...stampHeaders(told.refusal.stamp), "x-should-retry": "false" })
        .send(passed.body);
    return send(reply, told.refusal);
  }
  const answer = isObject(told.output) ? told.output : {};
  const calls = chatProposals(answer);
  const ruled = await ruleCalls(s, caller, "openai", calls, job.signal);
  const shown: Record<string, JsonValue> = ruledChat(answer, calls, ruled.rulings);
  if (ruled.notes.length > 0) shown["atoll"] = notesValue(ruled.notes);
  return reply.status(200).headers(stampHeaders(told.stamp)).send(shown);
}

async function streamed(job: Job, reply: FastifyReply): Promise<FastifyReply> {
  const { s } = job;
  let passed: Passed | undefined;
  const notes: CallNote[] = [];
  const out = new Outlet(reply);
  const told = await ask(job, async (signal, stamp) => {
    let stream: ChatStream | undefined;
    try {
      const up = await upstream(job, signal);
      if (up.status !== 200) {
        const refusal = await refusalOf(s.upstreams, up.status, up.body);
        passed = refusal.passed;
        return { status: "failed", code: "ERR_CONNECTOR_FAILED", detail: refusal.detail };
      }
      stream = new ChatStream();
      out.open({ ...stampHeaders(stamp) });
      await pump(job, stream, up.body, out, notes);
      if (!stream.end())
        throw new UpstreamError(
          "ERR_CONNECTOR_FAILED",
          "the upstream's stream ended before its answer did",
          false,
        );
      return {
        status: "succeeded",
        output: stream.answer(),
        usage: usageFor(s.governor, job.model.target, stream.usage, job.estimate),
      };
    } catch (error) {
      const fault =
        error instanceof SseError || error instanceof ContractError
          ? new UpstreamError("ERR_CONNECTOR_FAILED", error.message, false)
          : upstreamError(error);
      return failed(
        fault,
        stream === undefined ? undefined : usageFor(s.governor, job.model.target, stream.usage, job.estimate),
      );
    } finally {
      out.quiet();
    }
  });
  if (told.kind === "done") {
    out.write(writeSse("[DONE]"));
    out.end();
    return reply;
  }
  if (out.opened) {
    // The status is gone already; an error event is what every client of this format raises.
    out.write(writeSse(JSON.stringify(errorReply(told.refusal).body)));
    out.end();
    return reply;
  }
  if (passed !== undefined)
    return reply
      .status(passed.status)
      .headers({ ...stampHeaders(told.refusal.stamp), "x-should-retry": "false" })
      .send(passed.body);
  return send(reply, told.refusal);
}

async function pump(
  job: Job,
  stream: ChatStream,
  body: AsyncIterable<Uint8Array>,
  out: Outlet,
  notes: CallNote[],
): Promise<void> {
  const parser = new SseParser();
  const options = job.chat.body["stream_options"];
  const wantsUsage = isObject(options) && options["include_usage"] === true;
  let done = false;
  const take = async (data: string): Promise<void> => {
    if (done || data.trim() === "[DONE]") {
      done = true;
      return;
    }
    const value = parseJson(new TextEncoder().encode(data), LIMITS.chat);
    if (!isObject(value)) throw new SseError("an event of the stream is no object");
    if (isObject(value["error"]))
      throw new UpstreamError("ERR_CONNECTOR_FAILED", "the upstream reported an error in its stream", false);
    for (const step of stream.feed(value)) {
      if (step.kind === "send") {
        if (!wantsUsage && Array.isArray(step.chunk["choices"]) && step.chunk["choices"].length === 0)
          continue;
        out.write(writeSse(JSON.stringify(step.chunk)));
        continue;
      }
      out.hold();
      const ruled = await ruleCalls(job.s, job.caller, "openai", step.calls, job.signal);
      out.quiet();
      notes.push(...ruled.notes);
      const chunks = step.settle(ruled.rulings);
      chunks.forEach((chunk, i) => {
        const last = i === chunks.length - 1;
        out.write(writeSse(JSON.stringify(last ? { ...chunk, atoll: notesValue(ruled.notes) } : chunk)));
      });
    }
  };
  for await (const bytes of body) {
    for (const event of parser.feed(bytes)) await take(event.data);
    await out.drained(job.signal);
  }
  for (const event of parser.end()) await take(event.data);
}

/** A response that is being streamed. */
export class Outlet {
  readonly #reply: FastifyReply;
  #timer: NodeJS.Timeout | undefined;
  opened = false;
  constructor(reply: FastifyReply) {
    this.#reply = reply;
  }
  open(headers: Record<string, string>): void {
    this.opened = true;
    this.#reply.hijack();
    this.#reply.raw.on("error", () => {});
    this.#reply.raw.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
      ...headers,
    });
    this.#reply.raw.flushHeaders();
  }
  write(text: string): void {
    if (this.opened && !this.#reply.raw.destroyed) this.#reply.raw.write(text);
  }
  /** Comments keep a stream alive while a person is asked. */
  hold(): void {
    this.quiet();
    this.#timer = setInterval(() => this.write(": waiting\n\n"), 5_000);
  }
  quiet(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
  /** Waits for a slow reader, so that what it does not take is not read for it either. */
  async drained(signal: AbortSignal): Promise<void> {
    const raw = this.#reply.raw;
    if (!raw.writableNeedDrain || raw.destroyed) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        raw.off("drain", go);
        raw.off("close", go);
        signal.removeEventListener("abort", go);
        resolve();
      };
      raw.once("drain", go);
      raw.once("close", go);
      signal.addEventListener("abort", go, { once: true });
    });
  }
  end(): void {
    this.quiet();
    if (this.opened) this.#reply.raw.end();
  }
}
