// The door of the replay: every recorded call judged once more from what the pack holds, by the policy that the
// receipt names. What comes out must be what was recorded, member by member. Whoever held the guardian's key could
// sign anything; that a verdict follows from its policy and facts is shown here and not by a signature.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import { ContractError, isObject, timestampOf } from "../contracts/contracts.ts";
import type {
  Code,
  Facts,
  Hash,
  JsonObject,
  Policy,
  Receipt,
  SealedNode,
  ToolCall,
} from "../contracts/contracts.ts";
import { broken, inputShelf } from "../evidence/evidence.ts";
import type { PackContents, PackLine } from "../evidence/evidence.ts";
import { decide, termsOf } from "../guardian/guardian.ts";
import type { Verdict } from "../guardian/guardian.ts";
import { NO_POLICY, compilePolicy, parseFacts } from "../policy/policy.ts";
import { gatesHash, overlayHash, parseReceipt } from "../receipts/receipts.ts";
import { freezeLog } from "../trust/trust.ts";
import type { KeyBook } from "../trust/trust.ts";

/** The first member of a receipt that does not follow from what it names. */
export interface Difference {
  readonly file: string;
  readonly line: number;
  readonly session_id: string;
  readonly lamport: number;
  readonly receipt_id: string;
  readonly member: string;
  readonly recorded: string;
  readonly replayed: string;
}
export class ReplayDiffers extends Error {
  readonly difference: Difference;
  constructor(d: Difference) {
    super(`${d.file}:${d.line}: ${d.member} is \`${d.recorded}\` and should be \`${d.replayed}\``);
    this.name = "ReplayDiffers";
    this.difference = d;
  }
}

export interface Change {
  readonly session_id: string;
  readonly lamport: number;
  readonly receipt_id: string;
  readonly tool: string;
  readonly before: string;
  readonly after: string;
}
export interface ReplayReport {
  /** Receipts of verdicts; each is counted once below. */
  readonly receipts: number;
  readonly same: number;
  /** Refused before any gate ran: bytes that are no call. There is nothing to judge. */
  readonly ungated: number;
  readonly redacted: number;
  readonly condensed: number;
  /** Outcomes that agree with the permit they followed. */
  readonly effects: number;
  /** With another policy: what it would have decided otherwise. */
  readonly changes: readonly Change[];
}
export interface ReplayOptions {
  /** Whose approvals count. Without it a receipt that rests on an approval cannot be judged. */
  readonly keys?: KeyBook;
  /** Judges by this policy instead, and lists what would change instead of stopping at it. */
  readonly instead?: JsonObject;
}

export function replay(pack: PackContents, options: ReplayOptions = {}): ReplayReport {
  const shelf = inputShelf(pack);
  const policies = policyShelf(pack, options.keys);
  const instead =
    options.instead === undefined ? undefined : compilePolicy(options.instead, keysOf(options.keys));
  const count = { receipts: 0, same: 0, ungated: 0, redacted: 0, condensed: 0, effects: 0 };
  const changes: Change[] = [];
  const open = new Map<string, Receipt>();
  const keyed = new Map<string, Set<Hash>>();
  const freezes = freezeState(pack.order === "journal");

  function verdictOf(at: PackLine & { readonly kind: "node" }, receipt: Receipt): void {
    count.receipts++;
    if (receipt.gates_hash === "") {
      same(at, receipt, "verdict", receipt.verdict, "DENY");
      count.ungated++;
      return;
    }
    const args = shelf.take(receipt.args_hash);
    const recorded = shelf.take(receipt.facts_hash);
    if (args === undefined || recorded === undefined)
      throw differs(at, receipt, args === undefined ? "args_hash" : "facts_hash", "present", "missing");
    if (args.redacted || recorded.redacted) {
      count.redacted++;
      return;
    }
    const facts = judged(at, receipt, "facts_hash", () => parseFacts(recorded.value));
    const call = callOf(at, receipt, args.value);
    rememberKey(keyed, receipt, facts, at.session);
    if (instead !== undefined) {
      const change = whatIf(at, receipt, call, facts, instead);
      if (change !== undefined) changes.push(change);
      count.same++;
      return;
    }
    same(at, receipt, "facts.session", facts.session.id, at.session);
    freezes.compare(at, receipt, facts);
    const policy = policies.of(at, receipt, facts);
    compare(at, receipt, call, facts, policy, keyed);
    count.same++;
  }

  for (const at of pack.nodes()) {
    if (at.kind === "condensed") {
      count.condensed++;
      freezes.unsure();
      continue;
    }
    const { node } = at.sealed;
    if (node.kind === "TRUST_EVENT") {
      freezes.event(at.sealed);
      continue;
    }
    if (node.body["type"] !== "atoll.dev/receipt/v1") continue;
    const receipt = judged(at, undefined, "body", () => parseReceipt(node.body));
    if (node.kind === "EFFECT") {
      const intent = open.get(receipt.effect_id);
      open.delete(receipt.effect_id);
      if (intent === undefined) continue;
      for (const member of CARRIED)
        same(at, receipt, member, String(receipt[member]), String(intent[member]));
      count.effects++;
      continue;
    }
    if (node.kind === "INTENT") open.set(receipt.effect_id, receipt);
    verdictOf(at, receipt);
  }
  return { ...count, changes };
}

