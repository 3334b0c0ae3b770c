// The door of the surfaces: one app, every way in.

import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Source } from "../../kernel/contracts/contracts.ts";
import { createApp, send } from "./http.ts";
import { inferenceSurface } from "./inference.ts";
import { mcpSurface } from "./mcp.ts";
import { restSurface } from "./rest.ts";
import type { Surface } from "./surface.ts";

export { serverOf } from "./http.ts";
export { errorReply, messageOf, stampHeaders } from "./replies.ts";
export type { Refusal, Stamp } from "./replies.ts";
export type { Surface } from "./surface.ts";

function wayOf(url: string): readonly [Source, "openai" | "anthropic"] {
  if (url.startsWith("/v1/messages")) return ["anthropic", "anthropic"];
  if (url.startsWith("/v1/")) return ["openai", "openai"];
  return [/^\/mcp(?!\/v1\/)/.test(url) ? "mcp" : "rest", "openai"];
}

export function buildApp(s: Surface): FastifyInstance {
  const app = createApp();
  // Before anything is read of a request: who is not known is answered, and recorded, in one place.
  app.addHook("onRequest", async (request, reply) => {
    if (reply.sent) return;
    const caller = s.callerOf(request);
    if (caller.state === "verified") return;
    const [source, shape] = wayOf(request.url);
    const told = await s.governor.refuse(caller.code, caller.detail, source, caller, "tool:unknown/unnamed");
    if (told.kind !== "refused") return;
    reply.header("connection", "close").header("www-authenticate", "Bearer");
    await send(reply, told.refusal, shape);
  });
  inferenceSurface(app, s);
  mcpSurface(app, s);
  restSurface(app, s);
  modelList(app, s);
  return app;
}

/** The models that the principal may use, under the names by which they can be asked for. */
function modelList(app: FastifyInstance, s: Surface): void {
  const entry = (target: string) => {
    const id = target.slice("model:".length);
    return {
      id,
      object: "model",
      type: "model",
      display_name: id,
      created: 0,
      owned_by: id.split("/", 1)[0],
    };
  };
  const listed = (request: FastifyRequest) => {
    const caller = s.callerOf(request);
    return [...s.governor.active.policy.models.keys()].flatMap((m) =>
      s.governor.offers(caller, m) ? [entry(m)] : [],
    );
  };
  app.get("/v1/models", async (request, reply) => {
    const data = listed(request);
    const ends = { first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
    return reply.send({ object: "list", data, has_more: false, ...ends });
  });
  app.get<{ Params: { "*": string } }>("/v1/models/*", async (request, reply) => {
    const found = listed(request).find((m) => m.id === request.params["*"]);
    if (found !== undefined) return reply.send(found);
    return send(reply, { code: "DENY_MODEL", detail: "", stamp: undefined, begun: false, status: 404 });
  });
}
