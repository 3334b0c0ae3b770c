// The API server is hostile: ApprovalRequests that were edited, forged, replayed or taken from another guardian. Nobody
// signs what was not shown, and no call passes by it. The guardian is whole; the cluster is a stand-in that lies.

import { generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { answer } from "../../cli/approve.ts";
import type { Cluster } from "../../cli/cluster.ts";
import { clusterRequests } from "../../cli/requests.ts";
import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { signAssertion } from "../../kernel/escalation/ceremony/ceremony.ts";
import type { Approval } from "../../kernel/escalation/ceremony/ceremony.ts";
import { scene } from "./scene.ts";
import type { Scene } from "./scene.ts";

const TOOL = "tool:github/create_release";
const textOf = (v: unknown): string => (typeof v === "string" ? v : "");
const SETUP_MS = 60_000;
let s: Scene;
let other: Scene;
let approver: Signer;
let second: Signer;
let calls = 0;
beforeAll(async () => {
  const quorum = (document: Record<string, unknown>, two: string): void => {
    const ceremonies = document["approvals"] as Record<string, { approvers: string[] }>;
    const one = ceremonies["one-person"];
    if (one === undefined) throw new Error("the demo's policy has no ceremony");
    Object.assign(one, { approvers: [...one.approvers, two], quorum: 2 });
  };
  s = await scene({ policy: quorum });
  other = await scene({ policy: quorum });
  approver = signerFromPem(s.approverPem);
  second = signerFromPem(s.approverTwoPem);
}, SETUP_MS);
afterAll(async () => {
  await s.close();
  await other.close();
});

const call = async (at: Scene, tag: string): Promise<string> => {
  const response = await fetch(`${at.base}/mcp/v1/execute`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tool: TOOL, arguments: { repo: "acme/web", tag } }),
  });
  const told = (await response.json()) as JsonObject;
  return response.status === 200 ? "" : textOf(told["reason_code"]);
};
const executed = (): number => s.tools.done.get("create_release") ?? 0;
/** One escalated call that waits, and its tag. */
async function pending(at = s): Promise<{ readonly approval: Approval; readonly tag: string }> {
  const tag = `v${++calls}`;
  expect(await call(at, tag)).toBe("DENY_APPROVAL_REQUIRED");
  const approval = at.guardian.ceremonies.all.at(-1);
  if (approval === undefined) throw new Error("nothing waits");
  return { approval, tag };
}

type Change = (o: Record<string, unknown>) => void;
const copy = (v: JsonObject): Record<string, unknown> =>
  JSON.parse(JSON.stringify(v)) as Record<string, unknown>;
/** The object as the operator makes it of a challenge. */
const requestOf = (challenge: JsonObject, id: string): Record<string, unknown> => ({
  metadata: { name: id.replace("_", "-"), namespace: "team-a", resourceVersion: "1" },
  spec: {
    approvalId: id,
    pod: "agent",
    podUid: "u-1",
    tool: challenge["tool"],
    principal: challenge["principal"],
    quorum: isObject(challenge["ceremony"]) ? challenge["ceremony"]["quorum"] : 0,
    challengeHash: hashJson(challenge),
    challenge,
    expiresAt: challenge["expires_at"],
  },
});

interface Told {
  readonly code: number;
  readonly out: string;
  /** What an approver's tool handed in. */
  readonly signed: JsonObject[];
  /** What the guardian said of each. */
  readonly refused: string[];
}
/** `atoll approve` against a cluster that shows `object`, with the guardian behind it. */
async function approve(object: Record<string, unknown>, id: string, yesTo = TOOL): Promise<Told> {
  const signed: JsonObject[] = [];
  const refused: string[] = [];
  const status: Record<string, unknown> = { counted: [], refused: [] };
  const cluster: Cluster = {
    name: "hostile",
    namespace: "team-a",
    close: () => undefined,
    async json(_path, options = {}) {
      if (options.method === "PATCH") {
        const patch = options.body as { status: { assertions: JsonObject[] } };
        for (const one of patch.status.assertions) {
          signed.push(one);
          const approvals = s.guardian.ceremonies;
          const target = approvals.all.find((a) => a.id === id);
          const result =
            target === undefined
              ? { ok: false as const, reason: "no such approval" }
              : await approvals.answer(target.id, one);
          if (result.ok) (status["counted"] as unknown[]).push(one["key_id"]);
          else {
            refused.push(result.reason);
            (status["refused"] as unknown[]).push({ key_id: one["key_id"], message: result.reason });
          }
        }
      }
      return JSON.parse(JSON.stringify({ ...object, status })) as never;
    },
  };
  let out = "";
  const stream = { write: (text: string | Uint8Array) => void (out += String(text)) };
  const code = await answer("approve", id, {
    io: { stdin: [] as never, stdout: stream, stderr: stream, env: {} },
    requests: clusterRequests(cluster, 1),
    signer: approver,
    reason: "",
    yesTo,
    json: false,
  }).catch((error: unknown) => {
    out += error instanceof Error ? error.message : "error";
    return 1;
  });
  return { code, out, signed, refused };
}

