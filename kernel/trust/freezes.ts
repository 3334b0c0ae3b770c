// Which freezes are in force, as the trust events of a log say it. A freeze has two names: the node that records it, and
// its order, the hash of that node's body. The body is the same in every guardian that was told, so that one signature
// lifts one freeze everywhere, and lifts no other: an order that was lifted is never in force again.

import {
  ContractError,
  arrayFrom,
  closed,
  hashFrom,
  isHash,
  isObject,
  objectFrom,
  oneOf,
  stringFrom,
  timestampFrom,
} from "../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue, Timestamp } from "../contracts/contracts.ts";
import { hashJson } from "../crypto/crypto.ts";

export interface FreezeOrder {
  /** `all`, `gs/NAME` or `pod/UID`. */
  readonly scope: string;
  readonly reason: string;
  readonly by: string;
  readonly at: Timestamp;
}
export interface FreezeInForce {
  readonly node: Hash;
  readonly order: Hash;
  readonly body: JsonObject;
}

/** An order in anybody's words, cut to what an event may hold. */
export const freezeOrder = (scope: string, reason: string, by: string, at: Timestamp): FreezeOrder => ({
  scope,
  reason: cut(reason),
  by: cut(by),
  at,
});
const cut = (text: string): string => text.slice(0, 500).toWellFormed();

/** The body of the FREEZE event that obeys an order. */
export const freezeBody = ({ scope, reason, by, at }: FreezeOrder): JsonObject => ({
  type: "atoll.dev/trust-event/v1",
  event: "FREEZE",
  scope,
  reason,
  by,
  at,
});
export const orderHash = (order: FreezeOrder): Hash => hashJson(freezeBody(order));

export function freezeOrderFrom(value: JsonValue | undefined, path: string): FreezeOrder {
  const o = closed(value, path, ["type", "event", "scope", "reason", "by", "at"]);
  oneOf(o["type"], "type", ["atoll.dev/trust-event/v1"]);
  oneOf(o["event"], "event", ["FREEZE"]);
  const scope = stringFrom(o["scope"], "scope", 300);
  if (!/^(all|gs\/[a-z0-9.-]+|pod\/[A-Za-z0-9-]+)$/.test(scope))
    throw new ContractError("scope", "expected `all`, `gs/NAME` or `pod/UID`");
  return {
    scope,
    reason: stringFrom(o["reason"], "reason", 500),
    by: stringFrom(o["by"], "by", 500),
    at: timestampFrom(o["at"], "at"),
  };
}

export interface Freezes {
  /** In the order in which they were written. */
  readonly inForce: readonly FreezeInForce[];
  /** The freeze in force with this node or this order. */
  find(name: Hash): FreezeInForce | undefined;
  /** Whether this order was obeyed here and has been lifted. */
  lifted(order: Hash): boolean;
  /** Takes note of a trust event that stands in the log. */
  see(body: JsonObject, node: Hash): void;
  /** As plain data, from which `freezeLog` goes on. */
  state(): JsonObject;
}

export function freezeLog(state?: JsonValue): Freezes {
  const held = new Map<Hash, FreezeInForce>();
  const over = new Set<Hash>();
  if (state !== undefined) {
    const o = closed(state, "freezes", ["held", "over"]);
    for (const value of arrayFrom(o["held"], "freezes.held")) {
      const f = closed(value, "freezes.held", ["node", "body"]);
      const body = objectFrom(f["body"], "freezes.held.body");
      const order = hashJson(body);
      held.set(order, { node: hashFrom(f["node"], "freezes.held.node"), order, body });
    }
    for (const order of arrayFrom(o["over"], "freezes.over")) over.add(hashFrom(order, "freezes.over"));
  }
  const find = (name: Hash): FreezeInForce | undefined =>
    held.get(name) ?? [...held.values()].find((f) => f.node === name);
  return {
    get inForce() {
      return [...held.values()];
    },
    find,
    lifted: (order) => over.has(order),
    state: () => ({ held: [...held.values()].map(({ node, body }) => ({ node, body })), over: [...over] }),
    see(body, node) {
      if (body["event"] === "FREEZE") {
        const order = hashJson(body);
        if (!held.has(order)) held.set(order, { node, order, body });
      } else if (body["event"] === "UNFREEZE" && isObject(body["unfreeze"])) {
        const name = body["unfreeze"]["freeze"];
        const found = isHash(name) ? find(name) : undefined;
        if (found === undefined) return;
        held.delete(found.order);
        over.add(found.order);
      }
    },
  };
}
