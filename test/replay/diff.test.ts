// What a change of policy would have done to recorded calls, against brute force: every call taken out of the pack
// with tar and judged by `atoll decide` under either policy.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { atoll } from "../../cli/atoll.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { newFolder } from "../journal/scene.ts";
import { livedThrough, packed } from "./scene.ts";

async function run(...argv: string[]): Promise<{ code: number; out: string }> {
  const out: string[] = [];
  const io = {
    stdin: (async function* () {})(),
    stdout: { write: (t: string | Uint8Array) => out.push(String(t)) },
    stderr: { write: (t: string | Uint8Array) => out.push(String(t)) },
    env: {},
  };
  return { code: await atoll(argv, io), out: out.join("") };
}
const read = (path: string): JsonObject => JSON.parse(readFileSync(path, "utf8")) as JsonObject;
const linesOf = (path: string): JsonObject[] =>
  readFileSync(path, "utf8")
    .split("\n")
    .filter((l) => l !== "")
    .map((l) => JSON.parse(l) as JsonObject);

test("`bundle diff --against` lists exactly the calls that a judgement of each one finds turned", async () => {
  const log = await livedThrough(2);
  const { file: pack } = await packed(log);
  const folder = newFolder();
  execFileSync("tar", ["-xf", pack, "-C", folder]);
  const [name = ""] = readdirSync(join(folder, "policies"));
  const old = join(folder, "policies", name);
  const policy = read(old);
  const inputs = new Map(
    linesOf(join(folder, "replay/inputs.jsonl")).map((l) => [l["hash"], l["value"] ?? null]),
  );
  const receipts = readdirSync(join(folder, "nodes"))
    .flatMap((n) => linesOf(join(folder, "nodes", n)))
    .filter((n) => n["kind"] !== "EFFECT")
    .map((n) => n["body"] as JsonObject)
    .filter((b) => b["type"] === "atoll.dev/receipt/v1" && b["gates_hash"] !== "");
  expect(receipts.length).toBeGreaterThan(15);

  const judge = async (document: string, receipt: JsonObject): Promise<string> => {
    const facts = inputs.get(receipt["facts_hash"]) as JsonObject;
    const { policyHash, ...context } = facts["context"] as JsonObject;
    void policyHash;
    const [callFile, factsFile] = [join(folder, "call.json"), join(folder, "facts.json")];
    writeFileSync(
      callFile,
      JSON.stringify({
        tool: receipt["tool"],
        args: inputs.get(receipt["args_hash"]),
        source: receipt["source"],
      }),
    );
    writeFileSync(factsFile, JSON.stringify({ ...facts, context, approval: { state: "none" } }));
    const { out } = await run(
      "decide",
      "--bundle",
      document,
      "--call",
      callFile,
      "--facts",
      factsFile,
      "--json",
    );
    const v = JSON.parse(out) as { verdict: string; reason_code: string; ceremony: string };
    return v.verdict === "ALLOW"
      ? "ALLOW"
      : `${v.verdict} ${v.verdict === "DENY" ? v.reason_code : v.ceremony}`;
  };

  type Change = readonly [string, (p: JsonObject) => JsonValue];
  const rules = policy["rules"] as readonly JsonObject[];
  const tools = policy["tools"] as readonly JsonObject[];
  const changed: readonly Change[] = [
    ["nothing", (p) => p],
    ...rules.map(
      (rule, i): Change =>
        i % 2 === 0
          ? [`rule ${i} taken away`, (p) => ({ ...p, rules: rules.toSpliced(i, 1) })]
          : [`rule ${i} in shadow`, (p) => ({ ...p, rules: rules.with(i, { ...rule, shadow: true }) })],
    ),
    ["every tool takes anything", (p) => ({ ...p, tools: tools.map((t) => ({ ...t, input: true })) })],
    [
      "the toolsets are empty",
      (p) => ({
        ...p,
        toolsets: Object.fromEntries(Object.keys(p["toolsets"] as JsonObject).map((k) => [k, []])),
      }),
    ],
  ];
  let turned = 0;
  for (const [what, change] of changed) {
    const file = join(folder, "new.json");
    writeFileSync(file, JSON.stringify(change(policy)));
    const { code, out } = await run("bundle", "diff", old, file, "--against", pack, "--json");
    const said = JSON.parse(out) as {
      changes: unknown[];
      calls: { turned: JsonObject[]; judged: number; redacted: number };
    };
    expect([what, code]).toEqual([what, what === "nothing" ? 0 : 1]);
    expect(said.calls).toMatchObject({ judged: receipts.length, redacted: 0 });
    const expected: string[] = [];
    for (const r of receipts) {
      const [before, after] = [await judge(old, r), await judge(file, r)];
      if (before !== after) expected.push(`${r["receipt_id"] as string} ${before} -> ${after}`);
    }
    const found = said.calls.turned.map(
      (t) => `${t["receipt_id"] as string} ${t["before"] as string} -> ${t["after"] as string}`,
    );
    expect([what, found.toSorted()]).toEqual([what, expected.toSorted()]);
    turned += expected.length;
  }
  expect(turned).toBeGreaterThan(10);
  const words = await run("bundle", "diff", old, join(folder, "new.json"), "--against", pack);
  expect(words.out).toMatch(
    /\d+ of \d+ recorded calls would come out otherwise\n {2}ses_[0-9a-f]{32} lamport \d+ tool:/,
  );
});
