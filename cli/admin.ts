// The admin socket of a guardian that runs on this machine, and what it says of itself.

import { request } from "node:http";
import { parseArgs } from "node:util";
import { LIMITS, isObject, parseJson } from "../kernel/contracts/contracts.ts";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import type { Io } from "./io.ts";

export interface AdminReply {
  readonly status: number;
  readonly body: JsonObject;
}

export function callAdmin(
  socketPath: string,
  method: "GET" | "POST",
  path: string,
  body?: JsonObject,
): Promise<AdminReply> {
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath, method, path, headers: { "content-type": "application/json" }, timeout: 10_000 },
      (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("error", reject);
        response.on("end", () => {
          try {
            const value = parseJson(Buffer.concat(parts), LIMITS.policy);
            resolve({ status: response.statusCode ?? 0, body: isObject(value) ? value : {} });
          } catch (error) {
            reject(error instanceof Error ? error : new Error("the answer is no JSON"));
          }
        });
      },
    );
    call.on("timeout", () => call.destroy(new Error("the guardian does not answer")));
    call.on("error", (error) => reject(new Error(`the admin socket \`${socketPath}\`: ${error.message}`)));
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** The body of a success, else an error with what the guardian said. */
export async function adminOrThrow(...args: Parameters<typeof callAdmin>): Promise<JsonObject> {
  const { status, body } = await callAdmin(...args);
  if (status === 200) return body;
  const error = body["error"];
  throw new Error(typeof error === "string" ? error : `the guardian answered ${status}`);
}

export const DEFAULT_SOCKET = ".atoll/admin.sock";
export const textIn = (o: JsonObject, key: string): string => (typeof o[key] === "string" ? o[key] : "");

const STATUS = `usage: atoll status [--socket PATH] [--json]
  --socket  ${DEFAULT_SOCKET} when not given
  --json    on one line
exit 0 it answered, whatever it says; 1 it did not; 2 wrong use`;

export async function status(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      socket: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${STATUS}\n`);
    return 0;
  }
  const told = await adminOrThrow(values.socket ?? DEFAULT_SOCKET, "GET", "/status");
  io.stdout.write(`${values.json === true ? JSON.stringify(told) : JSON.stringify(told, null, 2)}\n`);
  return 0;
}
