// A tool called by MCP or REST: judged, dispatched to its connector with the guardian's credential, checked, returned.

import { isObject } from "../../kernel/contracts/contracts.ts";
import type {
  ConnectorPolicy,
  JsonObject,
  JsonValue,
  Receipt,
  Source,
  ToolPolicy,
} from "../../kernel/contracts/contracts.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import { federatedName, nameInTarget, resultOutput } from "../../kernel/mcp/mcp.ts";
import { scanTexts, textsOf } from "../../kernel/threat/threat.ts";
import { RpcError } from "../federation/federation.ts";
import type { RemoteTool, Talk } from "../federation/federation.ts";
import type { Caller } from "../govern/govern.ts";
import { valueOf } from "../govern/outcomes.ts";
import { failed } from "./models.ts";
import type { Refusal, Stamp } from "./replies.ts";
import type { Surface } from "./surface.ts";

export interface ToolCalled {
  /** The MCP result as the connector gave it; for a WASM tool made from its output. */
  readonly result: JsonObject | undefined;
  readonly refusal: Refusal | undefined;
  readonly stamp: Stamp | undefined;
  readonly receipt: Receipt | null;
  /** The server answered with an error of the protocol. */
  readonly rpc?: RpcError;
}

/** A tool as the gateway shows it. */
export interface ShownTool {
  readonly target: string;
  readonly connector: string;
  readonly name: string;
  readonly policy: ToolPolicy;
  readonly definition: JsonObject;
}

/** The tools a principal may call now, of one connector or of all; a connector that does not answer shows none. */
export async function shownTools(s: Surface, caller: Caller, only?: string): Promise<ShownTool[]> {
  const { policy } = s.governor.active;
  const out: ShownTool[] = [];
  for (const connector of policy.connectors.values()) {
    if (only !== undefined && connector.name !== only) continue;
    if (connector.kind === "wasm") {
      for (const tool of policy.tools.values())
        if (tool.connector === connector.name && s.governor.offers(caller, tool.name))
          out.push({
            target: tool.name,
            connector: connector.name,
            name: tool.name.slice(`tool:${connector.name}/`.length),
            policy: tool,
            definition: {
              description: tool.description,
              inputSchema: objectSchema(tool.inputSchema),
              ...(tool.outputSchema !== null &&
              isObject(tool.outputSchema) &&
              tool.outputSchema["type"] === "object"
                ? { outputSchema: tool.outputSchema }
                : {}),
            },
          });
      continue;
    }
    if (connector.kind !== "mcp") continue;
    const remote = await s.federation.tools(connector).catch((): readonly RemoteTool[] => []);
    for (const r of remote) {
      const target = `tool:${connector.name}/${nameInTarget(r.name)}`;
      s.governor.observed(target, r.hash);
      const tool = policy.tools.get(target);
      if (tool === undefined || !s.governor.offers(caller, target)) continue;
      if (tool.definition !== "" && tool.definition !== r.hash) continue;
      out.push({ target, connector: connector.name, name: r.name, policy: tool, definition: r.definition });
    }
  }
  return out;
}
const objectSchema = (schema: JsonValue): JsonObject => (isObject(schema) ? schema : { type: "object" });
export const shownName = (t: ShownTool, prefixed: boolean): string =>
  prefixed ? federatedName(t.connector, t.name) : t.name;

