// What a restart has to know of the journal besides its chains: sessions, what was spent, calls that were under way, the
// freeze, approvals. It follows the records as they become durable and is kept at checkpoints, so that a restart reads
// what came after the last of them and not everything.

import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import {
  arrayFrom,
  booleanFrom,
  closed,
  epochOf,
  hashFrom,
  idFrom,
  integerFrom,
  isObject,
  objectFrom,
  stringFrom,
} from "../../kernel/contracts/contracts.ts";
import type {
  Input,
  JsonObject,
  JsonValue,
  NodeDraft,
  Receipt,
  SealedNode,
  SessionId,
} from "../../kernel/contracts/contracts.ts";
import { createSpent } from "../../kernel/budget/budget.ts";
import type { Spent } from "../../kernel/budget/budget.ts";
import { createKept } from "../../kernel/escalation/ceremony/ceremony.ts";
import { createRepeats } from "../../kernel/executor/executor.ts";
import type { Repeats } from "../../kernel/executor/executor.ts";
import { parseReceipt, readNode } from "../../kernel/receipts/receipts.ts";
import { freezeLog } from "../../kernel/trust/trust.ts";
import type { Freezes } from "../../kernel/trust/trust.ts";
import { effectDraft, releaseFrom, releaseInput } from "../govern/govern.ts";
import type { OpenIntent, Release, RestoredSession } from "../govern/govern.ts";
import type { Entry, Standing } from "../journal/journal.ts";

export interface Restored {
  readonly sessions: readonly RestoredSession[];
  /** Calls that were begun and have no outcome: closed as UNKNOWN, never carried out again. */
  readonly unknown: readonly NodeDraft[];
  /** Calls that the agent carries out and may still tell of. */
  readonly awaited: readonly OpenIntent[];
  /** A copy, for who goes on with it. */
  readonly freezes: Freezes;
  readonly spent: Spent;
  /** The nodes of ceremonies, in their order. */
  readonly ceremonies: readonly SealedNode[];
}
export interface GuardStanding extends Standing {
  restored(ownSession: SessionId, nowMs: number): Restored;
  /**
   * The idempotency keys, which the executor keeps up from here on: there may be many, and two copies of them would be
   * most of the guardian's memory. It takes a key before its INTENT is sealed, so they never lack what the log has.
   */
  repeats(): Repeats;
}

interface Known {
  principal: string;
  openedAtMs: number;
  calls: number;
  tainted: boolean;
}
interface Open {
  readonly sealed: SealedNode;
  readonly receipt: Receipt;
  readonly release: Release | undefined;
}
/** Facts are written right before the node that names them; of the same ones, the journal writes only the first. */
const REMEMBERED_FACTS = 256;

