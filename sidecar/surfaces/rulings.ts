// Tool calls that a model proposed, judged one by one before the agent sees them.

import { LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue, Source } from "../../kernel/contracts/contracts.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { nameInTarget, splitName } from "../../kernel/mcp/mcp.ts";
import type { Proposed, Ruling } from "../../kernel/openai/openai.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import type { Caller, Governor, Told } from "../govern/govern.ts";
import type { Outcomes } from "../govern/outcomes.ts";
import { replacementText } from "./replies.ts";
import type { Refusal, Stamp } from "./replies.ts";

/** What the agent is told of one call, beside the answer itself. */
export interface CallNote {
  readonly id: string;
  readonly verdict: string;
  readonly reason_code: string;
  readonly receipt_id: string;
  readonly approval?: JsonObject;
}
export interface Rulings {
  readonly rulings: readonly Ruling[];
  readonly notes: readonly CallNote[];
}

/** Where a function of the model leads: a tool of a connector that is also offered by MCP, or one the agent runs. */
export function targetOfFunction(
  governor: Governor,
  name: string,
): { readonly target: string; readonly dual: boolean } {
  const split = splitName(name);
  if (split !== undefined) {
    const target = `tool:${split.connector}/${nameInTarget(split.name)}`;
    const kind = governor.active.policy.tools.get(target)?.kind;
    if (kind === "mcp" || kind === "wasm") return { target, dual: true };
  }
  return { target: `tool:agent/${nameInTarget(name)}`, dual: false };
}

/** Whether the principal's profile lists what a function leads to. */
export function mayOffer(governor: Governor, caller: Caller, name: string): boolean {
  return governor.offers(caller, targetOfFunction(governor, name).target);
}

export async function ruleCalls(
  deps: { readonly governor: Governor; readonly outcomes: Outcomes },
  caller: Caller,
  source: Source,
  calls: readonly Proposed[],
  signal: AbortSignal,
): Promise<Rulings> {
  const taken = new Set<string>();
  // Each is judged and has its place in the record before the next is looked at; they share the sync.
  const first = await Promise.all(calls.map((call) => ruleOne(deps, caller, source, call, taken)));
  // Those that wait for a person wait together, and are judged again in their order.
  const decided = await Promise.all(
    first.map(async (one) => {
      const { held } = one;
      return held !== undefined && (await deps.governor.settled(held.approval, held.waitMs, signal));
    }),
  );
  const ones: One[] = [];
  for (const [i, one] of first.entries())
    ones.push(
      one.held !== undefined && decided[i] === true && !signal.aborted ? await one.held.again() : one,
    );
  return { rulings: ones.map((o) => o.ruling), notes: ones.map((o) => o.note) };
}

interface One {
  readonly ruling: Ruling;
  readonly note: CallNote;
  /** The answer is held for a person. */
  readonly held?: {
    readonly approval: string;
    readonly waitMs: number;
    again(): Promise<One>;
  };
}

async function ruleOne(
  deps: { readonly governor: Governor; readonly outcomes: Outcomes },
  caller: Caller,
  source: Source,
  call: Proposed,
  taken: Set<string>,
): Promise<One> {
  const { governor, outcomes } = deps;
  const { target, dual } = targetOfFunction(governor, call.name);
  const malformed = async (why: string): Promise<One> =>
    refused(call, await governor.refuse("DENY_MALFORMED_CALL", why, source, caller, target));
  let args: JsonObject;
  try {
    const value = parseJson(
      new TextEncoder().encode(call.argsText === "" ? "{}" : call.argsText),
      LIMITS.args,
    );
    if (!isObject(value)) return await malformed("the arguments are no object");
    args = value;
  } catch (error) {
    return await malformed(error instanceof Error ? error.message : "the arguments are no JSON");
  }
  const argsText = canonicalize(args);
  if (dual) {
    const told = await governor.attest({
      target,
      source,
      args,
      caller,
      definition: governor.definitionOf(target),
    });
    return told.kind === "done" ? released(call, argsText, told.stamp) : refused(call, told);
  }
  const id = call.id === "" ? `function:${call.name}` : call.id;
  const session = governor.sessionOf(caller).id;
  if (call.id !== "" && (taken.has(id) || outcomes.isOpen(session, id)))
    return await malformed(`the call id \`${id.slice(0, 64)}\` is still open`);
  taken.add(id);
  const tool = governor.active.policy.tools.get(target);
  const attempt = (): Promise<{ readonly stamp: Stamp } | { readonly told: Told }> =>
    new Promise((resolve) => {
      let tell: (outcome: Outcome) => void = () => {};
      const outcome = new Promise<Outcome>((r) => (tell = r));
      const told = governor.ask({
        target,
        source,
        args,
        caller,
        open: true,
        // Durable with the INTENT, and so before the agent sees the call.
        beside: (intent) => [governor.release(intent, id, target)],
        dispatch: async (_signal, stamp) => {
          outcomes.open(session, id, {
            target,
            trusted: tool?.trusted ?? false,
            structured: tool?.output !== null && tool?.output !== undefined,
            tell,
            told,
          });
          resolve({ stamp });
          return await outcome;
        },
      });
      void told.then((t) => resolve({ told: t }));
    });
  const ruled = async (): Promise<One> => {
    const tried = await attempt();
    if ("stamp" in tried) return released(call, argsText, tried.stamp);
    const one = refused(call, tried.told);
    const approval = one.note.approval?.["id"];
    if (typeof approval !== "string" || one.note.approval === undefined) return one;
    const waitMs = governor.waitMs(target, one.note.approval);
    return waitMs > 0 ? { ...one, held: { approval, waitMs, again: ruled } } : one;
  };
  return await ruled();
}

const released = (call: Proposed, argsText: string, stamp: Stamp): One => ({
  ruling: { state: "released", argsText },
  note: { id: call.id, verdict: "ALLOW", reason_code: "", receipt_id: stamp.receiptId },
});

function refused(call: Proposed, told: Told): One {
  const r: Refusal =
    told.kind === "refused"
      ? told.refusal
      : { code: "ERR_OUTCOME_UNKNOWN", detail: "", stamp: told.stamp, begun: true };
  const receipt = r.stamp?.receiptId ?? "";
  const approval = r.approval?.["id"];
  return {
    ruling: {
      state: "replaced",
      text: replacementText(call.name, r.code, receipt, typeof approval === "string" ? approval : ""),
    },
    note: {
      id: call.id,
      verdict: r.code === "DENY_APPROVAL_REQUIRED" ? "ESCALATE" : "DENY",
      reason_code: r.code,
      receipt_id: receipt,
      ...(r.approval === undefined ? {} : { approval: r.approval }),
    },
  };
}

export const notesValue = (notes: readonly CallNote[]): JsonValue => ({
  tool_calls: notes.map((n): JsonValue => ({ ...n })),
});
