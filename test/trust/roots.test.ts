import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";

const pem = () => generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "pem" });

test("a trust-root file gives each key its one role", () => {
  const [a, b] = [pem(), pem()];
  const roots = parseTrustRoots(`# who may sign policies\nrole: policy\n${a}\nrole: approver\n${b}`);
  expect(roots.keys.map((k) => k.role)).toEqual(["policy", "approver"]);
  const [first] = roots.keys;
  if (first === undefined) throw new Error("no key");
  expect(roots.keyFor("policy", first.keyId)).toBe(first.verifier);
  expect(roots.keyFor("ceiling", first.keyId)).toBe("TRUST_KEY_UNKNOWN");
});

test("a file that leaves a role open, or gives a key two, is refused with the line", () => {
  const a = pem();
  expect(() => parseTrustRoots(a)).toThrow("line 1: a key without a line `role: …` before it");
  expect(() => parseTrustRoots(`role: policy\n${a}role: ceiling\n${a}`)).toThrow("two roles");
  expect(() => parseTrustRoots(`role: policy\n${a}role: policy\n${a}`)).toThrow("twice");
  expect(() => parseTrustRoots(`role: king\n${a}`)).toThrow("line 1: expected one of");
  expect(() => parseTrustRoots(`role: policy\nrole: ceiling\n${a}`)).toThrow("line 2: a role without a key");
  expect(() => parseTrustRoots(`role: policy\n`)).toThrow("a role without a key");
  expect(() => parseTrustRoots(`role: policy\n${a.slice(0, 40)}`)).toThrow("without its last line");
  expect(() => parseTrustRoots(`role: policy\nhello`)).toThrow("line 2: expected");
  expect(() => parseTrustRoots(`role: policy\n${a.replace("MC", "MD")}`)).toThrow(
    "not an Ed25519 public key",
  );
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({
    type: "spki",
    format: "pem",
  });
  expect(() => parseTrustRoots(`role: policy\n${rsa}`)).toThrow("Ed25519");
});
