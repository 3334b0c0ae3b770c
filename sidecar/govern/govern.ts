// The way of one governed call through the guardian: facts gathered once, judged by the kernel, recorded, dispatched.
// Every surface asks here and nowhere else; what comes back says what to tell the client.

import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type {
  Amounts,
  Code,
  EvidenceFact,
  Facts,
  Input,
  Hash,
  JsonObject,
  Receipt,
  ReceiptId,
  SealedNode,
  Source,
  ToolCall,
} from "../../kernel/contracts/contracts.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { argsTextOf } from "../../kernel/evidence/evidence.ts";
import { createExecutor, createThrottle } from "../../kernel/executor/executor.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import type { Verdict } from "../../kernel/guardian/guardian.ts";
import { CLEAN, scanTexts, textsOf } from "../../kernel/threat/threat.ts";
import type { Scan } from "../../kernel/threat/threat.ts";
import type { Stamp } from "../surfaces/surfaces.ts";
import { attest } from "./attest.ts";
import type { Judged } from "./attest.ts";
import type { Ask, Caller, Active, GovernOptions, Told } from "./ask.ts";
import {
  destinationOf,
  modelConnector,
  placeOf,
  principalOf,
  profileOf,
  requiresReceipts,
  safeTarget,
  stampOf,
} from "./reading.ts";
import { sixteen } from "./chance.ts";
import { LostAnswers } from "./lost.ts";
import { releaseInput } from "./releases.ts";
import { Sessions } from "./sessions.ts";
import type { Session } from "./sessions.ts";
import { flooded, overloaded, toldOf } from "./telling.ts";

export type { Active, Approvals, Ask, Caller, GovernOptions, Spending, Told } from "./ask.ts";
export { effectDraft, releaseFrom, releaseInput, reopen } from "./releases.ts";
export type { OpenIntent, Release } from "./releases.ts";
export { Sessions } from "./sessions.ts";
export type { RestoredSession, Session } from "./sessions.ts";

const CALL: Amounts = { calls: 1, costMicroUsd: 0, tokens: 0 };
const MOST_EPOCHS = 8;
const ZERO: Amounts = { calls: 0, costMicroUsd: 0, tokens: 0 };

export class Governor {
  readonly #o: GovernOptions;
  readonly #now: () => number;
  readonly sessions: Sessions;
  readonly #executor;
  readonly #intents = new Map<string, Stamp>();
  readonly lost = new LostAnswers();
  readonly #throttle = createThrottle();
  #evidence: EvidenceFact[] = [];
  #underWay = 0;
  #stopped = false;

