// REST beside MCP, and what an agent may read of its own session. Nothing here changes anything but by a judged call.

import type { FastifyInstance } from "fastify";
import { LIMITS, isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { splitName } from "../../kernel/mcp/mcp.ts";
import { bodyOf, goneSignal, send } from "./http.ts";
import { mayRetry, messageOf, stampHeaders, statusOf } from "./replies.ts";
import type { Refusal } from "./replies.ts";
import { callTool, shownTools } from "./tools.ts";
import type { Surface } from "./surface.ts";

export function restSurface(app: FastifyInstance, s: Surface): void {
  app.get("/mcp/v1/capabilities", async (request, reply) => {
    const caller = s.callerOf(request);
    if (caller.state === "refused") return refuseCaller(caller.code, caller.detail);
    const tools = await shownTools(s, caller);
    return reply.send({
      tools: tools.map(
        (t): JsonValue => ({
          tool: t.target,
          name: `${t.connector}__${t.name}`,
          description: typeof t.definition["description"] === "string" ? t.definition["description"] : "",
          input_schema: t.policy.inputSchema,
          effect_class: t.policy.effect,
          side_effect: t.policy.sideEffect,
          sandbox: t.policy.sandbox,
          idempotency: t.policy.idempotency,
          trust: t.policy.trusted ? "trusted" : "untrusted",
        }),
      ),
      policy_hash: s.governor.active.policy.hash,
    });
    async function refuseCaller(code: "AUTH_NOT_CONFIGURED" | "AUTH_INVALID", detail: string) {
      const told = await s.governor.refuse(code, detail, "rest", caller, "tool:unknown/unnamed");
      return told.kind === "refused" ? send(reply, told.refusal) : reply;
    }
  });

  app.post("/mcp/v1/execute", async (request, reply) => {
    const caller = s.callerOf(request);
    const body = bodyOf(request, LIMITS.args);
    const fault = "fault" in body ? body.fault : faultIn(body.value);
    if (fault !== undefined || "fault" in body || !isObject(body.value)) {
      const told = await s.governor.refuse(
        "DENY_MALFORMED_CALL",
        fault ?? "",
        "rest",
        caller,
        "tool:unknown/unnamed",
      );
      return told.kind === "refused" ? answerRefusal(told.refusal, "", "") : reply;
    }
    const tool = textOf(body.value, "tool");
    const { connector, name } = namesOf(tool);
    const args = body.value["arguments"];
    const called = await callTool(s, caller, {
      connector,
      name,
      args: isObject(args) ? args : {},
      source: "rest",
      idempotencyKey: textOf(body.value, "idempotency_key"),
      signal: goneSignal(request, reply),
    });
    if (called.refusal !== undefined)
      return answerRefusal(
        called.refusal,
        called.receipt?.args_hash ?? "",
        called.receipt?.output_hash ?? "",
      );
    return reply
      .status(200)
      .headers(stampHeaders(called.stamp))
      .send({
        verdict: "ALLOW",
        reason_code: called.receipt?.reason_code ?? "",
        receipt_id: called.stamp?.receiptId ?? "",
        args_hash: called.receipt?.args_hash ?? "",
        output_hash: called.receipt?.output_hash ?? "",
        result: called.result ?? null,
      });

    function answerRefusal(r: Refusal, argsHash: string, outputHash: string) {
      const status = r.status ?? statusOf(r.code);
      return reply
        .status(status)
        .headers({
          ...stampHeaders(r.stamp),
          "x-should-retry": String(mayRetry(r, status)),
          ...(r.retryAfter === undefined
            ? {}
            : { "retry-after": String(Math.max(1, Math.ceil(r.retryAfter))) }),
        })
        .send({
          verdict: r.stamp?.verdict ?? "DENY",
          reason_code: r.code,
          receipt_id: r.stamp?.receiptId ?? "",
          args_hash: argsHash,
          output_hash: outputHash,
          result: null,
          message: messageOf(r),
          ...(r.approval === undefined ? {} : { approval: r.approval }),
        });
    }
  });

  app.get("/atoll/v1/session", async (request, reply) => {
    const caller = s.callerOf(request);
    if (caller.state === "refused") return send(reply, unauthorised(caller.code, caller.detail));
    return reply.send(s.governor.describe(caller));
  });
  app.get<{ Params: { id: string } }>("/atoll/v1/receipts/:id", async (request, reply) => {
    const caller = s.callerOf(request);
    if (caller.state === "refused") return send(reply, unauthorised(caller.code, caller.detail));
    const receipt = s.receipt(request.params.id, s.governor.sessionOf(caller).id);
    return receipt === undefined
      ? reply
          .status(404)
          .send({ error: { message: "no such receipt in this session", type: "not_found", code: null } })
      : reply.send(receipt);
  });
  app.get<{ Params: { id: string } }>("/atoll/v1/approvals/:id", async (request, reply) => {
    const caller = s.callerOf(request);
    if (caller.state === "refused") return send(reply, unauthorised(caller.code, caller.detail));
    const approval = s.approval(request.params.id, s.governor.sessionOf(caller).id);
    return approval === undefined
      ? reply
          .status(404)
          .send({ error: { message: "no such approval in this session", type: "not_found", code: null } })
      : reply.send(approval);
  });
}

const unauthorised = (code: "AUTH_NOT_CONFIGURED" | "AUTH_INVALID", detail: string): Refusal => ({
  code,
  detail,
  stamp: undefined,
  begun: false,
});
const textOf = (o: JsonObject, key: string): string => (typeof o[key] === "string" ? o[key] : "");

/** `tool:github/create_issue`, `github__create_issue` or `github/create_issue`. */
function namesOf(text: string): { readonly connector: string; readonly name: string } {
  const bare = text.startsWith("tool:") ? text.slice("tool:".length) : text;
  const slash = bare.indexOf("/");
  if (slash > 0) return { connector: bare.slice(0, slash), name: bare.slice(slash + 1) };
  return splitName(bare) ?? { connector: "unknown", name: bare };
}

const MEMBERS: ReadonlySet<string> = new Set(["tool", "arguments", "idempotency_key"]);
function faultIn(value: JsonValue): string | undefined {
  if (!isObject(value)) return "an object is expected";
  for (const key of Object.keys(value)) if (!MEMBERS.has(key)) return `${key}: this member is not known`;
  if (typeof value["tool"] !== "string") return "tool: expected a string";
  if (value["arguments"] !== undefined && !isObject(value["arguments"]))
    return "arguments: expected an object";
  if (value["idempotency_key"] !== undefined && typeof value["idempotency_key"] !== "string")
    return "idempotency_key: expected a string";
  return undefined;
}