export interface RecordedCall {
  readonly receipt: Receipt;
  readonly session_id: string;
  readonly lamport: number;
  /** Undefined where the recording was redacted. */
  readonly judged: { readonly call: ToolCall; readonly facts: Facts } | undefined;
}

/** Every call that gates have judged, with the facts that it was judged by. */
export function* recordedCalls(pack: PackContents): Generator<RecordedCall> {
  const shelf = inputShelf(pack);
  for (const at of pack.nodes()) {
    if (at.kind === "condensed" || at.sealed.node.body["type"] !== "atoll.dev/receipt/v1") continue;
    const { node } = at.sealed;
    const receipt = judged(at, undefined, "body", () => parseReceipt(node.body));
    if (node.kind === "EFFECT" || receipt.gates_hash === "") continue;
    const args = shelf.take(receipt.args_hash);
    const facts = shelf.take(receipt.facts_hash);
    if (args === undefined || facts === undefined)
      throw differs(at, receipt, args === undefined ? "args_hash" : "facts_hash", "present", "missing");
    const known = {
      receipt,
      session_id: node.session_id,
      lamport: node.lamport,
    };
    if (args.redacted || facts.redacted) yield { ...known, judged: undefined };
    else
      yield {
        ...known,
        judged: {
          call: callOf(at, receipt, args.value),
          facts: judged(at, receipt, "facts_hash", () => parseFacts(facts.value)),
        },
      };
  }
}

/** What an EFFECT repeats of its INTENT. */
const CARRIED = [
  "decision_id",
  "call_id",
  "principal",
  "delegator",
  "tool",
  "effect_class",
  "source",
  "verdict",
  "rule_id",
  "args_hash",
  "policy_hash",
  "ceiling_hash",
  "overlay_hash",
  "gates_hash",
  "facts_hash",
  "expires_at",
] as const;

/** Refusals that the executor adds to a verdict which let the call pass, and what must be true of each. */
const AFTER_GATES: ReadonlySet<Code | ""> = new Set(["REPLAY_DETECTED", "BUDGET_ERROR", "APPROVAL_INVALID"]);

function compare(
  at: PackLine & { readonly kind: "node" },
  receipt: Receipt,
  call: ToolCall,
  facts: Facts,
  policy: Policy,
  keyed: ReadonlyMap<string, ReadonlySet<Hash>>,
): void {
  const v = decide(call, policy, facts);
  const p = facts.principal;
  const say = (member: string, recorded: string, replayed: string): void =>
    same(at, receipt, member, recorded, replayed);
  say("policy_hash", receipt.policy_hash, policy.hash);
  say("principal", receipt.principal, p.state === "verified" ? p.id : "");
  say("delegator", receipt.delegator, p.state === "verified" ? p.delegator : "");
  say("verdict", outcomeIn(at.sealed, receipt), expectedOutcome(v, at.sealed, receipt, facts, keyed));
  say("effect_class", receipt.effect_class, v.effect);
  say("rule_id", receipt.rule_id, v.ruleId);
  say("gates_hash", receipt.gates_hash, gatesHash(v.gates));
  say("ceiling_hash", receipt.ceiling_hash, v.gates.includes("ceiling") ? policy.ceilingHash : "");
  say("overlay_hash", receipt.overlay_hash, overlayHash([]));
  if (at.sealed.node.kind !== "INTENT" || v.verdict !== "ALLOW") return;
  const { permit } = v;
  say("expires_at", receipt.expires_at, timestampOf(permit.expiresAtMs));
  say("usage.calls", String(receipt.usage.calls), String(permit.reserves.calls));
  say("usage.tokens_in", String(receipt.usage.tokens_in), String(permit.reserves.tokens));
  say("usage.cost_microusd", String(receipt.usage.cost_microusd), String(permit.reserves.costMicroUsd));
  if (facts.approval.state === "granted" && !at.sealed.node.parents.includes(facts.approval.node))
    say("parents", at.sealed.node.parents.join(" "), facts.approval.node);
}

