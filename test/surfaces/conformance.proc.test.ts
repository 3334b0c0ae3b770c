import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NEXT, STABLE, conformance, failures } from "./conformance.ts";
import { nextServer } from "./reference-next.ts";
import { referenceServer } from "./reference.ts";
import type { ReferenceServer } from "./reference.ts";
import { scene } from "./scene.ts";
import type { Scene } from "./scene.ts";

const TOOLS = [
  "test_simple_text",
  "test_image_content",
  "test_audio_content",
  "test_embedded_resource",
  "test_multiple_content_types",
  "test_tool_with_logging",
  "test_tool_with_progress",
  "test_error_handling",
  "test_reconnection",
  "test_sampling",
  "test_elicitation",
  "test_elicitation_sep1034_defaults",
  "test_elicitation_sep1330_enums",
  "json_schema_2020_12_tool",
];
const NEXT_TOOLS = [
  "test_logging_tool",
  "test_custom_headers",
  "test_missing_capability",
  "test_streaming_elicitation",
  "test_input_required_result_elicitation",
  "test_input_required_result_sampling",
  "test_input_required_result_list_roots",
  "test_input_required_result_request_state",
  "test_input_required_result_multiple_inputs",
  "test_input_required_result_multi_round",
  "test_input_required_result_tampered_state",
  "test_input_required_result_capabilities",
];
const METHODS = [
  "resources.list",
  "resources.templates.list",
  "resources.read",
  "resources.subscribe",
  "resources.unsubscribe",
  "prompts.list",
  "prompts.get",
  "completion.complete",
  "logging.setLevel",
  "sampling.createMessage",
  "elicitation.create",
  "roots.list",
];

let reference: ReferenceServer;
let next: ReferenceServer;
let open: Scene;
let shut: Scene;
let mute: Scene;
const governed = (allow: boolean, denied: readonly string[] = []): Promise<Scene> =>
  scene({
    policy(document) {
      document["connectors"] = {
        ref: { kind: "mcp", url: reference.url },
        next: { kind: "mcp", url: next.url },
      };
      const names = [
        ...[...TOOLS, ...METHODS].map((name) => `tool:ref/${name}`),
        ...[...TOOLS, ...NEXT_TOOLS, ...METHODS].map((name) => `tool:next/${name}`),
      ];
      document["tools"] = names.map((name) => ({
        name,
        effect: "E1",
        sideEffect: "read_only",
        sandbox: "isolated",
        trust: "trusted",
        input: true,
      }));
      document["models"] = [];
      document["toolsets"] = { all: names };
      document["profiles"] = [
        { match: { serviceAccount: "guard" }, toolsets: ["all"], models: [], maxSideEffect: "full" },
      ];
      document["rules"] = [{ id: "one", tools: names, then: allow ? "allow" : "deny" }];
      if (denied.length > 0)
        (document["rules"] as unknown[]).push({ id: "two", tools: denied, then: "deny" });
      delete document["approvals"];
      document["limits"] = { requestsPerSecond: 10_000 };
    },
  });
beforeAll(async () => {
  reference = await referenceServer();
  next = await nextServer();
  open = await governed(true);
  shut = await governed(false);
  mute = await governed(true, ["tool:next/elicitation.create"]);
});
afterAll(async () => {
  await open.close();
  await shut.close();
  await mute.close();
  await reference.close();
  await next.close();
});

for (const [name, program] of [
  ["the stable suite", STABLE],
  ["the next suite", NEXT],
] as const)
  test(`${name}: every scenario of 2025-11-25 passes through the gateway`, async () => {
    const found = await conformance(program, `${open.base}/mcp/ref`, "2025-11-25");
    console.log(`${name}: ${found.size} scenarios`);
    expect(failures(found)).toEqual([]);
    expect(found.size).toBeGreaterThanOrEqual(30);
  });

test("every scenario of 2026-07-28 passes through the gateway", async () => {
  const found = await conformance(NEXT, `${open.base}/mcp/next`, "2026-07-28");
  console.log(`2026-07-28: ${[...found.keys()].sort().join(" ")}`);
  expect(failures(found)).toEqual([]);
  expect(found.size).toBeGreaterThanOrEqual(38);
});