test("an honest cluster: the answer counts", async () => {
  const { approval } = await pending();
  const told = await approve(requestOf(approval.challenge, approval.id), approval.id);
  expect(told).toMatchObject({ code: 0, refused: [] });
  expect(told.signed.map((a) => a["challenge_hash"])).toEqual([approval.challengeHash]);
  expect(s.guardian.ceremonies.get(approval.id)?.approvedBy).toEqual([approver.keyId]);
});

const inChallenge =
  (change: Change): Change =>
  (o) =>
    change((o["spec"] as { challenge: Record<string, unknown> }).challenge);
const inShown = (change: Change): Change => inChallenge((c) => change(c["shown"] as Record<string, unknown>));
const terms = (change: Change): Change =>
  inChallenge((c) => change(c["ceremony"] as Record<string, unknown>));
const inSpec =
  (change: Change): Change =>
  (o) =>
    change(o["spec"] as Record<string, unknown>);
const zero = `sha256:${"0".repeat(64)}`;

const MEMBERS: readonly (readonly [what: string, change: Change])[] = [
  ["the tool", inSpec((x) => (x["tool"] = "tool:github/list_issues"))],
  ["the principal", inSpec((x) => (x["principal"] = "serviceAccount:local/friend"))],
  ["a lower quorum", inSpec((x) => (x["quorum"] = 1))],
  ["a later end", inSpec((x) => (x["expiresAt"] = "2999-01-01T00:00:00.000Z"))],
  ["another hash", inSpec((x) => (x["challengeHash"] = zero))],
  ["another id", inSpec((x) => (x["approvalId"] = `apr_${"0".repeat(32)}`))],
  ["no challenge", inSpec((x) => (x["challenge"] = {}))],
];
describe("an edit beside the challenge is seen, and nothing is signed:", () => {
  test.each(MEMBERS)("%s", async (_what, change) => {
    const { approval, tag } = await pending();
    const object = requestOf(copy(approval.challenge) as JsonObject, approval.id);
    change(object);
    const told = await approve(object, approval.id);
    expect(told).toMatchObject({ code: 1, signed: [] });
    expect(told.out).toContain("edited");
    expect(await call(s, tag)).toBe("DENY_APPROVAL_REQUIRED");
  });
});

