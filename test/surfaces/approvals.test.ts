// An approval as agents with ordinary SDKs meet it, and as a person answers it over the admin socket.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import OpenAI from "openai";
import { afterEach, expect, test } from "vitest";
import { approve, approvals, override, reject, review } from "../../cli/approve.ts";
import { freeze, unfreeze } from "../../cli/freeze.ts";
import { pieces } from "../../cli/screen.ts";
import { hiddenIn, visible } from "../../cli/visible.ts";
import { judge } from "../../cli/verify.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { startAdmin } from "../../sidecar/admin/admin.ts";
import type { Admin } from "../../sidecar/admin/admin.ts";
import { provider } from "./provider.ts";
import { scene } from "./scene.ts";
import type { Scene, SceneOptions } from "./scene.ts";

const TOOL = "tool:github/create_release";
const RELEASE = { name: "github__create_release", arguments: { repo: "acme/web", tag: "v1" } };
const SHELL = 'call run_shell {"command":"make release"}';

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Stage {
  s: Scene;
  admin: Admin;
  atoll(
    command: (argv: string[], io: never) => Promise<number>,
    ...argv: string[]
  ): Promise<{ readonly code: number; readonly out: string }>;
  keys: { readonly approver: string; readonly two: string; readonly override: string };
  restart(ceiling?: JsonObject): Promise<void>;
}

async function stage(terms: object = {}, more?: SceneOptions["policy"]): Promise<Stage> {
  const s = await scene({
    policy(document, two) {
      const ceremonies = document["approvals"] as Record<string, { approvers: string[] }>;
      const one = ceremonies["one-person"];
      if (one === undefined) throw new Error("the demo's policy has no ceremony");
      ceremonies["one-person"] = { ...one, approvers: [...one.approvers, two], ...terms };
      (document["rules"] as unknown[]).push({
        id: "shell-needs-a-person",
        tools: ["tool:agent/run_shell"],
        then: "escalate",
        approval: "one-person",
      });
      more?.(document, two);
    },
  });
  const file = (name: string, pem: string): string => {
    const path = join(s.folder, name);
    writeFileSync(path, pem);
    return path;
  };
  const keys = {
    approver: file("a.pem", s.approverPem),
    two: file("b.pem", s.approverTwoPem),
    override: file("o.pem", s.overridePem),
  };
  const journal = join(s.folder, "journal");
  const it: Stage = {
    s,
    admin: await startAdmin(s.guardian, journal),
    keys,
    async atoll(command, ...argv) {
      let out = "";
      const stream = { write: (text: string | Uint8Array) => void (out += String(text)) };
      const io = { stdin: [], stdout: stream, stderr: stream, env: {} };
      const code = await command([...argv, "--socket", join(journal, "admin.sock")], io as never).catch(
        (error: unknown) => {
          out += error instanceof Error ? error.message : "error";
          return 1;
        },
      );
      return { code, out };
    },
    async restart(ceiling) {
      await it.admin.close();
      it.s = await it.s.again(ceiling);
      it.admin = await startAdmin(it.s.guardian, journal);
    },
  };
  closing.push(async () => {
    await it.admin.close();
    await it.s.close();
  });
  return it;
}