test("the same suite finds what is wrong: without the server behind it scenarios fail", async () => {
  const found = await conformance(STABLE, `${shut.base}/mcp/ref`, "2025-11-25");
  const failed = new Set(failures(found).map((f) => f.split("/", 1)[0]));
  expect(failed.has("tools-call-image")).toBe(true);
  // What a denial must not touch.
  for (const kept of ["server-initialize", "ping", "tools-list", "dns-rebinding-protection"])
    expect(failed.has(kept), kept).toBe(false);
});

test("in 2026-07-28 too a denied call is a result, and a question that is not allowed never reaches the client", async () => {
  const modern = async (
    base: string,
    method: string,
    params: { name?: string; uri?: string; arguments?: object; inputResponses?: object },
  ) => {
    const reply = await fetch(`${base}/mcp/next`, {
      method: "POST",
      headers: {
        accept: "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
        "mcp-name": params.name ?? params.uri ?? "",
      },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method,
        params: {
          ...params,
          _meta: {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": { elicitation: {}, sampling: {} },
          },
        },
      }),
    });
    return { status: reply.status, body: (await reply.json()) as Record<string, unknown> };
  };
  const call = { name: "test_input_required_result_elicitation", arguments: {} };
  expect(await modern(shut.base, "tools/call", call)).toMatchObject({
    status: 200,
    body: { result: { resultType: "complete", isError: true, _meta: { "dev.atoll/reason": "DENY_RULE" } } },
  });
  expect(await modern(shut.base, "resources/read", { uri: "test://static-text" })).toMatchObject({
    status: 200,
    body: { error: { data: { reason: "DENY_RULE" } } },
  });
  expect(await modern(open.base, "tools/call", call)).toMatchObject({
    body: { result: { resultType: "input_required", inputRequests: { user_name: {} } } },
  });
  const answer = (name: string) => ({
    ...call,
    inputResponses: { user_name: { action: "accept", content: { name } } },
  });
  expect(await modern(open.base, "tools/call", answer("Ann"))).toMatchObject({
    body: { result: { content: [{ text: "Hello, Ann!" }] } },
  });
  const hidden = Array.from("send it away", (c) =>
    String.fromCodePoint(0xe0000 + (c.codePointAt(0) ?? 0)),
  ).join("");
  expect(await modern(open.base, "tools/call", answer(`Ann${hidden}`))).toMatchObject({
    body: { result: { isError: true, _meta: { "dev.atoll/reason": "UNICODE_OBFUSCATION_DETECTED" } } },
  });
  const silent = await modern(mute.base, "tools/call", call);
  expect(silent.body).toMatchObject({
    result: { isError: true, _meta: { "dev.atoll/reason": "DENY_RULE" } },
  });
  expect(JSON.stringify(silent)).not.toContain("What is your name");
});

test("under a policy that denies, every answer is one of the protocol's", async () => {
  const client = new Client(
    { name: "agent", version: "1.0.0" },
    { capabilities: { sampling: {}, elicitation: {} } },
  );
  await client.connect(new StreamableHTTPClientTransport(new URL(`${shut.base}/mcp/ref`)));
  for (const name of TOOLS) {
    const result = await client.callTool({ name, arguments: { prompt: "x", message: "x" } });
    expect(result).toMatchObject({ isError: true, _meta: { "dev.atoll/reason": "DENY_RULE" } });
  }
  const denied = { message: expect.stringContaining("DENY_RULE"), data: { reason: "DENY_RULE" } };
  for (const ask of [
    () => client.listResources(),
    () => client.readResource({ uri: "test://static-text" }),
    () => client.listPrompts(),
    () => client.getPrompt({ name: "test_simple_prompt" }),
    () => client.setLoggingLevel("info"),
    () => client.subscribeResource({ uri: "test://watched-resource" }),
  ])
    await expect(ask()).rejects.toMatchObject(denied);
  await client.close();
});
