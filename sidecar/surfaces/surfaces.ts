// The door of the surfaces: one app, every way in.

import type { FastifyInstance } from "fastify";
import { chatSurface } from "./chat.ts";
import type { Source } from "../../kernel/contracts/contracts.ts";
import { createApp, send } from "./http.ts";
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
  chatSurface(app, s);
  mcpSurface(app, s);
  restSurface(app, s);
  app.get("/v1/models", async (request, reply) => {
    const caller = s.callerOf(request);
    const names = [...s.governor.active.policy.models.keys()].filter((m) => s.governor.offers(caller, m));
    return reply.send({
      object: "list",
      data: names.map((n) => {
        const id = n.slice("model:".length);
        return { id, object: "model", created: 0, owned_by: id.split("/", 1)[0] ?? "" };
      }),
    });
  });
  return app;
}
