// What is in a pack, for those who want more of it than its validity: nodes in their order, inputs, documents.
// Nothing is judged here beyond its form and its hash; `verifyPack` judges.

import { LIMITS, idFrom, isObject } from "../contracts/contracts.ts";
import type { Hash, JsonObject, SealedNode, SessionId } from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";
import { readNode } from "../receipts/receipts.ts";
import { broken, placed } from "./finding.ts";
import { canonicalValue, linesOfFile, wholeFile } from "./lines.ts";
import { PACK_LIMITS, isCondensed, parseCondensed, parseOrderLine } from "./manifest.ts";
import type { Condensed, OrderLine } from "./manifest.ts";
import { INPUTS } from "./places.ts";
import { readInput } from "./record.ts";
import type { InputEntry } from "./record.ts";
import type { PackFile } from "./tar.ts";

export type PackLine = { readonly file: string; readonly line: number; readonly session: SessionId } & (
  | { readonly kind: "node"; readonly sealed: SealedNode }
  | { readonly kind: "condensed"; readonly link: Condensed }
);

export type NumberedInput = InputEntry & { readonly line: number };

export interface PackContents {
  /** All nodes in the order in which they were written, or some sessions one after another. */
  readonly order: "journal" | "session";
  nodes(): Generator<PackLine>;
  /** Records of inputs as they stand there: a conversation's arguments name their messages. `inputShelf` puts them together. */
  inputs(): Generator<NumberedInput>;
  /** A document of the pack that has this hash; undefined when it is not there. */
  document(hash: Hash): JsonObject | undefined;
}

export function packContents(list: readonly PackFile[]): PackContents {
  const files = new Map(list.map((file) => [file.path, file]));
  const orderFile = files.get("checkpoints.jsonl");
  const orders = (): Iterable<Order> => (orderFile === undefined ? [] : orderLines(orderFile));
  const whole = kindOf(orders()) === "journal";

  function* journalOrder(): Generator<PackLine> {
    const readers = new Map<SessionId, Generator<PackLine>>();
    for (const { order } of orders())
      for (const [session, count] of order)
        for (let n = 0; n < count; n++) {
          let reader = readers.get(session);
          if (reader === undefined) readers.set(session, (reader = sessionLines(files, session)));
          const step = reader.next();
          if (step.done === true)
            throw broken(`nodes/${session}.jsonl`, 0, "has fewer nodes than the order says");
          yield step.value;
        }
  }
  function* sessionOrder(): Generator<PackLine> {
    for (const path of [...files.keys()].sort()) {
      const name = /^nodes\/(.+)\.jsonl$/.exec(path)?.[1];
      if (name !== undefined) yield* sessionLines(files, idFrom("ses", name, "session"));
    }
  }

  return {
    order: whole ? "journal" : "session",
    nodes: () => (whole ? journalOrder() : sessionOrder()),
    *inputs() {
      const file = files.get(INPUTS);
      if (file === undefined) return;
      for (const { number, bytes } of linesOfFile(file))
        yield { ...placed(file.path, number, () => readInput(bytes)), line: number };
    },
    document(hash) {
      const name = `${hash.slice("sha256:".length)}.json`;
      for (const folder of ["policies", "bundles", "schemas"]) {
        const file = files.get(`${folder}/${name}`);
        if (file === undefined) continue;
        const value = placed(file.path, 0, () =>
          canonicalValue(wholeFile(file, LIMITS.policy.bytes), LIMITS.policy),
        );
        if (!isObject(value) || hashJson(value) !== hash)
          throw broken(file.path, 0, "its content has another hash than its name", "POLICY_HASH_MISMATCH");
        return value;
      }
      return undefined;
    },
  };
}

export type Order = OrderLine & { readonly line: number };

/** Orders of a whole journal name its sessions; those of a pack of some sessions name none. */
export function kindOf(orders: Iterable<Order>): "journal" | "session" | "none" {
  let kind: "session" | "none" = "none";
  for (const { order } of orders) {
    if (order.length > 0) return "journal";
    kind = "session";
  }
  return kind;
}

/** Each names every session that moved: together they are longer than what fits into memory. */
export function* orderLines(file: PackFile): Generator<Order> {
  for (const { number, bytes } of linesOfFile(file))
    yield {
      line: number,
      ...placed(file.path, number, () => parseOrderLine(canonicalValue(bytes, PACK_LIMITS))),
    };
}

function* sessionLines(files: ReadonlyMap<string, PackFile>, session: SessionId): Generator<PackLine> {
  const path = `nodes/${session}.jsonl`;
  const file = files.get(path);
  if (file === undefined) throw broken(path, 0, "is missing");
  for (const { number, bytes } of linesOfFile(file)) {
    const place = { file: path, line: number, session };
    const value = placed(path, number, () => canonicalValue(bytes, LIMITS.node));
    if (placed(path, number, () => isCondensed(value)))
      yield { ...place, kind: "condensed", link: placed(path, number, () => parseCondensed(value)) };
    else yield { ...place, kind: "node", sealed: placed(path, number, () => readNode(bytes)) };
  }
}
