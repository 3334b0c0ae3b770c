import { generateKeyPairSync, sign } from "node:crypto";
import { expect, test } from "vitest";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { compileRelations, tokenVerifier } from "../../kernel/identity/identity.ts";

const relates = compileRelations(
  [
    "repo:acme/web#writer@serviceAccount:acme/bot",
    "repo:acme/web#writer@team:core#member",
    "repo:acme/web#reader@serviceAccount:*",
    "repo:acme/web#banned@serviceAccount:acme/bad",
    "repo:acme/web#banned@serviceAccount:acme/worse",
    "team:core#member@serviceAccount:acme/cy",
    "team:core#member@team:inner#member",
    "team:inner#member@serviceAccount:acme/di",
    "team:inner#member@team:core#member",
    "repo:acme/web#owner@serviceAccount:acme/bad",
    "repo:acme/web#parent@org:acme",
    "org:acme#admin@serviceAccount:acme/eve",
    "repo#maintainer = owner | writer & reader - banned | parent->admin",
    "repo#paradox = this - paradox",
  ],
  "identity.relations",
);
const on = (relation: string, who: string): boolean =>
  relates("repo:acme/web", relation, `serviceAccount:${who}`);

test("direct subjects, usersets, circles of them and everyone of a type are found", () => {
  expect(on("writer", "acme/bot")).toBe(true);
  expect(on("writer", "acme/cy")).toBe(true);
  expect(on("writer", "acme/di")).toBe(true);
  expect(on("writer", "acme/nobody")).toBe(false);
  expect(on("reader", "acme/nobody")).toBe(true);
  expect(relates("repo:acme/web", "reader", "user:x")).toBe(false);
  expect(relates("repo:acme/other", "writer", "serviceAccount:acme/bot")).toBe(false);
});
test("union, intersection, exclusion and the way through a parent combine", () => {
  expect(on("maintainer", "acme/bot")).toBe(true);
  expect(on("maintainer", "acme/bad")).toBe(true);
  expect(on("maintainer", "acme/worse")).toBe(false);
  expect(on("maintainer", "acme/eve")).toBe(true);
  expect(on("maintainer", "acme/nobody")).toBe(false);
});
test("what excludes itself or is too deep is an error, which denies", () => {
  expect(() => on("paradox", "acme/bot")).not.toThrow();
  const loop = compileRelations(["a#x = a_ - x", "a:1#a_@u:1"], "r");
  expect(() => loop("a:1", "x", "u:1")).toThrow("excludes itself");
  const deep = Array.from({ length: 50 }, (_, i) => `t:${i}#m@t:${i + 1}#m`);
  expect(() => compileRelations(deep, "r")("t:0", "m", "u:1")).toThrow("too deep");
});
test("a line that is neither tuple nor definition is refused by its path", () => {
  for (const line of ["repo:a", "repo:a#w", "repo#w = ", "repo#w = this |", "repo#w = (this", "a:b#c@u:*#m"])
    expect(() => compileRelations(["a:b#c@u:1", line], "identity.relations"), line).toThrow(
      "identity.relations[1]",
    );
});

const ed = generateKeyPairSync("ed25519");
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const jwk = (key: { export(o: { format: "jwk" }): object }, kid: string): JsonValue =>
  JSON.parse(JSON.stringify({ ...key.export({ format: "jwk" }), kid }));
const rules = {
  issuer: "https://issuer.example",
  audience: "atoll",
  jwks: { keys: [jwk(ed.publicKey, "ed"), jwk(ec.publicKey, "ec"), jwk(rsa.publicKey, "rsa")] },
};
const NOW = Date.parse("2026-11-18T10:00:00.000Z");
const claims: JsonObject = {
  iss: rules.issuer,
  aud: ["other", "atoll"],
  sub: "agent-7",
  sid: "s1",
  roles: ["sre"],
  exp: NOW / 1000 + 60,
  nbf: NOW / 1000,
};
const part = (v: JsonValue): string => Buffer.from(JSON.stringify(v)).toString("base64url");

