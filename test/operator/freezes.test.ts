// Freezes as orders (7.1): what an object says, what guardians of its scope are told, and what a restart of ours knows.
import { beforeEach, expect, test } from "vitest";
import type { JsonObject, Timestamp } from "../../kernel/contracts/contracts.ts";
import {
  freezeBody,
  freezeOrderFrom,
  orderHash,
  parseTrustRoots,
  signAct,
} from "../../kernel/trust/trust.ts";
import { podState } from "../../operator/controllers/projection.ts";
import { makeFreezeOrders, said } from "../../operator/control/freezes.ts";
import type { FreezeOrders } from "../../operator/control/freezes.ts";
import { ApiError } from "../../operator/runtime/runtime.ts";
import type { Client } from "../../operator/runtime/runtime.ts";
import { makeKey } from "./whole.ts";

const approver = makeKey();
const policy = makeKey();
const roots = parseTrustRoots(`role: approver\n${approver.pem}\nrole: policy\n${policy.pem}\n`);
let stored: { data?: Record<string, string> } | undefined;
let clock: number;
let broken: boolean;
const client: Client = {
  json: async (_path, options = {}) => {
    await Promise.resolve();
    if (broken) throw new ApiError(500, "", "broken");
    if (options.method === "PATCH") {
      stored = JSON.parse(JSON.stringify(options.body)) as typeof stored;
      return {};
    }
    if (stored === undefined) throw new ApiError(404, "NotFound", "");
    return stored;
  },
  stream: () => Promise.reject(new Error("no stream here")),
  close: () => undefined,
};
const open = async (): Promise<FreezeOrders> => {
  const orders = makeFreezeOrders({ client, roots: () => roots, now: () => clock++, log: () => undefined });
  await orders.load();
  return orders;
};
const frozen = said({ reason: "odd calls", by: "alice", stamp: "t1" });
const orderIn = (orders: FreezeOrders, at = 0) => {
  const order = orders.inForce("gs/strong")[at];
  if (order === undefined) throw new Error("nothing is ordered");
  return order;
};
const lift = (orders: FreezeOrders, key = approver, at = 0): JsonObject =>
  signAct(
    { type: "atoll.dev/unfreeze/v1", freeze: orderHash(orderIn(orders, at)), reason: "looked" },
    "2026-11-20T08:17:06.123Z" as Timestamp,
    key.signer,
  );
beforeEach(() => {
  stored = undefined;
  clock = Date.parse("2026-11-20T08:00:00.000Z");
  broken = false;
});

test("what an object says becomes one order, however often it is looked at", async () => {
  const orders = await open();
  expect(orders.take("gs/strong", frozen)).toBe(true);
  for (let i = 0; i < 3; i++) expect(orders.take("gs/strong", frozen)).toBe(false);
  expect(orders.inForce("gs/strong").length).toBe(1);
  const [event] = orders.events("gs/strong");
  expect(freezeOrderFrom({ ...freezeBody(event?.data as never) }, "")).toEqual(orderIn(orders));
});

test("a restart knows the order, also when the field was cleared meanwhile", async () => {
  const first = await open();
  first.take("gs/strong", frozen);
  await first.store();
  const order = orderIn(first);
  const second = await open();
  expect(second.take("gs/strong", said({}))).toBe(true);
  expect(orderIn(second)).toEqual(order);
  expect(second.events("gs/strong")[0]).toMatchObject({ event: "freeze" });
});

test("a restart before it was kept makes the same order again, and another writing another", async () => {
  const stamp = "kubectl-annotate Update 2026-11-20T08:17:06Z";
  const [first, second, third] = [await open(), await open(), await open()];
  first.take("gs/strong", { ...frozen, stamp });
  second.take("gs/strong", { ...frozen, stamp });
  third.take("gs/strong", { ...frozen, stamp: stamp.replace(":06Z", ":07Z") });
  expect(orderIn(second)).toEqual(orderIn(first));
  expect(orderIn(first).at).toBe("2026-11-20T08:17:06.000Z");
  expect(orderIn(third)).not.toEqual(orderIn(first));
});

