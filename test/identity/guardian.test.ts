// Chapter 5.6 through a whole guardian: who has no valid token gets a 401 and leaves a receipt, on every surface.

import { generateKeyPairSync, sign } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Receipt } from "../../kernel/contracts/contracts.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { say } from "../proxy/lab.ts";
import { scene } from "../surfaces/scene.ts";
import type { Scene } from "../surfaces/scene.ts";

const pair = generateKeyPairSync("ed25519");
const other = generateKeyPairSync("ed25519");
const jwk = { ...pair.publicKey.export({ format: "jwk" }), kid: "one", alg: "EdDSA", use: "sig" };
const now = (): number => Math.floor(Date.now() / 1000);
const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const CLAIMS = { iss: "https://issuer.test", aud: "atoll", sub: "user:ann", sid: "s1" };
function token(
  claims: object = {},
  header: object = {},
  key = pair.privateKey,
  change: (signed: string) => string = (t) => t,
): string {
  const text = `${part({ alg: "EdDSA", kid: "one", typ: "JWT", ...header })}.${part({ ...CLAIMS, exp: now() + 600, ...claims })}`;
  return change(`${text}.${sign(null, Buffer.from(text), key).toString("base64url")}`);
}

let s: Scene;
beforeAll(async () => {
  s = await scene({
    policy: (document) => {
      const d = document as { profiles: { match: object }[]; [key: string]: unknown };
      d["identity"] = {
        mode: "jwt",
        jwt: { issuer: CLAIMS.iss, audience: CLAIMS.aud, jwks: { keys: [jwk] } },
        relations: [
          "repo:acme/web#writer@user:ann",
          "team:core#member@user:bob",
          "repo:acme/web#writer@team:core#member",
          "repo:acme/open#writer@user:*",
          "repo:acme/locked#banned@user:bob",
          "repo#writer = this - banned",
        ],
        check: [{ tools: ["tool:github/create_issue"], relation: "writer", object: "repo:{call.args.repo}" }],
      };
    },
  });
});
afterAll(() => s.close());

const receipts = (): Map<string, Receipt> =>
  new Map(
    [...s.guardian.journal.entries()].flatMap((e) => {
      if (e.kind !== "node" || e.sealed.node.body["type"] !== "atoll.dev/receipt/v1") return [];
      const receipt = parseReceipt(e.sealed.node.body);
      return [[receipt.receipt_id, receipt]];
    }),
  );
async function refusedWith(code: string, response: Response): Promise<void> {
  expect(response.status).toBe(401);
  expect(response.headers.get("x-should-retry")).toBe("false");
  expect(response.headers.get("x-atoll-reason")).toBe(code);
  await response.text();
  const receipt = receipts().get(response.headers.get("x-atoll-receipt") ?? "");
  expect(receipt).toMatchObject({ status: "DENIED", reason_code: code, principal: "" });
}
const issue = (bearer: string | undefined, repo: string): Promise<Response> =>
  fetch(`${s.base}/mcp/v1/execute`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    },
    body: JSON.stringify({ tool: "tool:github/create_issue", arguments: { repo, title: "t" } }),
  });

const BAD: readonly (readonly [what: string, make: () => string | undefined])[] = [
  ["no token", () => undefined],
  ["an unsigned token", () => `${part({ alg: "none" })}.${part({ ...CLAIMS, exp: now() + 600 })}.`],
  ["another algorithm", () => token({}, { alg: "HS256" })],
  ["another audience", () => token({ aud: "others" })],
  ["another issuer", () => token({ iss: "https://evil.test" })],
  ["an expired one", () => token({ exp: now() - 1 })],
  ["one without an expiry", () => token({ exp: undefined })],
  ["one that is not yet valid", () => token({ nbf: now() + 3_600 })],
  ["one issued in the future", () => token({ iat: now() + 3_600 })],
  [
    "a key that the token brings along",
    () => token({}, { jwk: other.publicKey.export({ format: "jwk" }), kid: undefined }, other.privateKey),
  ],
  [
    "a key set that the token points at",
    () => token({}, { jku: "https://evil.test/k", kid: "two" }, other.privateKey),
  ],
  ["a kid that is a path", () => token({}, { kid: "../../dev/null" })],
  ["a kid that is a list", () => token({}, { kid: ["one"] })],
  ["a critical header", () => token({}, { crit: ["b64"], b64: false })],
  ["padding", () => token({}, {}, pair.privateKey, (t) => `${t}==`)],
  ["a space in a part", () => token({}, {}, pair.privateKey, (t) => t.replace(".", " ."))],
  ["a newline escaped into a part", () => token({}, {}, pair.privateKey, (t) => `${t}%0a`)],
  [
    "bits beside the last byte",
    () => token({}, {}, pair.privateKey, (t) => `${t.slice(0, -1)}${t.endsWith("Q") ? "R" : "B"}`),
  ],
  ["a fourth part", () => token({}, {}, pair.privateKey, (t) => `${t}.x`)],
  ["another key's signature", () => token({}, {}, other.privateKey)],
  [
    "claims changed after signing",
    () =>
      token({}, {}, pair.privateKey, (t) =>
        t.replace(/\.[^.]+\./, `.${part({ ...CLAIMS, sub: "user:root", exp: now() + 600 })}.`),
      ),
  ],
];
for (const [what, make] of BAD)
  test(`${what} is a 401 with a receipt`, async () => {
    await refusedWith("AUTH_INVALID", await issue(make(), "acme/web"));
  });