const EDITS: readonly (readonly [what: string, change: Change])[] = [
  [
    "the tool, everywhere",
    (o) => (
      inChallenge((c) => (c["tool"] = "tool:github/list_issues"))(o),
      inShown((x) => (x["tool"] = "tool:github/list_issues"))(o)
    ),
  ],
  [
    "the principal, everywhere",
    (o) => (
      inChallenge((c) => (c["principal"] = "serviceAccount:a/b"))(o),
      inShown((x) => (x["principal"] = "serviceAccount:a/b"))(o)
    ),
  ],
  ["the arguments that are shown", inShown((x) => (x["arguments"] = { repo: "acme/web", tag: "harmless" }))],
  ["the consequence that is shown", inShown((x) => (x["consequence"] = "Nothing happens."))],
  ["the policy that is shown", inShown((x) => (x["policy"] = "strict"))],
  ["one more word that is shown", inShown((x) => (x["note"] = "safe"))],
  ["the arguments' hash", inChallenge((c) => (c["args_hash"] = zero))],
  ["the intent's hash", inChallenge((c) => (c["intent_hash"] = zero))],
  ["the policy's hash", inChallenge((c) => (c["policy_bundle_hash"] = zero))],
  ["the ceiling's hash", inChallenge((c) => (c["p0_ceiling_hash"] = zero))],
  ["the session", inChallenge((c) => (c["session_id"] = `ses_${"0".repeat(32)}`))],
  ["the nonce", inChallenge((c) => (c["nonce"] = "0".repeat(32)))],
  ["the quorum", terms((c) => (c["quorum"] = 1))],
  ["the timelock", terms((c) => (c["timelock_seconds"] = 1))],
  ["the hold", terms((c) => (c["hold_seconds"] = 1))],
  ["the approvers", terms((c) => (c["approvers"] = [approver.keyId]))],
  ["no confirmation asked", terms((c) => (c["confirm"] = false))],
  ["when it was asked", inChallenge((c) => (c["created_at"] = "2000-01-01T00:00:00.000Z"))],
  ["from when on", inChallenge((c) => (c["eligible_at"] = "2000-01-01T00:00:00.000Z"))],
  ["until when", inChallenge((c) => (c["expires_at"] = "2999-01-01T00:00:00.000Z"))],
];
describe("an edited challenge, with everything beside it made to fit: only what is shown is signed, and it counts for nothing:", () => {
  test.each(EDITS)("%s", async (_what, change) => {
    const { approval, tag } = await pending();
    const object = requestOf(copy(approval.challenge) as JsonObject, approval.id);
    change(object);
    const { challenge } = object["spec"] as { challenge: JsonObject };
    const fitting = { ...requestOf(challenge, approval.id) };
    const before = executed();
    const tool = isObject(challenge["shown"]) ? textOf(challenge["shown"]["tool"]) : "";
    const told = await approve(fitting, approval.id, tool);
    expect(told.code).toBe(1);
    for (const one of told.signed) expect(one["challenge_hash"]).toBe(hashJson(challenge));
    expect(told.refused).toEqual(told.signed.map(() => "it is for another challenge"));
    expect(told.signed.length).toBe(1);
    expect(s.guardian.ceremonies.get(approval.id)?.approvedBy).toEqual([]);
    expect(await call(s, tag)).toBe("DENY_APPROVAL_REQUIRED");
    expect(executed()).toBe(before);
  });
});

test("another guardian's challenge under this name is not signed", async () => {
  const { approval, tag } = await pending();
  const foreign = await pending(other);
  const object = requestOf(foreign.approval.challenge, approval.id);
  const told = await approve(object, approval.id);
  expect(told).toMatchObject({ code: 1, signed: [] });
  // With this approval's id written into it, it is shown, signed, and counts nowhere.
  const bent = { ...foreign.approval.challenge, approval_id: approval.id };
  const again = await approve(requestOf(bent, approval.id), approval.id);
  expect(again.refused).toEqual(["it is for another challenge"]);
  expect(other.guardian.ceremonies.get(foreign.approval.id)?.approvedBy).toEqual([]);
  expect(await call(s, tag)).toBe("DENY_APPROVAL_REQUIRED");
});

test("an earlier challenge of the same guardian under this name is not signed", async () => {
  const [old, now] = [await pending(), await pending()];
  const told = await approve(requestOf(old.approval.challenge, now.approval.id), now.approval.id);
  expect(told).toMatchObject({ code: 1, signed: [] });
});

test("a challenge that shows another call than it is for is not signed", async () => {
  const { approval } = await pending();
  const object = requestOf(copy(approval.challenge) as JsonObject, approval.id);
  inShown((x) => (x["tool"] = "tool:github/list_issues"))(object);
  const { challenge } = object["spec"] as { challenge: JsonObject };
  const told = await approve(requestOf(challenge, approval.id), approval.id, "tool:github/list_issues");
  expect(told).toMatchObject({ code: 1, signed: [] });
  expect(told.out).toContain("shows another call");
});