test("lifted and written again within one second: another order", async () => {
  const orders = await open();
  const stamp = "kubectl-annotate Update 2026-11-20T08:17:06Z";
  orders.take("gs/strong", { ...frozen, stamp });
  const old = JSON.stringify(lift(orders));
  orders.take("gs/strong", said({ unfreeze: old }));
  orders.take("gs/strong", { ...frozen, stamp, unfreeze: old });
  expect(orders.inForce("gs/strong").map((o) => o.at)).toEqual(["2026-11-20T08:17:06.001Z"]);
});

test("nothing is ordered before it is known what was", () => {
  const orders = makeFreezeOrders({ client, roots: () => roots, now: () => clock, log: () => undefined });
  expect(orders.take("gs/strong", frozen)).toBe(false);
  expect(orders.events("gs/strong")).toEqual([]);
});

test("one signed lifting ends the order for everybody; it is told on, and a restart remembers it", async () => {
  const orders = await open();
  orders.take("gs/strong", frozen);
  const unfreeze = lift(orders);
  expect(orders.take("gs/strong", said({ unfreeze: JSON.stringify(unfreeze) }))).toBe(true);
  expect(orders.inForce("gs/strong")).toEqual([]);
  expect(orders.events("gs/strong")).toEqual([{ event: "unfreeze", data: { scope: "gs/strong", unfreeze } }]);
  await orders.store();
  expect((await open()).inForce("gs/strong")).toEqual([]);
});

test("a lifting by another role, an edited one, and one of another freeze end nothing", async () => {
  const orders = await open();
  orders.take("gs/strong", frozen);
  const good = lift(orders);
  const other = signAct(
    {
      type: "atoll.dev/unfreeze/v1",
      freeze: orderHash({ ...orderIn(orders), scope: "gs/weak" }),
      reason: "",
    },
    "2026-11-20T08:17:06.123Z" as Timestamp,
    approver.signer,
  );
  for (const bad of [
    lift(orders, policy),
    lift(orders, makeKey()),
    { ...good, reason: "edited" },
    other,
    7,
    "x",
  ])
    orders.take("gs/strong", { ...frozen, unfreeze: JSON.stringify(bad) });
  expect(orders.inForce("gs/strong").length).toBe(1);
});

test("a lifting that somebody wrote into the ConfigMap lifts nothing", async () => {
  const orders = await open();
  orders.take("gs/strong", frozen);
  await orders.store();
  const data = stored?.data ?? {};
  const kept = JSON.parse(data["gs.strong"] ?? "{}") as { orders: { lifted?: unknown }[] };
  for (const one of kept.orders) one.lifted = { ...lift(orders), sig: "0".repeat(128) };
  data["gs.strong"] = JSON.stringify(kept);
  expect((await open()).inForce("gs/strong").length).toBe(1);
  data["gs.strong"] = "no json";
  expect((await open()).take("gs/strong", frozen)).toBe(true);
});

test("after a lifting the same words are a freeze of their own, and the old signature does not lift it", async () => {
  const orders = await open();
  orders.take("gs/strong", frozen);
  const old = JSON.stringify(lift(orders));
  orders.take("gs/strong", said({ unfreeze: old }));
  // Written again, with the old lifting still on the object.
  orders.take("gs/strong", { ...frozen, unfreeze: old, stamp: "t2" });
  expect(orders.inForce("gs/strong").length).toBe(1);
  orders.take("gs/strong", { ...frozen, unfreeze: old, stamp: "t2" });
  expect(orders.inForce("gs/strong").length).toBe(1);
});

