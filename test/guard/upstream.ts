// A tool server and a model behind the guardian, small enough not to be what a bench measures: MCP over plain HTTP, and
// chat completions. What each tool does is the test's to say; what was really done is counted.

import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Args = Readonly<Record<string, unknown>>;
/** What a tool does: its result, a status to answer with, or nothing at all. */
export type Doing = (args: Args) => unknown;
export class Status extends Error {
  readonly status: number;
  constructor(status: number, text = "") {
    super(text);
    this.status = status;
  }
}

export interface Upstream {
  readonly mcp: string;
  readonly v1: string;
  /** Arguments of every tool call that arrived, by tool, in order. */
  readonly done: Map<string, Args[]>;
  /** Requests to the model. */
  models: number;
  /** Authorization headers that arrived. */
  readonly credentials: Set<string>;
  readonly tools: Map<string, Doing>;
  /** The assistant's message for a chat request; a text by default. */
  chat: (body: Args) => unknown;
  readonly server: Server;
  close(): Promise<void>;
}

async function read(request: IncomingMessage): Promise<Args> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(Buffer.from(part));
  const text = Buffer.concat(parts).toString("utf8");
  return text === "" ? {} : (JSON.parse(text) as Args);
}
const USAGE = { prompt_tokens: 20, completion_tokens: 10, total_tokens: 30 };
const json = (response: ServerResponse, value: unknown, status = 200): void => {
  const body = JSON.stringify(value);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
  });
  response.end(body);
};

export async function startUpstream(host = "127.0.0.1"): Promise<Upstream> {
  const done: Upstream["done"] = new Map();
  const tools: Upstream["tools"] = new Map();
  const credentials = new Set<string>();
  const rpc = async (body: Args, response: ServerResponse): Promise<void> => {
    const { id, method } = body;
    const answer = (result: unknown): void => json(response, { jsonrpc: "2.0", id, result });
    if (method === "initialize")
      return answer({
        protocolVersion: "2025-11-25",
        capabilities: { tools: {} },
        serverInfo: { name: "upstream", version: "1" },
      });
    if (method === "tools/list")
      return answer({
        tools: [...tools.keys()].map((name) => ({ name, inputSchema: { type: "object" } })),
      });
    if (method !== "tools/call") return void response.writeHead(202).end();
    const { name, arguments: args } = body["params"] as { name: string; arguments: Args };
    const list = done.get(name) ?? [];
    done.set(name, list);
    list.push(args);
    const value = await tools.get(name)?.(args);
    answer(
      value ?? {
        content: [{ type: "text", text: "done" }],
        structuredContent: { ok: true, n: args["n"] ?? 0 },
      },
    );
  };
  const complete = (body: Args, response: ServerResponse): void => {
    self.models++;
    const message = self.chat(body);
    const finish =
      typeof message === "object" && message !== null && "tool_calls" in message ? "tool_calls" : "stop";
    const base = { id: `chatcmpl-${self.models}`, created: 1, model: body["model"] };
    if (body["stream"] !== true)
      return json(response, {
        ...base,
        object: "chat.completion",
        choices: [{ index: 0, message, logprobs: null, finish_reason: finish }],
        usage: USAGE,
      });
    response.writeHead(200, { "content-type": "text/event-stream" });
    const send = (choices: unknown[], more: object = {}): void =>
      void response.write(
        `data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices, ...more })}\n\n`,
      );
    const text = (message as { content?: string }).content ?? "";
    send([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }]);
    for (const word of text.split(/(?<= )/))
      send([{ index: 0, delta: { content: word }, finish_reason: null }]);
    const calls = (message as { tool_calls?: readonly Args[] }).tool_calls ?? [];
    calls.forEach((call, index) =>
      send([{ index: 0, delta: { tool_calls: [{ index, ...call }] }, finish_reason: null }]),
    );
    send([{ index: 0, delta: {}, finish_reason: finish }]);
    send([], { usage: USAGE });
    response.end("data: [DONE]\n\n");
  };
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await read(request);
    if (request.headers.authorization !== undefined) credentials.add(request.headers.authorization);
    if (request.method !== "POST") return void response.writeHead(405).end();
    if (request.url === "/mcp") await rpc(body, response);
    else complete(body, response);
  };
  const server: Server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (error instanceof Status) response.writeHead(error.status).end(error.message);
      else response.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, host, 4_096, resolve));
  const { port } = server.address() as AddressInfo;
  const self: Upstream = {
    mcp: `http://${host}:${port}/mcp`,
    v1: `http://${host}:${port}/v1`,
    done,
    models: 0,
    credentials,
    tools,
    chat: () => ({ role: "assistant", content: "All is well here." }),
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return self;
}