function token(over: JsonObject = {}, head: JsonObject = { alg: "EdDSA", kid: "ed" }): string {
  const body: Record<string, JsonValue> = { ...claims, ...over };
  for (const [k, v] of Object.entries(over)) if (v === null) delete body[k];
  const input = Buffer.from(`${part(head)}.${part(body)}`);
  const sig =
    head["alg"] === "ES256"
      ? sign("sha256", input, { key: ec.privateKey, dsaEncoding: "ieee-p1363" })
      : head["alg"] === "RS256"
        ? sign("sha256", input, rsa.privateKey)
        : sign(null, input, ed.privateKey);
  return `${input.toString()}.${sig.toString("base64url")}`;
}
const verify = tokenVerifier(rules);

test("a good token of each algorithm yields its claims", () => {
  const good = { ok: true, claims: { subject: "agent-7", sid: "s1", roles: ["sre"], tenant: "" } };
  expect(verify(token(), NOW)).toMatchObject(good);
  expect(verify(token({}, { alg: "ES256", kid: "ec" }), NOW)).toMatchObject(good);
  expect(verify(token({}, { alg: "RS256", kid: "rsa", typ: "JWT" }), NOW)).toMatchObject(good);
});
test("without a verifier everything is AUTH_NOT_CONFIGURED", () => {
  expect(tokenVerifier(null)(token(), NOW)).toMatchObject({ ok: false, code: "AUTH_NOT_CONFIGURED" });
});
test("each defect is AUTH_INVALID with its reason", () => {
  const t = token();
  const [h = "", b = "", s = ""] = t.split(".");
  const cases: readonly (readonly [string, string])[] = [
    [token({ exp: NOW / 1000 }), "expired"],
    [token({ exp: null }), "no expiry"],
    [token({ nbf: NOW / 1000 + 61 }), "future"],
    [token({ iss: "x" }), "issuer"],
    [token({ aud: "x" }), "audience"],
    [token({ sub: null }), "`sub`"],
    [token({ sub: "" }), "`sub`"],
    [token({ roles: "sre" }), "`roles`"],
    [token({}, { alg: "none", kid: "ed" }), "algorithm"],
    [token({}, { alg: "HS256", kid: "rsa" }), "algorithm"],
    [token({}, { alg: "EdDSA", kid: "nobody" }), "kid"],
    [token({}, { alg: "EdDSA" }), "kid"],
    [token({}, { alg: "EdDSA", kid: "ed", crit: ["exp"] }), "critical"],
    [token({}, { alg: "EdDSA", kid: "ed", typ: "dpop+jwt" }), "type"],
    [`${h}.${b}`, "three parts"],
    [`${t}.`, "three parts"],
    [`${h}.${b}.`, "three parts"],
    [`${h}.${b}.${s}=`, "base64url"],
    [`${h}.${b}.${s.slice(0, -1)}${s.endsWith("A") ? "B" : "A"}`, ""],
    [`${h}.${part({ ...claims, sub: "root" })}.${s}`, "signature"],
    [` ${t}`, "base64url"],
    ["x".repeat(20_000), "too long"],
    ["", "three parts"],
  ];
  for (const [bad, reason] of cases) {
    const answer = verify(bad, NOW);
    expect(answer, bad.slice(0, 60)).toMatchObject({ ok: false, code: "AUTH_INVALID" });
    if (!answer.ok) expect(answer.detail).toContain(reason);
  }
});
test("a set with a private, weak or foreign key is refused when it is pinned", () => {
  const weak = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey;
  for (const key of [jwk(ed.privateKey, "x"), jwk(weak, "x"), { kty: "oct", k: "AAAA" }, "x"])
    expect(() => tokenVerifier({ ...rules, jwks: { keys: [key] } })).toThrow("jwks.keys");
});
