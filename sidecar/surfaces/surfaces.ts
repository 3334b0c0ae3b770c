// The door of the surfaces: one app, every way in.

import type { FastifyInstance } from "fastify";
import { chatSurface } from "./chat.ts";
import { createApp } from "./http.ts";
import { mcpSurface } from "./mcp.ts";
import { restSurface } from "./rest.ts";
import type { Surface } from "./surface.ts";

export { serverOf } from "./http.ts";
export { errorReply, messageOf, stampHeaders } from "./replies.ts";
export type { Refusal, Stamp } from "./replies.ts";
export type { Surface } from "./surface.ts";

export function buildApp(s: Surface): FastifyInstance {
  const app = createApp();
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
