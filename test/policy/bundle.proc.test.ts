// Bundles as a person builds and checks them: the command in processes of their own.

import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { signerFromPem } from "../../kernel/crypto/crypto.ts";

const folder = mkdtempSync(join(tmpdir(), "atoll-bundle-"));
chmodSync(folder, 0o755);
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (...names: string[]): string => join(folder, ...names);
const COMMAND = resolve(import.meta.dirname, "../../cli/atoll.ts");

function atoll(
  argv: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; uid?: number } = {},
) {
  const { env = {}, cwd = folder, uid } = options;
  const run = spawnSync(process.execPath, [COMMAND, ...argv], {
    cwd,
    env: { PATH: process.env["PATH"] ?? "", ...env },
    encoding: "utf8",
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

const PARTS: Readonly<Record<string, string>> = {
  "a.yaml":
    'apiVersion: atoll.dev/policy/v1\nname: x\nlayer: P1\nperimeter: { hours: { days: [Mon], from: "07:00", to: "20:00", timezone: Europe/Berlin } }\n',
  "b/rules.yaml": "rules:\n  - { id: b, tools: ['tool:a/b'], then: deny }\n",
  "c.yaml": "rules:\n  - { id: c, tools: ['tool:a/b'], then: deny }\n",
  "B.yaml": "rules:\n  - { id: upper, tools: ['tool:a/b'], then: deny }\n",
  "ä.yaml": "rules:\n  - { id: umlaut, tools: ['tool:a/b'], then: deny }\n",
};
function policyFolder(name: string, order: readonly string[]): string {
  for (const part of order) {
    mkdirSync(join(at(name), part, ".."), { recursive: true });
    writeFileSync(at(name, part), PARTS[part] ?? "");
  }
  return at(name);
}

for (const name of ["p", "c", "s"]) atoll(["keygen", "--out", at(name)]);
chmodSync(at("p"), 0o644);
const pub = (name: string): string => readFileSync(at(`${name}.pub`), "utf8");
writeFileSync(at("roots.pem"), `role: policy\n${pub("p")}\nrole: ceiling\n${pub("c")}`);

test("a bundle has the same bytes in any folder, time zone, language, user and order of files", () => {
  const names = Object.keys(PARTS);
  const one = policyFolder("one", names);
  policyFolder("other place/two", names.toReversed());
  cpSync(at("p"), at("other place", "key"));
  const build = (dir: string, key: string, more: Parameters<typeof atoll>[1]) =>
    atoll(["bundle", "build", dir, "--bundle-id", "x", "--version", "1", "--sign", key], more);
  const root = process.getuid?.() === 0;
  const first = build(one, at("p"), { env: { TZ: "UTC", LANG: "C" } });
  const second = build("two", "key", {
    cwd: at("other place"),
    env: { TZ: "Pacific/Kiritimati", LANG: "tr_TR.UTF-8", LC_ALL: "tr_TR.UTF-8" },
  });
  expect(first).toMatchObject({ code: 0, err: "" });
  expect(second.code === 0 ? "" : second.err).toBe("");
  expect(second.out).toBe(first.out);
  if (root) {
    const relative = build(".", "../p", { cwd: one, uid: 65_534, env: { HOME: "/nonexistent" } });
    expect(relative.out === "" ? relative.err : relative.out).toBe(first.out);
  } else console.log("not root: the build as another user was left out");
});

test("verify refuses each bundle that is not what a policy key signed, with exit 1 and its reason", () => {
  const built = (...more: string[]): JsonObject => {
    const file = at("built.yaml");
    rmSync(file, { force: true });
    const made = atoll([
      "bundle",
      "build",
      policyFolder("one", Object.keys(PARTS)),
      "--bundle-id",
      "x",
      "--version",
      "3",
      "-o",
      file,
      ...more,
    ]);
    expect(made).toMatchObject({ code: 0 });
    return manifestOf(file);
  };
  const manifestOf = (file: string): JsonObject => {
    const verdict = atoll(["bundle", "verify", file, "--trust", at("roots.pem"), "--json"]);
    expect(verdict.out).toContain("contentHash");
    return yamlToJson(readFileSync(file, "utf8"));
  };
  const verify = (manifest: JsonObject): { code: number | null; said: string } => {
    writeFileSync(at("changed.yaml"), JSON.stringify(manifest));
    const { code, out, err } = atoll(["bundle", "verify", at("changed.yaml"), "--trust", at("roots.pem")]);
    return { code, said: out + err };
  };
  const signed = built("--sign", at("p"));
  expect(verify(signed)).toMatchObject({ code: 0, said: expect.stringContaining("valid: x version 3") });

  const spec = signed["spec"] as JsonObject;
  const sigs = spec["sigs"] as readonly JsonObject[];
  const [sig = {}] = sigs;
  const content = spec["content"] as JsonObject;
  const head: JsonObject = Object.fromEntries(
    Object.entries(spec).filter(([k]) => k !== "sigs" && k !== "content"),
  );
  const key = signerFromPem(readFileSync(at("p"), "utf8"));
  const with_ = (more: JsonObject): JsonObject => ({ ...signed, spec: { ...spec, ...more } });
  const other = (object: JsonObject): JsonObject =>
    with_({ sigs: [{ key_id: key.keyId, sig: key.sign(canonicalize(object)) }] });

  // The planted twin: the same way of signing, over the right object, is accepted.
  const own = {
    ...head,
    type: "atoll.dev/bundle/v1",
    notBefore: head["notBefore"] ?? "",
    expiresAt: head["expiresAt"] ?? "",
  };
  expect(verify(other(own))).toMatchObject({ code: 0 });

  const cases: readonly (readonly [string, JsonObject, RegExp])[] = [
    ["no signature", with_({ sigs: [] }), /signature|signed/],
    ["wrong role", built("--sign", at("c")), /role|ceiling/],
    ["a stranger", built("--sign", at("s")), /sign/],
    ["wrong domain", other({ ...own, type: "atoll.dev/node/v1" }), /signature/],
    ["expired", built("--sign", at("p"), "--expires-at", "2020-01-01T00:00:00.000Z"), /expired/],
    ["other content", with_({ content: { ...content, name: "y" } }), /hash|content/],
    ["upper-case hex", with_({ sigs: [{ ...sig, sig: upper(sig["sig"]) }] }), /sig/],
    ["a signature over another version", other({ ...own, version: 4 }), /signature/],
    ["one signer twice", with_({ sigs: [sig, sig] }), /twice|already|once/],
  ];
  for (const [name, manifest, reason] of cases) {
    const { code, said } = verify(manifest);
    expect(`${name}: exit ${code}: ${said}`).toMatch(
      new RegExp(`^${name}: exit 1: .*(?:${reason.source})`, "s"),
    );
  }
});

const upper = (v: JsonValue | undefined): string => (typeof v === "string" ? v.toUpperCase() : "");

/** Bundles are written with every string quoted, and read back here by another road than the command's own. */
function yamlToJson(text: string): JsonObject {
  const run = spawnSync(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { parse } from "yaml"; import { readFileSync } from "node:fs"; console.log(JSON.stringify(parse(readFileSync(0, "utf8"))));`,
    ],
    { cwd: resolve(import.meta.dirname, "../.."), input: text, encoding: "utf8" },
  );
  return JSON.parse(run.stdout) as JsonObject;
}
