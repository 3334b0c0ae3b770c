// The door of the executor: from a permit to an effect, and the record before and after it.
//
// Nothing takes effect before its INTENT is durable. A fault at each point, and what restart will do:
//   before the INTENT is durable     nothing has happened; the call is denied with JOURNAL_UNAVAILABLE
//   after it, before the EFFECT      restart finds the INTENT alone and closes it as UNKNOWN; never runs it again
//   EFFECT not durable               the call has happened: ERR_RECEIPT_UNSEALED, and no further call is taken

import { makeId, messageOf, timestampOf } from "../contracts/contracts.ts";
import type { EffectId, Input, NodeDraft, Receipt, SealedNode, Usage } from "../contracts/contracts.ts";
import { decide } from "../guardian/guardian.ts";
import type { Permit, Verdict } from "../guardian/guardian.ts";
import {
  EMPTY_USAGE,
  outcomeReceipt,
  permittedReceipt,
  receiptBody,
  refusedReceipt,
} from "../receipts/receipts.ts";
import { fly, usageOf } from "./flight.ts";
import type { Flight, Known } from "./flight.ts";
import { denied, judgedOf, unavailable, unsealed, written } from "./paper.ts";
import type { Case } from "./paper.ts";
import { createRepeats } from "./repeats.ts";
import { refusal } from "./request.ts";
import type { CallRequest, Entry, Executor, ExecutorOptions, Result } from "./request.ts";
import { createThrottle } from "./throttle.ts";

export { createRepeats } from "./repeats.ts";
export type { Repeats } from "./repeats.ts";
export { judgedOf, written } from "./paper.ts";
export { createThrottle } from "./throttle.ts";
export type { Throttle } from "./throttle.ts";
export type {
  CallRequest,
  Clock,
  Dispatch,
  Entry,
  Executor,
  ExecutorOptions,
  Outcome,
  Reservations,
  Result,
  SpendApproval,
} from "./request.ts";

type Refused = Verdict & { readonly verdict: "DENY" | "ESCALATE" };
type Allowed = Verdict & { readonly verdict: "ALLOW" };

