// The guardian's end of the control stream: one long answer of server-sent events over TLS, and small requests beside it.
// Nothing that is heard here widens anything by itself: policies, approvals and liftings carry signatures of their own.

import { readFileSync } from "node:fs";
import { request } from "node:https";
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { LIMITS, isHash, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import type { TrustHead } from "../../kernel/proofgraph/proofgraph.ts";
import { makeResolver, parseNetwork } from "../resolve/resolve.ts";
import type { Resolver } from "../resolve/resolve.ts";
import { answerOf } from "../ship/ship.ts";
import type { LedgerLink } from "../ship/ship.ts";
import { eventReader } from "./events.ts";

export interface StreamOptions {
  /** `https://name:port`, the name absolute. */
  readonly url: string;
  /** Files, read anew for each connection: both are rotated under us. */
  readonly caFile: string;
  readonly tokenFile: string;
  readonly podUid: string;
  /** The key that signs now. */
  readonly signer: () => Signer;
  readonly onEvent: (event: string, data: JsonObject) => Promise<void>;
  /** What the guardian says of itself; told on every connection, on every change and every ten seconds. */
  readonly report: () => JsonObject;
  readonly log: (line: string) => void;
  readonly resolver?: Resolver;
  /** Another way to an address than to dial it. */
  readonly dial?: (address: string, port: number) => Promise<Socket>;
}
export interface Stream {
  /** Milliseconds since everything in force had been said or a heartbeat came, by our own clock. */
  heartbeatAgeMs(): number | "never";
  connected(): boolean;
  fetchBundle(hash: string): Promise<JsonObject>;
  challenge(challenge: JsonObject): Promise<void>;
  /** Brings the act of a key that hands over; resolves with the registry's head, if there is a registry. */
  rotate(act: JsonObject): Promise<TrustHead | undefined>;
  /** The ledger is reached where the control stream is. */
  readonly ledger: LedgerLink;
  /** Sends a report soon. */
  touch(): void;
  close(): void;
}

// The control stream's Service lies in the cluster's own network; nothing else is dialled here.
const CLUSTER = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]
  .map(parseNetwork)
  .filter((n) => n !== undefined);
const ANSWER_LIMIT = LIMITS.policy.bytes;
const REPORT_MS = 10_000;
/** Three heartbeats that did not come: the connection is dead, whatever TCP thinks. */
const SILENCE_MS = 16_000;

/** The registry's head as the operator tells it. */
export function headIn(body: JsonObject): TrustHead | undefined {
  const { height, hash } = body;
  return typeof height === "number" && Number.isSafeInteger(height) && height > 0 && isHash(hash)
    ? { height, hash }
    : undefined;
}

