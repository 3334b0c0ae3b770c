// Requests to models, in whatever wire format: each governed as a model call, every tool call of the answer for itself.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ContractError, LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { Amounts, Code, JsonObject } from "../../kernel/contracts/contracts.ts";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import { SseError, SseParser, writeSse } from "../../kernel/openai/openai.ts";
import type { AnswerStream, Asked, Proposed, Written } from "../../kernel/openai/openai.ts";
import { scanTexts } from "../../kernel/threat/threat.ts";
import type { Caller } from "../govern/govern.ts";
import { UpstreamError, upstreamError } from "../dispatch/dispatch.ts";
import { DIALECTS } from "./dialects.ts";
import type { Dialect } from "./dialects.ts";
import { bodyOf, goneSignal, send } from "./http.ts";
import { answerObject, estimateOf, failed, modelOf, refusalOf, usageFor } from "./models.ts";
import type { Model, Passed } from "./models.ts";
import { Outlet } from "./outlet.ts";
import { errorReply, stampHeaders } from "./replies.ts";
import type { Refusal, Stamp } from "./replies.ts";
import { mayOffer, notesValue, ruleCalls } from "./rulings.ts";
import type { Rulings } from "./rulings.ts";
import { bindResults, judgeExtras } from "./inbound.ts";
import type { Surface } from "./surface.ts";

interface Job {
  readonly s: Surface;
  readonly dialect: Dialect;
  readonly caller: Caller;
  readonly asked: Asked;
  readonly model: Model;
  readonly args: JsonObject;
  readonly headers: Record<string, string>;
  readonly estimate: Amounts;
  readonly signal: AbortSignal;
}

export function inferenceSurface(app: FastifyInstance, s: Surface): void {
  for (const dialect of DIALECTS)
    app.post(dialect.path, (request, reply) => serve(s, dialect, request, reply));
}

async function serve(
  s: Surface,
  dialect: Dialect,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const caller = s.callerOf(request);
  const answer = (refusal: Refusal): Promise<FastifyReply> => send(reply, refusal, dialect.kind);
  const refuse = async (code: Code, why: string, target: string): Promise<FastifyReply> => {
    const told = await s.governor.refuse(code, why, dialect.source, caller, target);
    return told.kind === "refused" ? answer(told.refusal) : reply;
  };
  const malformed = (why: string) => refuse("DENY_MALFORMED_CALL", why, "model:unknown/unnamed");
  const body = bodyOf(request, LIMITS.chat);
  if ("fault" in body) return malformed(body.fault);
  let asked: Asked;
  let headers: Record<string, string>;
  try {
    asked = dialect.parse(body.value);
    headers = { ...dialect.headers(request), ...s.traceHeaders(request) };
  } catch (error) {
    if (error instanceof ContractError) return malformed(error.message);
    throw error;
  }
  const extra = await judgeExtras(s, caller, dialect.source, asked);
  if (extra !== undefined) return answer(extra);
  const drifted = await bindResults(s, caller, asked.results);
  if (drifted !== undefined) return answer(drifted);
  const model = modelOf(s.governor, caller, asked.model);
  if (model.connector !== undefined && model.connector.kind !== dialect.kind)
    return refuse("DENY_MODEL", `it is not served at \`${dialect.path}\``, model.target);
  const size = Buffer.isBuffer(request.body) ? request.body.byteLength : 0;
  const job: Job = {
    s,
    dialect,
    caller,
    asked,
    model,
    args: asked.dispatched(model.name, (f) => mayOffer(s.governor, caller, f.name)),
    headers,
    estimate: estimateOf(s.governor, model.target, size, asked.maxOutput, asked.n),
    signal: goneSignal(request, reply),
  };
  const { lost } = s.governor;
  const { id } = s.governor.sessionOf(caller);
  // An SDK that lost the connection sends the request again by itself. It was let go already, and perhaps paid for.
  if (
    /^[1-9]/.test(String(request.headers["x-stainless-retry-count"] ?? "")) &&
    lost.has(id, model.target, hashJson(job.args), s.governor.now)
  )
    return refuse(
      "ERR_OUTCOME_UNKNOWN",
      "the request was let go before the connection was lost",
      model.target,
    );
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) lost.add(id, model.target, hashJson(job.args), s.governor.now);
  });
  return asked.stream ? await streamed(job, reply) : await whole(job, reply);
}

const ask = (job: Job, dispatch: (signal: AbortSignal, stamp: Stamp) => Promise<Outcome>) =>
  job.s.governor.ask({
    target: job.model.target,
    source: job.dialect.source,
    args: job.args,
    caller: job.caller,
    scan: scanTexts(job.asked.texts),
    estimate: job.estimate,
    dispatch,
  });

async function upstream(job: Job, signal: AbortSignal) {
  const { connector } = job.model;
  if (connector === undefined) throw new UpstreamError("ERR_CONNECTOR_FAILED", "no connector", true);
  const started = performance.now();
  const reply = await job.s.upstreams.send(connector, {
    method: "POST",
    path: job.dialect.upstreamPath,
    headers: {
      accept: job.asked.stream ? "text/event-stream" : "application/json",
      ...job.headers,
    },
    body: JSON.stringify(job.args),
    timeoutMs: job.s.modelTimeoutMs,
    signals: [signal, job.signal],
  });
  job.s.telemetry.upstream((performance.now() - started) / 1000);
  return reply;
}

