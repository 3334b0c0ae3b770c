import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { readBundleFile } from "../../cli/bundle/bundle.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { typed } from "./typed.ts";

const folder = mkdtempSync(join(tmpdir(), "atoll-cli-"));
const at = (name: string) => join(folder, name);

test("the command line says what it can do, and every command has help", async () => {
  expect(await typed(["--help"])).toMatchObject({ code: 0, out: expect.stringContaining("usage: atoll") });
  expect(await typed([])).toMatchObject({ code: 2, err: expect.stringContaining("usage: atoll") });
  expect(await typed(["constructor"])).toMatchObject({ code: 2, err: expect.stringContaining("no command") });
});

const VERBS: Readonly<Record<string, readonly string[]>> = {
  bundle: ["build", "verify", "lint", "test", "diff", "schema"],
  keys: ["rotate", "revoke"],
  ledger: ["serve", "status", "verify", "registry"],
  lock: ["rules", "apply", "status"],
  wasm: ["run", "inspect", "replay"],
};
const calls = Object.keys(COMMANDS).flatMap((name) => [[name], ...(VERBS[name] ?? []).map((v) => [name, v])]);
test.each(calls.map((words) => [words.join(" "), words]))(
  "atoll %s has help, and refuses an option that it has not",
  async (_, words) => {
    const [name = ""] = words;
    expect(await typed([...words, "--help"])).toMatchObject({
      code: 0,
      out: expect.stringMatching(new RegExp(`^usage: atoll ${name}\\b`)),
      err: "",
    });
    const wrong = await typed([...words, "--nonsense"]);
    expect(wrong).toMatchObject({ code: 2, out: "" });
    if (VERBS[name] === undefined || words.length > 1) {
      expect(wrong.err).toContain("--nonsense");
      expect(wrong.err).toContain(`atoll ${name}`);
    }
  },
);

test("keygen writes a pair that openssl reads, once", async () => {
  const made = await typed(["keygen", "--out", at("k")]);
  expect(made).toMatchObject({ code: 0, out: expect.stringMatching(/^ed25519:[0-9a-f]{16}\n$/) });
  expect(statSync(at("k")).mode & 0o777).toBe(0o600);
  expect(execFileSync("openssl", ["pkey", "-in", at("k"), "-pubout"], { encoding: "utf8" })).toBe(
    readFileSync(at("k.pub"), "utf8"),
  );
  expect(await typed(["keygen", "--out", at("k")])).toMatchObject({
    code: 2,
    err: expect.stringContaining("exists"),
  });
});

test("keygen leaves no private key behind when the public one has no place", async () => {
  writeFileSync(at("half.pub"), "");
  expect(await typed(["keygen", "--out", at("half")])).toMatchObject({
    code: 2,
    out: "",
    err: expect.stringContaining("half.pub` exists"),
  });
  expect(existsSync(at("half"))).toBe(false);
});

test("canonicalize writes the canonical form, or the reason with exit 2", async () => {
  expect(await typed(["canonicalize"], { stdin: '{"b":1, "a":[1.0,"\\u00e9"]}' })).toMatchObject({
    code: 0,
    out: '{"a":[1,"é"],"b":1}',
  });
  expect(await typed(["canonicalize"], { stdin: "[1" })).toMatchObject({
    code: 2,
    out: "",
    err: "atoll canonicalize: the text ends too early at byte 2\n",
  });
});