/** `trusted`: whether the policy in force trusts what a tool gives back. */
export function createStanding(trusted: (tool: string) => boolean): GuardStanding {
  let s = fromState(undefined);
  let handedOver = false;
  let announced: Release | undefined;

  /**
   * What was written since the last node: a call's messages and arguments, which are a caller's words and are read as nothing
   * else, the facts that the node names, and after those what the guardian wrote for itself beside an INTENT.
   */
  let waiting: Input[] = [];

  function noteWaiting(node: SealedNode["node"], receipt: Receipt | undefined): void {
    let own = 0;
    for (const [i, input] of waiting.entries()) {
      if (input.hash === receipt?.args_hash || input.hash === receipt?.facts_hash) own = i + 1;
      if (input.hash === receipt?.facts_hash) noteFacts(input);
    }
    if (node.kind === "INTENT") for (const { value } of waiting.slice(own)) noteOwn(value);
    waiting = [];
  }
  function noteFacts({ hash, value }: Input): void {
    s.facts.add(hash);
    for (const oldest of s.facts) {
      if (s.facts.size <= REMEMBERED_FACTS) break;
      s.facts.delete(oldest);
    }
    // The facts of a call say whether its session had read untrusted content by then.
    if (!isObject(value) || value["type"] !== "atoll.dev/facts/v1") return;
    const session = value["session"];
    if (isObject(session) && session["tainted"] === true && typeof session["id"] === "string")
      s.tainted.add(session["id"]);
  }
  function noteOwn(value: JsonValue): void {
    // A message that is written again beside arguments which are not has a role.
    if (isObject(value) && "role" in value) return;
    if (!handedOver) s.repeats.restoreInput(value);
    announced = releaseFrom(value) ?? announced;
  }

  function noteReceipt(sealed: SealedNode, receipt: Receipt): void {
    const { node } = sealed;
    s.spent.note(node, receipt);
    if (node.kind === "INTENT") {
      // It lies right before its INTENT, in one append with it.
      const release = announced?.receiptId === receipt.receipt_id ? announced : undefined;
      announced = undefined;
      s.open.set(receipt.effect_id, { sealed, receipt, release });
    }
    if (node.kind === "EFFECT") s.open.delete(receipt.effect_id);
    if (receipt.principal === "") return;
    let session = s.sessions.get(node.session_id);
    if (session === undefined) {
      session = {
        principal: receipt.principal,
        openedAtMs: epochOf(node.issued_at),
        calls: 0,
        tainted: false,
      };
      s.sessions.set(node.session_id, session);
    }
    if (node.kind === "INTENT") session.calls++;
    // A result may have come after the last facts; an error's text was read as well. Facts that are not there may have
    // said so too: whoever has the disk can take an input away, and gains nothing by it.
    const read = node.kind === "EFFECT" && receipt.tool.startsWith("tool:") && !trusted(receipt.tool);
    const missing = node.kind !== "EFFECT" && receipt.facts_hash !== "" && !s.facts.has(receipt.facts_hash);
    if (read || missing) session.tainted = true;
  }

  return {
    next(entry: Entry) {
      if (entry.kind === "input") return void waiting.push(entry.input);
      const { sealed } = entry;
      const { node } = sealed;
      const receipt = node.body["type"] === "atoll.dev/receipt/v1" ? parseReceipt(node.body) : undefined;
      noteWaiting(node, receipt);
      if (node.kind === "TRUST_EVENT") s.freezes.see(node.body, sealed.hash);
      if (!handedOver) s.repeats.restore(sealed);
      s.ceremonies.note(sealed);
      if (receipt !== undefined) noteReceipt(sealed, receipt);
    },
    state: () => ({
      sessions: [...s.sessions].map(([id, k]) => ({
        id,
        principal: k.principal,
        opened_at: k.openedAtMs,
        calls: k.calls,
        tainted: k.tainted || s.tainted.has(id),
      })),
      open: [...s.open.values()].map(({ sealed, release }) => ({
        node: { ...sealed.node },
        release: release === undefined ? null : releaseInput(release).value,
      })),
      freezes: s.freezes.state(),
      repeats: s.repeats.export(),
      inputs: [...s.facts],
      spent: s.spent.state(),
      ceremonies: s.ceremonies.state(),
    }),
    resume(state) {
      waiting = [];
      s = fromState(state);
    },
    reset() {
      waiting = [];
      s = fromState(undefined);
    },
    restored(ownSession, nowMs) {
      const awaited: OpenIntent[] = [];
      const unknown: NodeDraft[] = [];
      for (const { sealed, receipt, release } of s.open.values()) {
        if (release !== undefined && release.untilMs > nowMs) awaited.push({ sealed, receipt, release });
        else
          unknown.push(
            effectDraft({ sealed, receipt }, nowMs, { status: "UNKNOWN", code: "ERR_OUTCOME_UNKNOWN" }),
          );
      }
      const sessions = [...s.sessions].flatMap(([id, k]) =>
        id === ownSession ? [] : [{ id, ...k, tainted: k.tainted || s.tainted.has(id) }],
      );
      return {
        sessions,
        unknown,
        awaited,
        freezes: freezeLog(s.freezes.state()),
        spent: s.spent,
        ceremonies: s.ceremonies.nodes(),
      };
    },
    repeats() {
      handedOver = true;
      return s.repeats;
    },
  };
}

const MEMBERS = ["sessions", "open", "freezes", "repeats", "inputs", "spent", "ceremonies"];

function fromState(state: JsonObject | undefined) {
  const o = state === undefined ? { sessions: [], open: [], inputs: [] } : closed(state, "state", MEMBERS);
  const sessions = new Map<SessionId, Known>();
  for (const value of arrayFrom(o["sessions"], "sessions")) {
    const k = closed(value, "sessions", ["id", "principal", "opened_at", "calls", "tainted"]);
    sessions.set(idFrom("ses", k["id"], "sessions.id"), {
      principal: stringFrom(k["principal"], "sessions.principal", 4096),
      openedAtMs: integerFrom(k["opened_at"], "sessions.opened_at"),
      calls: integerFrom(k["calls"], "sessions.calls"),
      tainted: booleanFrom(k["tainted"], "sessions.tainted"),
    });
  }
  const open = new Map<string, Open>();
  for (const value of arrayFrom(o["open"], "open")) {
    const k = closed(value, "open", ["node", "release"]);
    const sealed = readNode(canonicalize(objectFrom(k["node"], "open.node")));
    const receipt = parseReceipt(sealed.node.body);
    open.set(receipt.effect_id, { sealed, receipt, release: releaseFrom(k["release"] ?? null) });
  }
  const repeats = createRepeats();
  if (o["repeats"] !== undefined) repeats.load(o["repeats"]);
  return {
    sessions,
    open,
    tainted: new Set<string>(),
    freezes: freezeLog(o["freezes"]),
    repeats,
    facts: new Set(arrayFrom(o["inputs"], "inputs").map((h) => hashFrom(h, "inputs"))),
    spent: createSpent(o["spent"]),
    ceremonies: createKept(o["ceremonies"]),
  };
}