test("lifted and frozen again while nobody looked, with the same words: frozen", async () => {
  const orders = await open();
  orders.take("gs/strong", frozen);
  const old = JSON.stringify(lift(orders));
  await orders.store();
  const after = await open();
  after.take("gs/strong", { ...frozen, unfreeze: old, stamp: "t2" });
  expect(after.inForce("gs/strong").length).toBe(1);
  expect(orderHash(orderIn(after))).not.toBe(orderHash(orderIn(orders)));
});

test("lifted but not cleared: nothing is ordered anew while nobody writes the field", async () => {
  const orders = await open();
  orders.take("gs/strong", frozen);
  const old = JSON.stringify(lift(orders));
  for (let i = 0; i < 3; i++) orders.take("gs/strong", { ...frozen, unfreeze: old });
  expect(orders.inForce("gs/strong")).toEqual([]);
});

test("other words while it is frozen are a second freeze, and each is lifted by itself", async () => {
  const orders = await open();
  orders.take("gs/strong", frozen);
  orders.take("gs/strong", { ...frozen, reason: "second thoughts" });
  expect(orders.inForce("gs/strong").length).toBe(2);
  const both = [lift(orders, approver, 0), lift(orders, approver, 1)];
  orders.take("gs/strong", said({ unfreeze: JSON.stringify([both[1]]) }));
  expect(orders.inForce("gs/strong").map((o) => o.reason)).toEqual(["odd calls"]);
  orders.take("gs/strong", said({ unfreeze: JSON.stringify(both) }));
  expect(orders.inForce("gs/strong")).toEqual([]);
});

test("orders are few however often the words change, and the last words are not forgotten", async () => {
  const orders = await open();
  for (let i = 0; i < 100; i++) orders.take("gs/strong", { ...frozen, reason: `r${i}` });
  const held = orders.inForce("gs/strong").length;
  expect(held).toBe(32);
  const all = orders.inForce("gs/strong").map((_, i) => lift(orders, approver, i));
  const last = { ...frozen, reason: "r99" };
  for (let at = 0; at < all.length; at += 16)
    orders.take("gs/strong", { ...last, unfreeze: JSON.stringify(all.slice(at, at + 16)) });
  expect(orders.inForce("gs/strong").map((o) => o.reason)).toEqual(["r99"]);
});

test("it is told though it cannot be kept, and kept when that is possible again", async () => {
  const orders = await open();
  broken = true;
  orders.take("gs/strong", frozen);
  await orders.store();
  expect(orders.events("gs/strong").length).toBe(1);
  broken = false;
  await orders.store();
  expect((await open()).inForce("gs/strong")).toEqual(orders.inForce("gs/strong"));
});

test("an annotation without a word freezes too; none, and one of another name, do not", () => {
  const frozen = (annotations: object): string => podState({ metadata: { annotations } } as never).frozen;
  expect(["", " ", "true", "odd"].map((v) => frozen({ "atoll.dev/freeze": v }))).toEqual([
    "no reason given",
    "no reason given",
    "true",
    "odd",
  ]);
  expect(frozen({})).toBe("");
  expect(frozen({ "atoll.dev/freezer": "x" })).toBe("");
});

test("a field that is written anew with the same value has another stamp", () => {
  const stamp = (time: string): string | undefined =>
    podState({
      metadata: {
        annotations: { "atoll.dev/freeze": "x" },
        managedFields: [
          {
            manager: "a",
            operation: "Update",
            time,
            fieldsV1: { "f:metadata": { "f:annotations": { "f:atoll.dev/freeze": {} } } },
          },
          {
            manager: "kubelet",
            operation: "Update",
            time: "2027-01-01T00:00:00Z",
            fieldsV1: { "f:status": {} },
          },
        ],
      },
    }).freezeStamp;
  expect(stamp("2026-11-20T08:17:06Z")).toBe("a Update 2026-11-20T08:17:06Z");
  expect(stamp("2026-11-20T08:17:07Z")).not.toBe(stamp("2026-11-20T08:17:06Z"));
});