test("a built bundle verifies with its roots, and not when changed or under other roots", async () => {
  for (const name of ["p", "c"]) await typed(["keygen", "--out", at(name)]);
  const pub = (name: string) => readFileSync(at(`${name}.pub`), "utf8");
  writeFileSync(at("roots.pem"), `role: policy\n${pub("p")}\nrole: ceiling\n${pub("c")}`);
  writeFileSync(at("other.pem"), `role: ceiling\n${pub("c")}`);
  writeFileSync(
    at("policy.yaml"),
    'apiVersion: atoll.dev/policy/v1\nname: x\nlayer: P1\nrules:\n  - { id: "no", tools: ["tool:a/b"], then: deny }\n',
  );
  const build = (...more: string[]) =>
    typed([
      "bundle",
      "build",
      at("policy.yaml"),
      "--bundle-id",
      "x",
      "--version",
      "2",
      "-o",
      at("b.yaml"),
      ...more,
    ]);
  expect(await build("--sign", at("p"))).toMatchObject({ code: 0 });
  const text = readFileSync(at("b.yaml"), "utf8");
  // The reader of kubectl is YAML 1.1 and must see the same.
  expect(parseAllDocuments(text, { version: "1.1" })[0]?.toJS()).toEqual(
    readBundleFile(at("b.yaml")).manifest,
  );
  const verify = (...more: string[]) => typed(["bundle", "verify", at("b.yaml"), ...more]);
  expect(await verify("--trust", at("roots.pem"))).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^valid: x/),
  });
  expect(await verify("--trust", at("other.pem"))).toMatchObject({
    code: 1,
    out: expect.stringContaining("POLICY_SIGNATURE_INVALID"),
  });
  expect(await verify()).toMatchObject({ code: 2, err: expect.stringContaining("--trust is mandatory") });
  expect(await verify("--trust", at("roots.pem"), "--json", "--level", "L2")).toMatchObject({
    code: 1,
    out: expect.stringContaining('"problem":"level"'),
  });
  writeFileSync(at("b.yaml"), text.replace("tool:a/b", "tool:a/c"));
  expect(await verify("--trust", at("roots.pem"))).toMatchObject({
    code: 1,
    out: expect.stringContaining("POLICY_HASH_MISMATCH"),
  });
  expect(await build("--level", "L2")).toMatchObject({
    code: 2,
    err: expect.stringContaining("--expires-at"),
  });
});

test("a large content goes into a ConfigMap and is found there again", async () => {
  const rules = Array.from(
    { length: 4000 },
    (_, i) => `  - { id: "rule-${i}", tools: ["tool:a/tool-${i}"], then: deny }\n`,
  ).join("");
  writeFileSync(at("large.yaml"), `apiVersion: atoll.dev/policy/v1\nname: x\nlayer: P1\nrules:\n${rules}`);
  const built = await typed([
    "bundle",
    "build",
    at("large.yaml"),
    "--bundle-id=big_x",
    "--version=1",
    "--sign",
    at("p"),
    "-o",
    at("large-bundle.yaml"),
  ]);
  expect(built).toMatchObject({ code: 0 });
  const file = readBundleFile(at("large-bundle.yaml"));
  expect(file.bundle.source).toMatchObject({ configMap: { namespace: "atoll-system", name: "big-x-v1" } });
  expect(file.content?.["rules"]).toHaveLength(4000);
  expect(
    await typed(["bundle", "verify", at("large-bundle.yaml"), "--trust", at("roots.pem")]),
  ).toMatchObject({
    code: 0,
  });
});

test("status and keys tell in one line what the guardian answered", async () => {
  const server = createServer((request, response) => {
    const body = request.url === "/status" ? { state: "serving" } : { old: "ed25519:a", key: "ed25519:b" };
    response.end(JSON.stringify(body));
  });
  const socket = at("admin.sock");
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  try {
    const said = (out: string): unknown => ({ code: 0, out, err: "" });
    expect(await typed(["status", "--socket", socket, "--json"])).toEqual(said('{"state":"serving"}\n'));
    expect(await typed(["status", "--socket", socket])).toEqual(said('{\n  "state": "serving"\n}\n'));
    expect(await typed(["keys", "rotate", "--socket", socket, "--json"])).toEqual(
      said('{"old":"ed25519:a","key":"ed25519:b"}\n'),
    );
    expect(await typed(["keys", "rotate", "--socket", socket])).toEqual(
      said("ed25519:a has handed over to ed25519:b\n"),
    );
  } finally {
    server.close();
  }
  expect(await typed(["status", "--socket", socket, "--json"])).toMatchObject({
    code: 1,
    out: "",
    err: expect.stringContaining("the admin socket"),
  });
});
