// What runs in the trial's own pods: stand-ins for a model and a tool server, and an agent with unmodified SDKs that is
// told from outside what to try. Test only; no part of the product.
import { createServer } from "node:http";
import { connect } from "node:net";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import OpenAI from "openai";
import { standInModel, standInTools } from "../../cli/demo/standins.ts";

const [role = "", ...rest] = process.argv.slice(2);
const print = (value: unknown): void => {
  process.stdout.write(`${JSON.stringify(value)}\n`);
};
const env = (name: string): string => {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
};
const stopped = (): Promise<void> =>
  new Promise((resolve) => {
    // A handler for a signal keeps no process alive.
    const alive = setInterval(() => undefined, 60_000);
    for (const signal of ["SIGTERM", "SIGINT"] as const)
      process.once(signal, () => {
        clearInterval(alive);
        resolve();
      });
  });

/** Ports: model 8080, tools 8081, what was really done 8082. */
async function serve(): Promise<void> {
  const model = await standInModel(env("MODEL_KEY"), { host: "0.0.0.0", port: 8080 });
  const tools = await standInTools(env("GITHUB_TOKEN"), { host: "0.0.0.0", port: 8081 });
  const done = createServer((_request, response) => {
    const all = { ...Object.fromEntries(model.done), ...Object.fromEntries(tools.done) };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(all));
  });
  done.listen(8082, "0.0.0.0");
  await stopped();
  done.closeAllConnections();
  done.close();
  await model.close();
  await tools.close();
}

async function connected<T>(work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ name: "trial-agent", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL(env("ATOLL_MCP_URL"))));
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}
const call = (name: string, args: string): Promise<unknown> =>
  connected((client) => client.callTool({ name, arguments: JSON.parse(args) }));

async function chat(content: string): Promise<unknown> {
  const openai = new OpenAI({ maxRetries: 0 });
  return await openai.chat.completions.create({
    model: "openai/stand-in",
    messages: [{ role: "user", content }],
    tools: ["write_note", "run_shell"].map((name) => ({
      type: "function" as const,
      function: { name, parameters: { type: "object" } },
    })),
  });
}

/** `open` only when the other side answered the handshake. */
const dial = (host: string, port: number): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (word: string): void => {
      socket.destroy();
      resolve(word);
    };
    socket.setTimeout(1500, () => end("closed"));
    socket.on("connect", () => end("open"));
    socket.on("error", () => end("closed"));
  });

/** Calls one after the other; at the end what came of them, and every receipt that was handed over. */
async function work(milliseconds: number, pauseMs: number): Promise<void> {
  const until = performance.now() + milliseconds;
  const counts: Record<string, number> = {};
  const receipts: string[] = [];
  const run = `${Date.now().toString(36)}-${process.pid}`;
  for (let n = 0; performance.now() < until; n++) {
    let outcome = "error";
    try {
      const response = await fetch(new URL("/mcp/v1/execute", env("ATOLL_MCP_URL")), {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          tool: "tool:github/create_issue",
          arguments: { repo: "acme/one", title: `${run}-${n}` },
          idempotency_key: `${run}-${n}`,
        }),
        signal: AbortSignal.timeout(10_000),
      });
      const body: { verdict?: string; reason_code?: string; receipt_id?: string } = JSON.parse(
        await response.text(),
      );
      if (response.ok && body.verdict === "ALLOW" && body.receipt_id !== undefined) {
        outcome = "allow";
        receipts.push(body.receipt_id);
      } else outcome = `${response.status} ${body.verdict ?? ""} ${body.reason_code ?? ""}`;
    } catch (error) {
      outcome = error instanceof Error && error.name === "TimeoutError" ? "timeout" : "unreachable";
    }
    counts[outcome] = (counts[outcome] ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  print({ counts, receipts });
}

async function main(): Promise<void> {
  const [first = "", second = ""] = rest;
  switch (role) {
    case "serve":
      return serve();
    case "agent":
      // In the first millisecond already: nothing may be open before the lock is proved.
      print({ first_dial: await dial(env("TRIAL_SINK"), 8082) });
      return stopped();
    case "tools":
      return print(await connected((client) => client.listTools()));
    case "mcp":
      return print(await call(first, second));
    case "chat":
      return print(await chat(first));
    case "get":
      return print(await (await fetch(first)).text());
    case "dial":
      return print(await dial(first, Number(second)));
    case "work":
      return work(Number(first), Number(second || "20"));
    default:
      throw new Error(
        "usage: trial serve | agent | tools | mcp NAME JSON | chat TEXT | get URL | dial HOST PORT | work MS [PAUSE]",
      );
  }
}

try {
  await main();
} catch (error) {
  print({ error: error instanceof Error ? error.message : String(error) });
  process.exitCode = 1;
}