const outcomeIn = (sealed: SealedNode, receipt: Receipt): string =>
  `${sealed.node.kind} ${receipt.status} ${receipt.reason_code}`.trim();

/** What the record of this verdict has to be; the recorded one where it is one of those that fit. */
function expectedOutcome(
  v: Verdict,
  sealed: SealedNode,
  receipt: Receipt,
  facts: Facts,
  keyed: ReadonlyMap<string, ReadonlySet<Hash>>,
): string {
  const recorded = outcomeIn(sealed, receipt);
  // A call that is made elsewhere is attested: its ceremony and its budget come when it is made.
  const attested = sealed.node.kind === "ATTESTATION" && receipt.status === "PERMITTED";
  if (attested && v.verdict !== "DENY" && receipt.effect_id === "") return recorded;
  const flood = receipt.reason_code === "RATE_LIMIT_EXCEEDED" && receipt.usage.calls > 1;
  if (flood && receipt.status === "DENIED" && v.verdict !== "ALLOW") return recorded;
  if (receipt.status === "DENIED" && AFTER_GATES.has(receipt.reason_code)) {
    const passed = v.verdict === "ALLOW";
    if (receipt.reason_code === "BUDGET_ERROR" && passed) return recorded;
    if (receipt.reason_code === "APPROVAL_INVALID" && passed && facts.approval.state === "granted")
      return recorded;
    const others = keyed.get(keyOf(receipt, facts, sealed.node.session_id));
    if (receipt.reason_code === "REPLAY_DETECTED" && facts.idempotencyKey !== "" && (others?.size ?? 0) > 1)
      return recorded;
  }
  switch (v.verdict) {
    case "ALLOW":
      return "INTENT PERMITTED";
    case "ESCALATE":
      return `ATTESTATION ESCALATED ${v.code}`;
    case "DENY":
      return `ATTESTATION DENIED ${v.code}`;
  }
  return v satisfies never;
}

const keyOf = (receipt: Receipt, facts: Facts, session: string): string =>
  `${session} ${receipt.tool} ${facts.idempotencyKey}`;
function rememberKey(keyed: Map<string, Set<Hash>>, receipt: Receipt, facts: Facts, session: string): void {
  if (facts.idempotencyKey === "" || receipt.args_hash === "") return;
  const key = keyOf(receipt, facts, session);
  const known = keyed.get(key);
  if (known === undefined) keyed.set(key, new Set([receipt.args_hash]));
  else known.add(receipt.args_hash);
}

function whatIf(
  at: PackLine & { readonly kind: "node" },
  receipt: Receipt,
  call: ToolCall,
  facts: Facts,
  policy: Policy,
): Change | undefined {
  const context = { ...facts.context, policyHash: policy.hash };
  // An approval was given for a call under the recorded policy; under another one it would be asked for again.
  const granted = facts.approval.state === "granted" ? facts.approval.evidence : undefined;
  const v = decide(call, policy, { ...facts, context, approval: { state: "none" } });
  const before = receipt.verdict === "ALLOW" ? "ALLOW" : `${receipt.verdict} ${receipt.reason_code}`;
  const approved = v.verdict === "ESCALATE" && sameTerms(granted, v.ceremony);
  const after = approved || v.verdict === "ALLOW" ? "ALLOW" : `${v.verdict} ${v.code}`;
  if (before === after || AFTER_GATES.has(receipt.reason_code)) return undefined;
  if (at.sealed.node.kind === "ATTESTATION" && receipt.verdict === "ALLOW" && v.verdict === "ESCALATE")
    return undefined;
  const { session_id, lamport } = at.sealed.node;
  return { session_id, lamport, receipt_id: receipt.receipt_id, tool: receipt.tool, before, after };
}
function sameTerms(evidence: JsonObject | undefined, ceremony: Parameters<typeof termsOf>[0]): boolean {
  const challenge = evidence?.["challenge"];
  const terms = isObject(challenge) ? challenge["ceremony"] : undefined;
  return isObject(terms) && canonicalize(terms) === canonicalize(termsOf(ceremony));
}

const keysOf = (keys: KeyBook | undefined) => (keys === undefined ? {} : { keys });

