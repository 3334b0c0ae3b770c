// The control stream with real tokens, judged by a real TokenReview.
import { request } from "node:https";
import { afterAll, beforeAll, expect, test } from "vitest";
import { helloText } from "../../operator/control/identity.ts";
import { apply, until } from "./api.ts";
import type { Json } from "./api.ts";
import { sidecarSpec } from "./shapes.ts";
import { bundle, makeKey, pod, startWhole } from "./whole.ts";
import type { Key, Whole } from "./whole.ts";

let whole: Whole;
const uids = new Map<string, string>();
const keys = new Map<string, Key>([
  ["one", makeKey()],
  ["two", makeKey()],
]);

beforeAll(async () => {
  whole = await startWhole();
  const { api } = whole;
  await apply(api, bundle({ version: 1 }));
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec(),
  });
  await until("the webhook is ready", async () => Promise.resolve(whole.webhook.ready()));
  for (const name of keys.keys()) {
    await until(
      `pod ${name} is admitted`,
      async () => (await api.call("POST", "/api/v1/namespaces/team-a/pods", pod(name))).status === 201,
    );
    const { body } = await api.call("GET", `/api/v1/namespaces/team-a/pods/${name}`);
    uids.set(name, (body["metadata"] as { uid: string }).uid);
  }
  await until("the pods are known", async () => Promise.resolve(whole.controllers.pods.size === 2));
});
afterAll(() => whole.stop());

async function token(name: string, audience = "atoll"): Promise<string> {
  const { body, message } = await whole.api.call(
    "POST",
    "/api/v1/namespaces/team-a/serviceaccounts/default/token",
    {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {
        audiences: [audience],
        boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid: uids.get(name) },
      },
    },
  );
  if (message !== "") throw new Error(message);
  return (body["status"] as { token: string }).token;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}
