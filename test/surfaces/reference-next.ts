// An MCP server of the revision without a handshake (2026-07-28) that has everything the conformance scenarios ask for, on
// the reference SDK of that revision.

import { createServer } from "node:http";
import { toNodeHandler } from "@modelcontextprotocol/node";
import {
  McpServer,
  ResourceTemplate,
  createMcpHandler,
  createRequestStateCodec,
  fromJsonSchema,
} from "@modelcontextprotocol/server";
import { z } from "zod";
import { PNG, SCHEMA_2020, WAV } from "./reference.ts";
import type { ReferenceServer } from "./reference.ts";

type Question = readonly [string, { readonly method: string; readonly params: object }];
const elicit = (key: string, message: string, name: string, type = "string"): Question => [
  key,
  {
    method: "elicitation/create",
    params: {
      message,
      requestedSchema: { type: "object", properties: { [name]: { type } }, required: [name] },
    },
  },
];
const sample = (key: string, text: string): Question => [
  key,
  {
    method: "sampling/createMessage",
    params: { messages: [{ role: "user", content: { type: "text", text } }], maxTokens: 100 },
  },
];
const roots = (key: string): Question => [key, { method: "roots/list", params: {} }];
const ask = (questions: readonly Question[], requestState?: string) =>
  ({
    resultType: "input_required",
    inputRequests: Object.fromEntries(questions),
    ...(requestState === undefined ? {} : { requestState }),
  }) as never;

const codec = createRequestStateCodec<{ round: number }>({
  key: new Uint8Array(32).fill(7),
  ttlSeconds: 600,
});

/** What the client of a request declared. */
function declared(envelope: unknown): { readonly sampling?: unknown; readonly elicitation?: unknown } {
  const o = (envelope ?? {}) as Record<string, object>;
  return o["io.modelcontextprotocol/clientCapabilities"] ?? o["clientCapabilities"] ?? {};
}

