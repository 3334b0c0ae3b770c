// 4.1: a conversation of n turns costs the journal n messages and not n times n, over a restart too, and comes out of the
// log as it went in.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeJournalPack } from "../../cli/export.ts";
import { judge } from "../../cli/verify.ts";
import { isObject } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonValue } from "../../kernel/contracts/contracts.ts";
import { signerFromPem } from "../../kernel/crypto/crypto.ts";
import { inputShelf, packContents, readEntry } from "../../kernel/evidence/evidence.ts";
import type { InputEntry } from "../../kernel/evidence/evidence.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { replay } from "../../kernel/replay/replay.ts";
import { readJournal } from "../../sidecar/journal/journal.ts";
import { withPack } from "../../cli/pack.ts";
import { rootsFile, rootsOf } from "../evidence/packs.ts";
import { newFolder } from "../journal/scene.ts";
import { scene } from "./scene.ts";
import type { Scene } from "./scene.ts";

const TURNS = 50;
const TEXT = "What somebody says in a turn about a pull request, of some length. ".repeat(6);
/** Bytes of records after each turn; the restart is after turn 25. */
const sizes: number[] = [];
const sent: JsonValue[] = [];
let s: Scene;
let dir = "";

const inputsOf = (): InputEntry[] =>
  [...readJournal(dir).records()].flatMap(({ line }) => {
    const entry = readEntry(line);
    return entry.kind === "input" ? [entry] : [];
  });
async function size(): Promise<number> {
  await s.guardian.journal.checkpoint();
  return [...readJournal(dir).records()].reduce((sum, { line }) => sum + line.byteLength, 0);
}

beforeAll(async () => {
  s = await scene();
  dir = join(s.folder, "journal");
  const openai = () => new OpenAI({ baseURL: `${s.base}/v1`, apiKey: "placeholder", maxRetries: 0 });
  const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [];
  sizes.push(await size());
  for (let turn = 0; turn < TURNS; turn++) {
    // Some say the same again; and one is what a reference looks like, and one what the guardian writes for itself.
    const content = turn % 10 === 9 ? "go on" : `${TEXT}question ${turn}`;
    const extra =
      turn === 7
        ? { $input: `sha256:${"0".repeat(64)}` }
        : turn === 8
          ? { type: "atoll.dev/idempotency/v1", kind: "PolicyBundle" }
          : {};
    messages.push({ role: "user", content, ...extra });
    const request = { model: "openai/stand-in", messages };
    sent.push(JSON.parse(JSON.stringify({ ...request, model: "stand-in" })));
    await openai().chat.completions.create(request);
    messages.push({ role: "assistant", content: `${TEXT}answer ${turn}` });
    sizes.push(await size());
    if (turn !== TURNS / 2) continue;
    // Arguments that call themselves a record of the guardian's own do not keep it from starting.
    const refused = await fetch(`${s.base}/mcp/v1/execute`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ tool: "tool:nowhere/none", arguments: { type: "atoll.dev/idempotency/v1" } }),
    });
    expect(await refused.json()).toMatchObject({ reason_code: "DENY_TOOL_NOT_FOUND" });
    s = await s.again();
  }
}, 120_000);
afterAll(() => s.close());

test("each turn costs what is new in it, and a restart what was said before once more", () => {
  const turns = sizes.slice(1).map((now, i) => now - (sizes[i] ?? 0));
  const sizeOf = (from: number, to: number): number =>
    turns.slice(from, to).reduce((sum, n) => sum + n, 0) / (to - from);
  const early = sizeOf(1, 11);
  // Before the restart and well after it. The references of a turn grow, by 85 bytes a message.
  expect(sizeOf(15, 25)).toBeLessThan(early + 85 * 2 * 15 + 500);
  expect(sizeOf(40, 50)).toBeLessThan(early + 85 * 2 * 45 + 500);
  // The turn after the restart writes all that was said once more; whole conversations would do so in every one.
  expect(turns[TURNS / 2 + 1]).toBeGreaterThan(TURNS * TEXT.length);
  expect(sizeOf(40, 50)).toBeLessThan(TURNS * TEXT.length);
});

