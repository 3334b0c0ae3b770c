// Requests to the API server.

import { Agent, request } from "node:https";
import type { IncomingMessage } from "node:http";
import type { JsonMap } from "../kinds/kinds.ts";
import { findAccess } from "./access.ts";
import type { Access, PodAccess } from "./access.ts";

/** An answer that is not a success, with the API server's own word for it. */
export class ApiError extends Error {
  readonly status: number;
  readonly reason: string;
  readonly retryAfterMs: number;
  constructor(status: number, reason: string, message: string, retryAfterMs = 0) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

export interface Request {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
  readonly timeoutMs?: number;
}
export interface Client {
  json(path: string, options?: Request): Promise<JsonMap>;
  /** The body as it comes in; the caller destroys it. */
  stream(path: string, options: Request & { readonly signal: AbortSignal }): Promise<IncomingMessage>;
  close(): void;
}

const APPLY = "application/apply-patch+yaml";
const BODY_LIMIT = 256 << 20;

export function clientFrom(access: Access): Client {
  const base = new URL(access.server);
  const agents = new Map<string, Agent>();
  const open = async (path: string, options: Request, signal?: AbortSignal): Promise<IncomingMessage> => {
    const { ca, cert, key, rejectUnauthorized, servername, headers } = await access.identity();
    const identity = JSON.stringify([String(ca), String(cert), servername]);
    let agent = agents.get(identity);
    if (agent === undefined) {
      for (const old of agents.values()) old.destroy();
      agents.clear();
      agent = new Agent({
        keepAlive: true,
        maxSockets: 64,
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined ? {} : { cert }),
        ...(key === undefined ? {} : { key }),
        ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
        ...(servername === undefined ? {} : { servername }),
      });
      agents.set(identity, agent);
    }
    const body = options.body === undefined ? undefined : JSON.stringify(options.body);
    const used = agent;
    return new Promise((resolve, reject) => {
      const call = request(
        {
          protocol: "https:",
          hostname: base.hostname.replace(/^\[|\]$/g, ""),
          port: base.port === "" ? 443 : base.port,
          path: `${base.pathname.replace(/\/$/, "")}${path}`,
          method: options.method ?? "GET",
          agent: used,
          timeout: options.timeoutMs ?? 30_000,
          ...(signal === undefined ? {} : { signal }),
          headers: {
            ...(headers as Record<string, string> | undefined),
            accept: options.accept ?? "application/json",
            "user-agent": "atoll-operator",
            ...(body === undefined
              ? {}
              : {
                  "content-type": options.contentType ?? "application/json",
                  "content-length": Buffer.byteLength(body),
                }),
          },
        },
        resolve,
      );
      call.on("error", reject);
      call.on("timeout", () => call.destroy(new Error(`no answer to ${path} in time`)));
      call.end(body);
    });
  };
  return {
    async json(path, options = {}) {
      const response = await open(path, options);
      const text = await readAll(response);
      const status = response.statusCode ?? 0;
      if (status >= 300) throw errorFrom(status, text, response.headers["retry-after"]);
      return text === "" ? {} : (JSON.parse(text) as JsonMap);
    },
    async stream(path, options) {
      const response = await open(path, options, options.signal);
      const status = response.statusCode ?? 0;
      if (status >= 300) throw errorFrom(status, await readAll(response), response.headers["retry-after"]);
      return response;
    },
    close() {
      for (const agent of agents.values()) agent.destroy();
    },
  };
}

function errorFrom(status: number, text: string, retryAfter: string | undefined): ApiError {
  let answer: { message?: unknown; reason?: unknown };
  try {
    answer = JSON.parse(text) as typeof answer;
  } catch {
    answer = {};
  }
  return new ApiError(
    status,
    typeof answer.reason === "string" ? answer.reason : "",
    typeof answer.message === "string" ? answer.message : `status ${status}: ${text.slice(0, 200)}`,
    /^\d+$/.test(retryAfter ?? "") ? Number(retryAfter) * 1000 : 0,
  );
}

async function readAll(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > BODY_LIMIT) {
      response.destroy();
      throw new Error("the API server's answer is too large");
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

export const loadClient = async (pod: PodAccess | undefined): Promise<Client> =>
  clientFrom(await findAccess(pod));

/** Server-side apply under one fixed field manager: fields that we no longer name go away, others' stay. */
export const applyObject = (
  client: Client,
  path: string,
  object: JsonMap,
  manager: string,
): Promise<JsonMap> =>
  client.json(`${path}?fieldManager=${manager}&force=true`, {
    method: "PATCH",
    body: object,
    contentType: APPLY,
  });

export const notFound = (error: unknown): boolean => error instanceof ApiError && error.status === 404;
