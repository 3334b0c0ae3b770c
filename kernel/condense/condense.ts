// The door of condensation: which receipts may give way to the proof that they were there. By effect class: E0 and E1
// once a checkpoint covers them, E2 when they are older than the time given, E3 and E4 never. What is still open, what
// begins a session and what is no receipt stays.

import { epochOf } from "../contracts/contracts.ts";
import type { EffectClass, Receipt, SealedNode, Timestamp } from "../contracts/contracts.ts";
import type { Entry } from "../evidence/evidence.ts";
import { parseReceipt } from "../receipts/receipts.ts";

export type Tier = "low" | "medium" | "high";

export function tierOf(effect: EffectClass | ""): Tier {
  switch (effect) {
    case "E0":
    case "E1":
      return "low";
    case "E2":
      return "medium";
    case "E3":
    case "E4":
    case "":
      return "high";
  }
  return effect satisfies never;
}

export interface CondenseOptions {
  /** Nodes of the medium tier that were issued before may go; without it they stay. */
  readonly before?: Timestamp;
}

/** Whether a node under a checkpoint may go. `entries` is the same log, read once to learn which effects are closed. */
export function condensable(
  entries: Iterable<Entry>,
  options: CondenseOptions = {},
): (entry: Entry & { readonly kind: "node" }) => boolean {
  const closed = new Set<string>();
  const open = new Set<string>();
  for (const entry of entries) {
    if (entry.kind === "input") continue;
    const receipt = receiptIn(entry.sealed);
    if (receipt === undefined || !may(entry.sealed, receipt, options)) continue;
    if (entry.sealed.node.kind === "INTENT") open.add(receipt.effect_id);
    else if (open.delete(receipt.effect_id)) closed.add(receipt.effect_id);
  }
  return ({ sealed }) => {
    const receipt = receiptIn(sealed);
    if (receipt === undefined || sealed.node.lamport === 1 || !may(sealed, receipt, options)) return false;
    return sealed.node.kind === "ATTESTATION" || closed.has(receipt.effect_id);
  };
}

function may({ node }: SealedNode, receipt: Receipt, { before }: CondenseOptions): boolean {
  switch (tierOf(receipt.effect_class)) {
    case "low":
      return true;
    case "medium":
      return before !== undefined && epochOf(node.issued_at) < epochOf(before);
    case "high":
      return false;
  }
}

function receiptIn({ node }: SealedNode): Receipt | undefined {
  if (node.kind !== "INTENT" && node.kind !== "EFFECT" && node.kind !== "ATTESTATION") return undefined;
  return node.body["type"] === "atoll.dev/receipt/v1" ? parseReceipt(node.body) : undefined;
}
