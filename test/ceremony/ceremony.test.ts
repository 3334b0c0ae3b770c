import { expect, test } from "vitest";
import type { ApprovalId, JsonObject } from "../../kernel/contracts/contracts.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { signAssertion, signOverride, signReview } from "../../kernel/escalation/ceremony/ceremony.ts";
import { approvers, bundleKey, ceremonyDoc, codeOf, overrider, world } from "./world.ts";
import { quickKey } from "../quick-key.ts";

const [ann = quickKey(""), bob = quickKey(""), cyd = quickKey("")] = approvers;
type World = ReturnType<typeof world>;
const challengeOf = (w: World, id: ApprovalId): JsonObject =>
  w.ceremonies.get(id)?.challenge ?? expect.fail("no such approval");

function say(w: World, id: ApprovalId, key: Signer, decision: "approve" | "reject" = "approve", held = 3000) {
  const answer = { decision, shownAt: w.wall - held, at: w.wall };
  return w.ceremonies.answer(id, signAssertion(challengeOf(w, id), answer, key));
}
async function escalated(doc?: JsonObject): Promise<readonly [World, ApprovalId]> {
  const w = world(doc);
  expect(codeOf(await w.call())).toBe("escalated");
  w.pass(5_000);
  return [w, w.waiting()];
}
async function granted(): Promise<readonly [World, ApprovalId]> {
  const [w, id] = await escalated();
  expect(await say(w, id, ann)).toMatchObject({ ok: true });
  expect(await say(w, id, bob)).toMatchObject({ ok: true });
  w.pass(60_000);
  return [w, id];
}

