// MCP clients that can be asked something back: what they declared, and the questions that wait for their answer.

import { randomBytes } from "node:crypto";
import type { FastifyReply } from "fastify";
import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { writeSse } from "../../kernel/openai/openai.ts";

export interface McpClient {
  /** "" for a client without a session of the protocol. */
  readonly session: string;
  readonly capabilities: JsonObject;
}
export const NOBODY: McpClient = { session: "", capabilities: {} };

export type Reply = { readonly result: JsonValue } | { readonly error: JsonObject };

// What a client can be asked for stands in the id itself, so that a session goes on after the guardian was restarted.
const FLAGS: readonly (readonly [string, string, string])[] = [
  ["s", "sampling", ""],
  ["t", "sampling", "tools"],
  ["e", "elicitation", ""],
  ["f", "elicitation", "form"],
  ["u", "elicitation", "url"],
  ["r", "roots", ""],
];
const ID = /^atoll-[0-9a-f]{32}-([stefur]{1,6})$/;
const CLOSED_KEPT = 1_000;
const WAITING_MOST = 1_000;
const UNREAD_MOST = 8 << 20;

export class McpClients {
  readonly #waiting = new Map<
    string,
    { readonly principal: string; readonly tell: (reply: Reply) => void }
  >();
  readonly #closed = new Set<string>();

  /** The id of a new session; "" when the client declares nothing for which it would need one. */
  open(capabilities: JsonObject): string {
    const flags = FLAGS.flatMap(([flag, name, part]) => {
      const declared = capabilities[name];
      return isObject(declared) && (part === "" || isObject(declared[part])) ? [flag] : [];
    });
    return flags.length === 0 ? "" : `atoll-${randomBytes(16).toString("hex")}-${flags.join("")}`;
  }

  /** The client of a session id; undefined when the session was ended. */
  of(id: string | undefined): McpClient | undefined {
    if (id === undefined) return NOBODY;
    const flags = ID.exec(id)?.[1];
    if (flags === undefined || this.#closed.has(id)) return undefined;
    const capabilities: Record<string, JsonObject> = {};
    for (const [flag, name, part] of FLAGS)
      if (flags.includes(flag))
        capabilities[name] = { ...capabilities[name], ...(part === "" ? {} : { [part]: {} }) };
    return { session: id, capabilities };
  }

  close(id: string): void {
    this.#closed.add(id);
    if (this.#closed.size > CLOSED_KEPT)
      for (const old of [...this.#closed].slice(0, 100)) this.#closed.delete(old);
  }

  /** Sends a question to the client and waits for its answer, or until `signal` ends it. */
  ask(
    principal: string,
    send: (message: JsonObject) => boolean,
    method: string,
    params: JsonObject,
    signal: AbortSignal,
  ): Promise<Reply> {
    const id = `atoll-${randomBytes(8).toString("hex")}`;
    const unheard = { error: { code: -32_603, message: "the client did not answer" } };
    if (this.#waiting.size >= WAITING_MOST || signal.aborted) return Promise.resolve(unheard);
    return new Promise((resolve) => {
      const tell = (reply: Reply): void => {
        this.#waiting.delete(id);
        signal.removeEventListener("abort", gone);
        resolve(reply);
      };
      const gone = (): void => tell(unheard);
      this.#waiting.set(id, { principal, tell });
      signal.addEventListener("abort", gone, { once: true });
      if (!send({ jsonrpc: "2.0", id, method, params })) gone();
    });
  }

  /** A client's answer to a question of ours; false when nobody asked this principal so. */
  answered(principal: string, id: unknown, reply: Reply): boolean {
    const waiting = typeof id === "string" ? this.#waiting.get(id) : undefined;
    if (waiting?.principal !== principal) return false;
    waiting.tell(reply);
    return true;
  }
}

/** An answer that becomes a stream of events when something has to be said before it. */
export class McpReply {
  readonly #reply: FastifyReply;
  readonly #accepts: boolean;
  #opened = false;
  constructor(reply: FastifyReply, accepts: boolean) {
    this.#reply = reply;
    this.#accepts = accepts;
  }
  get opened(): boolean {
    return this.#opened;
  }
  /** False when the client does not take streams or has gone away. */
  send(message: JsonObject): boolean {
    return this.#write(writeSse(JSON.stringify(message), "message"));
  }
  /** Keeps the connection alive while a person is asked. */
  beat(): void {
    this.#write(": waiting\n\n");
  }
  end(message: JsonObject | undefined): void {
    if (message !== undefined) this.send(message);
    this.#reply.raw.end();
  }
  #write(text: string): boolean {
    const { raw } = this.#reply;
    if (!this.#accepts || raw.destroyed) return false;
    // A server that says more than its client reads loses that client, not the guardian's memory.
    if (raw.writableLength > UNREAD_MOST) {
      raw.destroy();
      return false;
    }
    if (!this.#opened) {
      this.#opened = true;
      this.#reply.hijack();
      raw.on("error", () => {});
      raw.writeHead(200, {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
      });
    }
    raw.write(text);
    return true;
  }
}
