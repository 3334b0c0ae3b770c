// The door of the executor: from a permit to an effect, and the record before and after it.
//
// Nothing takes effect before its INTENT is durable. A fault at each point, and what restart will do:
//   before the INTENT is durable     nothing has happened; the call is denied with JOURNAL_UNAVAILABLE
//   after it, before the EFFECT      restart finds the INTENT alone and closes it as UNKNOWN; never runs it again
//   EFFECT not durable               the call has happened: ERR_RECEIPT_UNSEALED, and no further call is taken

import { makeId, timestampOf } from "../contracts/contracts.ts";
import type {
  ApprovalId,
  Code,
  Facts,
  Hash,
  Input,
  Journal,
  JsonValue,
  NodeDraft,
  Policy,
  Receipt,
  SealedNode,
  SessionId,
  ToolCall,
  Usage,
} from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";
import { decide } from "../guardian/guardian.ts";
import type { Permit, Verdict } from "../guardian/guardian.ts";
import {
  EMPTY_USAGE,
  outcomeReceipt,
  permittedReceipt,
  receiptBody,
  refusedReceipt,
} from "../receipts/receipts.ts";
import type { Judged } from "../receipts/receipts.ts";
import { createRepeats } from "./repeats.ts";
import { createThrottle } from "./throttle.ts";
import type { Throttle } from "./throttle.ts";

export { createThrottle } from "./throttle.ts";
export type { Throttle } from "./throttle.ts";

export interface Clock {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Runs once after that many milliseconds; the answer cancels it. */
  readonly after: (ms: number, run: () => void) => () => void;
}

/** What the executor tells of every reservation; amounts and periods are the budget's own business. */
export interface Reservations {
  /** Takes what the permit reserves, synchronously, or throws; `key` names it from then on. */
  reserve(key: string, permit: Permit): void;
  /** The real usage of what happened. */
  settle(key: string, usage: Usage): void;
  /** Nothing happened. */
  release(key: string): void;
}

/** Marks the approval of a permit used, synchronously, or throws when it already is. */
export type SpendApproval = (permit: Permit) => void;

export interface ExecutorOptions {
  readonly journal: Journal;
  readonly clock: Clock;
  /** 16 random bytes. */
  readonly random: () => Uint8Array;
  readonly budget?: Reservations;
  readonly spendApproval?: SpendApproval;
  /** Hears that a refused approval has been told to the call that it was for. */
  readonly refusalTold?: (id: ApprovalId) => void;
  /** Shared with whoever records refusals beside the executor. */
  readonly throttle?: Throttle;
  /** Hears of every verdict and outcome after it is recorded; it cannot fail a call. */
  readonly listen?: (entry: Entry) => void;
}
export interface Entry {
  readonly node: SealedNode;
  readonly receipt: Receipt;
  readonly verdict: Verdict;
}

export type Outcome =
  | {
      readonly status: "succeeded";
      readonly output: JsonValue;
      /** What the pinned output schema describes, where it is not the whole output. */
      readonly checked?: JsonValue;
      readonly usage?: Partial<Usage>;
    }
  | {
      readonly status: "failed";
      readonly code: Code;
      readonly detail?: string;
      readonly usage?: Partial<Usage>;
    }
  | { readonly status: "unknown"; readonly detail?: string; readonly usage?: Partial<Usage> };

/** Does the thing. What it throws leaves the outcome unknown; a refusal before anything happened is `failed`. */
export type Dispatch = (permit: Permit, signal: AbortSignal) => Promise<Outcome>;

export interface CallRequest {
  readonly call: ToolCall;
  /** The policy that is active at the moment it is asked. */
  readonly policy: () => Policy;
  /** Reads counters and states, synchronously, in the same turn in which they are judged and changed. */
  readonly gather: () => Facts;
  readonly dispatch: Dispatch;
}

export type Result =
  | {
      readonly kind: "done";
      readonly receipt: Receipt;
      readonly node: SealedNode;
      readonly output: JsonValue;
    }
  | {
      readonly kind: "failed";
      readonly code: Code;
      readonly detail: string;
      readonly receipt: Receipt | null;
      readonly node: SealedNode | null;
    }
  | {
      readonly kind: "denied";
      readonly code: Code;
      readonly detail: string;
      readonly receipt: Receipt | null;
      readonly node: SealedNode | null;
    }
  | {
      readonly kind: "escalated";
      readonly code: "DENY_APPROVAL_REQUIRED";
      readonly verdict: Verdict & { readonly verdict: "ESCALATE" };
      readonly facts: Facts;
      readonly receipt: Receipt;
      readonly node: SealedNode;
    };