test("every surface asks for the token, the lists and the session included", async () => {
  const json = { "content-type": "application/json", accept: "application/json" };
  const list = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" });
  for (const [method, path, body] of [
    ["GET", "/v1/models", undefined],
    ["POST", "/v1/chat/completions", "{}"],
    ["POST", "/mcp", list],
    ["POST", "/mcp/github", list],
    ["GET", "/mcp/v1/capabilities", undefined],
    ["GET", "/atoll/v1/session", undefined],
    ["GET", "/nowhere", undefined],
  ] as const)
    await refusedWith(
      "AUTH_INVALID",
      await fetch(`${s.base}${path}`, { method, headers: json, ...(body === undefined ? {} : { body }) }),
    );
  const proxied = await say(s.guardian.proxyPort, "CONNECT a.docs.test:443 HTTP/1.1\r\nHost: a\r\n\r\n");
  expect(proxied.status).toBe(401);
  const basic = Buffer.from(`x:${token()}`).toString("base64");
  const known = await say(
    s.guardian.proxyPort,
    `CONNECT a.docs.test:443 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic ${basic}\r\n\r\n`,
  );
  expect(JSON.parse(known.text)).toMatchObject({ error: { code: "DENY_DESTINATION" } });
});

test("the subject is the principal, each of its sessions is one, and both survive a restart", async () => {
  const session = async (bearer: string): Promise<{ id: string; principal: string }> =>
    (await (
      await fetch(`${s.base}/atoll/v1/session`, { headers: { authorization: `Bearer ${bearer}` } })
    ).json()) as {
      id: string;
      principal: string;
    };
  const one = await session(token());
  const two = await session(token({ sid: "s2" }));
  const ben = await session(token({ sub: "user:ben" }));
  expect(one.principal).toBe("user:ann");
  expect(new Set([one.id, two.id, ben.id]).size).toBe(3);
  expect((await session(token({ iat: now() }))).id).toBe(one.id);
  // A session is known to a restart by the nodes it has.
  expect((await issue(token(), "acme/web")).status).toBe(200);
  s = await s.again();
  expect((await session(token())).id).toBe(one.id);
  expect((await session(token({ sid: "s2" }))).id).toBe(two.id);
});

test("relations decide who may write where: direct, by a userset, everyone, excluded", async () => {
  const ann = token();
  const bob = token({ sub: "user:bob" });
  const eve = token({ sub: "user:eve" });
  for (const [who, repo, allowed] of [
    [ann, "acme/web", true],
    [bob, "acme/web", true],
    [eve, "acme/web", false],
    [eve, "acme/open", true],
    [bob, "acme/locked", false],
    [ann, "acme/web#writer", false],
  ] as const) {
    const response = await issue(who, repo);
    const body = (await response.json()) as { reason_code: string; receipt_id: string };
    expect([repo, response.status, body.reason_code]).toEqual(
      allowed ? [repo, 200, ""] : [repo, 403, "AUTHZ_DENIED"],
    );
    expect(receipts().get(body.receipt_id)?.reason_code).toBe(allowed ? "" : "AUTHZ_DENIED");
  }
});

test("a policy that asks for tokens and names no verifier lets nobody in", async () => {
  const closed = await scene({ policy: (d) => void (d["identity"] = { mode: "jwt" }) });
  try {
    for (const headers of [{}, { authorization: `Bearer ${token()}` }]) {
      const response = await fetch(`${closed.base}/v1/models`, { headers });
      expect(response.status).toBe(401);
      expect(response.headers.get("x-atoll-reason")).toBe("AUTH_NOT_CONFIGURED");
    }
  } finally {
    await closed.close();
  }
});
