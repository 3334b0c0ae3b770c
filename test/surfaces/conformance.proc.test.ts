import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NEXT, STABLE, conformance, failures } from "./conformance.ts";
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
let open: Scene;
let shut: Scene;
const governed = (allow: boolean): Promise<Scene> =>
  scene({
    policy(document) {
      document["connectors"] = { ref: { kind: "mcp", url: reference.url } };
      const names = [...TOOLS, ...METHODS].map((name) => `tool:ref/${name}`);
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
      delete document["approvals"];
      document["limits"] = { requestsPerSecond: 10_000 };
    },
  });
beforeAll(async () => {
  reference = await referenceServer();
  open = await governed(true);
  shut = await governed(false);
});
afterAll(async () => {
  await open.close();
  await shut.close();
  await reference.close();
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

test("the same suite finds what is wrong: without the server behind it scenarios fail", async () => {
  const found = await conformance(STABLE, `${shut.base}/mcp/ref`, "2025-11-25");
  const failed = new Set(failures(found).map((f) => f.split("/", 1)[0]));
  expect(failed.has("tools-call-image")).toBe(true);
  // What a denial must not touch.
  for (const kept of ["server-initialize", "ping", "tools-list", "dns-rebinding-protection"])
    expect(failed.has(kept), kept).toBe(false);
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
