// A policy changes while agents call: real guardians, the real control stream, a real API server.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { standInTools } from "../../cli/demo/standins.ts";
import type { StandIn } from "../../cli/demo/standins.ts";
import { signAssertion } from "../../kernel/escalation/ceremony/ceremony.ts";
import { isId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { freezeOrderFrom, orderHash, signAct } from "../../kernel/trust/trust.ts";
import type { FreezeOrder } from "../../kernel/trust/trust.ts";
import { apply, until } from "./api.ts";
import type { Api, Json } from "./api.ts";
import { TOOL_SECRET, livePolicy, startMember } from "./guardians.ts";
import type { Member } from "./guardians.ts";
import { sidecarSpec } from "./shapes.ts";
import { approverKey, bundle, makeKey, startWhole } from "./whole.ts";
import type { Whole } from "./whole.ts";

let whole: Whole;
let api: Api;
let tools: StandIn;
const members: Member[] = [];
const NAMES = ["one", "two", "three"];
const KINDS = "/apis/atoll.dev/v1alpha1";
const ISSUE = "tool:github/create_issue";

const version = async (n: number, denied: readonly string[] = []): Promise<string> => {
  const object = bundle({ version: n, content: livePolicy(tools.url, `v${n}`, denied) });
  await until(
    `version ${n} is stored`,
    async () => (await api.call("POST", `${KINDS}/policybundles`, object)).status === 201,
  );
  return String((object["spec"] as Json)["contentHash"]);
};
const sidecar = (more: Json): Promise<unknown> =>
  apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: { ...sidecarSpec(), ...more },
  });
const runs = (n: number): Promise<void> =>
  until(
    `all run version ${n}`,
    () => Promise.resolve(members.every((m) => m.guardian.active.version === `repo-agents@${n}`)),
    60,
  );
const status = async (): Promise<{ running: { hash: string; pods: number }[]; rolledBack: string[] }> =>
  (await api.call("GET", `${KINDS}/guardiansidecars/strong`)).body["status"] as never;
/** Agents that call, each some fifteen times a second, so that denials stay below a flood, until they are told to stop; what was not answered with success is kept. */
let quiet: (() => void) | undefined;
afterEach(() => quiet?.());
let begun = 0;
function agents(): { stop(): Promise<{ calls: number; failed: Json[] }> } {
  const going = { on: true };
  // A key of an earlier run would be a repeat, and its answer may be gone.
  const run = ++begun;
  let calls = 0;
  const failed: Json[] = [];
  quiet = () => (going.on = false);
  const loops = members.flatMap((m) =>
    [0, 1].map(async (k) => {
      while (going.on) {
        const key = `${m.name}-${run}-${k}-${calls}`;
        const told = await m
          .call(ISSUE, { repo: "acme/web", title: key }, key)
          .catch((error: unknown) => ({ status: 0, reason: String(error), body: {} as Json }));
        calls++;
        if (told.status !== 200)
          failed.push({ reason: told.reason, status: told.status, message: told.body["message"] });
        await new Promise((resolve) => setTimeout(resolve, 60));
      }
    }),
  );
  return {
    async stop() {
      going.on = false;
      await Promise.all(loops);
      return { calls, failed };
    },
  };
}

/** Freezes that the operator keeps for a scope and nobody has lifted. */
const frozenIn = async (scope: string): Promise<FreezeOrder[]> => {
  const { body } = await api.call("GET", "/api/v1/namespaces/atoll-system/configmaps/atoll-freezes");
  const text = (body["data"] as Record<string, string>)[scope.replace("/", ".")] ?? "{}";
  const { orders = [] } = JSON.parse(text) as { orders?: { order: JsonObject; lifted?: unknown }[] };
  return orders.filter((o) => o.lifted === undefined).map((o) => freezeOrderFrom(o.order, ""));
};
const one = (orders: readonly FreezeOrder[]): FreezeOrder => {
  const [order] = orders;
  if (order === undefined) throw new Error("nothing is frozen");
  return order;
};