async function mcp(it: Stage): Promise<Client> {
  const client = new Client({ name: "agent", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${it.s.base}/mcp`)));
  return client;
}
const openai = (it: Stage): OpenAI => new OpenAI({ baseURL: `${it.s.base}/v1`, apiKey: "placeholder" });
const tools = ["run_shell", "write_note"].map((name) => ({
  type: "function" as const,
  function: { name, parameters: { type: "object" } },
}));
const ask = (it: Stage, content = SHELL) =>
  openai(it).chat.completions.create({
    model: "openai/stand-in",
    messages: [{ role: "user", content }],
    tools,
  });
const approvalIn = (value: unknown): string =>
  /apr_[0-9a-f]{32}/.exec(JSON.stringify(value))?.[0] ?? expect.fail("no approval is named");
const reasonOf = (result: { readonly _meta?: unknown }): unknown =>
  (result._meta as Record<string, unknown> | undefined)?.["dev.atoll/reason"];
const executed = (it: Stage): number => it.s.tools.done.get("create_release") ?? 0;
/** Waits for what the guardian does on its own; the test's time limit is the bound. */
async function until<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
const waiting = (it: Stage) =>
  until(() => it.s.guardian.ceremonies.all.find((a) => a.state === "pending")).then((a) => a.id);

test("an MCP agent's escalated call passes once after an approval, over a restart, and not twice", async () => {
  const it = await stage();
  let agent = await mcp(it);
  const first = await agent.callTool(RELEASE);
  expect(first).toMatchObject({ isError: true });
  const id = approvalIn(first);
  expect(approvalIn(await agent.callTool(RELEASE))).toBe(id);
  await agent.close();
  await it.restart();
  agent = await mcp(it);
  const said = await it.atoll(approve, id, "--key", it.keys.approver, "--yes-to", TOOL);
  expect(said.code).toBe(0);
  for (const part of ["acme/web", TOOL, "serviceAccount:local/guard", "hard to change back", "holds until"])
    expect(said.out).toContain(part);
  expect((await agent.callTool({ ...RELEASE, arguments: { repo: "acme/web", tag: "v2" } })).isError).toBe(
    true,
  );
  expect(executed(it)).toBe(0);
  expect((await agent.callTool(RELEASE)).isError).toBeFalsy();
  expect(approvalIn(await agent.callTool(RELEASE))).not.toBe(id);
  expect(executed(it)).toBe(1);
  await agent.close();
});

test("an OpenAI agent's model makes the identical call, and it passes once", async () => {
  const it = await stage();
  const first = (await ask(it)).choices[0];
  expect(first?.message.tool_calls).toBeUndefined();
  expect(first?.message.content).toContain("DENY_APPROVAL_REQUIRED");
  expect(JSON.stringify(first)).not.toContain("make release");
  const id = approvalIn(first);
  expect(
    (await it.atoll(approve, id, "--key", it.keys.approver, "--yes-to", "tool:agent/run_shell")).code,
  ).toBe(0);
  const second = (await ask(it)).choices[0];
  expect(second?.message.tool_calls?.length).toBe(1);
  expect((await ask(it)).choices[0]?.message.tool_calls).toBeUndefined();
});

test("with waitSeconds the answer is held, streaming or not, and released on approval", async () => {
  const it = await stage({ waitSeconds: 30 });
  const agent = await mcp(it);
  const yes = async (tool: string) =>
    it.atoll(approve, await waiting(it), "--key", it.keys.approver, "--yes-to", tool);
  const [result] = await Promise.all([agent.callTool(RELEASE), yes(TOOL)]);
  expect(result.isError).toBeFalsy();
  expect(executed(it)).toBe(1);
  const [whole] = await Promise.all([ask(it), yes("tool:agent/run_shell")]);
  expect(whole.choices[0]?.message.tool_calls?.length).toBe(1);
  const asked = it.s.model.done.get("chat") ?? 0;
  const stream = openai(it).chat.completions.stream({
    model: "openai/stand-in",
    messages: [{ role: "user", content: 'call run_shell {"command":"make all"}' }],
    tools,
  });
  const [streamed] = await Promise.all([stream.finalChatCompletion(), yes("tool:agent/run_shell")]);
  expect(streamed.choices[0]?.message.tool_calls?.length).toBe(1);
  expect(it.s.model.done.get("chat")).toBe(asked + 1);
  await agent.close();
});

test("several calls of one answer wait for their people together", async () => {
  const it = await stage({ waitSeconds: 30 });
  const both = ask(it, 'call run_shell {"command":"one"}\ncall run_shell {"command":"two"}');
  await until(() => (it.s.guardian.ceremonies.all.length === 2 ? true : undefined));
  const [first, second] = it.s.guardian.ceremonies.all;
  const flags = ["--key", it.keys.approver, "--yes-to", "tool:agent/run_shell"];
  expect((await it.atoll(reject, second?.id ?? "", ...flags)).code).toBe(0);
  expect((await it.atoll(approve, first?.id ?? "", ...flags)).code).toBe(0);
  const message = (await both).choices[0]?.message;
  expect(message?.tool_calls?.map((c) => (c.type === "function" ? c.function.arguments : ""))).toEqual([
    '{"command":"one"}',
  ]);
  expect(message?.content).toContain("APPROVAL_REJECTED");
});

test("a held answer hears a rejection and a timeout, each with its code and a receipt", async () => {
  const it = await stage({ waitSeconds: 30 });
  const agent = await mcp(it);
  const [no] = await Promise.all([
    agent.callTool(RELEASE),
    waiting(it).then((id) => it.atoll(reject, id, "--key", it.keys.two, "--yes-to", TOOL)),
  ]);
  expect(reasonOf(no)).toBe("APPROVAL_REJECTED");
  const short = await stage({ waitSeconds: 5, expiresSeconds: 1 });
  const [other] = [await mcp(short)];
  const late = await other.callTool(RELEASE);
  expect(reasonOf(late)).toBe("DENY_APPROVAL_TIMEOUT");
  const receipt = (late._meta as Record<string, string>)["dev.atoll/receipt"] ?? "";
  const body = await (await fetch(`${short.s.base}/atoll/v1/receipts/${receipt}`)).json();
  expect(body).toMatchObject({ reason_code: "DENY_APPROVAL_TIMEOUT", verdict: "DENY" });
  expect(executed(it) + executed(short)).toBe(0);
  await agent.close();
  await other.close();
});

test("a client that goes away while its answer is held gets nothing carried out later", async () => {
  const it = await stage({ waitSeconds: 30 });
  const gone = new AbortController();
  const call = fetch(`${it.s.base}/mcp/v1/execute`, {
    method: "POST",
    signal: gone.signal,
    body: JSON.stringify({ tool: TOOL, arguments: RELEASE.arguments }),
  }).catch(() => "gone");
  const id = await waiting(it);
  gone.abort();
  expect(await call).toBe("gone");
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect((await it.atoll(approve, id, "--key", it.keys.approver, "--yes-to", TOOL)).code).toBe(0);
  expect(executed(it)).toBe(0);
  expect(it.s.guardian.ceremonies.get(id as never)?.state).toBe("granted");
});

test("REST answers an escalation with 409, says how to approve, and asks no SDK to repeat it", async () => {
  const it = await stage();
  const response = await fetch(`${it.s.base}/mcp/v1/execute`, {
    method: "POST",
    body: JSON.stringify({ tool: TOOL, arguments: RELEASE.arguments }),
  });
  expect(response.status).toBe(409);
  expect(response.headers.get("x-should-retry")).toBe("false");
  const body = (await response.json()) as { approval: Record<string, unknown> };
  expect(body.approval["how"]).toContain("atoll approve apr_");
  const polled = await fetch(`${it.s.base}/atoll/v1/approvals/${approvalIn(body)}`);
  expect(await polled.json()).toMatchObject({ state: "pending" });
});

test("quorum: the same approver twice does not count, a wrong tool name signs nothing, another role is refused", async () => {
  const it = await stage({ quorum: 2 });
  const agent = await mcp(it);
  const id = approvalIn(await agent.callTool(RELEASE));
  const by = (key: string, tool = TOOL) => it.atoll(approve, id, "--key", key, "--yes-to", tool);
  expect(await by(it.keys.approver, "tool:github/list_issues")).toMatchObject({ code: 1 });
  expect(await by(it.keys.override)).toMatchObject({ code: 1 });
  expect(await by(it.keys.approver)).toMatchObject({ code: 0 });
  const twice = await by(it.keys.approver);
  expect(twice).toMatchObject({ code: 1 });
  expect(twice.out).toContain("answered already");
  expect((await agent.callTool(RELEASE)).isError).toBe(true);
  expect(await by(it.keys.two)).toMatchObject({ code: 0 });
  expect((await agent.callTool(RELEASE)).isError).toBeFalsy();
  await agent.close();
});

test("a ceiling holds against a call that was overridden", async () => {
  const it = await stage();
  let agent = await mcp(it);
  const id = approvalIn(await agent.callTool(RELEASE));
  const flags = ["--key", it.keys.override, "--reason", "fire", "--yes-to", TOOL];
  expect((await it.atoll(override, id, ...flags)).code).toBe(0);
  expect(it.s.guardian.ceremonies.get(id as never)?.state).toBe("granted");
  await agent.close();
  await it.restart({
    apiVersion: "atoll.dev/policy/v1",
    name: "ceiling",
    layer: "P0",
    ceiling: { maxEffect: "E4", forbidden: [{ tools: [TOOL], reason: "no releases today" }] },
  });
  agent = await mcp(it);
  expect(reasonOf(await agent.callTool(RELEASE))).toBe("FORBIDDEN_EFFECT");
  expect(executed(it)).toBe(0);
  expect(it.s.guardian.ceremonies.get(id as never)?.reviewOpen).toBe(true);
  await agent.close();
});

test("an override passes at once and leaves a review open in status, metric and evidence over a restart", async () => {
  const it = await stage({ timelockSeconds: 300, quorum: 2 });
  let agent = await mcp(it);
  const id = approvalIn(await agent.callTool(RELEASE));
  const wrong = await it.atoll(override, id, "--key", it.keys.approver, "--reason", "fire", "--yes-to", TOOL);
  expect(wrong.code).toBe(1);
  const done = await it.atoll(override, id, "--key", it.keys.override, "--reason", "fire", "--yes-to", TOOL);
  expect(done).toMatchObject({ code: 0 });
  expect((await agent.callTool(RELEASE)).isError).toBeFalsy();
  expect(executed(it)).toBe(1);
  const list = await it.atoll(approvals);
  expect(list.out).toContain("review is open");
  await agent.close();
  await it.restart();
  expect(await it.s.guardian.telemetry.text()).toMatch(/^atoll_reviews_open 1$/m);
  const open = () => {
    const guardian = readFileSync(join(it.s.folder, "journal", "guardian.pub"), "utf8");
    const outcome = judge(join(it.s.folder, "journal"), parseTrustRoots(`role: guardian\n${guardian}`));
    return "finding" in outcome ? outcome.finding : outcome.report.open_reviews.length;
  };
  expect(open()).toBe(1);
  const self = await it.atoll(review, id, "--key", it.keys.override, "--yes-to", TOOL);
  expect(self.code).toBe(1);
  const seen = await it.atoll(review, id, "--key", it.keys.two, "--yes-to", TOOL);
  expect(seen.out).toContain("fire");
  expect(seen.code).toBe(0);
  expect(open()).toBe(0);
  expect(await it.s.guardian.telemetry.text()).toMatch(/^atoll_reviews_open 0$/m);
  agent = await mcp(it);
  expect((await agent.callTool(RELEASE)).isError).toBe(true);
  await agent.close();
});

test("a freeze stops everything at once, over a restart, and only an approver's key lifts it", async () => {
  const it = await stage();
  const agent = await mcp(it);
  const list = { name: "github__list_issues", arguments: { repo: "acme/web" } };
  expect((await agent.callTool(list)).isError).toBeFalsy();
  expect((await it.atoll(freeze, "--reason", "odd calls")).code).toBe(0);
  expect(reasonOf(await agent.callTool(list))).toBe("SYSTEM_FROZEN");
  await expect(ask(it)).rejects.toMatchObject({ status: 403, code: "SYSTEM_FROZEN" });
  await agent.close();
  await it.restart();
  const again = await mcp(it);
  expect(reasonOf(await again.callTool(list))).toBe("SYSTEM_FROZEN");
  expect((await it.atoll(unfreeze, "--key", it.keys.override)).code).toBe(1);
  expect(reasonOf(await again.callTool(list))).toBe("SYSTEM_FROZEN");
  expect((await it.atoll(unfreeze, "--key", it.keys.approver)).code).toBe(0);
  expect((await again.callTool(list)).isError).toBeFalsy();
  await again.close();
});

test("a freeze aborts what is under way", async () => {
  const slow = await provider();
  closing.push(() => slow.close());
  slow.script = { body: "{}", silentMs: 30_000 };
  const it = await stage({}, (document) => {
    const connectors = document["connectors"] as Record<string, object>;
    connectors["openai"] = { ...connectors["openai"], url: slow.url };
  });
  const asked = ask(it).catch((e: { code?: string }) => e.code);
  await until(() => (slow.seen.length === 1 ? true : undefined));
  await it.atoll(freeze, "--reason", "stop");
  expect(await asked).toBe("ERR_OUTCOME_UNKNOWN");
  await until(() => (slow.abandoned === 1 ? true : undefined));
  expect(slow.seen.length).toBe(1);
});

test("what an approver sees hides nothing, and secrets are redacted", async () => {
  const it = await stage({}, (document) => {
    (document["perimeter"] as Record<string, unknown>)["redact"] = ["ghp_[A-Za-z0-9]+"];
  });
  const agent = await mcp(it);
  const tag = "v1\u202e1v\u200b\u001b[2J";
  const result = await agent.callTool({
    name: "github__create_release",
    arguments: { repo: "acme/ghp_abcdef", tag },
  });
  // The threat gate may deny such a call before a person is asked; either way nothing of it reaches a terminal.
  if (reasonOf(result) === "DENY_APPROVAL_REQUIRED") {
    const shown = await it.atoll(approve, approvalIn(result), "--key", it.keys.approver, "--yes-to", "no");
    expect(shown.out).toContain("\\u{202e}");
    expect(shown.out).toContain("[redacted]");
  } else expect(reasonOf(result)).toBe("UNICODE_OBFUSCATION_DETECTED");
  for (const bad of [
    "\u202e",
    "\u200b",
    "\u001b",
    "\u{e0041}",
    "\u3164",
    "\u2800",
    "\ufe0f",
    "\u00a0",
    "\n",
  ]) {
    expect(visible(`a${bad}b`)).toMatch(/^a\\u\{[0-9a-f]+\}b$/);
    expect(hiddenIn(`a${bad}b`)).toBe(1);
  }
  for (const fine of ["Привет, мир", "日本語", "naïve café", "عربى", "a b", "e\u0301"])
    expect(visible(fine)).toBe(fine);
  await agent.close();
});

test("a row of the terminal loses nothing of a line, and is never wider than the terminal", () => {
  for (const line of [
    "",
    "a",
    "word ".repeat(40),
    "x".repeat(333),
    `  ${"y".repeat(70)} z z z`,
    "日本語 ".repeat(30),
  ])
    for (const width of [20, 79, 80]) {
      const rows = pieces(line, width);
      expect(rows.join("")).toBe(line);
      const columns = (row: string): number =>
        Array.from(row).reduce((n, c) => n + (c > "\u1100" ? 2 : 1), 0);
      for (const row of rows) expect(columns(row)).toBeLessThanOrEqual(width);
    }
  expect(pieces("If approved, the agent changes it", 25)).toEqual(["If approved, the agent ", "changes it"]);
});
