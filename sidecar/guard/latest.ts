// The latest receipts, as an agent may read them again.

import type { JsonObject, SealedNode, SessionId } from "../../kernel/contracts/contracts.ts";
import type { OpenJournal } from "../journal/journal.ts";

const KEPT_RECEIPTS = 4_000;

/** As the text of their nodes: as objects they would be most of the guardian's memory. */
export class ReceiptIndex {
  readonly #byId = new Map<string, { readonly session: string; readonly text: string }>();
  readonly #ring: string[] = [];
  #next = 0;
  add({ node, text }: SealedNode): void {
    const id = node.body["receipt_id"];
    if (typeof id === "string") this.#keep(id, node.session_id, text);
  }
  #keep(id: string, session: SessionId, text: string): void {
    // In a ring, because a map that loses its oldest member each time is slow to find the next one.
    const oldest = this.#ring[this.#next];
    if (oldest !== undefined) this.#byId.delete(oldest);
    this.#ring[this.#next] = id;
    this.#next = (this.#next + 1) % KEPT_RECEIPTS;
    this.#byId.set(id, { session, text });
  }
  get(id: string, session: string): JsonObject | undefined {
    const found = this.#byId.get(id);
    if (found?.session !== session) return undefined;
    const kept: { readonly body: JsonObject } = JSON.parse(found.text);
    return kept.body;
  }
}

/** The latest nodes with a receipt, in their order. */
export const recentReceipts = (journal: OpenJournal): readonly SealedNode[] =>
  [...journal.latest(KEPT_RECEIPTS, (node) => node.body["type"] === "atoll.dev/receipt/v1")].toReversed();