beforeAll(async () => {
  whole = await startWhole();
  api = whole.api;
  tools = await standInTools(TOOL_SECRET);
  await until("the webhook is ready", async () => Promise.resolve(whole.webhook.ready()));
  await version(1);
  await sidecar({});
  await until("the policy is distributed", async () => {
    const map = await api.call("GET", "/api/v1/namespaces/team-a/configmaps/atoll-policy-strong");
    return map.status === 200;
  });
  for (const name of NAMES) members.push(await startMember(whole, "strong", name));
});
afterAll(async () => {
  for (const m of members) await m.close();
  await tools.close();
  await whole.stop();
});

test("five versions go live while agents call, and no call fails", async () => {
  const at = agents();
  let hash = "";
  for (const n of [2, 3, 4, 5, 6]) {
    hash = await version(n);
    await runs(n);
  }
  const { calls, failed } = await at.stop();
  process.stdout.write(`live: ${calls} calls over five changes, ${failed.length} failed\n`);
  expect(failed).toEqual([]);
  expect(calls).toBeGreaterThan(20);
  await until("the status says which pods run which hash", async () => {
    const { running } = await status();
    return JSON.stringify(running) === JSON.stringify([{ hash, pods: 3 }]);
  });
  for (const m of members) {
    const activated = [...m.guardian.journal.entries()]
      .flatMap((e) => (e.kind === "node" ? [e.sealed.node.body] : []))
      .filter((b) => b["event"] === "POLICY_ACTIVATE");
    expect(activated.length).toBeGreaterThanOrEqual(6);
  }
});

test("an older version is not taken, whoever announces it, and the same version with other content neither", async () => {
  const [first] = members;
  const old = (await api.call("GET", `${KINDS}/policybundles/repo-agents-v3`)).body;
  const judgement = { bundle: old, content: (old["spec"] as Json)["content"], good: true } as never;
  // As a taken-over operator would: past its own controllers.
  whole.desk.setPolicy("strong", { committed: judgement }, undefined);
  await until("it is refused", async () =>
    Promise.resolve(
      members.every((m) =>
        m.said.some((s) => s.event === "policy_refused" && JSON.stringify(s.data).includes("a rollback")),
      ),
    ),
  );
  expect(first?.guardian.active.version).toBe("repo-agents@6");
});

test("Staged: a version that denies too much runs on one pod, falls back by itself, and is never tried again", async () => {
  await sidecar({
    rollout: { strategy: "Staged", percent: 34, band: { denyPercent: 10, errorPercent: 5, seconds: 10 } },
  });
  const at = agents();
  const bad = await version(7, [ISSUE]);
  await until(
    "one pod tries it",
    async () =>
      Promise.resolve(members.filter((m) => m.guardian.active.version === "repo-agents@7").length === 1),
    60,
  );
  await until("it is rolled back", async () => (await status()).rolledBack.includes(bad), 60);
  await runs(6);
  const { failed } = await at.stop();
  const tried = members.filter((m) => m.said.some((s) => s.event === "policy" && s.data["hash"] === bad));
  expect(tried.length).toBe(1);
  // So many denials in a second may also be told as a flood.
  for (const f of failed) expect(["DENY_RULE", "RATE_LIMIT_EXCEEDED"]).toContain(f["reason"]);
  expect(await whole.condition("guardiansidecars/strong", "PolicyActive")).toMatchObject({
    status: "True",
    reason: "RolledBack",
  });
  const { body } = await api.call("GET", "/api/v1/namespaces/team-a/configmaps/atoll-policy-strong");
  expect(JSON.parse((body["data"] as Record<string, string>)["bundle.json"] ?? "{}")).toMatchObject({
    version: 6,
  });
});

test("Staged: a good version runs on one pod first and reaches the rest after its time, without a failed call", async () => {
  const at = agents();
  const good = await version(8);
  await until(
    "one pod tries it",
    async () =>
      Promise.resolve(members.filter((m) => m.guardian.active.version === "repo-agents@8").length === 1),
    60,
  );
  await until("the status says so", async () => {
    const condition = await whole.condition("guardiansidecars/strong", "PolicyActive");
    return condition["reason"] === "Staged";
  });
  await runs(8);
  const { calls, failed } = await at.stop();
  process.stdout.write(`staged: ${calls} calls, ${failed.length} failed\n`);
  expect(failed).toEqual([]);
  expect((await status()).rolledBack).not.toContain(good);
  await sidecar({});
});

