// Freezes as orders. What people write on an object (a reason, and perhaps who) becomes one order with a time of its own,
// the same for every guardian in its scope, so that one signature lifts it for all of them. Orders are kept in a ConfigMap:
// clearing the field lifts nothing, also for guardians that start later, and a restart of ours makes no second order.
// Who owns that ConfigMap can withhold an order from guardians that start later; he cannot lift one, because every lifting
// in it is verified again when it is read.

import { isObject, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { freezeBody, freezeOrder, freezeOrderFrom, orderHash, parseAct } from "../../kernel/trust/trust.ts";
import type { FreezeOrder, SignedAct, TrustRoots } from "../../kernel/trust/trust.ts";
import { FREEZES, SYSTEM_NAMESPACE, isMap } from "../kinds/kinds.ts";
import type { JsonMap } from "../kinds/kinds.ts";
import { applyObject, notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import type { StreamEvent } from "./control.ts";

/** What an object says. */
export interface Said {
  /** "" = nothing is frozen by it. */
  readonly reason: string;
  readonly by: string;
  /** Changes when somebody writes the field anew, also with the same words. */
  readonly stamp: string;
  /** Signed liftings, as they stand on it. */
  readonly unfreeze: string;
}
interface Kept {
  readonly order: FreezeOrder;
  readonly name: Hash;
  lifted: JsonObject | undefined;
}
interface Scope {
  asked: Pick<Said, "reason" | "by" | "stamp"> | undefined;
  orders: Kept[];
  /** Liftings that name none of our orders, such as a guardian's own node: the guardian judges them. */
  others: JsonObject[];
}
export interface FreezesOptions {
  readonly client: Client;
  readonly roots: () => TrustRoots | undefined;
  readonly now: () => number;
  readonly log: (line: JsonMap) => void;
}
export interface FreezeOrders {
  /** Reads what was ordered before; until then nothing is ordered anew. */
  load(): Promise<void>;
  readonly loaded: boolean;
  /** Takes what an object says now; true when there is something new to tell. */
  take(scope: string, said: Said): boolean;
  /** All that guardians of a scope have to hear. */
  events(scope: string): StreamEvent[];
  /** Orders of a scope that nobody has lifted. */
  inForce(scope: string): readonly FreezeOrder[];
  readonly scopes: readonly string[];
  forget(scope: string): void;
  /** Resolves when what was taken is on disk, or has failed to get there. */
  store(): Promise<void>;
}

const LIFTINGS = 16;
/** Frozen so often, a scope needs no further order to stand still. */
const LIVE = 32;
const NOTHING: Said = { reason: "", by: "", stamp: "", unfreeze: "" };
const keyOf = (scope: string): string => scope.replace("/", ".");
const scopeOf = (key: string): string => key.replace(".", "/");

/** When a field was last written, by the API server's bookkeeping. */
function writtenAt(stamp: string): number | undefined {
  const times = [...stamp.matchAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g)].map(([t]) => Date.parse(t));
  const last = Math.max(...times);
  return Number.isFinite(last) ? last : undefined;
}

/** Signed objects on an object: one, or a list of them. */
function liftingsIn(text: string): { readonly raw: JsonObject; readonly act: SignedAct }[] {
  if (text === "" || text.length > 65_536) return [];
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch {
    return [];
  }
  return (Array.isArray(value) ? value : [value]).slice(0, LIFTINGS).flatMap((raw: JsonValue) => {
    try {
      return isObject(raw) ? [{ raw, act: parseAct(raw, "", "atoll.dev/unfreeze/v1") }] : [];
    } catch {
      return [];
    }
  });
}

export function makeFreezeOrders(options: FreezesOptions): FreezeOrders {
  const scopes = new Map<string, Scope>();
  let loaded = false;
  let dirty = false;
  let storing: Promise<void> | undefined;

  const byApprover = ({ act }: { readonly act: SignedAct }): boolean => {
    const key = options.roots()?.keyFor("approver", act.key_id);
    return key !== undefined && typeof key !== "string" && act.signedBy(key);
  };
  const known = ({ act }: { readonly act: SignedAct }): boolean =>
    options.roots()?.roleOf(act.key_id) !== undefined;
  const nameIn = ({ act: { act } }: { readonly act: SignedAct }): Hash | undefined =>
    act.type === "atoll.dev/unfreeze/v1" ? act.freeze : undefined;

  function read(scope: string, text: string): Scope {
    const value = JSON.parse(text) as JsonValue;
    if (!isObject(value)) throw new Error("no object");
    const asked = isObject(value["asked"]) ? value["asked"] : undefined;
    const word = (name: string): string => (typeof asked?.[name] === "string" ? asked[name] : "");
    return {
      asked:
        asked === undefined ? undefined : { reason: word("reason"), by: word("by"), stamp: word("stamp") },
      orders: (Array.isArray(value["orders"]) ? value["orders"] : []).flatMap((one: JsonValue): Kept[] => {
        if (!isObject(one)) return [];
        const order = freezeOrderFrom(one["order"], "order");
        if (order.scope !== scope) return [];
        const name = orderHash(order);
        const [lifting] = liftingsIn(JSON.stringify(one["lifted"] ?? null));
        // One that was signed by a key of which we know nothing any more stays what it was: guardians judge it themselves.
        const good =
          lifting !== undefined && nameIn(lifting) === name && (byApprover(lifting) || !known(lifting));
        return [{ order, name, lifted: good ? lifting.raw : undefined }];
      }),
      others: [],
    };
  }
  const textOf = ({ asked, orders }: Scope): string =>
    JSON.stringify({
      ...(asked === undefined ? {} : { asked }),
      orders: orders.map(({ order, lifted }) => ({
        order: freezeBody(order),
        ...(lifted === undefined ? {} : { lifted }),
      })),
    });

  async function write(): Promise<void> {
    while (dirty) {
      dirty = false;
      try {
        await applyObject(
          options.client,
          `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${FREEZES}`,
          {
            apiVersion: "v1",
            kind: "ConfigMap",
            metadata: { name: FREEZES, namespace: SYSTEM_NAMESPACE },
            data: Object.fromEntries(
              [...scopes].flatMap(([scope, kept]) =>
                kept.orders.length === 0 ? [] : [[keyOf(scope), textOf(kept)]],
              ),
            ),
          },
          "atoll-control",
        );
      } catch (error) {
        options.log({
          level: "error",
          event: "freezes",
          message: error instanceof Error ? error.message : "",
        });
        // It is said to the guardians all the same; the next look tries again.
        dirty = true;
        return;
      }
    }
  }

  return {
    get loaded() {
      return loaded;
    },
    async load() {
      let data: unknown;
      try {
        data = (await options.client.json(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${FREEZES}`))[
          "data"
        ];
      } catch (error) {
        if (!notFound(error)) throw error;
      }
      for (const [key, text] of Object.entries(isMap(data) ? data : {}))
        try {
          if (typeof text === "string") scopes.set(scopeOf(key), read(scopeOf(key), text));
        } catch (error) {
          options.log({
            level: "error",
            event: "freezes",
            key,
            message: error instanceof Error ? error.message : "",
          });
        }
      loaded = true;
    },
    take(scope, said) {
      let kept = scopes.get(scope);
      if (!loaded || (kept === undefined && said.reason === "" && said.unfreeze === "")) return false;
      if (kept === undefined) scopes.set(scope, (kept = { asked: undefined, orders: [], others: [] }));
      const before = textOf(kept) + JSON.stringify(kept.others);
      // Liftings first: what is asked for after them is a freeze of its own.
      const others: JsonObject[] = [];
      for (const lifting of liftingsIn(said.unfreeze)) {
        const found = kept.orders.find(({ name }) => name === nameIn(lifting));
        if (found === undefined) others.push(lifting.raw);
        else if (found.lifted === undefined && byApprover(lifting)) found.lifted = lifting.raw;
      }
      kept.others = others;
      if (said.reason === "") kept.asked = undefined;
      else {
        const { asked, orders } = kept;
        const live = orders.filter(({ lifted }) => lifted === undefined).length;
        const { reason, by, stamp } = said;
        const anew = asked?.reason !== reason || asked.by !== by || (live === 0 && asked.stamp !== stamp);
        if (anew && live < LIVE) {
          // Of the time at which it was written: a restart before it is kept makes the same order again.
          let ms = writtenAt(stamp) ?? options.now();
          let order = freezeOrder(scope, reason, by, timestampOf(ms));
          while (orders.some((o) => o.name === orderHash(order)))
            order = freezeOrder(scope, reason, by, timestampOf(++ms));
          orders.push({ order, name: orderHash(order), lifted: undefined });
        }
        // One too many is ordered when another was lifted.
        if (!anew || live < LIVE) kept.asked = { reason, by, stamp };
      }
      const over = kept.orders.filter(({ lifted }) => lifted !== undefined).slice(-LIFTINGS);
      kept.orders = kept.orders.filter((o) => o.lifted === undefined || over.includes(o));
      const changed = textOf(kept) + JSON.stringify(kept.others) !== before;
      if (changed) dirty = true;
      return changed;
    },
    events(scope) {
      const kept = scopes.get(scope);
      if (kept === undefined) return [];
      return [
        ...kept.orders.map(
          ({ order, lifted }): StreamEvent =>
            lifted === undefined
              ? { event: "freeze", data: { ...order } }
              : { event: "unfreeze", data: { scope, unfreeze: lifted } },
        ),
        ...kept.others.map((unfreeze): StreamEvent => ({ event: "unfreeze", data: { scope, unfreeze } })),
      ];
    },
    inForce: (scope) =>
      (scopes.get(scope)?.orders ?? []).filter((o) => o.lifted === undefined).map((o) => o.order),
    get scopes() {
      return [...scopes.keys()];
    },
    forget(scope) {
      if (scopes.delete(scope)) dirty = true;
    },
    store: () =>
      (storing ??= write().finally(() => {
        storing = undefined;
      })),
  };
}

/** What a pod or a sidecar says, in the words of `take`. */
export const said = (parts: Partial<Said>): Said => ({ ...NOTHING, ...parts });