test("the approved call passes once, the next identical one escalates again", async () => {
  const [w] = await granted();
  expect(codeOf(await w.call())).toBe("done");
  expect(codeOf(await w.call())).toBe("escalated");
  expect(w.dispatched).toBe(1);
});
test("two identical calls in one moment do not share one approval", async () => {
  const [w] = await granted();
  const results = await Promise.all([w.call(), w.call(), w.call()]);
  expect(results.map(codeOf).sort()).toEqual(["done", "escalated", "escalated"]);
  expect(w.dispatched).toBe(1);
});
test("one changed byte of the arguments is another call", async () => {
  const [w] = await granted();
  expect(codeOf(await w.call({ repo: "acme/web", title: "v2" }))).toBe("escalated");
  expect(w.dispatched).toBe(0);
});
test("the same call of another session is another intent", async () => {
  const [w] = await granted();
  const base = w.journal.nodes[0]?.node.session_id ?? expect.fail("no node");
  const other = { id: base, principal: "serviceAccount:acme/other", calls: 0, tainted: false };
  const principal = {
    state: "verified" as const,
    id: other.principal,
    serviceAccount: "triage-bot",
    namespace: "acme",
    roles: [],
    tenant: "",
    delegator: "",
  };
  const openedAt = w.journal.nodes[0]?.node.issued_at ?? expect.fail("no node");
  expect(codeOf(await w.call(undefined, { principal, session: { ...other, openedAt } }))).toBe("escalated");
});
test("before the timelock the call still waits, although the quorum is met", async () => {
  const [w, id] = await escalated();
  await say(w, id, ann);
  await say(w, id, bob);
  w.pass(54_999);
  expect(codeOf(await w.call())).toBe("escalated");
  w.pass(1);
  expect(codeOf(await w.call())).toBe("done");
});
test("expiry is exclusive, told once, and the call after that starts anew", async () => {
  const [w] = await granted();
  w.pass(900_000 - 65_000);
  expect(codeOf(await w.call())).toBe("DENY_APPROVAL_TIMEOUT");
  expect(codeOf(await w.call())).toBe("escalated");
  expect(w.dispatched).toBe(0);
});
test("any reject ends it", async () => {
  const [w, id] = await escalated();
  await say(w, id, ann);
  await say(w, id, cyd, "reject", 0);
  expect(await say(w, id, bob)).toMatchObject({ ok: false, reason: "the approval is rejected" });
  w.pass(60_000);
  expect(codeOf(await w.call())).toBe("APPROVAL_REJECTED");
});
test("one approver counts once and below quorum nothing passes", async () => {
  const [w, id] = await escalated();
  await say(w, id, ann);
  expect(await say(w, id, ann)).toMatchObject({ ok: false, reason: "this key has answered already" });
  w.pass(60_000);
  expect(codeOf(await w.call())).toBe("escalated");
});
test("who signs bundles, or is not asked, or did not hold, or confirms another thing does not count", async () => {
  const [w, id] = await escalated();
  const no = { ok: false };
  expect(await say(w, id, bundleKey)).toMatchObject(no);
  expect(await say(w, id, quickKey("eve"))).toMatchObject(no);
  expect(await say(w, id, ann, "approve", 2999)).toMatchObject({ ...no, reason: "it was signed too soon" });
  const good = signAssertion(
    challengeOf(w, id),
    { decision: "approve", shownAt: w.wall - 3000, at: w.wall },
    ann,
  );
  for (const name of Object.keys(good)) {
    const value = good[name];
    const other = typeof value === "string" ? `${value.slice(0, -1)}${value.endsWith("0") ? "1" : "0"}` : 1;
    expect(await w.ceremonies.answer(id, { ...good, [name]: other }), name).toMatchObject(no);
  }
  expect(await w.ceremonies.answer(id, good)).toMatchObject({ ok: true });
});
test("an assertion for an edited challenge is for another challenge", async () => {
  const [w, id] = await escalated();
  const forged = { ...challengeOf(w, id), shown: { tool: "tool:calc/sum" } };
  const signed = signAssertion(forged, { decision: "approve", shownAt: w.wall - 3000, at: w.wall }, ann);
  expect(await w.ceremonies.answer(id, signed)).toMatchObject({
    ok: false,
    reason: "it is for another challenge",
  });
});
test("another policy ends what waits", async () => {
  const [w] = await granted();
  w.swap(ceremonyDoc({ holdSeconds: 4 }));
  expect(codeOf(await w.call())).toBe("escalated");
  expect(w.ceremonies.all[0]?.state).toBe("invalid");
});
test("a clock moved ten years forward or back lets nothing through", async () => {
  const year = 365 * 86_400_000;
  for (const [move, code] of [
    [10 * year, "DENY_APPROVAL_TIMEOUT"],
    [-10 * year, "escalated"],
  ] as const) {
    const [w] = await granted();
    w.jump(move);
    expect(codeOf(await w.call())).toBe(code);
    expect(w.dispatched).toBe(0);
  }
});
test("a restart in the same boot goes on waiting; another boot ends it as a timeout", async () => {
  const [w, id] = await escalated();
  await say(w, id, ann);
  w.restart();
  await say(w, id, bob);
  w.pass(60_000);
  w.restart();
  expect(codeOf(await w.call())).toBe("done");
  w.restart();
  expect(codeOf(await w.call())).toBe("escalated");
  expect(w.dispatched).toBe(1);

  const [other] = await granted();
  other.restart(true);
  expect(codeOf(await other.call())).toBe("DENY_APPROVAL_TIMEOUT");
});
test("an identical call while one is pending gets the same approval, and a ceremony has its rate", async () => {
  const w = world(ceremonyDoc({ maxPerHour: 2 }));
  await Promise.all([w.call(), w.call()]);
  expect(w.ceremonies.all.length).toBe(1);
  await w.call({ repo: "acme/web", title: "v2" });
  await w.call({ repo: "acme/web", title: "v3" });
  expect(w.ceremonies.all.length).toBe(2);
});
test("an override needs its own role, has no timelock, and stays open until another key reviews it", async () => {
  const [w, id] = await escalated();
  const by = (key: Signer) => signOverride(challengeOf(w, id), "the site is down", w.wall, key);
  expect(await w.ceremonies.answer(id, by(ann))).toMatchObject({ ok: false });
  const override = by(overrider);
  expect(await w.ceremonies.answer(id, override)).toMatchObject({ ok: true });
  expect(codeOf(await w.call())).toBe("done");
  expect(w.ceremonies.get(id)?.reviewOpen).toBe(true);
  expect(await w.ceremonies.review(id, signReview(override, w.wall, overrider), w.policy)).toMatchObject({
    ok: false,
  });
  expect(await w.ceremonies.review(id, signReview(override, w.wall, ann), w.policy)).toMatchObject({
    ok: true,
  });
  w.restart();
  expect(w.ceremonies.get(id)?.reviewOpen).toBe(false);
});
test("who waits hears of the grant, of the end and of the time", async () => {
  const [w, id] = await escalated(ceremonyDoc({ timelockSeconds: 0 }));
  const never = () => () => {};
  const heard = w.ceremonies.settled(id, 1000, never);
  await say(w, id, ann);
  await say(w, id, bob);
  expect(await heard).toBe(true);
  const [v, other] = await escalated();
  expect(await v.ceremonies.settled(other, 1, (_ms, run) => (queueMicrotask(run), () => {}))).toBe(false);
});
