// What an agent's request brings along: outcomes of earlier calls, addresses to fetch, tools that the provider would run.

import type { Source } from "../../kernel/contracts/contracts.ts";
import type { ProviderTool, ToolResult } from "../../kernel/openai/openai.ts";
import { nameInTarget } from "../../kernel/mcp/mcp.ts";
import type { Caller } from "../govern/govern.ts";
import { modelOf } from "./models.ts";
import type { Refusal } from "./replies.ts";
import type { Surface } from "./surface.ts";

/** Binds each result to its call. The answer is a refusal when one drifted: then nothing is forwarded. */
export async function bindResults(
  s: Surface,
  caller: Caller,
  results: readonly ToolResult[],
): Promise<Refusal | undefined> {
  if (caller.state === "refused") return undefined;
  const session = s.governor.sessionOf(caller).id;
  let drift: Refusal | undefined;
  // An id that stands twice in a history was used again by the model: the last result is that of the last call.
  const last = new Map(results.map((r) => [r.callId, r]));
  for (const result of results) {
    if (last.get(result.callId) !== result) continue;
    const bound = await s.outcomes.bind(session, result.callId, result.content, result.failed);
    if (bound.state === "again") continue;
    if (bound.state !== "bound") {
      s.governor.taint(caller);
      continue;
    }
    if (!bound.trusted) s.governor.taint(caller);
    // A tool that failed is an outcome like another; the agent's model reads of it.
    if (result.failed === true) continue;
    if (bound.told.kind === "refused") drift ??= { ...bound.told.refusal, begun: true };
  }
  return drift;
}

interface Extras {
  readonly model: string;
  readonly remoteUrls: readonly string[];
  readonly providerTools: readonly ProviderTool[];
}

export async function judgeExtras(
  s: Surface,
  caller: Caller,
  source: Source,
  extras: Extras,
): Promise<Refusal | undefined> {
  if (extras.providerTools.length === 0 && extras.remoteUrls.length === 0) return undefined;
  const connector =
    modelOf(s.governor, caller, extras.model).target.slice("model:".length).split("/", 1)[0] ?? "unknown";
  for (const tool of extras.providerTools) {
    const target = `tool:${connector}/${nameInTarget(tool.type)}`;
    const told = await s.governor.attest({ target, source, args: {}, caller });
    if (told.kind === "refused") return { ...told.refusal, detail: `${tool.path}: ${told.refusal.detail}` };
  }
  for (const text of extras.remoteUrls) {
    let url: URL;
    try {
      url = new URL(text);
    } catch {
      const told = await s.governor.refuse(
        "DENY_MALFORMED_CALL",
        "an address in the content is none",
        source,
        caller,
        "net:unknown:443",
      );
      return told.kind === "refused" ? told.refusal : undefined;
    }
    const port = url.port === "" ? (url.protocol === "http:" ? 80 : 443) : Number(url.port);
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
    const told = await s.governor.attest({
      target: `net:${host}:${port}`,
      source,
      args: { host, port },
      caller,
    });
    if (told.kind === "refused") return told.refusal;
  }
  return undefined;
}
