// The way out of a pod without the in-pod lock: one gateway, which knows us by a certificate. It dials and resolves for us;
// what may be dialled is judged here, before it is asked.

import { readFileSync } from "node:fs";
import { request as plainly } from "node:http";
import { request } from "node:https";
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { ConnectionOptions } from "node:tls";
import { ContractError, LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import type { Answers } from "../resolve/resolve.ts";

export { connectorBy } from "./connector.ts";

export interface EgressOptions {
  /** `address:port`, IPv6 in brackets; no name, for nothing resolves one here. */
  readonly at: string;
  /** Files, read anew for each certificate: both are rotated under us. */
  readonly caFile: string;
  readonly tokenFile: string;
}
export interface Egress {
  /** A connection to an address, by way of the gateway. */
  readonly dial: (address: string, port: number) => Promise<Socket>;
  /** The gateway's resolver. */
  readonly ask: (name: string) => Promise<Answers>;
}

const NAME = "atoll-egress-gateway.atoll-system.svc";
const WAIT_MS = 5_000;
const ANSWER_LIMIT = 64 * 1024;

interface Own {
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
  readonly until: number;
}

class DialError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

async function bodyOf(response: IncomingMessage): Promise<JsonObject> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of response) {
    const bytes = Buffer.from(part);
    size += bytes.length;
    if (size > ANSWER_LIMIT) throw new Error("the gateway's answer is too large");
    parts.push(bytes);
  }
  const value = parseJson(Buffer.concat(parts), LIMITS.args);
  if (!isObject(value)) throw new Error("the gateway's answer is no object");
  return value;
}
const textOf = (value: JsonValue | undefined): string => (typeof value === "string" ? value : "");
const textsOf = (value: JsonValue | undefined): string[] =>
  Array.isArray(value) ? value.filter((each): each is string => typeof each === "string") : [];

export function openEgress(options: EgressOptions): Egress {
  const [, six, four, port = ""] = /^(?:\[([^\]]+)\]|([0-9.]+)):([0-9]{1,5})$/.exec(options.at) ?? [];
  const host = six ?? four ?? "";
  if (host === "") throw new ContractError("gateway", `\`${options.at}\` is not address:port`);
  const where = { host, port: Number(port), servername: NAME, minVersion: "TLSv1.3" as const };

  const trusted = (): string => {
    const ca = readFileSync(options.caFile, "utf8");
    if (!ca.includes("BEGIN CERTIFICATE")) throw new Error("the gateway's authority is not there yet");
    return ca;
  };
  const asked = (
    tls: { readonly ca: string; readonly key?: string; readonly cert?: string },
    method: "GET" | "POST",
    path: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<JsonObject> =>
    new Promise((resolve, reject) => {
      const sent = request({
        ...where,
        ...tls,
        method,
        path,
        headers: { host: NAME, ...headers },
        agent: false,
      });
      sent.setTimeout(WAIT_MS, () => sent.destroy(new DialError("ETIMEDOUT", "the gateway is silent")));
      sent.on("error", reject);
      sent.on("response", (response) => {
        bodyOf(response).then((body) => {
          if (response.statusCode === 200) resolve(body);
          else reject(new Error(`the gateway: ${response.statusCode ?? 0} ${textOf(body["error"])}`));
        }, reject);
      });
      sent.end();
    });

  let own: Promise<Own> | undefined;
  let held: Own | undefined;
  const fetchOwn = async (): Promise<Own> => {
    const ca = trusted();
    const token = readFileSync(options.tokenFile, "utf8").trim();
    const began = performance.now();
    const body = await asked({ ca }, "POST", "/v1/certificate", { authorization: `Bearer ${token}` });
    const life = body["life_ms"];
    const [key, cert] = [textOf(body["key"]), textOf(body["certificate"])];
    if (typeof life !== "number" || key === "" || cert === "")
      throw new Error("the gateway gave no certificate");
    return { key, cert, ca, until: began + life / 2 };
  };
  /** Renewed at half its life; one request at a time for all who need it. */
  const identity = async (): Promise<Own> => {
    if (held !== undefined && performance.now() < held.until) return held;
    own ??= fetchOwn().finally(() => {
      own = undefined;
    });
    held = await own;
    return held;
  };

  return {
    async dial(address, to) {
      const { key, cert, ca } = await identity();
      // A half that has ended leaves the other open, as between the two ends themselves.
      const tls: ConnectionOptions & { allowHalfOpen: boolean } = {
        ...where,
        key,
        cert,
        ca,
        allowHalfOpen: true,
      };
      const target = address.includes(":") ? `[${address}]:${to}` : `${address}:${to}`;
      return new Promise((resolve, reject) => {
        const sent = plainly({
          method: "CONNECT",
          path: target,
          headers: { host: target },
          createConnection: () => connectTls(tls),
        });
        sent.setTimeout(WAIT_MS, () => sent.destroy(new DialError("ETIMEDOUT", "the gateway is silent")));
        sent.on("error", reject);
        sent.on("connect", (response, socket, head) => {
          socket.setTimeout(0);
          socket.on("error", () => {});
          if (response.statusCode === 200) {
            if (head.length > 0) socket.unshift(head);
            resolve(socket);
            return;
          }
          socket.destroy();
          // A certificate may be refused because its authority is gone: the next dial asks for another.
          if (response.statusCode === 403) held = undefined;
          reject(
            new DialError(
              response.statusCode === 504 ? "ETIMEDOUT" : "EHOSTUNREACH",
              `the gateway: ${response.statusCode ?? 0}`,
            ),
          );
        });
        sent.end();
      });
    },
    async ask(name) {
      const { key, cert, ca } = await identity();
      const body = await asked(
        { key, cert, ca },
        "GET",
        `/v1/addresses?name=${encodeURIComponent(name)}`,
        {},
      );
      return { found: textsOf(body["found"]), codes: textsOf(body["codes"]) };
    },
  };
}