test("each message is written once, before what names it, and once more after the restart", () => {
  const seen = new Map<Hash, number>();
  for (const { input, refers } of inputsOf()) {
    for (const message of refers) expect(seen.has(message)).toBe(true);
    seen.set(input.hash, (seen.get(input.hash) ?? 0) + 1);
  }
  const said = inputsOf().filter(({ input }) => isObject(input.value) && "role" in input.value);
  const times = said.map(({ input }) => seen.get(input.hash) ?? 0);
  expect(Math.max(...times)).toBe(2);
  expect(new Set(said.map(({ input }) => input.hash)).size).toBe(2 * TURNS - 1 - TURNS / 10 + 1);
});

test("its pack verifies by both verifiers, every call is decided again, and says what was sent", async () => {
  const signer = signerFromPem(readFileSync(join(dir, "guardian.pem"), "utf8"));
  expect(judge(dir, rootsOf(signer))).toMatchObject({ kind: "journal" });
  const file = join(newFolder(), "pack.tar");
  await writeJournalPack({ dir, signer, file });
  expect(judge(file, rootsOf(signer))).toMatchObject({ kind: "pack", report: { redacted: 0 } });
  verifiedBesides(file, rootsFile(signer));
  withPack(file, (files) => {
    const pack = packContents(files);
    const report = replay(pack);
    expect(report).toMatchObject({ same: report.receipts, redacted: 0, ungated: 0, effects: TURNS });
    expect(report.receipts).toBeGreaterThanOrEqual(TURNS);
    const shelf = inputShelf(pack);
    const calls = [...pack.nodes()].flatMap((line) =>
      line.kind === "node" && line.sealed.node.kind === "INTENT" ? [parseReceipt(line.sealed.node.body)] : [],
    );
    expect(calls.map((receipt) => shelf.take(receipt.args_hash)?.value)).toEqual(sent);
  });
});

test("a pack of its session, and a condensed one, hold the messages that their calls name and no others", async () => {
  const signer = signerFromPem(readFileSync(join(dir, "guardian.pem"), "utf8"));
  const own = readJournal(dir).meta.session_id;
  const sessions = new Set(
    [...readJournal(dir).records()].flatMap(({ line }) => {
      const entry = readEntry(line);
      return entry.kind === "node" && entry.sealed.node.session_id !== own
        ? [entry.sealed.node.session_id]
        : [];
    }),
  );
  const partial = join(newFolder(), "partial.tar");
  await writeJournalPack({ dir, signer, file: partial, sessions: [...sessions] });
  expect(judge(partial, rootsOf(signer))).toMatchObject({ kind: "pack", report: { partial: true } });
  verifiedBesides(partial, rootsFile(signer));
  withPack(partial, (files) => {
    const report = replay(packContents(files));
    expect(report).toMatchObject({ same: report.receipts, redacted: 0, effects: TURNS });
  });
  const none = join(newFolder(), "own.tar");
  await writeJournalPack({ dir, signer, file: none, sessions: [own] });
  withPack(none, (files) => expect([...packContents(files).inputs()]).toEqual([]));
  const condensed = join(newFolder(), "condensed.tar");
  const { condensed: gone } = await writeJournalPack({ dir, signer, file: condensed, condense: {} });
  expect(judge(condensed, rootsOf(signer))).toMatchObject({ kind: "pack", report: { condensed: gone } });
  verifiedBesides(condensed, rootsFile(signer));
  withPack(condensed, (files) => {
    const left = [...packContents(files).nodes()].filter((line) => line.kind === "node").length;
    expect(gone).toBeGreaterThan(TURNS);
    expect([...packContents(files).inputs()].length).toBeLessThan(left + 2 * TURNS);
  });
});

function verifiedBesides(pack: string, roots: string): void {
  const program = join(import.meta.dirname, "../independent/verify.py");
  const said = execFileSync("python3", [program, pack, "--trust", roots, "--json"], { encoding: "utf8" });
  expect(JSON.parse(said)).toMatchObject({ valid: true });
}