  constructor(options: GovernOptions) {
    this.#o = options;
    this.#now = options.now ?? Date.now;
    this.sessions = new Sessions(() => makeId("ses", sixteen()), options.guardianSession, options.restored);
    this.#executor = createExecutor({
      journal: options.journal,
      clock: {
        now: this.#now,
        after: (ms, run) => {
          // A call that only waits for the agent's word does not keep the process.
          const timer = setTimeout(run, Math.min(ms, 2 ** 31 - 1)).unref();
          return () => clearTimeout(timer);
        },
      },
      random: sixteen,
      throttle: this.#throttle,
      ...(options.repeats === undefined ? {} : { repeats: options.repeats }),
      ...(options.spending === undefined ? {} : { budget: options.spending }),
      spendApproval: (permit) => this.#o.approvals?.()?.spend(permit),
      listen: (entry) => this.#heard(entry.node, entry.receipt, entry.verdict),
    });
  }

  get active(): Active {
    return this.#o.active();
  }
  get healthy(): boolean {
    return this.#executor.healthy;
  }
  get underWay(): number {
    return this.#underWay;
  }
  get now(): number {
    return this.#now();
  }
  /** No call is taken any more. */
  stop(): void {
    this.#stopped = true;
  }
  abort(): void {
    this.#executor.abort();
  }

  callOf(ask: Pick<Ask, "target" | "source" | "args">): ToolCall {
    const argsText = argsTextOf(ask.target, ask.args);
    return {
      callId: makeId("call", sixteen()),
      target: safeTarget(ask.target),
      source: ask.source,
      args: ask.args,
      argsText,
      argsHash: sha256(argsText),
    };
  }

  /** Judges one call and carries it out. Never rejects. */
  async ask(ask: Ask): Promise<Told> {
    // A permit that a policy's change overtook was not used: the call is judged anew, and no client sees the change.
    for (let left = MOST_EPOCHS; ; left--) {
      const told = await this.#once(ask);
      const overtaken = told.kind === "refused" && told.refusal.code === "POLICY_EPOCH_CHANGED";
      if (!overtaken || left === 0) return told;
    }
  }

  async #once(ask: Ask): Promise<Told> {
    if (this.#stopped) return overloaded("the guardian is stopping");
    const { policy } = this.active;
    const counted = ask.open !== true;
    if (counted && this.#underWay >= policy.concurrentCalls * 4)
      return overloaded(`${this.#underWay} calls are under way`);
    const call = this.callOf(ask);
    const scan = ask.scan ?? scanTexts(textsOf(ask.args));
    this.#argsOf.set(call.callId, ask.args);
    if (counted) this.#underWay++;
    let begun = false;
    try {
      const result = await this.#executor.run({
        call,
        policy: () => this.active.policy,
        ...(ask.beside === undefined ? {} : { beside: ask.beside }),
        gather: () => this.#facts(ask, call, scan),
        dispatch: async (_permit, signal) => {
          const stamp = this.#intents.get(call.callId);
          if (stamp === undefined) throw new Error("the intent was not heard");
          begun = true;
          // As a restart counts it: by its INTENT.
          this.#sessionOf(ask.caller).calls++;
          return await ask.dispatch(signal, stamp);
        },
      });
      return await toldOf(result, call, {
        intent: this.#intents.get(call.callId),
        begun,
        policy: this.active.policy,
        approvals: this.#o.approvals?.(),
      });
    } finally {
      if (counted) this.#underWay--;
      this.#intents.delete(call.callId);
      this.#argsOf.delete(call.callId);
    }
  }

  /**
   * Judges a call that will be made, and judged again, elsewhere: without budget and approval, recorded as an
   * ATTESTATION.
   */
  async attest(ask: Omit<Ask, "dispatch">, more: Partial<Facts> = {}): Promise<Told> {
    const call = this.callOf(ask);
    const scan = ask.scan ?? scanTexts(textsOf(ask.args));
    const { policy } = this.active;
    const gathered = this.#facts({ ...ask, estimate: ZERO }, call, scan);
    const facts: Facts = {
      ...gathered,
      budget: { ...gathered.budget, session: ZERO, daily: ZERO, estimate: ZERO },
      rate: { toolLastMinute: 0, sessionLastSecond: 0 },
      ...more,
    };
    if (this.#throttle.floods(facts.session.id, this.#now())) return flooded();
    return await this.#attest({ call, policy, facts }, decide(call, policy, facts));
  }

  /** Records a refusal that no gate has made: bytes that are no call. */
  async refuse(code: Code, detail: string, source: Source, caller: Caller, target: string): Promise<Told> {
    const call = this.callOf({ target, source, args: {} });
    const { policy } = this.active;
    const facts = this.#facts({ caller, estimate: ZERO }, call, CLEAN);
    if (this.#throttle.floods(facts.session.id, this.#now())) return flooded();
    const verdict: Verdict = {
      gates: [],
      ruleId: "",
      effect: "",
      shadows: [],
      profile: null,
      verdict: "DENY",
      code,
      detail,
    };
    return await this.#attest({ call, policy, facts }, verdict);
  }
  async #attest(judged: Judged, verdict: Verdict): Promise<Told> {
    const { journal } = this.#o;
    return await attest(
      {
        journal,
        throttle: this.#throttle,
        nowMs: this.#now(),
        heard: (node, receipt, heard) => this.#heard(node, receipt, heard),
      },
      judged,
      verdict,
    );
  }

  /** The start-up test: an undeclared tool, judged by the live policy and recorded in the guardian's own session. */
  async selfTest(caller: Caller & { readonly state: "verified" }): Promise<Told> {
    // As if nothing were frozen: what is asked is whether the policy denies.
    return await this.attest(
      { target: "tool:atoll/undeclared", source: "rest", args: {}, caller },
      { freeze: { state: "clear" } },
    );
  }

  /** Whether the principal's profile lists a target at all. */
  offers(caller: Caller, target: string): boolean {
    const { policy } = this.active;
    if (caller.state !== "verified") return false;
    const profile = profileOf(policy, caller, this.#o.pod.namespaceLabels);
    return profile !== undefined && (profile.tools.has(target) || profile.models.has(target));
  }

  /** What is known of the upstream's present definition of a tool. */
  definitionOf(target: string): Facts["definition"] {
    const hash = this.#definitions.get(target);
    return hash === undefined ? { state: "unobserved" } : { state: "observed", hash };
  }
  observed(target: string, hash: Hash): void {
    if (this.active.policy.tools.has(target)) this.#definitions.set(target, hash);
  }
  readonly #definitions = new Map<string, Hash>();

  /** How long an answer is held for a ceremony that asks for it. */
  waitMs(target: string, approval: JsonObject): number {
    const { policy } = this.active;
    const name = approval["ceremony"];
    const ceremony = typeof name === "string" ? policy.ceremonies.get(name) : undefined;
    return (
      (ceremony?.waitSeconds ??
        policy.tools.get(target)?.rules.find((r) => r.ceremony !== null)?.ceremony?.waitSeconds ??
        0) * 1000
    );
  }
  async settled(approvalId: string, ms: number, signal: AbortSignal): Promise<boolean> {
    return (await this.#o.approvals?.()?.settled(approvalId, ms, signal)) ?? false;
  }

  /** What an agent may know of its own session. */
  describe(caller: Caller & { readonly state: "verified" }): JsonObject {
    const { policy } = this.active;
    const session = this.#sessionOf(caller);
    const profile = profileOf(policy, caller, this.#o.pod.namespaceLabels);
    const used = this.#o.spending?.used(session.id, this.#now()) ?? { session: ZERO, daily: ZERO };
    const left = (limits: Amounts | undefined, spent: Amounts): JsonObject =>
      Object.fromEntries(
        (["calls", "tokens", "costMicroUsd"] as const)
          .filter((f) => limits !== undefined && limits[f] >= 0)
          .map((f) => [f, Math.max(0, (limits?.[f] ?? 0) - spent[f])]),
      );
    return {
      id: session.id,
      principal: session.principal,
      opened_at: timestampOf(session.openedAtMs),
      profile: profile?.index ?? null,
      tools: profile === undefined ? [] : [...profile.tools].sort(),
      models: profile === undefined ? [] : [...profile.models].sort(),
      budget_left: {
        session: left(profile?.budgets.session, used.session),
        daily: left(profile?.budgets.daily, used.daily),
      },
      tainted: session.tainted,
      frozen: this.#o.frozen().state === "frozen",
      policy_hash: policy.hash,
    };
  }

  /** That a call is released, as it lies beside its INTENT: its outcome can be told after a restart. */
  release(receiptId: ReceiptId, callId: string, target: string): Input {
    const untilMs = this.#now() + (this.active.policy.tools.get(target)?.timeoutMs ?? 0);
    return releaseInput({ receiptId, callId, untilMs });
  }

  taint(caller: Caller): void {
    this.#sessionOf(caller).tainted = true;
  }

  sessionOf(caller: Caller): Session {
    return this.#sessionOf(caller);
  }

  #sessionOf(caller: Caller): Session {
    const now = this.#now();
    if (caller.state === "refused")
      return { id: this.#o.guardianSession, principal: "", openedAtMs: now, calls: 0, tainted: false };
    return this.sessions.of(caller.id, now, caller.sid);
  }

  /** Everything the gates need, read in one synchronous turn. */
  #facts(ask: Pick<Ask, "caller"> & Partial<Ask>, call: ToolCall, scan: Scan): Facts {
    const now = this.#now();
    const { policy, expiresAt } = this.active;
    const session = this.#sessionOf(ask.caller);
    const tool = policy.tools.get(call.target);
    // Names that an agent makes up are not counted one by one.
    const perMinute =
      tool === undefined ? undefined : this.sessions.rate(`${session.id} ${tool.name}`, 60_000);
    const perSecond = this.sessions.rate(session.id, 1_000);
    const used = this.#o.spending?.used(session.id, now) ?? { session: ZERO, daily: ZERO };
    const connectorName = tool?.connector ?? modelConnector(call.target);
    const place = placeOf(policy.connectors.get(connectorName));
    // Members in canonical order: they are about to be written in it.
    const base: Facts = {
      approval: { state: "none" },
      budget: {
        daily: used.daily,
        estimate: ask.estimate ?? CALL,
        leased: "own",
        session: used.session,
      },
      context: {
        concurrent: Math.max(0, this.#underWay - 1),
        guardianPodUid: this.#o.pod.uid,
        heartbeatAgeMs: this.#o.heartbeatAgeMs(),
        podUid: this.#o.pod.uid,
        policyExpiresAt: expiresAt,
        policyHash: policy.hash,
        tls: ask.tls ?? place.tls,
      },
      definition: ask.definition ?? { state: "unobserved" },
      destination: destinationOf(call.target, place),
      evidence: this.#evidence,
      freeze: this.#o.frozen(),
      idempotencyKey: ask.idempotencyKey ?? "",
      now: timestampOf(now),
      pod: {
        labels: this.#o.pod.labels,
        namespace: this.#o.pod.namespace,
        namespaceLabels: this.#o.pod.namespaceLabels,
      },
      principal: principalOf(ask.caller),
      rate: { sessionLastSecond: perSecond.count(now), toolLastMinute: perMinute?.count(now) ?? 0 },
      scan,
      session: {
        calls: session.calls,
        id: session.id,
        openedAt: timestampOf(session.openedAtMs),
        principal: session.principal,
        tainted: session.tainted,
      },
      type: "atoll.dev/facts/v1",
    };
    perSecond.add(now);
    perMinute?.add(now);
    const approvals = this.#o.approvals?.();
    return approvals === undefined ? base : { ...base, approval: approvals.fact(call, base, policy) };
  }

  #heard(node: SealedNode, receipt: Receipt, verdict: Verdict): void {
    if (node.node.kind === "INTENT") this.#intents.set(receipt.call_id, stampOf(receipt, node));
    if (node.node.kind === "EFFECT") this.#remember(node, receipt);
    else
      this.#o.telemetry.decided(
        {
          verdict: receipt.verdict,
          reason: receipt.reason_code,
          source: receipt.source,
          target: receipt.tool,
          principal: receipt.principal,
          session: node.node.session_id,
          receipt: receipt.receipt_id,
          lamport: node.node.lamport,
          ruleId: verdict.ruleId,
          at: node.node.issued_at,
        },
        0,
      );
  }

  /** What a later requirement may look at; the agent's own word about itself is not among it. */
  #remember(node: SealedNode, receipt: Receipt): void {
    if (receipt.tool === "" || !receipt.tool.startsWith("tool:") || receipt.tool.startsWith("tool:agent/"))
      return;
    const policy = this.active.policy;
    if (!requiresReceipts(policy)) return;
    const fact: EvidenceFact = {
      kind: "receipt",
      node: node.hash,
      tool: receipt.tool,
      status: receipt.status,
      at: node.node.issued_at,
      source: receipt.source,
      args: this.#argsOf.get(receipt.call_id) ?? {},
    };
    this.#evidence = [...this.#evidence.slice(-255), fact];
  }
  readonly #argsOf = new Map<string, JsonObject>();
}