export function openStream(options: StreamOptions): Stream {
  const { hostname, port } = new URL(options.url);
  const resolver = options.resolver ?? makeResolver({ tcp: true });
  const stop = new AbortController();
  let heard: number | undefined;
  let connected = false;
  let wake = Promise.withResolvers<void>();

  const open = async (
    method: "GET" | "POST",
    path: string,
    headers: Readonly<Record<string, string>>,
    body: string | undefined,
    signal: AbortSignal,
  ): Promise<IncomingMessage> => {
    const found = await resolver.resolve(hostname, CLUSTER);
    const address = found.kind === "addresses" ? found.addresses[0] : undefined;
    if (address === undefined) throw new Error(`${hostname} has no address: ${found.kind}`);
    const ca = readFileSync(options.caFile, "utf8");
    if (!ca.includes("BEGIN CERTIFICATE")) throw new Error("the control stream's authority is not there yet");
    const token = readFileSync(options.tokenFile, "utf8").trim();
    const way = await options.dial?.(address, Number(port));
    return await new Promise((resolve, reject) => {
      const sent = request({
        host: address,
        port,
        servername: hostname,
        method,
        path,
        ca,
        minVersion: "TLSv1.3",
        // An agent would dial by itself: none, where there is a way already.
        ...(way === undefined
          ? { agent: false }
          : {
              createConnection: () =>
                connectTls({ socket: way, servername: hostname, ca, minVersion: "TLSv1.3" }),
            }),
        signal,
        headers: {
          host: `${hostname}:${port}`,
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
      });
      sent.setTimeout(SILENCE_MS, () => sent.destroy(new Error("silence")));
      sent.on("error", reject);
      sent.on("response", resolve);
      sent.end(body);
    });
  };
  const read = async (response: IncomingMessage): Promise<JsonObject> => {
    const parts: Buffer[] = [];
    let size = 0;
    for await (const part of response) {
      const bytes = Buffer.from(part);
      size += bytes.length;
      if (size > ANSWER_LIMIT) throw new Error("the answer is too large");
      parts.push(bytes);
    }
    const value = parseJson(Buffer.concat(parts), LIMITS.policy);
    if (!isObject(value)) throw new Error("the answer is no object");
    if (response.statusCode !== 200)
      throw new Error(
        `status ${response.statusCode ?? 0}: ${JSON.stringify(value["error"] ?? "").slice(0, 300)}`,
      );
    return value;
  };
  const short = (): AbortSignal => AbortSignal.any([stop.signal, AbortSignal.timeout(10_000)]);
  /** Shows that we hold the key: a nonce of the server's, signed. */
  const signed = (nonce: JsonValue | undefined): Record<string, string> => {
    const signer = options.signer();
    if (typeof nonce !== "string" || !/^[0-9a-f]{16,128}$/.test(nonce)) throw new Error("no nonce");
    return {
      "x-atoll-key": Buffer.from(signer.publicKey).toString("hex"),
      "x-atoll-nonce": nonce,
      "x-atoll-signature": signer.sign(
        canonicalize({
          type: "atoll.dev/hello/v1",
          nonce,
          pod_uid: options.podUid,
          key_id: signer.keyId,
        }),
      ),
    };
  };
  const hello = async (): Promise<Record<string, string>> =>
    signed((await read(await open("POST", "/v1/nonce", {}, "{}", short())))["nonce"]);
  const tell = async (path: string, body: JsonObject): Promise<JsonObject> =>
    await read(await open("POST", path, await hello(), canonicalize(body), short()));

  /** What the last report's answer brought for the next one: it saves a connection. */
  let spare: { readonly nonce: JsonValue | undefined; readonly at: number } | undefined;
  async function tellReport(): Promise<void> {
    const body = options.report();
    const kept = spare;
    spare = undefined;
    const send = async (headers: Record<string, string>): Promise<void> => {
      const { nonce } = await read(await open("POST", "/v1/report", headers, canonicalize(body), short()));
      if (nonce !== undefined) spare = { nonce, at: performance.now() };
    };
    if (kept !== undefined && performance.now() - kept.at < 2 * REPORT_MS)
      try {
        await send(signed(kept.nonce));
        return;
      } catch {
        // Another replica, or too late: with a fresh one, then.
      }
    await send(await hello());
  }

  async function listen(): Promise<void> {
    const end = new AbortController();
    const response = await open(
      "GET",
      "/v1/stream",
      await hello(),
      undefined,
      AbortSignal.any([stop.signal, end.signal]),
    );
    if (response.statusCode !== 200) {
      await read(response);
      return;
    }
    connected = true;
    const reader = eventReader();
    try {
      for await (const part of response)
        for (const { event, data } of reader(Buffer.from(part))) {
          const value: JsonValue = parseJson(Buffer.from(data), LIMITS.args);
          if (!isObject(value)) continue;
          // In order: a freeze before the policy it came before.
          if (event !== "heartbeat") await options.onEvent(event, value);
          if (event === "synced" || event === "heartbeat") heard = performance.now();
          if (event === "synced") wake.resolve();
        }
    } finally {
      connected = false;
      end.abort();
    }
  }

  async function keep(): Promise<void> {
    for (let wait = 250; !stop.signal.aborted; ) {
      const began = performance.now();
      await listen().catch((error: unknown) => {
        if (stop.signal.aborted) return;
        options.log(
          JSON.stringify({ event: "control_stream", message: error instanceof Error ? error.message : "" }),
        );
      });
      wait = performance.now() - began > 30_000 ? 250 : Math.min(wait * 2, 5_000);
      // Spread, so that a returning operator is not met by all at once.
      await pause(wait / 2 + Math.random() * (wait / 2), undefined, { signal: stop.signal }).catch(
        () => undefined,
      );
    }
  }
  async function reports(): Promise<void> {
    while (!stop.signal.aborted) {
      if (connected)
        await tellReport().catch((error: unknown) =>
          options.log(
            JSON.stringify({ event: "control_report", message: error instanceof Error ? error.message : "" }),
          ),
        );
      await Promise.race([
        pause(REPORT_MS, undefined, { signal: stop.signal }).catch(() => undefined),
        wake.promise,
      ]);
      wake = Promise.withResolvers<void>();
    }
  }
  void keep();
  void reports();
  return {
    heartbeatAgeMs: () =>
      heard === undefined ? "never" : Math.max(0, Math.floor(performance.now() - heard)),
    connected: () => connected,
    fetchBundle: async (hash) =>
      await read(await open("GET", `/v1/bundles/${encodeURIComponent(hash)}`, {}, undefined, short())),
    ledger: async (asked) => {
      const path = asked.method === "POST" ? `/v1/ledger?from=${asked.from}` : "/v1/ledger";
      return await answerOf(
        await open(asked.method, path, {}, asked.method === "POST" ? asked.body : undefined, short()),
      );
    },
    challenge: async (challenge) => void (await tell("/v1/approvals", challenge)),
    rotate: async (act) => headIn(await tell("/v1/rotate", act)),
    touch: () => wake.resolve(),
    close: () => {
      stop.abort();
      wake.resolve();
      resolver.close();
    },
  };
}