const passedReply = (reply: FastifyReply, passed: Passed, refusal: Refusal): FastifyReply =>
  reply
    .status(passed.status)
    .headers({ ...stampHeaders(refusal.stamp), "x-should-retry": "false" })
    .send(passed.body);

async function whole(job: Job, reply: FastifyReply): Promise<FastifyReply> {
  const { s, caller, dialect } = job;
  let passed: Passed | undefined;
  let judged: { readonly calls: readonly Proposed[]; readonly ruled: Promise<Rulings> } | undefined;
  const told = await ask(job, async (signal) => {
    try {
      const up = await upstream(job, signal);
      if (up.status !== 200) {
        const refusal = await refusalOf(s.upstreams, up);
        passed = refusal.passed;
        return { status: "failed", code: "ERR_CONNECTOR_FAILED", detail: refusal.detail };
      }
      const answer = answerObject(await up.whole());
      const calls = dialect.proposals(answer);
      if (signal.aborted) throw new UpstreamError("ERR_CONNECTOR_FAILED", "ended while under way", false);
      // In this turn, so that what is recorded of the calls and what came of the request share a sync.
      const ruled = ruleCalls(s, caller, dialect.source, calls, job.signal);
      // Nobody waits for it where the request itself is refused.
      ruled.catch(() => undefined);
      judged = { calls, ruled };
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
  if (told.kind === "refused")
    return passed === undefined
      ? send(reply, told.refusal, dialect.kind)
      : passedReply(reply, passed, told.refusal);
  const answer = isObject(told.output) ? told.output : {};
  const calls = judged?.calls ?? [];
  const ruled = (await judged?.ruled) ?? { rulings: [], notes: [] };
  const shown = dialect.ruled(answer, calls, ruled.rulings);
  if (ruled.notes.length > 0) shown["atoll"] = notesValue(ruled.notes);
  return reply.status(200).headers(stampHeaders(told.stamp)).send(shown);
}

async function streamed(job: Job, reply: FastifyReply): Promise<FastifyReply> {
  const { s, dialect } = job;
  let passed: Passed | undefined;
  const out = new Outlet(reply);
  const told = await ask(job, async (signal, stamp) => {
    let stream: AnswerStream | undefined;
    try {
      const up = await upstream(job, signal);
      if (up.status !== 200) {
        const refusal = await refusalOf(s.upstreams, up);
        passed = refusal.passed;
        return { status: "failed", code: "ERR_CONNECTOR_FAILED", detail: refusal.detail };
      }
      stream = dialect.stream(job.asked);
      out.open({ ...stampHeaders(stamp) });
      await pump(job, stream, up.body, out);
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
    if (dialect.closing !== "") out.write(writeSse(dialect.closing));
    out.end();
    return reply;
  }
  if (out.opened) {
    // The status is gone already; an error event is what every client of these formats raises.
    out.write(sse(dialect.failure(errorReply(told.refusal, dialect.kind).body)));
    out.end();
    return reply;
  }
  return passed === undefined
    ? send(reply, told.refusal, dialect.kind)
    : passedReply(reply, passed, told.refusal);
}

const sse = (w: Written): string => writeSse(JSON.stringify(w.data), w.event);

async function pump(
  job: Job,
  stream: AnswerStream,
  body: AsyncIterable<Uint8Array>,
  out: Outlet,
): Promise<void> {
  const parser = new SseParser();
  let done = false;
  const take = async (data: string): Promise<void> => {
    if (done || data.trim() === "[DONE]") {
      done = true;
      return;
    }
    const value = parseJson(data, LIMITS.chat);
    if (!isObject(value)) throw new SseError("an event of the stream is no object");
    if (value["type"] === "error" || isObject(value["error"]))
      throw new UpstreamError("ERR_CONNECTOR_FAILED", "the upstream reported an error in its stream", false);
    for (const step of stream.feed(value)) {
      if (step.kind === "send") {
        out.put(sse(step.chunk));
        continue;
      }
      out.write();
      out.hold();
      const ruled = await ruleCalls(job.s, job.caller, job.dialect.source, step.calls, job.signal);
      out.quiet();
      const chunks = step.settle(ruled.rulings);
      chunks.forEach((chunk, i) => {
        const noted = i === chunks.length - 1 && ruled.notes.length > 0;
        const data = noted ? { ...chunk.data, atoll: notesValue(ruled.notes) } : chunk.data;
        out.put(sse({ event: chunk.event, data }));
      });
    }
  };
  for await (const bytes of body) {
    try {
      for (const event of parser.feed(bytes)) await take(event.data);
    } finally {
      // One piece for what came in one; what was put before a fault is sent before it is told.
      out.write();
    }
    await out.drained(job.signal);
  }
  for (const event of parser.end()) await take(event.data);
  out.write();
}
