// What every surface is given.

import type { FastifyRequest } from "fastify";
import type { JsonObject, ToolPolicy } from "../../kernel/contracts/contracts.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import type { Federation } from "../federation/federation.ts";
import type { Caller, Governor } from "../govern/govern.ts";
import type { Outcomes } from "../govern/outcomes.ts";
import type { Upstreams } from "../dispatch/dispatch.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";

export interface Surface {
  readonly governor: Governor;
  readonly outcomes: Outcomes;
  readonly upstreams: Upstreams;
  readonly telemetry: Telemetry;
  readonly federation: Federation;
  readonly runWasm: (tool: ToolPolicy, args: JsonObject, signal: AbortSignal) => Promise<Outcome>;
  /** A receipt or approval of that session, by id. */
  readonly receipt: (id: string, session: string) => JsonObject | undefined;
  readonly approval: (id: string, session: string) => JsonObject | undefined;
  readonly modelTimeoutMs: number;
  callerOf(request: FastifyRequest): Caller;
  /** W3C trace context, passed through as it came. */
  traceHeaders(request: FastifyRequest): Record<string, string>;
}
