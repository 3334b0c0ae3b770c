// A link to a ledger outside a cluster: HTTPS, or plain HTTP on this machine.

import { readFileSync } from "node:fs";
import { request as plain } from "node:http";
import { request as secure } from "node:https";
import type { IncomingMessage } from "node:http";
import { ContractError, LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { LedgerLink } from "./ship.ts";

export interface LinkOptions {
  readonly url: string;
  /** Files, read anew for each request: both may be rotated under us. */
  readonly tokenFile: string;
  readonly caFile: string;
}

export function httpsLink(options: LinkOptions): LedgerLink {
  const base = new URL(options.url);
  const local = ["127.0.0.1", "[::1]", "localhost"].includes(base.hostname);
  if (base.protocol !== "https:" && !(base.protocol === "http:" && local))
    throw new ContractError("ledger", "a token goes over TLS: expected `https://…`");
  return (asked) =>
    new Promise((resolve, reject) => {
      const from = asked.method === "POST" ? `?from=${asked.from}` : "";
      const send = base.protocol === "https:" ? secure : plain;
      const ca = options.caFile === "" ? {} : { ca: readFileSync(options.caFile, "utf8") };
      const sent = send(
        new URL(`/v1/ledger${from}`, base),
        {
          ...ca,
          method: asked.method,
          headers: { authorization: `Bearer ${readFileSync(options.tokenFile, "utf8").trim()}` },
          timeout: 10_000,
        },
        (response) => {
          answerOf(response).then(resolve, reject);
        },
      );
      sent.on("timeout", () => sent.destroy(new Error("the ledger is silent")));
      sent.on("error", reject);
      sent.end(asked.method === "POST" ? asked.body : undefined);
    });
}

/** Status and object of an answer; anything else is none. */
export async function answerOf(response: IncomingMessage) {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    size += part.byteLength;
    if (size > LIMITS.args.bytes) throw new Error("the ledger's answer is too large");
    parts.push(part);
  }
  const body = parseJson(Buffer.concat(parts), LIMITS.args);
  if (!isObject(body)) throw new Error("the ledger's answer is no object");
  return { status: response.statusCode ?? 0, body };
}