function call(
  method: string,
  path: string,
  headers: Record<string, string>,
  body?: unknown,
  onEvent?: (event: string, data: Json) => void,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: "127.0.0.1",
        port: whole.control.port,
        path,
        method,
        ca: whole.controlCa,
        headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      },
      (response) => {
        let text = "";
        if (onEvent !== undefined && response.statusCode === 200) resolve({ status: 200, text: "" });
        response.on("data", (part: Buffer) => {
          text += part.toString("utf8");
          if (onEvent === undefined) return;
          for (let at = text.indexOf("\n\n"); at !== -1; at = text.indexOf("\n\n")) {
            const [, event = "", data = "{}"] = /^event: (.*)\ndata: (.*)$/.exec(text.slice(0, at)) ?? [];
            text = text.slice(at + 2);
            onEvent(event, JSON.parse(data) as Json);
          }
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
        response.on("error", () => resolve({ status: 0, text }));
      },
    );
    sent.on("error", reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** The headers of a guardian: its pod's token, and a nonce signed by its key. */
async function headers(
  name: string,
  key: Key,
  uid: string = uids.get(name) ?? "",
): Promise<Record<string, string>> {
  const authorization = `Bearer ${await token(name)}`;
  const nonce = (JSON.parse((await call("POST", "/v1/nonce", { authorization })).text) as { nonce: string })
    .nonce;
  const publicKey = Buffer.from(key.signer.publicKey).toString("hex");
  return {
    authorization,
    "x-atoll-key": publicKey,
    "x-atoll-nonce": nonce,
    "x-atoll-signature": key.signer.sign(helloText(nonce, uid, publicKey)),
  };
}
const keyOf = (name: string): Key => keys.get(name) ?? makeKey();
const events: (readonly [string, Json])[] = [];
const seen = (event: string): Json | undefined => events.findLast(([e]) => e === event)?.[1];

test("a guardian hears what is in force, then that this was all, then heartbeats", async () => {
  const opened = await call("GET", "/v1/stream", await headers("one", keyOf("one")), undefined, (e, d) =>
    events.push([e, d]),
  );
  expect(opened.status).toBe(200);
  await until("a heartbeat", async () => Promise.resolve(seen("heartbeat") !== undefined));
  const names = events.map(([e]) => e);
  expect(names.indexOf("policy")).toBeGreaterThanOrEqual(0);
  expect(names.indexOf("policy")).toBeLessThan(names.indexOf("synced"));
  const policy = seen("policy") as { hash: string };
  const fetched = await call("GET", `/v1/bundles/${policy.hash}`, {
    authorization: `Bearer ${await token("one")}`,
  });
  expect(JSON.parse(fetched.text)).toMatchObject({
    type: "atoll.dev/bundle/v1",
    bundleId: "repo-agents",
    version: 1,
  });
});

test("a new version, a freeze and an answered approval reach the guardian", async () => {
  const began = Date.now();
  await apply(whole.api, bundle({ version: 2 }));
  await until("version 2 is announced", async () =>
    Promise.resolve((seen("policy") as { version?: number }).version === 2),
  );
  expect(Date.now() - began).toBeLessThan(5000);
  await apply(whole.api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec({ freeze: { reason: "drill" } }),
  });
  await until("the freeze is heard", async () => Promise.resolve(seen("freeze") !== undefined));
  expect(seen("freeze")).toMatchObject({ scope: "gs/strong", reason: "drill" });
  const id = `apr_${"a".repeat(32)}`;
  const challenge = {
    type: "atoll.dev/approval-challenge/v1",
    approval_id: id,
    tool: "tool:calc/sum",
    principal: "serviceAccount:team-a/default",
    ceremony: { quorum: 2 },
    expires_at: "2030-01-01T00:00:00.000Z",
  };
  expect((await call("POST", "/v1/approvals", await headers("one", keyOf("one")), challenge)).status).toBe(
    200,
  );
  const path = `/apis/atoll.dev/v1alpha1/namespaces/team-a/approvalrequests/${id.replace("_", "-")}`;
  const stored = await whole.api.call("GET", path);
  expect(stored.body["spec"]).toMatchObject({ approvalId: id, pod: "one", quorum: 2, challenge });
  const assertion = {
    key_id: `ed25519:${"1".repeat(16)}`,
    sig: "a".repeat(128),
    decision: "approve",
    confirm: "x",
  };
  await whole.api.call(
    "PATCH",
    `${path}/status`,
    { status: { assertions: [assertion] } },
    "application/merge-patch+json",
  );
  await until("the answer is heard", async () => Promise.resolve(seen("approval") !== undefined));
  expect(seen("approval")).toEqual({ approval_id: id, reviews: [], assertions: [assertion] });
});

test("what guardians report shows in the status", async () => {
  const policy = seen("policy") as { hash: string };
  const report = {
    policy_hash: policy.hash,
    ceiling_hash: "",
    lock_proved: true,
    decisions: { total: 3, denied: 1, errors: 0 },
  };
  expect((await call("POST", "/v1/report", await headers("one", keyOf("one")), report)).status).toBe(200);
  await until("the status has it", async () => {
    const { body } = await whole.api.call("GET", "/apis/atoll.dev/v1alpha1/guardiansidecars/strong");
    return (
      JSON.stringify((body["status"] as Json)["running"]) === JSON.stringify([{ hash: policy.hash, pods: 1 }])
    );
  });
  expect(await whole.condition("guardiansidecars/strong", "EgressLocked")).toMatchObject({ status: "True" });
});

test("a stolen token, another key, another audience, a used nonce and no token open nothing", async () => {
  // The token of pod two with the key of pod one's thief, after pod two has published its own.
  expect(
    (await call("GET", "/v1/stream", await headers("two", keyOf("two")), undefined, () => undefined)).status,
  ).toBe(200);
  const thief = makeKey();
  expect((await call("GET", "/v1/stream", await headers("two", thief))).status).toBe(403);
  // Pod one's key with pod two's token.
  expect((await call("GET", "/v1/stream", await headers("two", keyOf("one")))).status).toBe(403);
  // A signature for another pod.
  expect((await call("GET", "/v1/stream", await headers("two", keyOf("two"), uids.get("one")))).status).toBe(
    401,
  );
  const good = await headers("two", keyOf("two"));
  expect((await call("POST", "/v1/report", good, {})).status).toBe(200);
  expect((await call("POST", "/v1/report", good, {})).status).toBe(401);
  const foreign = {
    ...(await headers("two", keyOf("two"))),
    authorization: `Bearer ${await token("two", "other")}`,
  };
  expect((await call("GET", "/v1/stream", foreign)).status).toBe(401);
  expect((await call("POST", "/v1/nonce", {})).status).toBe(401);
});