export async function callTool(
  s: Surface,
  caller: Caller,
  call: {
    readonly connector: string;
    readonly name: string;
    readonly args: JsonObject;
    readonly source: Source;
    readonly idempotencyKey: string;
    readonly signal: AbortSignal;
    /** What is said on the way, for surfaces that can say it. */
    readonly talk?: Talk;
    readonly meta?: JsonObject;
    /** What belongs to a later round of the same request. */
    readonly more?: JsonObject;
    /** The answer is held for a person from now on. */
    readonly held?: () => void;
  },
): Promise<ToolCalled> {
  const target = `tool:${call.connector}/${nameInTarget(call.name)}`;
  const { policy } = s.governor.active;
  const tool = policy.tools.get(target);
  const connector = policy.connectors.get(call.connector);
  if (connector?.kind === "mcp" && tool !== undefined && tool.definition !== "") await look(s, connector);
  let result: JsonObject | undefined;
  let rpc: RpcError | undefined;
  const run = () =>
    s.governor.ask({
      target,
      source: connector?.kind === "wasm" ? "wasm" : call.source,
      args: call.args,
      caller,
      // The answers of a later round go to the server like arguments, and are looked at like them.
      ...(call.more === undefined || Object.keys(call.more).length === 0
        ? {}
        : { scan: scanTexts(textsOf({ ...call.args, ...call.more })) }),
      idempotencyKey: tool?.idempotency === "key" ? call.idempotencyKey : "",
      definition: s.governor.definitionOf(target),
      estimate: { calls: 1, costMicroUsd: tool?.costMicroUsd ?? 0, tokens: 0 },
      dispatch: async (signal) => {
        if (connector?.kind === "wasm" && tool !== undefined)
          return await s.runWasm(tool, call.args, AbortSignal.any([signal, call.signal]));
        if (connector?.kind !== "mcp" || tool === undefined)
          return { status: "failed", code: "DENY_CONNECTOR", detail: `no connector \`${call.connector}\`` };
        const outcome = await remoteCall(s, connector, tool, call, [signal, call.signal]);
        result = outcome.result;
        rpc = outcome.rpc;
        return outcome.outcome;
      },
    });
  let told = await run();
  const approval = told.kind === "refused" ? told.refusal.approval : undefined;
  if (approval !== undefined && typeof approval["id"] === "string") {
    const wait = s.governor.waitMs(target, approval);
    if (wait > 0) call.held?.();
    if (wait > 0 && (await s.governor.settled(approval["id"], wait, call.signal))) told = await run();
  }
  if (told.kind === "done") {
    if (tool?.trusted !== true) s.governor.taint(caller);
    else if (scanTexts(textsOf(told.output)).level === "HIGH") s.governor.taint(caller);
    // A repeat under the same key has dispatched nothing: its result is the recorded output, where that is kept.
    const shown =
      result ??
      (told.forgotten
        ? undefined
        : connector?.kind === "wasm"
          ? wasmResult(told.output)
          : isObject(told.output)
            ? told.output
            : undefined);
    return { result: shown, refusal: undefined, stamp: told.stamp, receipt: told.receipt };
  }
  if (result !== undefined && told.refusal.code === "ERR_CONNECTOR_FAILED") {
    // The tool itself reported an error: the agent reads it as the tool wrote it, the record says FAILED.
    if (tool?.trusted !== true) s.governor.taint(caller);
    return { result, refusal: undefined, stamp: told.refusal.stamp, receipt: told.receipt };
  }
  const { refusal, receipt } = told;
  return {
    result: undefined,
    refusal,
    stamp: refusal.stamp,
    receipt,
    ...(rpc === undefined ? {} : { rpc }),
  };
}

/** Looks at the definitions again, so that a pin is compared with what the server offers now. */
async function look(s: Surface, connector: ConnectorPolicy): Promise<void> {
  const tools = await s.federation.tools(connector, 1_000).catch((): readonly RemoteTool[] => []);
  for (const t of tools) s.governor.observed(`tool:${connector.name}/${nameInTarget(t.name)}`, t.hash);
}

async function remoteCall(
  s: Surface,
  connector: ConnectorPolicy,
  tool: ToolPolicy,
  call: {
    readonly name: string;
    readonly args: JsonObject;
    readonly talk?: Talk;
    readonly meta?: JsonObject;
    readonly more?: JsonObject;
  },
  signals: readonly AbortSignal[],
): Promise<{
  readonly outcome: Outcome;
  readonly result: JsonObject | undefined;
  readonly rpc?: RpcError;
}> {
  const started = performance.now();
  try {
    const value = await s.federation.call(
      connector,
      "tools/call",
      {
        name: call.name,
        arguments: call.args,
        ...call.more,
        ...(call.meta === undefined || Object.keys(call.meta).length === 0 ? {} : { _meta: call.meta }),
      },
      signals,
      tool.timeoutMs,
      call.talk,
    );
    s.telemetry.upstream((performance.now() - started) / 1000);
    if (!isObject(value))
      return {
        outcome: {
          status: "failed",
          code: "ERR_CONNECTOR_FAILED",
          detail: "the result is no object",
          usage: { calls: 1 },
        },
        result: undefined,
      };
    const usage = { calls: 1, cost_microusd: tool.costMicroUsd };
    if (value["isError"] === true)
      return {
        outcome: {
          status: "failed",
          code: "ERR_CONNECTOR_FAILED",
          detail: "the tool reported an error",
          usage,
        },
        result: value,
      };
    const output = resultOutput(value);
    // Only a pinned schema asks what a text spells.
    const checked = tool.output === null ? output : checkedOf(value);
    return { outcome: { status: "succeeded", output, checked, usage }, result: value };
  } catch (error) {
    if (error instanceof RpcError)
      return {
        outcome: {
          status: "failed",
          code: "ERR_CONNECTOR_FAILED",
          detail: s.upstreams.scrub(error.message).slice(0, 200),
          usage: { calls: 1 },
        },
        result: undefined,
        rpc: error,
      };
    // Taken back while the server had it: nobody knows what came of it.
    if (signals.some((signal) => signal.aborted))
      return { outcome: { status: "unknown", detail: "taken back while under way" }, result: undefined };
    return { outcome: failed(error), result: undefined };
  }
}

/** What the pinned output schema describes: the structured content, else the text as the value it spells. */
function checkedOf(result: JsonObject): JsonValue {
  const structured = result["structuredContent"];
  if (structured !== undefined) return structured;
  return valueOf(result["content"] ?? null);
}

function wasmResult(output: JsonValue): JsonObject {
  const text: JsonObject = { type: "text", text: JSON.stringify(output) };
  return { content: [text], ...(isObject(output) ? { structuredContent: output } : {}) };
}