export function createExecutor(options: ExecutorOptions): Executor {
  const { journal, clock, random } = options;
  const flights = new Set<Flight>();
  const repeats = options.repeats ?? createRepeats();
  const throttle = options.throttle ?? createThrottle();
  let healthy = true;

  const id = <K extends "dec" | "eff" | "rcp">(kind: K) => makeId(kind, random());
  const ids = () => ({ receiptId: id("rcp"), decisionId: id("dec") });
  /** Puts one draft into the chain; the promise says whether it is durable. */
  function record(draft: NodeDraft, inputs: readonly Input[]) {
    try {
      const { nodes, durable } = journal.append([draft], inputs);
      const [node] = nodes;
      if (node === undefined) return null;
      return { node, durable: durable.then(() => true).catch(() => false) };
    } catch {
      return null;
    }
  }
  const tell = (entry: Entry): void => {
    try {
      options.listen?.(entry);
    } catch {
      // Whoever listens cannot fail a call.
    }
  };

  async function refuse(c: Case, verdict: Refused): Promise<Result> {
    const { facts } = c;
    const stood = throttle.refusal(facts.session.id, clock.now());
    const { factsHash, inputs } = written(c);
    const judged = judgedOf(c, verdict, factsHash, ids());
    const receipt =
      stood > 1
        ? refusedReceipt(judged, "DENY", "RATE_LIMIT_EXCEEDED", { ...EMPTY_USAGE, calls: stood })
        : refusedReceipt(judged, verdict.verdict, verdict.code);
    const placed = record(
      {
        kind: "ATTESTATION",
        session_id: facts.session.id,
        parents: [],
        issued_at: timestampOf(clock.now()),
        body: receiptBody(receipt),
      },
      inputs,
    );
    if (placed === null || !(await placed.durable)) return unavailable();
    const { node } = placed;
    tell({ node, receipt, verdict });
    if (stood > 1) return { ...refusal("RATE_LIMIT_EXCEEDED", "too many denials"), receipt, node };
    if (verdict.verdict === "ESCALATE")
      return { kind: "escalated", code: verdict.code, verdict, facts, receipt, node };
    const { approval } = facts;
    if (approval.state === "refused" && verdict.code === approval.code) told(approval.id);
    return { ...refusal(verdict.code, verdict.detail), receipt, node };
  }
  const told: NonNullable<ExecutorOptions["refusalTold"]> = (approval) => {
    try {
      options.refusalTold?.(approval);
    } catch {
      // As above.
    }
  };

  async function run(request: CallRequest): Promise<Result> {
    if (!healthy) return unavailable();
    // From here to the INTENT's place in the chain there is no await: one synchronous turn.
    const { call } = request;
    const c: Case = { call, policy: request.policy(), facts: request.gather() };
    const { facts } = c;
    const now = clock.now();
    if (throttle.floods(facts.session.id, now))
      return refusal("RATE_LIMIT_EXCEEDED", "too many denials in one second");
    const verdict = decide(call, c.policy, facts);
    const repeat = repeats.find(facts, call, verdict);
    if (repeat.state === "known") return repeat.result;
    if (repeat.state === "other arguments")
      return refuse(c, denied(verdict, "REPLAY_DETECTED", "the key was used with other arguments"));
    if (verdict.verdict !== "ALLOW") return refuse(c, verdict);
    if (!repeats.room(facts, now))
      return refuse(c, denied(verdict, "OVERLOADED", "no further idempotency key can be remembered"));
    const named = { ...ids(), effectId: id("eff") };
    const taken = repeats.take(facts, call, named, now);
    const result = permitted(c, request, verdict, named, taken.inputs);
    taken.answer(result);
    return result;
  }

  async function permitted(
    c: Case,
    request: CallRequest,
    verdict: Allowed,
    named: ReturnType<typeof ids> & { readonly effectId: EffectId },
    more: readonly Input[],
  ): Promise<Result> {
    const { facts } = c;
    const { permit } = verdict;
    const { effectId } = named;
    const { factsHash, inputs } = written(c);
    const intent = permittedReceipt(judgedOf(c, verdict, factsHash, named), {
      effectId,
      expiresAt: timestampOf(permit.expiresAtMs),
      // What is reserved, so that a restart can count it again.
      usage: {
        ...EMPTY_USAGE,
        calls: permit.reserves.calls,
        tokens_in: permit.reserves.tokens,
        cost_microusd: permit.reserves.costMicroUsd,
      },
    });
    try {
      options.budget?.reserve(effectId, permit);
    } catch (error) {
      return refuse(c, denied(verdict, "BUDGET_ERROR", messageOf(error)));
    }
    const approved = facts.approval.state === "granted" ? facts.approval.node : null;
    try {
      if (approved !== null) options.spendApproval?.(permit);
    } catch (error) {
      release(effectId);
      return refuse(c, denied(verdict, "APPROVAL_INVALID", messageOf(error)));
    }
    const placed = record(
      {
        kind: "INTENT",
        session_id: facts.session.id,
        parents: approved === null ? [] : [approved],
        issued_at: timestampOf(clock.now()),
        body: receiptBody(intent),
      },
      [...inputs, ...more, ...(request.beside?.(named.receiptId) ?? [])],
    );
    const flight: Flight = { session: facts.session.id, abort: new AbortController() };
    flights.add(flight);
    if (placed === null || !(await placed.durable)) {
      flights.delete(flight);
      release(effectId);
      return unavailable();
    }
    try {
      tell({ node: placed.node, receipt: intent, verdict });
      const started = clock.now();
      const known = await fly(request, permit, flight, clock);
      return await close(verdict, permit, intent, placed.node, known, clock.now() - started);
    } catch (error) {
      // The INTENT stands without its EFFECT: only a restart can close it.
      healthy = false;
      return { ...unsealed(intent, placed.node), detail: messageOf(error) };
    } finally {
      flights.delete(flight);
    }
  }

  const release = (effectId: string): void => {
    try {
      options.budget?.release(effectId);
    } catch {
      // It stays reserved, which is the safe side.
    }
  };
  const settle = (effectId: string, usage: Usage): void => {
    try {
      options.budget?.settle(effectId, usage);
    } catch {
      // As above.
    }
  };

  async function close(
    verdict: Allowed,
    permit: Permit,
    intent: Receipt,
    parent: SealedNode,
    known: Known,
    durationMs: number,
  ): Promise<Result> {
    // What came to nothing counts no call: a restart releases its reservation by that.
    const usage = usageOf(known.usage, known.begun ? 1 : 0, durationMs);
    const receipt = outcomeReceipt(intent, {
      receiptId: id("rcp"),
      status: known.status,
      code: known.code,
      outputHash: known.output?.hash ?? "",
      usage,
    });
    if (!known.begun) release(intent.effect_id);
    // What is not known may still happen, so it keeps its reservation.
    else if (known.status !== "UNKNOWN") settle(intent.effect_id, usage);
    const placed = record(
      {
        kind: "EFFECT",
        session_id: permit.facts.session.id,
        parents: [parent.hash],
        issued_at: timestampOf(clock.now()),
        body: receiptBody(receipt),
      },
      [],
    );
    if (placed === null || !(await placed.durable)) {
      healthy = false;
      return unsealed(intent, parent);
    }
    const { node } = placed;
    tell({ node, receipt, verdict });
    if (known.status === "SUCCEEDED")
      return { kind: "done", receipt, node, intent: intent.receipt_id, output: known.output.value };
    return {
      kind: "failed",
      code: known.code,
      detail: known.detail,
      intent: intent.receipt_id,
      receipt,
      node,
    };
  }

  return {
    // What fails before anything was recorded has had no effect.
    run: (request) =>
      run(request).catch((error: unknown) => refusal("POLICY_EVALUATION_ERROR", messageOf(error))),
    abort(session) {
      for (const flight of flights)
        if (session === undefined || flight.session === session) flight.abort.abort();
    },
    get healthy() {
      return healthy;
    },
    get underWay() {
      return flights.size;
    },
  };
}