test("a guardian that starts again goes on with what was committed, though its ConfigMap were older", async () => {
  const last = members.pop();
  if (last === undefined) throw new Error("no member");
  const again = await last.again();
  members.push(again);
  expect(again.guardian.active.version).toBe("repo-agents@8");
});

test("an escalated call becomes an object; only the true answer of the right person lets it pass, and once", async () => {
  const [m] = members;
  if (m === undefined) throw new Error("no member");
  const release = { repo: "acme/web", tag: "v1" };
  const told = await m.call("tool:github/create_release", release);
  const id = /apr_[0-9a-f]{32}/.exec(JSON.stringify(told.body))?.[0];
  if (!isId("apr", id)) throw new Error("no approval is named");
  const path = `${KINDS}/namespaces/team-a/approvalrequests/${id.replace("_", "-")}`;
  await until("the object is there", async () => (await api.call("GET", path)).status === 200);
  const { body } = await api.call("GET", path);
  const challenge = (body["spec"] as Json)["challenge"] as JsonObject;
  expect(challenge).toEqual(m.guardian.ceremonies.get(id)?.challenge);
  const answer = (assertions: unknown[]): Promise<{ message: string }> =>
    api.call("PATCH", `${path}/status`, { status: { assertions } }, "application/merge-patch+json");
  const now = Date.now();
  const asked = (): Promise<{ status: number; reason: string }> =>
    m.call("tool:github/create_release", release);
  // A stranger's, one of another call, one that was edited: none of them counts.
  const forged = signAssertion(
    challenge,
    { decision: "approve", shownAt: now - 1000, at: now },
    makeKey().signer,
  );
  const foreign = signAssertion(
    { ...challenge, nonce: "0".repeat(32) },
    { decision: "approve", shownAt: now - 1000, at: now },
    approverKey.signer,
  );
  const edited = {
    ...signAssertion(challenge, { decision: "reject", shownAt: now - 1000, at: now }, approverKey.signer),
    decision: "approve",
  };
  for (const one of [forged, foreign, edited]) expect((await answer([one])).message).toBe("");
  await until("all three are refused", async () =>
    Promise.resolve(m.said.filter((s) => s.event === "answer_refused").length >= 3),
  );
  expect((await asked()).reason).toBe("DENY_APPROVAL_REQUIRED");
  const good = signAssertion(
    challenge,
    { decision: "approve", shownAt: now - 1000, at: Date.now() },
    approverKey.signer,
  );
  expect((await answer([forged, good])).message).toBe("");
  await until("it is granted", async () =>
    Promise.resolve(m.guardian.ceremonies.get(id)?.state === "granted"),
  );
  expect((await asked()).status).toBe(200);
  expect(tools.done.get("create_release")).toBe(1);
  // Replayed to the same guardian and to another: the approval is used.
  expect((await answer([good])).message).toBe("");
  expect((await asked()).reason).toBe("DENY_APPROVAL_REQUIRED");
  expect(tools.done.get("create_release")).toBe(1);
});