export interface Executor {
  /** Judges, records, dispatches, records. Never rejects. */
  run(request: CallRequest): Promise<Result>;
  /** Aborts what is under way, in one session or in all. */
  abort(session?: SessionId): void;
  /** False after an EFFECT could not be made durable: the process has to be restarted. */
  readonly healthy: boolean;
  readonly underWay: number;
}

interface Flight {
  readonly session: SessionId;
  readonly abort: AbortController;
}

export function createExecutor(options: ExecutorOptions): Executor {
  const { journal, clock, random } = options;
  const flights = new Set<Flight>();
  const repeats = createRepeats();
  const throttle = options.throttle ?? createThrottle();
  let healthy = true;

  const id = <K extends "dec" | "eff" | "rcp">(kind: K) => makeId(kind, random());
  const judgedOf = (
    call: ToolCall,
    policy: Policy,
    facts: Facts,
    verdict: Verdict,
    factsHash: Hash,
  ): Judged => ({
    receiptId: id("rcp"),
    decisionId: id("dec"),
    callId: call.callId,
    principal: facts.principal.state === "verified" ? facts.principal.id : "",
    delegator: facts.principal.state === "verified" ? facts.principal.delegator : "",
    tool: call.target,
    effectClass: verdict.effect,
    source: call.source,
    ruleId: verdict.ruleId,
    argsHash: call.argsHash,
    policyHash: policy.hash,
    ceilingHash: verdict.gates.includes("ceiling") ? policy.ceilingHash : "",
    overlays: [],
    gatesRan: verdict.gates,
    factsHash,
  });

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

  async function refuse(
    request: CallRequest,
    policy: Policy,
    facts: Facts,
    verdict: Verdict & { readonly verdict: "DENY" | "ESCALATE" },
  ): Promise<Result> {
    const { call } = request;
    const turn = throttle.refusal(facts.session.id, clock.now());
    if (turn.state === "silent")
      return {
        kind: "denied",
        code: "RATE_LIMIT_EXCEEDED",
        detail: "too many denials",
        receipt: null,
        node: null,
      };
    const factsValue = factsJson(facts);
    const factsHash = hashJson(factsValue);
    const judged = judgedOf(call, policy, facts, verdict, factsHash);
    const flood = turn.state === "summary";
    const receipt = flood
      ? refusedReceipt(judged, "DENY", "RATE_LIMIT_EXCEEDED", { ...EMPTY_USAGE, calls: turn.calls })
      : refusedReceipt(judged, verdict.verdict, verdict.code);
    const placed = record(
      {
        kind: "ATTESTATION",
        session_id: facts.session.id,
        parents: [],
        issued_at: timestampOf(clock.now()),
        body: receiptBody(receipt),
      },
      [policy.recording.args(call.argsHash, call.args), policy.recording.facts(factsHash, factsValue)],
    );
    if (placed === null || !(await placed.durable)) return unavailable();
    tell({ node: placed.node, receipt, verdict });
    const { approval } = facts;
    if (approval.state === "refused" && verdict.verdict === "DENY" && verdict.code === approval.code)
      options.refusalTold?.(approval.id);
    if (verdict.verdict === "ESCALATE" && !flood)
      return { kind: "escalated", code: verdict.code, verdict, facts, receipt, node: placed.node };
    return {
      kind: "denied",
      code: flood ? "RATE_LIMIT_EXCEEDED" : verdict.code,
      detail: verdict.detail,
      receipt,
      node: placed.node,
    };
  }
  const unavailable = (): Result => ({
    kind: "denied",
    code: "JOURNAL_UNAVAILABLE",
    detail: "the record could not be made durable",
    receipt: null,
    node: null,
  });

  async function run(request: CallRequest): Promise<Result> {
    if (!healthy) return unavailable();
    // From here to the INTENT's place in the chain there is no await: one synchronous turn.
    const policy = request.policy();
    let facts: Facts;
    try {
      facts = request.gather();
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      return { kind: "denied", code: "POLICY_EVALUATION_ERROR", detail, receipt: null, node: null };
    }
    const { call } = request;
    const repeat = repeats.find(facts, call, decide(call, policy, facts));
    if (repeat.state === "other arguments")
      return refuse(
        request,
        policy,
        facts,
        denied(repeat.verdict, "REPLAY_DETECTED", "the key was used with other arguments"),
      );
    if (repeat.state === "known") return repeat.result;
    const verdict = repeat.verdict;
    if (verdict.verdict !== "ALLOW") return refuse(request, policy, facts, verdict);
    const result = permitted(request, policy, facts, verdict);
    repeats.remember(facts, call, result, clock.now());
    return result;
  }

  async function permitted(
    request: CallRequest,
    policy: Policy,
    facts: Facts,
    verdict: Verdict & { readonly verdict: "ALLOW" },
  ): Promise<Result> {
    const { call } = request;
    const { permit } = verdict;
    const effectId = id("eff");
    try {
      options.budget?.reserve(effectId, permit);
    } catch (error) {
      return refuse(request, policy, facts, denied(verdict, "BUDGET_ERROR", messageOf(error)));
    }
    try {
      if (facts.approval.state === "granted") options.spendApproval?.(permit);
    } catch (error) {
      options.budget?.release(effectId);
      return refuse(request, policy, facts, denied(verdict, "APPROVAL_INVALID", messageOf(error)));
    }
    const factsValue = factsJson(facts);
    const factsHash = hashJson(factsValue);
    const { reserves } = permit;
    const intent = permittedReceipt(judgedOf(call, policy, facts, verdict, factsHash), {
      effectId,
      expiresAt: timestampOf(permit.expiresAtMs),
      // What is reserved, so that a restart can count it again.
      usage: {
        ...EMPTY_USAGE,
        calls: reserves.calls,
        tokens_in: reserves.tokens,
        cost_microusd: reserves.costMicroUsd,
      },
    });
    const placed = record(
      {
        kind: "INTENT",
        session_id: facts.session.id,
        parents: facts.approval.state === "granted" ? [facts.approval.node] : [],
        issued_at: timestampOf(clock.now()),
        body: receiptBody(intent),
      },
      [policy.recording.args(call.argsHash, call.args), policy.recording.facts(factsHash, factsValue)],
    );
    const flight: Flight = { session: facts.session.id, abort: new AbortController() };
    flights.add(flight);
    try {
      if (placed === null || !(await placed.durable)) {
        options.budget?.release(effectId);
        return unavailable();
      }
      tell({ node: placed.node, receipt: intent, verdict });
      const started = clock.now();
      const outcome = await outcomeOf(request, permit, flight);
      return await close(verdict, intent, placed.node, outcome, clock.now() - started);
    } finally {
      flights.delete(flight);
    }
  }

  /** What came of the dispatch, or why it was not begun. */
  async function outcomeOf(request: CallRequest, permit: Permit, flight: Flight): Promise<Known> {
    if (clock.now() >= permit.expiresAtMs) return notBegun("DECISION_EXPIRED");
    if (request.policy().hash !== permit.policy.hash) return notBegun("POLICY_EPOCH_CHANGED");
    if (flight.abort.signal.aborted) return notBegun("SYSTEM_FROZEN");
    const limit = permit.tool?.timeoutMs ?? Number.POSITIVE_INFINITY;
    let timedOut = false;
    const cancel = Number.isFinite(limit)
      ? clock.after(limit, () => {
          timedOut = true;
          flight.abort.abort();
        })
      : () => {};
    const aborted = new Promise<"aborted">((resolve) => {
      flight.abort.signal.addEventListener("abort", () => resolve("aborted"), { once: true });
    });
    try {
      const outcome = await Promise.race([request.dispatch(permit, flight.abort.signal), aborted]);
      if (outcome === "aborted") {
        const code = timedOut ? "ERR_CONNECTOR_TIMEOUT" : "ERR_OUTCOME_UNKNOWN";
        return { status: "UNKNOWN", code, detail: "aborted while under way", output: null, usage: {} };
      }
      return settled(outcome, permit);
    } catch (error) {
      return {
        status: "UNKNOWN",
        code: "ERR_OUTCOME_UNKNOWN",
        detail: messageOf(error),
        output: null,
        usage: {},
      };
    } finally {
      cancel();
    }
  }

  async function close(
    verdict: Verdict,
    intent: Receipt,
    parent: SealedNode,
    known: Known,
    durationMs: number,
  ): Promise<Result> {
    // A failure in which nothing happened counts no call: a restart releases its reservation by that.
    const nothing = known.status === "FAILED" && known.begun !== true;
    const usage: Usage = {
      ...EMPTY_USAGE,
      duration_ms: Math.max(0, Math.round(durationMs)),
      ...known.usage,
      calls: nothing ? 0 : 1,
    };
    const receipt = outcomeReceipt(intent, {
      receiptId: id("rcp"),
      status: known.status,
      code: known.code,
      // What a connection carried is opaque.
      outputHash: known.output === null || intent.tool.startsWith("net:") ? "" : hashJson(known.output.value),
      usage,
    });
    const key = String(intent.effect_id);
    if (known.status === "SUCCEEDED" || known.begun === true) options.budget?.settle(key, usage);
    else if (known.status === "FAILED") options.budget?.release(key);
    const placed = record(
      {
        kind: "EFFECT",
        session_id: parent.node.session_id,
        parents: [parent.hash],
        issued_at: timestampOf(clock.now()),
        body: receiptBody(receipt),
      },
      [],
    );
    if (placed === null || !(await placed.durable)) {
      healthy = false;
      return {
        kind: "failed",
        code: "ERR_RECEIPT_UNSEALED",
        detail: "the call has happened and its record is not durable",
        receipt: intent,
        node: parent,
      };
    }
    tell({ node: placed.node, receipt, verdict });
    if (known.status === "SUCCEEDED" && known.code === "" && known.output !== null)
      return { kind: "done", receipt, node: placed.node, output: known.output.value };
    return {
      kind: "failed",
      code: known.code === "" ? "ERR_OUTCOME_UNKNOWN" : known.code,
      detail: known.detail,
      receipt,
      node: placed.node,
    };
  }

  return {
    run: (request) =>
      run(request).catch((error: unknown) => ({
        kind: "failed",
        code: "ERR_OUTCOME_UNKNOWN",
        detail: messageOf(error),
        receipt: null,
        node: null,
      })),
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

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Facts as the plain JSON value that is hashed and recorded. */
function factsJson(facts: Facts): JsonValue {
  const plain: JsonValue = { ...facts };
  return plain;
}

const denied = (verdict: Verdict, code: Code, detail: string): Verdict & { readonly verdict: "DENY" } => ({
  gates: verdict.gates,
  ruleId: verdict.ruleId,
  effect: verdict.effect,
  shadows: verdict.shadows,
  profile: verdict.profile,
  verdict: "DENY",
  code,
  detail,
});

interface Known {
  readonly status: "SUCCEEDED" | "FAILED" | "UNKNOWN";
  readonly code: Code | "";
  readonly detail: string;
  readonly output: { readonly value: JsonValue } | null;
  readonly usage: Partial<Usage>;
  /** Something happened although it failed, so it is settled and not released. */
  readonly begun?: boolean;
}
const notBegun = (code: Code): Known => ({
  status: "FAILED",
  code,
  detail: "not dispatched",
  output: null,
  usage: { calls: 0 },
});

function settled(outcome: Outcome, permit: Permit): Known {
  const usage = outcome.usage ?? {};
  if (outcome.status === "unknown")
    return {
      status: "UNKNOWN",
      code: "ERR_OUTCOME_UNKNOWN",
      detail: outcome.detail ?? "",
      output: null,
      usage,
    };
  if (outcome.status === "failed")
    return {
      status: "FAILED",
      code: outcome.code,
      detail: outcome.detail ?? "",
      output: null,
      usage,
      begun: outcome.usage !== undefined,
    };
  const fault = permit.tool?.output?.validate(outcome.checked ?? outcome.output) ?? null;
  const output = { value: outcome.output };
  if (fault !== null) {
    const detail = `${fault.path}: ${fault.message}`;
    return { status: "FAILED", code: "ERR_CONNECTOR_CONTRACT_DRIFT", detail, output, usage, begun: true };
  }
  return { status: "SUCCEEDED", code: "", detail: "", output, usage };
}