test("an object of another name than was asked for, and one that is over, are not signed", async () => {
  const { approval } = await pending();
  const object = requestOf(approval.challenge, approval.id);
  const renamed = { ...object, metadata: { name: `apr-${"0".repeat(32)}`, namespace: "team-a" } };
  expect(await approve(renamed, approval.id)).toMatchObject({ code: 1, signed: [] });
  const over = requestOf({ ...approval.challenge, expires_at: "2001-01-01T00:00:00.000Z" }, approval.id);
  const told = await approve(over, approval.id);
  expect(told).toMatchObject({ code: 1, signed: [] });
  expect(told.out).toContain("expired");
});

test("a tool's name that turns the text around is written out, and cannot be typed by mistake", async () => {
  const { approval } = await pending();
  const bent = "tool:github/\u202ecreate_release";
  const object = requestOf(
    {
      ...approval.challenge,
      tool: bent,
      shown: { ...(approval.challenge["shown"] as JsonObject), tool: bent },
    },
    approval.id,
  );
  const told = await approve(object, approval.id);
  expect(told).toMatchObject({ code: 1, signed: [] });
  expect(told.out).not.toContain("\u202e");
});

// What may stand in a status: every line is put before the guardian as the control stream brings it.
const sign = (challenge: JsonObject, signer: Signer, decision: "approve" | "reject" = "approve") =>
  signAssertion(challenge, { decision, shownAt: Date.now() - 1000, at: Date.now() }, signer);
const stranger = signerFromPem(
  generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }),
);
let replayed: JsonObject;
const FORGED: readonly (readonly [what: string, make: (c: JsonObject) => JsonValue | Promise<JsonValue>])[] =
  [
    ["a stranger's", (c) => sign(c, stranger)],
    ["a stranger's under an approver's name", (c) => ({ ...sign(c, stranger), key_id: approver.keyId })],
    ["a no turned into a yes", (c) => ({ ...sign(c, approver, "reject"), decision: "approve" })],
    ["one of another challenge", (c) => sign({ ...c, nonce: "0".repeat(32) }, approver)],
    [
      "one of another challenge, with this hash",
      (c) => ({ ...sign({ ...c, nonce: "0".repeat(32) }, approver), challenge_hash: hashJson(c) }),
    ],
    ["one of an earlier approval", () => replayed],
    ["another guardian's", async () => sign((await pending(other)).approval.challenge, approver)],
    ["a wrong confirmation", (c) => ({ ...sign(c, approver), confirm: zero })],
    ["a signature of nothing", (c) => ({ ...sign(c, approver), sig: "0".repeat(128) })],
    ["one member more", (c) => ({ ...sign(c, approver), note: "x" })],
    ["no object", () => "approve"],
    ["nothing", () => null],
    ["an override by an approver", (c) => ({ ...sign(c, approver), type: "atoll.dev/override/v1" })],
    [
      "signed ten years ago",
      (c) => signAssertion(c, { decision: "approve", shownAt: 1e12, at: 1e12 + 1000 }, approver),
    ],
  ];
describe("in a status, of two that are needed one is good and the other is", () => {
  beforeAll(async () => {
    const { approval, tag } = await pending();
    replayed = sign(approval.challenge, second);
    for (const key of [approver, second])
      expect(await s.guardian.ceremonies.answer(approval.id, sign(approval.challenge, key))).toMatchObject({
        ok: true,
      });
    expect(await call(s, tag)).toBe("");
  });
  test.each(FORGED)("%s: the call does not pass", async (_what, make) => {
    const { approval, tag } = await pending();
    const forged = await make(approval.challenge);
    const before = executed();
    const { ceremonies } = s.guardian;
    // The good one first, then last: its place changes nothing.
    expect((await ceremonies.answer(approval.id, forged).catch(() => ({ ok: false }))).ok).toBe(false);
    const good = sign(approval.challenge, second);
    expect((await ceremonies.answer(approval.id, good)).ok).toBe(true);
    expect((await ceremonies.answer(approval.id, forged).catch(() => ({ ok: false }))).ok).toBe(false);
    expect((await ceremonies.answer(approval.id, good)).ok).toBe(false);
    expect(ceremonies.get(approval.id)?.approvedBy).toEqual([second.keyId]);
    expect(await call(s, tag)).toBe("DENY_APPROVAL_REQUIRED");
    expect(executed()).toBe(before);
  });
});