test("an annotation stops one agent, the sidecar's spec all of them, and clearing either lifts nothing", async () => {
  const call = (m: Member): Promise<string> =>
    m.call(ISSUE, { repo: "acme/web", title: "x" }).then((t) => (t.status === 200 ? "" : t.reason));
  const [first, ...rest] = members;
  if (first === undefined) throw new Error("no member");
  const annotate = (value: string | null): Promise<unknown> =>
    api.call(
      "PATCH",
      `/api/v1/namespaces/team-a/pods/${first.name}`,
      { metadata: { annotations: { "atoll.dev/freeze": value } } },
      "application/merge-patch+json",
    );
  const began = performance.now();
  await annotate("looks odd");
  await until("the one is frozen", async () => (await call(first)) === "SYSTEM_FROZEN");
  process.stdout.write(`annotation to first denied call: ${(performance.now() - began).toFixed(0)} ms\n`);
  for (const m of rest) expect(await call(m)).toBe("");
  await annotate(null);
  await sidecar({ freeze: { reason: "all of them", by: "test" } });
  const all = performance.now();
  await until("all are frozen", async () =>
    (await Promise.all(members.map(call))).every((r) => r === "SYSTEM_FROZEN"),
  );
  process.stdout.write(`spec change to last denied call: ${(performance.now() - all).toFixed(0)} ms\n`);
  await sidecar({});
  await until("the spec is cleared", async () => {
    const { body } = await api.call("GET", `${KINDS}/guardiansidecars/strong`);
    return !("freeze" in (body["spec"] as Json));
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  for (const m of members) expect(await call(m)).toBe("SYSTEM_FROZEN");
});

test("one signature lifts the fleet's freeze in every guardian, also in one that started again, and no other freeze", async () => {
  const call = (m: Member): Promise<string> =>
    m.call(ISSUE, { repo: "acme/web", title: "x" }).then((t) => (t.status === 200 ? "" : t.reason));
  const all = (reason: string): Promise<void> =>
    until(`all say \`${reason}\``, async () =>
      (await Promise.all(members.map(call))).every((r) => r === reason),
    );
  const [first] = members;
  const last = members.pop();
  if (first === undefined || last === undefined) throw new Error("no member");
  members.push(await last.again());
  // Frozen still by the two freezes above: the fleet's in all, the annotation's in the first.
  await all("SYSTEM_FROZEN");
  const orders = await frozenIn(`gs/strong`);
  expect(orders.length).toBe(1);
  for (const m of members)
    expect(m.guardian.freezer.inForce.map((f) => f.order)).toContain(orderHash(one(orders)));
  expect(new Set(members.map((m) => m.guardian.freezer.state).map((f) => JSON.stringify(f))).size).toBe(3);
  const lifting = (freeze: string, key = approverKey): JsonObject =>
    signAct(
      { type: "atoll.dev/unfreeze/v1", freeze: freeze as never, reason: "looked" },
      timestampOf(Date.now()),
      key.signer,
    );
  const onSidecar = (unfreeze: unknown): Promise<unknown> =>
    api.call(
      "PATCH",
      `${KINDS}/guardiansidecars/strong`,
      { metadata: { annotations: { "atoll.dev/unfreeze": JSON.stringify(unfreeze) } } },
      "application/merge-patch+json",
    );
  // Not an approver's, and not of this freeze: nobody goes on.
  await onSidecar([
    lifting(orderHash(one(orders)), makeKey()),
    lifting(orderHash({ ...one(orders), scope: "gs/other" })),
  ]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await all("SYSTEM_FROZEN");
  const good = lifting(orderHash(one(orders)));
  await onSidecar(good);
  // The pod's own freeze is another: the first stays where it is.
  await until("the others go on", async () =>
    (await Promise.all(members.slice(1).map(call))).every((r) => r === ""),
  );
  expect(await call(first)).toBe("SYSTEM_FROZEN");
  const own = await frozenIn(`pod/${first.uid}`);
  await api.call(
    "PATCH",
    `/api/v1/namespaces/team-a/pods/${first.name}`,
    {
      metadata: { annotations: { "atoll.dev/unfreeze": JSON.stringify(lifting(orderHash(one(own)))) } },
    },
    "application/merge-patch+json",
  );
  await all("");
  // The same words later are another freeze; the old signature, still on the object, does not lift it.
  await sidecar({ freeze: { reason: "all of them", by: "test" } });
  await all("SYSTEM_FROZEN");
  await onSidecar([good, { ...good }]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await all("SYSTEM_FROZEN");
  const [again] = await frozenIn("gs/strong");
  if (again === undefined) throw new Error("nothing is frozen");
  expect(orderHash(again)).not.toBe(orderHash(one(orders)));
  await onSidecar(lifting(orderHash(again)));
  await sidecar({});
  await all("");
  for (const m of members) {
    const events = [...m.guardian.journal.entries()]
      .flatMap((e) => (e.kind === "node" ? [e.sealed.node] : []))
      .filter((n) => n.kind === "TRUST_EVENT")
      .map((n) => n.body["event"]);
    expect(events.filter((e) => e === "FREEZE").length).toBe(m === first ? 3 : 2);
    expect(events.filter((e) => e === "UNFREEZE").length).toBe(m === first ? 3 : 2);
  }
});
