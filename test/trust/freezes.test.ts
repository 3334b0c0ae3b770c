// What one signature lifts (7.1): the freeze that it names, by its node or by its order, and no other, and once.
import { expect, test } from "vitest";
import type { Timestamp } from "../../kernel/contracts/contracts.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { freezeBody, freezeLog, freezeOrder, freezeOrderFrom, orderHash } from "../../kernel/trust/trust.ts";

const at = "2026-11-20T08:17:06.123Z" as Timestamp;
const later = "2026-11-20T08:17:06.124Z" as Timestamp;
const fleet = freezeOrder("gs/strong", "odd calls", "alice", at);
const lifting = (freeze: string) => ({ event: "UNFREEZE", unfreeze: { freeze } });

test("two guardians that obey one order have nodes of their own and one name for it", () => {
  const [one, two] = [freezeLog(), freezeLog()];
  one.see(freezeBody(fleet), sha256("node of one"));
  two.see(freezeBody(fleet), sha256("node of two"));
  expect(one.inForce[0]?.node).not.toBe(two.inForce[0]?.node);
  for (const log of [one, two]) {
    expect(log.find(orderHash(fleet))?.order).toBe(orderHash(fleet));
    log.see(lifting(orderHash(fleet)), sha256("lifting"));
    expect(log.inForce).toEqual([]);
    expect(log.lifted(orderHash(fleet))).toBe(true);
  }
});

test("the node of a freeze names it as well, and lifts it where it stands alone", () => {
  const [one, two] = [freezeLog(), freezeLog()];
  one.see(freezeBody(fleet), sha256("node of one"));
  two.see(freezeBody(fleet), sha256("node of two"));
  for (const log of [one, two]) log.see(lifting(sha256("node of one")), sha256("lifting"));
  expect([one.inForce.length, two.inForce.length]).toEqual([0, 1]);
});

test("every word of an order, and its time, makes another freeze of it", () => {
  const others = [
    { ...fleet, scope: "gs/weak" },
    { ...fleet, scope: "pod/u-1" },
    { ...fleet, reason: "odd calls " },
    { ...fleet, by: "bob" },
    { ...fleet, at: later },
  ];
  expect(new Set([fleet, ...others].map(orderHash)).size).toBe(6);
  const log = freezeLog();
  others.forEach((o, i) => log.see(freezeBody(o), sha256(`${i}`)));
  log.see(lifting(orderHash(fleet)), sha256("lifting"));
  expect(log.inForce.length).toBe(others.length);
});

test("with two freezes in force, lifting one leaves the other, and a lifting again lifts nothing", () => {
  const second = { ...fleet, at: later };
  const log = freezeLog();
  log.see(freezeBody(fleet), sha256("1"));
  log.see(freezeBody(second), sha256("2"));
  log.see(lifting(orderHash(fleet)), sha256("3"));
  expect(log.inForce.map((f) => f.node)).toEqual([sha256("2")]);
  log.see(lifting(orderHash(fleet)), sha256("4"));
  expect(log.inForce.length).toBe(1);
});

test("a lifting without a name lifts nothing", () => {
  const log = freezeLog();
  log.see(freezeBody(fleet), sha256("1"));
  for (const unfreeze of [null, {}, { freeze: "" }, { freeze: "all" }, { freeze: sha256("else") }])
    log.see({ event: "UNFREEZE", unfreeze }, sha256("2"));
  expect(log.inForce.length).toBe(1);
});

test("an order in anybody's words fits an event; one with a foreign scope is refused", () => {
  const long = freezeOrder("gs/strong", `${"x".repeat(499)}\u{1f600}`, "\ud800", at);
  expect(freezeOrderFrom(freezeBody(long), "")).toEqual(long);
  expect(() => orderHash(long)).not.toThrow();
  for (const scope of ["", "everyone", "gs/", "pod/a b", "gs/A"])
    expect(() => freezeOrderFrom(freezeBody({ ...fleet, scope }), "")).toThrow(/expected `all`/);
});
