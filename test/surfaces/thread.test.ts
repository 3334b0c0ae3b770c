import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { scene } from "./scene.ts";
import type { Scene } from "./scene.ts";

let s: Scene;
beforeAll(async () => {
  s = await scene();
});
afterAll(() => s.close());

const functions = ["write_note", "run_shell", "github__create_issue"].map((name) => ({
  type: "function" as const,
  function: { name, parameters: { type: "object" } },
}));
const openai = (): OpenAI => new OpenAI({ baseURL: `${s.base}/v1`, apiKey: "placeholder", maxRetries: 0 });
const ask = (content: string) =>
  openai().chat.completions.create({
    model: "openai/stand-in",
    messages: [{ role: "user", content }],
    tools: functions,
  });

async function mcp(): Promise<Client> {
  const client = new Client({ name: "agent", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${s.base}/mcp`)));
  return client;
}

test("an unmodified OpenAI client gets an allowed tool call and not a denied one", async () => {
  const allowed = await ask('call write_note {"text":"hello"}');
  expect(allowed.choices[0]?.message.tool_calls?.[0]).toMatchObject({
    function: { name: "write_note", arguments: '{"text":"hello"}' },
  });
  expect(allowed.choices[0]?.finish_reason).toBe("tool_calls");
  const denied = await ask('call run_shell {"command":"rm -rf /"}');
  expect(denied.choices[0]?.message.tool_calls).toBeUndefined();
  expect(denied.choices[0]?.message.content).toContain("DENY_NO_MATCH");
  expect(denied.choices[0]?.finish_reason).toBe("stop");
  expect(JSON.stringify(denied)).not.toContain("rm -rf");
});
test("the same when streamed", async () => {
  const stream = openai().chat.completions.stream({
    model: "openai/stand-in",
    messages: [
      { role: "user", content: 'call run_shell {"command":"rm -rf /"}\ncall write_note {"text":"hello"}' },
    ],
    tools: functions,
  });
  const final = await stream.finalChatCompletion();
  expect(
    final.choices[0]?.message.tool_calls?.map((c) => (c.type === "function" ? c.function.name : "")),
  ).toEqual(["write_note"]);
  expect(JSON.stringify(final)).not.toContain("rm -rf");
});
test("an unmodified MCP client sees and calls what the policy allows", async () => {
  const client = await mcp();
  const { tools } = await client.listTools();
  expect(tools.map((t) => t.name).sort()).toEqual([
    "github__create_issue",
    "github__create_release",
    "github__delete_repo",
    "github__list_issues",
  ]);
  const made = await client.callTool({
    name: "github__create_issue",
    arguments: { repo: "acme/web", title: "x" },
  });
  expect(made.isError).toBeFalsy();
  expect(made.structuredContent).toEqual({ number: 1, repo: "acme/web" });
  const other = await client.callTool({
    name: "github__create_issue",
    arguments: { repo: "evil/web", title: "x" },
  });
  expect(other).toMatchObject({ isError: true, _meta: { "dev.atoll/reason": "DENY_NO_MATCH" } });
  const deleted = await client.callTool({ name: "github__delete_repo", arguments: { repo: "acme/web" } });
  expect(deleted).toMatchObject({ isError: true, _meta: { "dev.atoll/reason": "DENY_RULE" } });
  expect(s.tools.done.get("create_issue")).toBe(1);
  expect(s.tools.done.get("delete_repo")).toBeUndefined();
  const released = await client.callTool({
    name: "github__create_release",
    arguments: { repo: "acme/web", tag: "v1" },
  });
  expect(released).toMatchObject({ isError: true, _meta: { "dev.atoll/reason": "DENY_APPROVAL_REQUIRED" } });
  await client.close();
});