/** Policies by the hashes that a receipt names, compiled once each. */
function policyShelf(pack: PackContents, keys: KeyBook | undefined) {
  const compiled = new Map<string, Policy>();
  // A refusal before the ceiling's gate does not name the ceiling; the guardian's own event does.
  const ceilings = new Map<string, Set<Hash>>();
  for (const at of pack.nodes()) {
    if (at.kind !== "node") continue;
    const { body } = at.sealed.node;
    const [policy, ceiling] = [body["policy_hash"], body["ceiling_hash"]];
    if (typeof policy !== "string" || typeof ceiling !== "string" || !isHashText(ceiling)) continue;
    const known = ceilings.get(policy);
    if (known === undefined) ceilings.set(policy, new Set([ceiling]));
    else known.add(ceiling);
  }
  const compiledOf = (at: PackLine, hash: Hash, ceiling: Hash | ""): Policy => {
    const name = `${hash} ${ceiling}`;
    let policy = compiled.get(name);
    if (policy !== undefined) return policy;
    const [p1, p0] = [pack.document(hash), ceiling === "" ? undefined : pack.document(ceiling)];
    if (p1 === undefined || (ceiling !== "" && p0 === undefined))
      throw broken(
        `policies/${(p1 === undefined ? hash : ceiling).slice(7)}.json`,
        0,
        `is not in the pack, and ${at.file}:${at.line} was judged by it`,
        "POLICY_HASH_MISMATCH",
      );
    policy = compilePolicy(p1, { ...(p0 === undefined ? {} : { ceiling: p0 }), ...keysOf(keys) });
    compiled.set(name, policy);
    return policy;
  };
  return {
    of(at: PackLine, receipt: Receipt, facts: Facts): Policy {
      if (receipt.policy_hash === "") return NO_POLICY;
      if (facts.approval.state === "granted" && keys === undefined) throw new ApprovalKeysNeeded();
      if (receipt.ceiling_hash !== "") return compiledOf(at, receipt.policy_hash, receipt.ceiling_hash);
      const known = [...(ceilings.get(receipt.policy_hash) ?? [])];
      return compiledOf(at, receipt.policy_hash, known.length === 1 ? (known[0] ?? "") : "");
    },
  };
}
const isHashText = (text: string): text is Hash => /^sha256:[0-9a-f]{64}$/.test(text);

/** An approval can only be judged by someone who says whose approvals count. */
export class ApprovalKeysNeeded extends Error {
  constructor() {
    super("a receipt rests on an approval: say with `--trust` whose approvals count");
    this.name = "ApprovalKeysNeeded";
  }
}

/** The freeze as the events of the log say it, where their order is known. */
function freezeState(ordered: boolean) {
  const log = freezeLog();
  let sure = ordered;
  const seen = new Set<Hash>();
  return {
    unsure(): void {
      sure = false;
    },
    event({ node, hash }: SealedNode): void {
      log.see(node.body, hash);
      if (node.body["event"] === "FREEZE") seen.add(hash);
    },
    compare(at: PackLine & { readonly kind: "node" }, receipt: Receipt, facts: Facts): void {
      if (!sure) return;
      const [first] = log.inForce;
      if (first === undefined) return;
      if (facts.freeze.state === "clear") same(at, receipt, "facts.freeze", "clear", first.node);
      else if (!seen.has(facts.freeze.node)) same(at, receipt, "facts.freeze", facts.freeze.node, first.node);
    },
  };
}

function callOf(at: PackLine & { readonly kind: "node" }, receipt: Receipt, args: unknown): ToolCall {
  const { tool, args_hash } = receipt;
  if (tool === "" || args_hash === "") throw differs(at, receipt, "tool", tool, "a name");
  const value = isJsonObject(args) ? args : undefined;
  if (value === undefined) throw differs(at, receipt, "args_hash", "no object", "an object");
  return {
    callId: receipt.call_id,
    target: tool,
    source: receipt.source,
    args: value,
    argsText: canonicalize(value),
    argsHash: args_hash,
  };
}
const isJsonObject = (v: unknown): v is JsonObject =>
  typeof v === "object" && v !== null && !Array.isArray(v);

function judged<T>(
  at: PackLine & { readonly kind: "node" },
  receipt: Receipt | undefined,
  member: string,
  read: () => T,
): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ContractError)) throw error;
    throw differs(at, receipt, member, error.message, "well-formed");
  }
}

function differs(
  at: PackLine & { readonly kind: "node" },
  receipt: Receipt | undefined,
  member: string,
  recorded: string,
  replayed: string,
): ReplayDiffers {
  return new ReplayDiffers({
    file: at.file,
    line: at.line,
    session_id: at.session,
    lamport: at.sealed.node.lamport,
    receipt_id: receipt?.receipt_id ?? "",
    member,
    recorded,
    replayed,
  });
}
function same(
  at: PackLine & { readonly kind: "node" },
  receipt: Receipt,
  member: string,
  recorded: string,
  replayed: string,
): void {
  if (recorded !== replayed) throw differs(at, receipt, member, recorded, replayed);
}