function build(): McpServer {
  const server = new McpServer(
    { name: "reference", version: "2.0.0" },
    {
      capabilities: { tools: {}, resources: {}, prompts: {}, completions: {}, logging: {} },
      requestState: { verify: (state, ctx) => codec.verify(state, ctx) },
    },
  );
  const words = (text: string) => ({ content: [{ type: "text" as const, text }] });
  const plain = (name: string, content: unknown[]): void =>
    void server.registerTool(name, { description: name }, () => ({ content: content as never }));
  const image = { type: "image", data: PNG, mimeType: "image/png" };
  const resource = (uri: string, mimeType: string, text: string) => ({
    type: "resource",
    resource: { uri, mimeType, text },
  });
  plain("test_simple_text", [{ type: "text", text: "This is a simple text response for testing." }]);
  plain("test_image_content", [image]);
  plain("test_audio_content", [{ type: "audio", data: WAV, mimeType: "audio/wav" }]);
  plain("test_embedded_resource", [
    resource("test://embedded-resource", "text/plain", "This is an embedded resource content."),
  ]);
  plain("test_multiple_content_types", [
    { type: "text", text: "Multiple content types test:" },
    image,
    resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
  ]);
  server.registerTool("test_error_handling", { description: "fails" }, () => {
    throw new Error("This tool intentionally returns an error for testing");
  });
  server.registerTool("test_tool_with_progress", { description: "progress" }, async (ctx) => {
    const token = ctx.mcpReq._meta?.progressToken ?? 0;
    for (const progress of [0, 50, 100])
      await ctx.mcpReq.notify({
        method: "notifications/progress",
        params: { progressToken: token, progress, total: 100 },
      });
    return words(String(token));
  });
  server.registerTool("test_logging_tool", { description: "logs" }, async (ctx) => {
    await ctx.mcpReq.log("info", "a line");
    return words("logged");
  });
  server.registerTool(
    "json_schema_2020_12_tool",
    { description: "schema", inputSchema: fromJsonSchema(SCHEMA_2020 as never) },
    () => words("ok"),
  );
  server.registerTool(
    "test_custom_headers",
    {
      description: "headers",
      inputSchema: fromJsonSchema({
        type: "object",
        properties: { region: { type: "string", "x-mcp-header": "Region" } },
      } as never),
    },
    () => words("ok"),
  );
  server.registerTool("test_missing_capability", { description: "needs sampling" }, (ctx) =>
    // The SDK refuses a question that the client did not declare.
    ctx.mcpReq.inputResponses?.["greeting"] === undefined
      ? ask([sample("greeting", "Generate a greeting")])
      : words("ok"),
  );
  server.registerTool("test_streaming_elicitation", { description: "asks" }, (ctx) =>
    ctx.mcpReq.inputResponses?.["user_name"] === undefined
      ? ask([elicit("user_name", "What is your name?", "name")])
      : words("ok"),
  );

  // Questions to the client
  const answered = (value: unknown): value is { content: Record<string, unknown> } =>
    typeof value === "object" && value !== null && "content" in value && typeof value.content === "object";
  server.registerTool("test_input_required_result_elicitation", { description: "asks" }, (ctx) => {
    const answer = ctx.mcpReq.inputResponses?.["user_name"];
    return answered(answer)
      ? words(`Hello, ${String(answer.content["name"])}!`)
      : ask([elicit("user_name", "What is your name?", "name")]);
  });
  server.registerTool("test_input_required_result_sampling", { description: "asks" }, (ctx) =>
    ctx.mcpReq.inputResponses?.["capital_question"] === undefined
      ? ask([sample("capital_question", "What is the capital of France?")])
      : words("The capital: Paris"),
  );
  server.registerTool("test_input_required_result_list_roots", { description: "asks" }, (ctx) =>
    ctx.mcpReq.inputResponses?.["client_roots"] === undefined
      ? ask([roots("client_roots")])
      : words("roots: 1"),
  );
  server.registerTool("test_input_required_result_request_state", { description: "asks" }, async (ctx) =>
    ctx.mcpReq.inputResponses?.["confirm"] === undefined
      ? ask([elicit("confirm", "Please confirm", "ok", "boolean")], await codec.mint({ round: 1 }))
      : words("state-ok"),
  );
  server.registerTool("test_input_required_result_multiple_inputs", { description: "asks" }, async (ctx) =>
    ["user_name", "greeting", "client_roots"].some((k) => ctx.mcpReq.inputResponses?.[k] === undefined)
      ? ask(
          [
            elicit("user_name", "What is your name?", "name"),
            sample("greeting", "Generate a greeting"),
            roots("client_roots"),
          ],
          await codec.mint({ round: 1 }),
        )
      : words("all there"),
  );
  server.registerTool("test_input_required_result_multi_round", { description: "asks" }, async (ctx) => {
    const state = ctx.mcpReq.requestState<{ round: number }>();
    const responses = ctx.mcpReq.inputResponses;
    if (responses?.["step1"] === undefined && responses?.["step2"] === undefined)
      return ask([elicit("step1", "Step 1: What is your name?", "name")], await codec.mint({ round: 1 }));
    return (state?.round ?? 1) < 2 && responses["step2"] === undefined
      ? ask(
          [elicit("step2", "Step 2: What is your favorite color?", "color")],
          await codec.mint({ round: 2 }),
        )
      : words("done");
  });
  server.registerTool("test_input_required_result_tampered_state", { description: "asks" }, async (ctx) =>
    ctx.mcpReq.inputResponses?.["confirm"] === undefined
      ? ask([elicit("confirm", "Please confirm", "ok", "boolean")], await codec.mint({ round: 1 }))
      : words("state-ok"),
  );
  server.registerTool("test_input_required_result_capabilities", { description: "asks" }, (ctx) => {
    const caps = declared(ctx.mcpReq.envelope);
    const questions = [
      ...(caps.sampling === undefined ? [] : [sample("greeting", "Generate a greeting")]),
      ...(caps.elicitation === undefined ? [] : [elicit("user_name", "What is your name?", "name")]),
    ];
    return questions.length === 0 || ctx.mcpReq.inputResponses !== undefined ? words("ok") : ask(questions);
  });

  const text = (uri: URL | string, mimeType: string, value: string) => ({
    contents: [{ uri: String(uri), mimeType, text: value }],
  });
  server.registerResource("static-text", "test://static-text", { mimeType: "text/plain" }, (uri) =>
    text(uri, "text/plain", "This is the content of the static text resource."),
  );
  server.registerResource("static-binary", "test://static-binary", { mimeType: "image/png" }, (uri) => ({
    contents: [{ uri: String(uri), mimeType: "image/png", blob: PNG }],
  }));
  server.registerResource(
    "template",
    new ResourceTemplate("test://template/{id}/data", { list: undefined }),
    { mimeType: "application/json" },
    (uri, { id }) =>
      text(uri, "application/json", JSON.stringify({ id, data: `Data for ID: ${String(id)}` })),
  );
  const user = (part: object) => ({ role: "user" as const, content: part as { type: "text"; text: string } });
  const line = (value: string) => user({ type: "text", text: value });
  server.registerPrompt("test_simple_prompt", { description: "simple" }, () => ({
    messages: [line("This is a simple prompt for testing.")],
  }));
  server.registerPrompt(
    "test_prompt_with_arguments",
    { description: "arguments", argsSchema: z.object({ arg1: z.string(), arg2: z.string() }) },
    ({ arg1, arg2 }) => ({ messages: [line(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)] }),
  );
  server.registerPrompt(
    "test_prompt_with_embedded_resource",
    { description: "resource", argsSchema: z.object({ resourceUri: z.string() }) },
    ({ resourceUri }) => ({
      messages: [
        user(resource(resourceUri, "text/plain", "Embedded resource content for testing.")),
        line("Please process the embedded resource above."),
      ],
    }),
  );
  server.registerPrompt("test_prompt_with_image", { description: "image" }, () => ({
    messages: [user(image), line("Please analyze the image above.")],
  }));
  server.registerPrompt("test_input_required_result_prompt", { description: "asks" }, (ctx) =>
    ctx.mcpReq.inputResponses?.["user_context"] === undefined
      ? ask([elicit("user_context", "What context should the prompt use?", "context")])
      : { messages: [line("with context")] },
  );
  server.server.setRequestHandler("completion/complete", () => ({
    completion: { values: ["paris", "park", "party"], total: 3, hasMore: false },
  }));
  return server;
}

export async function nextServer(): Promise<ReferenceServer> {
  const handler = toNodeHandler(createMcpHandler(build, { legacy: "reject" }));
  const http = createServer((request, response) => void handler(request as never, response));
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const address = http.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };
}
