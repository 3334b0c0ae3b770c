// What becomes of a call that the agent carries out: told, drifted, never told, told after a restart.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { afterEach, expect, test } from "vitest";
import { judge } from "../../cli/verify.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { scene } from "./scene.ts";
import type { Scene } from "./scene.ts";

let s: Scene;
afterEach(async () => {
  const guardian = readFileSync(join(s.folder, "journal", "guardian.pub"), "utf8");
  const roots = parseTrustRoots(`role: guardian\n${guardian}`);
  await s.guardian.drain(200);
  expect(judge(join(s.folder, "journal"), roots)).toMatchObject({ kind: "journal" });
  await s.close();
});
const begin = async (note: object = {}): Promise<void> => {
  s = await scene({
    policy(document) {
      const tools = document["tools"] as Record<string, unknown>[];
      Object.assign(tools.find((t) => t["name"] === "tool:agent/write_note") ?? {}, note);
    },
  });
};

const USER = { role: "user" as const, content: 'call write_note {"text":"x"}' };
const tools = [
  { type: "function" as const, function: { name: "write_note", parameters: { type: "object" } } },
];
const chat = (messages: OpenAI.ChatCompletionMessageParam[]) =>
  new OpenAI({ baseURL: `${s.base}/v1`, apiKey: "x", maxRetries: 0 }).chat.completions.create({
    model: "openai/stand-in",
    messages,
    tools,
  });
const told = (answer: OpenAI.ChatCompletion, content: string): OpenAI.ChatCompletionMessageParam[] => {
  const message = answer.choices[0]?.message ?? expect.fail("no choice");
  const [call] = message.tool_calls ?? [];
  return [USER, message, { role: "tool", tool_call_id: call?.id ?? "", content }];
};
const effects = (): unknown[] =>
  [...s.guardian.journal.entries()].flatMap((e) =>
    e.kind === "node" &&
    e.sealed.node.kind === "EFFECT" &&
    e.sealed.node.body["tool"] === "tool:agent/write_note"
      ? [[e.sealed.node.body["status"], e.sealed.node.body["reason_code"]]]
      : [],
  );
const tainted = (): boolean => s.guardian.governor.sessions.all().some((x) => x.tainted);
/** Waits for what the guardian does on its own; the test's time limit is the bound. */
const until = async (look: () => boolean): Promise<void> => {
  while (!look()) await new Promise((resolve) => setTimeout(resolve, 10));
};

test("an outcome is bound once and marks the session by the tool's trust", async () => {
  await begin();
  const answer = await chat([USER]);
  expect(effects()).toEqual([]);
  await chat(told(answer, "written"));
  await chat(told(answer, "written"));
  expect(effects()).toEqual([["SUCCEEDED", ""]]);
  expect(tainted()).toBe(false);
  await chat(told(answer, "another word"));
  expect(effects()).toEqual([["SUCCEEDED", ""]]);
  expect(tainted()).toBe(true);
});
test("the outcome of a tool that is not trusted taints", async () => {
  await begin({ trust: "untrusted" });
  await chat(told(await chat([USER]), "written"));
  expect(tainted()).toBe(true);
});
test("an outcome that does not fit its schema is not forwarded", async () => {
  await begin({ output: { type: "object", required: ["id"], properties: { id: { type: "integer" } } } });
  const good = await chat([USER]);
  await chat(told(good, '{"id":1}'));
  const bad = await chat([USER]);
  const before = s.model.seen.length;
  const refused = chat(told(bad, '{"id":"<script>"}'));
  await expect(refused).rejects.toMatchObject({ status: 502, code: "ERR_CONNECTOR_CONTRACT_DRIFT" });
  expect(s.model.seen.length).toBe(before);
  expect(effects()).toEqual([
    ["SUCCEEDED", ""],
    ["FAILED", "ERR_CONNECTOR_CONTRACT_DRIFT"],
  ]);
});
test("what is never told ends as unknown after its time, and a late word is no receipt", async () => {
  await begin({ timeoutMs: 200 });
  const answer = await chat([USER]);
  await until(() => effects().length === 1);
  await chat(told(answer, "written"));
  expect(effects()).toEqual([["UNKNOWN", "ERR_CONNECTOR_TIMEOUT"]]);
  expect(tainted()).toBe(true);
});
test("an open call outlives the guardian's restart and is told afterwards", async () => {
  await begin({ timeoutMs: 60_000 });
  const answer = await chat([USER]);
  s = await s.again();
  expect(effects()).toEqual([]);
  await chat(told(answer, "written"));
  s = await s.again();
  await chat(told(answer, "written"));
  expect(effects()).toEqual([["SUCCEEDED", ""]]);
});
test("an open call whose time is over when the guardian is back, or soon after, is unknown", async () => {
  await begin({ timeoutMs: 1_500 });
  const answer = await chat([USER]);
  s = await s.again();
  await until(() => effects().length === 1);
  expect(effects()).toEqual([["UNKNOWN", "ERR_OUTCOME_UNKNOWN"]]);
  await chat(told(answer, "written"));
  expect(effects().length).toBe(1);
});
