// An MCP server that has everything the conformance scenarios ask for (2025-11-25), on the reference SDK.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { McpServer, ResourceTemplate } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import {
  CallToolRequestSchema,
  CreateMessageResultSchema,
  ElicitResultSchema,
  ListToolsRequestSchema,
  SetLevelRequestSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";

export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
export const WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";
const words = (text: string) => ({ type: "text" as const, text });

/** A schema with the keywords of JSON Schema 2020-12, which has to arrive as it is. */
export const SCHEMA_2020 = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  $defs: {
    address: {
      $anchor: "addressDef",
      type: "object",
      properties: { street: { type: "string" }, city: { type: "string" } },
    },
  },
  properties: {
    name: { type: "string" },
    address: { $ref: "#/$defs/address" },
    contactMethod: { type: "string", enum: ["phone", "email"] },
    phone: { type: "string" },
    email: { type: "string" },
  },
  allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
  if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
  then: { required: ["phone"] },
  else: { required: ["email"] },
  additionalProperties: false,
};

export const DEFAULTS_FORM = {
  type: "object" as const,
  properties: {
    name: { type: "string" as const, description: "Name", default: "John Doe" },
    age: { type: "integer" as const, description: "Age", default: 30 },
    score: { type: "number" as const, description: "Score", default: 95.5 },
    status: {
      type: "string" as const,
      description: "Status",
      enum: ["active", "inactive", "pending"],
      default: "active",
    },
    verified: { type: "boolean" as const, description: "Verified", default: true },
  },
  required: [],
};
const TITLED = [1, 2, 3].map((n) => ({ const: `value${n}`, title: `Option ${n}` }));
const PLAIN = ["option1", "option2", "option3"];
export const ENUM_FORM = {
  type: "object" as const,
  properties: {
    untitledSingle: { type: "string" as const, enum: PLAIN },
    titledSingle: { type: "string" as const, oneOf: TITLED },
    legacyEnum: {
      type: "string" as const,
      enum: ["opt1", "opt2", "opt3"],
      enumNames: ["Option One", "Option Two", "Option Three"],
    },
    untitledMulti: { type: "array" as const, items: { type: "string" as const, enum: PLAIN } },
    titledMulti: { type: "array" as const, items: { anyOf: TITLED } },
  },
  required: [],
};

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function build(closeStream: (request: string | number) => void): McpServer {
  const server = new McpServer(
    { name: "reference", version: "1.0.0" },
    {
      capabilities: {
        tools: {},
        resources: { subscribe: true },
        prompts: {},
        logging: {},
        completions: {},
      },
    },
  );
  const content = (...parts: unknown[]) => ({ content: parts as { type: "text"; text: string }[] });
  const tool = (name: string, parts: unknown[]): void =>
    void server.registerTool(name, { description: name }, () => content(...parts));
  const image = { type: "image", data: PNG, mimeType: "image/png" };
  const resource = (uri: string, mimeType: string, text: string) => ({
    type: "resource",
    resource: { uri, mimeType, text },
  });
  tool("test_simple_text", [words("This is a simple text response for testing.")]);
  tool("test_image_content", [image]);
  tool("test_audio_content", [{ type: "audio", data: WAV, mimeType: "audio/wav" }]);
  tool("test_embedded_resource", [
    resource("test://embedded-resource", "text/plain", "This is an embedded resource content."),
  ]);
  tool("test_multiple_content_types", [
    words("Multiple content types test:"),
    image,
    resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
  ]);
  server.registerTool("test_tool_with_logging", { description: "logs" }, async (extra) => {
    for (const data of ["started", "processing", "completed"]) {
      await extra.sendNotification({
        method: "notifications/message",
        params: { level: "info", data: `Tool execution ${data}` },
      });
      await pause(20);
    }
    return content(words("logged"));
  });
  server.registerTool("test_tool_with_progress", { description: "progress" }, async (extra) => {
    const progressToken = extra._meta?.progressToken ?? 0;
    for (const progress of [0, 50, 100]) {
      await extra.sendNotification({
        method: "notifications/progress",
        params: { progressToken, progress, total: 100, message: `${progress} of 100` },
      });
      await pause(20);
    }
    return content(words(String(progressToken)));
  });
  server.registerTool("test_error_handling", { description: "fails" }, () => {
    throw new Error("This tool intentionally returns an error for testing");
  });
  server.registerTool("test_reconnection", { description: "ends its stream" }, async (extra) => {
    closeStream(extra.requestId);
    await pause(100);
    return content(words("reconnected"));
  });
  server.registerTool(
    "test_sampling",
    { description: "asks the model", inputSchema: { prompt: z.string() } },
    async ({ prompt }, extra) => {
      const messages = [{ role: "user" as const, content: words(prompt) }];
      const answer = await extra.sendRequest(
        { method: "sampling/createMessage", params: { messages, maxTokens: 100 } },
        CreateMessageResultSchema,
      );
      return content(words(`LLM response: ${"text" in answer.content ? answer.content.text : ""}`));
    },
  );
  const elicits = (name: string, form: object, input: Record<string, z.ZodString> = {}): void =>
    void server.registerTool(name, { description: name, inputSchema: input }, async (args, extra) => {
      const message = typeof args["message"] === "string" ? args["message"] : "Please fill in";
      const answer = await extra.sendRequest(
        { method: "elicitation/create", params: { message, requestedSchema: form as typeof DEFAULTS_FORM } },
        ElicitResultSchema,
      );
      return content(
        words(`User response: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`),
      );
    });
  elicits(
    "test_elicitation",
    { type: "object", properties: { response: { type: "string" } }, required: ["response"] },
    { message: z.string() },
  );
  elicits("test_elicitation_sep1034_defaults", DEFAULTS_FORM);
  elicits("test_elicitation_sep1330_enums", ENUM_FORM);

  const text = (uri: URL | string, mimeType: string, value: string) => ({
    contents: [{ uri: String(uri), mimeType, text: value }],
  });
  server.registerResource("static-text", "test://static-text", { mimeType: "text/plain" }, (uri) =>
    text(uri, "text/plain", "This is the content of the static text resource."),
  );
  server.registerResource("static-binary", "test://static-binary", { mimeType: "image/png" }, (uri) => ({
    contents: [{ uri: String(uri), mimeType: "image/png", blob: PNG }],
  }));
  server.registerResource("watched", "test://watched-resource", { mimeType: "text/plain" }, (uri) =>
    text(uri, "text/plain", "watched"),
  );
  server.registerResource(
    "template",
    new ResourceTemplate("test://template/{id}/data", { list: undefined }),
    { mimeType: "application/json" },
    (uri, { id }) =>
      text(uri, "application/json", JSON.stringify({ id, data: `Data for ID: ${String(id)}` })),
  );
  const subscribed = new Set<string>();
  server.server.setRequestHandler(SubscribeRequestSchema, ({ params }) => {
    subscribed.add(params.uri);
    return {};
  });
  server.server.setRequestHandler(UnsubscribeRequestSchema, ({ params }) => {
    subscribed.delete(params.uri);
    return {};
  });
  server.server.setRequestHandler(SetLevelRequestSchema, () => ({}));

  const user = (part: object) => ({
    messages: [{ role: "user" as const, content: part as { type: "text"; text: string } }],
  });
  server.registerPrompt("test_simple_prompt", { description: "simple" }, () =>
    user(words("This is a simple prompt for testing.")),
  );
  server.registerPrompt(
    "test_prompt_with_arguments",
    { description: "arguments", argsSchema: { arg1: z.string(), arg2: z.string() } },
    ({ arg1, arg2 }) => user(words(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
  );
  server.registerPrompt(
    "test_prompt_with_embedded_resource",
    { description: "resource", argsSchema: { resourceUri: z.string() } },
    ({ resourceUri }) => ({
      messages: [
        ...user(resource(resourceUri, "text/plain", "Embedded resource content for testing.")).messages,
        ...user(words("Please process the embedded resource above.")).messages,
      ],
    }),
  );
  server.registerPrompt("test_prompt_with_image", { description: "image" }, () => ({
    messages: [...user(image).messages, ...user(words("Please analyze the image above.")).messages],
  }));
  // Completion needs a handler of its own: the SDK's knows only completable arguments.
  server.server.assertCanSetRequestHandler("completion/complete");
  server.server.setRequestHandler(
    z.object({ method: z.literal("completion/complete"), params: z.any() }) as never,
    () => ({ completion: { values: ["paris", "park", "party"], total: 3, hasMore: false } }),
  );
  // A definition as it stands, past the SDK's own schemas.
  const handlers = (
    server.server as unknown as {
      _requestHandlers: Map<string, (r: unknown, e: unknown) => Promise<{ tools: unknown[] }>>;
    }
  )._requestHandlers;
  const listed = handlers.get("tools/list");
  server.server.removeRequestHandler("tools/list");
  server.server.setRequestHandler(ListToolsRequestSchema, async (request, extra) => {
    const { tools } = (await listed?.(request, extra)) ?? { tools: [] };
    const raw = { name: "json_schema_2020_12_tool", description: "schema", inputSchema: SCHEMA_2020 };
    return { tools: [...tools, raw] as never };
  });
  const called = handlers.get("tools/call");
  server.server.removeRequestHandler("tools/call");
  server.server.setRequestHandler(CallToolRequestSchema, async (request, extra) =>
    request.params.name === "json_schema_2020_12_tool"
      ? content(words("ok"))
      : ((await called?.(request, extra)) as never),
  );
  return server;
}

export interface ReferenceServer {
  readonly url: string;
  close(): Promise<void>;
}

export async function referenceServer(): Promise<ReferenceServer> {
  const transports = new Map<string, StreamableHTTPServerTransport>();
  const http = createServer((request, response) => {
    const handle = async (): Promise<void> => {
      const id = String(request.headers["mcp-session-id"] ?? "");
      let transport = transports.get(id);
      if (transport === undefined) {
        if (id !== "") return void response.writeHead(404).end();
        const events = new Map<string, { readonly stream: string; readonly message: unknown }>();
        let n = 0;
        const fresh = new StreamableHTTPServerTransport({
          sessionIdGenerator: () => randomUUID(),
          onsessioninitialized: (sid) => void transports.set(sid, fresh),
          eventStore: {
            storeEvent: (stream, message) => {
              const key = `${stream}_${String(n++).padStart(8, "0")}`;
              events.set(key, { stream, message });
              return Promise.resolve(key);
            },
            replayEventsAfter: async (last, { send }) => {
              const stream = events.get(last)?.stream ?? "";
              for (const [key, e] of events)
                if (e.stream === stream && key > last && Object.keys(e.message as object).length > 0)
                  await send(key, e.message as never);
              return stream;
            },
          },
          retryInterval: 50,
        });
        transport = fresh;
        await build((r) => fresh.closeSSEStream(r)).connect(fresh);
      }
      await transport.handleRequest(request, response);
    };
    handle().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const address = http.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    close: async () => {
      for (const t of transports.values()) await t.close();
      await new Promise<void>((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      });
    },
  };
}
