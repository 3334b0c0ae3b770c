// What a restart knows from the journal: sessions, budgets, calls that were under way, the freeze, receipts by id.

import { epochOf } from "../../kernel/contracts/contracts.ts";
import type {
  JsonObject,
  JsonValue,
  NodeDraft,
  Receipt,
  SealedNode,
  SessionId,
} from "../../kernel/contracts/contracts.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { freezeLog } from "../../kernel/trust/trust.ts";
import type { Freezes } from "../../kernel/trust/trust.ts";
import { effectDraft, releaseFrom } from "../govern/govern.ts";
import type { OpenIntent, Release, RestoredSession } from "../govern/govern.ts";
import type { Entry } from "../journal/journal.ts";

export interface Restored {
  readonly sessions: readonly RestoredSession[];
  /** Calls that were begun and have no outcome: closed as UNKNOWN, never carried out again. */
  readonly unknown: readonly NodeDraft[];
  /** Calls that the agent carries out and may still tell of. */
  readonly awaited: readonly OpenIntent[];
  readonly freezes: Freezes;
  readonly receipts: readonly {
    readonly receipt: Receipt;
    readonly session: SessionId;
    readonly lamport: number;
    readonly atMs: number;
  }[];
}

const isReceipt = (body: JsonObject): boolean => body["type"] === "atoll.dev/receipt/v1";

export function restore(
  entries: Iterable<Entry>,
  ownSession: SessionId,
  nowMs: number,
  /** Whether the policy trusts what a tool gives back. */
  trusted: (tool: string) => boolean,
  each: (sealed: SealedNode) => void,
  eachInput: (value: JsonValue | null) => void,
): Restored {
  const sessions = new Map<SessionId, { principal: string; openedAtMs: number; calls: number }>();
  const open = new Map<string, { readonly sealed: SealedNode; readonly receipt: Receipt }>();
  const receipts: Restored["receipts"][number][] = [];
  const releases = new Map<string, Release>();
  const tainted = new Map<string, boolean>();
  const freezes = freezeLog();
  for (const entry of entries) {
    if (entry.kind === "input") {
      // The facts of a call say whether its session had read untrusted content by then; they stand in the log in the
      // order in which they were gathered, so the last word counts.
      const facts = entry.input.value;
      eachInput(facts);
      const release = releaseFrom(facts);
      if (release !== undefined) releases.set(release.receiptId, release);
      if (
        typeof facts === "object" &&
        facts !== null &&
        "type" in facts &&
        facts["type"] === "atoll.dev/facts/v1"
      ) {
        const session = facts["session"];
        if (
          typeof session === "object" &&
          session !== null &&
          "id" in session &&
          typeof session["id"] === "string" &&
          "tainted" in session
        )
          tainted.set(session["id"], session["tainted"] === true);
      }
      continue;
    }
    const { node, hash } = entry.sealed;
    each(entry.sealed);
    if (node.kind === "TRUST_EVENT") freezes.see(node.body, hash);
    if (!isReceipt(node.body)) continue;
    const receipt = parseReceipt(node.body);
    receipts.push({
      receipt,
      session: node.session_id,
      lamport: node.lamport,
      atMs: epochOf(node.issued_at),
    });
    if (receipts.length > 20_000) receipts.splice(0, 10_000);
    if (node.kind === "INTENT") open.set(receipt.effect_id, { sealed: entry.sealed, receipt });
    if (node.kind === "EFFECT") {
      releases.delete(open.get(receipt.effect_id)?.receipt.receipt_id ?? "");
      open.delete(receipt.effect_id);
    }
    if (node.session_id === ownSession || receipt.principal === "") continue;
    let session = sessions.get(node.session_id);
    if (session === undefined)
      sessions.set(
        node.session_id,
        (session = {
          principal: receipt.principal,
          openedAtMs: epochOf(node.issued_at),
          calls: 0,
        }),
      );
    if (node.kind === "INTENT") session.calls++;
    // A result may have come after the last facts; an error's text was read as well.
    if (node.kind === "EFFECT" && receipt.tool.startsWith("tool:") && !trusted(receipt.tool))
      tainted.set(node.session_id, true);
  }
  const awaited: OpenIntent[] = [];
  const unknown: NodeDraft[] = [];
  for (const { sealed, receipt } of open.values()) {
    const release = releases.get(receipt.receipt_id);
    if (release !== undefined && release.untilMs > nowMs) awaited.push({ sealed, receipt, release });
    else
      unknown.push(
        effectDraft({ sealed, receipt }, nowMs, { status: "UNKNOWN", code: "ERR_OUTCOME_UNKNOWN" }),
      );
  }
  return {
    sessions: [...sessions].map(([id, s]) => ({ id, ...s, tainted: tainted.get(id) === true })),
    unknown,
    awaited,
    freezes,
    receipts,
  };
}
