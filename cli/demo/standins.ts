// Stand-ins on loopback for a model provider and for an MCP server (the reference SDK's own server), so that the whole
// way of a call can be seen without an account or a network.

import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

export interface StandIn {
  readonly url: string;
  /** How often each thing was really done: what a denied call must not change. */
  readonly done: Map<string, number>;
  /** The headers and bodies of the requests that arrived. */
  readonly seen: { readonly headers: IncomingMessage["headers"]; readonly body: string }[];
  close(): Promise<void>;
}

/** Where a stand-in listens: a free port of loopback, unless it is told otherwise. */
export interface Place {
  readonly host: string;
  readonly port: number;
}
const LOOPBACK: Place = { host: "127.0.0.1", port: 0 };

async function listen(
  server: Server,
  rest: Omit<StandIn, "url" | "close">,
  path: string,
  place: Place,
): Promise<StandIn> {
  // Kept open for as long as a client might: a connection that ends while a request is on its way is no part of the story.
  server.keepAliveTimeout = 600_000;
  await new Promise<void>((resolve) => server.listen(place.port, place.host, resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    ...rest,
    url: `http://127.0.0.1:${port}${path}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
async function read(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString("utf8");
}

interface Wanted {
  readonly name: string;
  readonly args: string;
}
/** `call NAME {json}`, one a line, in the last user message: what the stand-in model then proposes. */
function wantedIn(text: string): Wanted[] {
  const out: Wanted[] = [];
  for (const line of text.split("\n")) {
    const m = /^call (\S+) (.*)$/.exec(line.trim());
    if (m !== null) out.push({ name: m[1] ?? "", args: m[2] ?? "" });
  }
  return out;
}

interface ChatBody {
  readonly model: string;
  readonly stream?: boolean;
  readonly n?: number;
  readonly messages: readonly { readonly role: string; readonly content: unknown }[];
}

/** A model that does as its last user message says; after a tool's result it only reports. */
export async function standInModel(secret: string, place = LOOPBACK): Promise<StandIn> {
  const done = new Map<string, number>();
  const seen: StandIn["seen"] = [];
  let serial = 0;
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const text = await read(request);
    seen.push({ headers: request.headers, body: text });
    if (request.headers.authorization !== `Bearer ${secret}`) {
      response.writeHead(401, { "content-type": "application/json" });
      response.end(
        JSON.stringify({
          error: {
            message: `Incorrect API key provided: ${request.headers.authorization ?? ""}`,
            type: "invalid_request_error",
            param: null,
            code: "invalid_api_key",
          },
        }),
      );
      return;
    }
    done.set("chat", (done.get("chat") ?? 0) + 1);
    const body: ChatBody = JSON.parse(text);
    const last = body.messages.at(-1);
    const wanted = last?.role === "user" && typeof last.content === "string" ? wantedIn(last.content) : [];
    const content = wanted.length > 0 ? "Let me see." : "Done: the work is finished.";
    const usage = { prompt_tokens: 20, completion_tokens: 10, total_tokens: 30 };
    const id = `chatcmpl-${++serial}`;
    const call = (w: Wanted, k: number, choice: number) => ({
      id: `call_${serial}_${choice}_${k}`,
      type: "function",
      function: { name: w.name, arguments: w.args },
    });
    const finish = wanted.length > 0 ? "tool_calls" : "stop";
    const n = body.n ?? 1;
    if (body.stream !== true) {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(
        JSON.stringify({
          id,
          object: "chat.completion",
          created: 1,
          model: body.model,
          choices: Array.from({ length: n }, (_, i) => ({
            index: i,
            message: {
              role: "assistant",
              content,
              refusal: null,
              ...(wanted.length > 0 ? { tool_calls: wanted.map((w, k) => call(w, k, i)) } : {}),
            },
            logprobs: null,
            finish_reason: finish,
          })),
          usage,
        }),
      );
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    const send = (choices: unknown[], more: object = {}): void =>
      void response.write(
        `data: ${JSON.stringify({ id, object: "chat.completion.chunk", created: 1, model: body.model, choices, ...more })}\n\n`,
      );
    for (let i = 0; i < n; i++) {
      send([{ index: i, delta: { role: "assistant", content: "" }, finish_reason: null }]);
      for (const word of content.split(/(?<= )/))
        send([{ index: i, delta: { content: word }, finish_reason: null }]);
      wanted.forEach((w, k) => {
        const c = call(w, k, i);
        send([
          {
            index: i,
            delta: {
              tool_calls: [
                { index: k, id: c.id, type: "function", function: { name: w.name, arguments: "" } },
              ],
            },
            finish_reason: null,
          },
        ]);
        for (let at = 0; at < w.args.length; at += 5)
          send([
            {
              index: i,
              delta: { tool_calls: [{ index: k, function: { arguments: w.args.slice(at, at + 5) } }] },
              finish_reason: null,
            },
          ]);
      });
      send([{ index: i, delta: {}, finish_reason: finish }]);
    }
    send([], { usage });
    response.write("data: [DONE]\n\n");
    response.end();
  };
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  return listen(server, { done, seen }, "/v1", place);
}

/** A repository as an MCP server: it can list, create and delete issues, and release. */
export async function standInTools(secret: string, place = LOOPBACK): Promise<StandIn> {
  const done = new Map<string, number>();
  const seen: StandIn["seen"] = [];
  const count = (what: string): number => {
    const next = (done.get(what) ?? 0) + 1;
    done.set(what, next);
    return next;
  };
  const build = (): McpServer => {
    const server = new McpServer({ name: "repo", version: "1.0.0" });
    const repo = { repo: z.string() };
    server.registerTool(
      "list_issues",
      { description: "Lists the issues of a repository", inputSchema: repo },
      ({ repo: r }) => {
        count("list_issues");
        return { content: [{ type: "text", text: JSON.stringify({ repo: r, issues: ["one", "two"] }) }] };
      },
    );
    server.registerTool(
      "create_issue",
      {
        description: "Creates an issue",
        inputSchema: { ...repo, title: z.string() },
        outputSchema: { number: z.number(), repo: z.string() },
      },
      ({ repo: r }) => {
        const result = { number: count("create_issue"), repo: r };
        return { content: [{ type: "text", text: JSON.stringify(result) }], structuredContent: result };
      },
    );
    server.registerTool(
      "create_release",
      { description: "Publishes a release", inputSchema: { ...repo, tag: z.string() } },
      ({ tag }) => {
        count("create_release");
        return { content: [{ type: "text", text: `released ${tag}` }] };
      },
    );
    server.registerTool("delete_repo", { description: "Deletes a repository", inputSchema: repo }, () => {
      count("delete_repo");
      return { content: [{ type: "text", text: "gone" }] };
    });
    return server;
  };
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const text = await read(request);
    seen.push({ headers: request.headers, body: text });
    if (request.headers.authorization !== `Bearer ${secret}`) {
      response.writeHead(401).end(`bad token ${request.headers.authorization ?? ""}`);
      return;
    }
    if (request.method !== "POST") {
      response.writeHead(405).end();
      return;
    }
    const server = build();
    const transport = new StreamableHTTPServerTransport({ enableJsonResponse: true });
    response.on("close", () => {
      void transport.close();
      void server.close();
    });
    await server.connect(transport);
    await transport.handleRequest(request, response, JSON.parse(text));
  };
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  return listen(server, { done, seen }, "/mcp", place);
}
