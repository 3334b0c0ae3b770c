// The commands that the documents show exist, with the options that they show, and README's own story runs.

import { execFile, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { atoll } from "../../cli/atoll.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { isObject, parseJson } from "../../kernel/contracts/contracts.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const pages = [
  "README.md",
  "ARCHITECTURE.md",
  "SECURITY.md",
  "CONTRIBUTING.md",
  ...readdirSync(join(ROOT, "docs"))
    .filter((f) => f.endsWith(".md"))
    .map((f) => `docs/${f}`),
];
const page = (file: string): string => readFileSync(join(ROOT, file), "utf8");

async function help(argv: readonly string[]): Promise<string> {
  const out: string[] = [];
  const write = (t: string | Uint8Array): void => void out.push(String(t));
  await atoll([...argv, "--help"], {
    stdin: (async function* () {})(),
    stdout: { write },
    stderr: { write },
    env: {},
  });
  return out.join("");
}

/** Calls of the command: lines of fenced blocks, joined where they go on with a backslash, and code within a sentence. */
const shown = (text: string): readonly string[] =>
  [
    ...[...text.matchAll(/^```\w*\n([^]*?)^```/gm)].flatMap(([, block = ""]) =>
      block.replaceAll("\\\n", " ").split("\n"),
    ),
    ...[...text.replaceAll(/^```[^]*?^```/gm, "").matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code),
  ]
    .map((l) => l.trim().replace(/^\$ /, "").replace(/^npx /, ""))
    .filter((l) => l.startsWith("atoll "));

const NESTED = ["bundle", "lock", "wasm", "ledger", "keys"];
test("every command line in the documents names commands and options that there are", async () => {
  let checked = 0;
  for (const file of pages)
    for (const line of shown(page(file))) {
      const words = line.split(/\s+/).slice(1);
      const own = words.includes("--") ? words.slice(0, words.indexOf("--")) : words;
      const command = own.slice(0, NESTED.includes(own[0] ?? "") ? 2 : 1);
      const text = `${await help(command)}${command.length > 1 ? await help(command.slice(0, 1)) : ""}`;
      expect([file, line, text.includes(`atoll ${command[0] ?? ""}`)]).toEqual([file, line, true]);
      for (const option of own.flatMap((w) => /^\[?(--[a-z-]+)/.exec(w)?.[1] ?? []))
        expect([file, line, option, text.includes(option)]).toEqual([file, line, option, true]);
      checked++;
    }
  expect(checked).toBeGreaterThan(50);
});

test("README names every command, and every word of its table is a command or a verb of one", async () => {
  const rows = [...page("README.md").matchAll(/^\| `atoll ([^`]+)` \|/gm)].map(([, words = ""]) => words);
  const named: string[] = [];
  for (const row of rows) {
    const [first = "", ...rest] = row.split(/ · | /);
    const verbs = NESTED.includes(first);
    named.push(first, ...(verbs ? [] : rest));
    const text = await help([first]);
    for (const verb of verbs ? rest : []) expect([row, verb, text.includes(verb)]).toEqual([row, verb, true]);
  }
  expect(named.toSorted()).toEqual(Object.keys(COMMANDS).toSorted());
});

test("every npm script in the documents is in package.json", () => {
  const scripts = parseJson(Buffer.from(page("package.json")), { bytes: 1 << 20, keys: 10_000, depth: 16 });
  const known = isObject(scripts) && isObject(scripts["scripts"]) ? Object.keys(scripts["scripts"]) : [];
  const named = pages.flatMap((file) =>
    [...page(file).matchAll(/\bnpm run ([a-z0-9:-]+)/g)].map(([, n]) => `${file}: ${n ?? ""}`),
  );
  expect(named.length).toBeGreaterThan(3);
  expect(named.filter((n) => !known.includes(n.split(": ")[1] ?? ""))).toEqual([]);
});

const scripts = [
  ...new Set(
    pages.flatMap((file) =>
      [...page(file).matchAll(/\b(?:bench|test\/long|kind-e2e)(?:\/[a-z-]+)*\/[a-z-]+\.ts\b/g)].map(
        ([name]) => name,
      ),
    ),
  ),
];
test("every script that the documents name is there", () => {
  expect(scripts.length).toBeGreaterThan(20);
  expect(scripts.filter((name) => !existsSync(join(ROOT, name)))).toEqual([]);
});

const withOptions = scripts.filter((name) => /\basked\(/.test(page(name)));
test("a script that has options says so, and takes no other", async () => {
  expect(withOptions.length).toBeGreaterThan(15);
  const run = promisify(execFile);
  const ended = (...words: readonly string[]): Promise<{ code: unknown; stdout: string; stderr: string }> =>
    run(process.execPath, words, { cwd: ROOT, timeout: 60_000 }).then(
      (told) => ({ ...told, code: 0 }),
      (error: { code: unknown; stdout: string; stderr: string }) => error,
    );
  for (const name of withOptions) {
    const [help, wrong] = await Promise.all([ended(name, "--help"), ended(name, "--nonsense")]);
    expect([name, help]).toMatchObject([name, { code: 0, stdout: expect.stringMatching(/^usage: /) }]);
    expect([name, wrong]).toMatchObject([
      name,
      { code: 2, stdout: "", stderr: expect.stringContaining("--nonsense") },
    ]);
  }
});

test("every file and link that the documents name is there", () => {
  for (const file of pages)
    for (const [, target = ""] of page(file).matchAll(/\]\(([^)#:]+)\)/g))
      expect([file, target, spawnSync("test", ["-e", resolve(ROOT, file, "..", target)]).status]).toEqual([
        file,
        target,
        0,
      ]);
});

test("README's own story runs as it is written, with a policy of the examples", () => {
  const folder = mkdtempSync(join(tmpdir(), "atoll-readme-"));
  try {
    cpSync(join(ROOT, "examples/policies/research/policy.yaml"), join(folder, "policy.yaml"));
    mkdirSync(join(folder, "credentials"));
    for (const name of ["SEARCH_TOKEN", "OPENAI_API_KEY"])
      writeFileSync(join(folder, "credentials", name), "secret-of-a-test");
    // A real agent would use an SDK; this one shows where it was sent and that the secret is not with it.
    writeFileSync(
      join(folder, "my_agent.py"),
      'import json, os, urllib.request\nurl = os.environ["ATOLL_MCP_URL"]\nbody = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "nothing__here", "arguments": {}}}\nrequest = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", "accept": "application/json, text/event-stream"})\ntry:\n    answer = urllib.request.urlopen(request).read().decode()\nexcept urllib.error.HTTPError as error:\n    answer = error.read().decode()\nprint("ANSWER", answer)\nprint("SECRET", "secret-of-a-test" in str(dict(os.environ)))\n',
    );
    const [, block = ""] = /## Govern an agent of your own\n\n```\n([^]*?)```/.exec(page("README.md")) ?? [];
    expect(block).toContain("npx atoll guard");
    const script = `set -e\nnpx() { shift; "${process.execPath}" "${join(ROOT, "cli/atoll.ts")}" "$@"; }\n${block.replace("-- python ", "-- python3 ")}`;
    const run = spawnSync("bash", ["-c", script], { cwd: folder, encoding: "utf8", timeout: 300_000 });
    expect(run.stderr + run.stdout).toContain("ANSWER");
    expect(run.stdout).toContain("SECRET False");
    expect(run.status).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
