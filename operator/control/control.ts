// The control stream: what guardians hear from the operator, as server-sent events over TLS, and what they tell it.
// Nothing said here widens a policy: bundles, approvals and unfreezing carry signatures of keys that we do not hold.

import { createServer } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import { Counter, Gauge } from "prom-client";
import { isMap } from "../kinds/kinds.ts";
import type { Json, JsonMap } from "../kinds/kinds.ts";
import { helloHolds, isPublicKey, makeNonces } from "./identity.ts";
import type { KeyRegistry, PodIdentity, TokenCheck } from "./identity.ts";

export interface StreamEvent {
  readonly event: "policy" | "freeze" | "unfreeze" | "approval" | "trust";
  readonly data: JsonMap;
}
/** A pod as the stream has to know it. */
export interface StreamPod {
  readonly uid: string;
  readonly sidecar: string;
}
/** What a guardian reports about itself. */
export interface GuardianReport {
  readonly identity: PodIdentity;
  readonly policyHash: string;
  readonly ceilingHash: string;
  readonly lockProved: boolean;
  /** Undefined when it has not dialled the canary itself. */
  readonly networkProved: boolean | undefined;
  /** Names of the probes that were answered, as `leg name`. */
  readonly failing: readonly { readonly leg: "lock" | "network"; readonly probe: string }[];
  readonly decisions: { readonly total: number; readonly denied: number; readonly errors: number };
  /** Its approvals as they stand. */
  readonly approvals: readonly ApprovalReport[];
  readonly at: number;
}
export interface ApprovalReport {
  readonly id: string;
  readonly state: string;
  /** Keys whose answers it has counted. */
  readonly counted: readonly string[];
  readonly refused: readonly { readonly key: string; readonly message: string }[];
  readonly reviewOpen: boolean;
}
export interface ControlOptions {
  readonly port: number;
  readonly tls: { readonly key: string; readonly cert: string };
  readonly tokens: TokenCheck;
  readonly keys: KeyRegistry;
  readonly registry: Registry;
  readonly now?: () => number;
  readonly heartbeatMs?: number;
  /** The pod in our own copy; a token of a pod that is gone or not governed opens nothing. */
  readonly podOf: (identity: PodIdentity) => StreamPod | undefined;
  /** Everything that is in force for a pod, sent first on every connection. */
  readonly snapshot: (pod: StreamPod) => readonly StreamEvent[];
  readonly bundleByHash: (hash: string) => string | undefined;
  readonly onReport: (report: GuardianReport) => void;
  /** Where the registry stands, and whether it has revoked the pod's key. */
  readonly trust?: (podUid: string) => Promise<JsonMap>;
  /** Answers what a pod's guardian asks of the ledger. */
  readonly ledger?: (podUid: string, request: IncomingMessage, response: ServerResponse) => Promise<void>;
  /** A guardian's challenge; the answer goes back to it. */
  readonly onChallenge: (identity: PodIdentity, challenge: JsonMap) => Promise<void>;
}
export interface Control {
  readonly port: number;
  /** To the guardians of a sidecar, or to one pod, or to all. */
  send(to: { readonly sidecar?: string; readonly podUid?: string }, event: StreamEvent): void;
  readonly connected: () => number;
  setCertificate(tls: { readonly key: string; readonly cert: string }): void;
  /** Ends the streams of pods that our copy no longer has. */
  sweep(): void;
  stop(): Promise<void>;
}

interface Connection {
  readonly identity: PodIdentity;
  readonly pod: StreamPod;
  readonly response: ServerResponse;
}

const BODY_LIMIT = 512 * 1024;
// A guardian that does not read is dropped and comes back to a fresh snapshot; its backlog is not ours to keep.
const BACKLOG_LIMIT = 256 * 1024;
const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
const count = (v: Json | undefined): number =>
  typeof v === "number" && Number.isSafeInteger(v) && v >= 0 ? v : 0;

export async function startControl(options: ControlOptions): Promise<Control> {
  const now = options.now ?? Date.now;
  const nonces = makeNonces(now);
  const streams = new Map<string, Connection>();
  const connected = new Gauge({
    name: "atoll_control_connected",
    help: "Guardians on the control stream",
    registers: [options.registry],
  });
  const requests = new Counter({
    name: "atoll_control_requests_total",
    help: "Requests of guardians by path and status",
    labelNames: ["path", "status"],
    registers: [options.registry],
  });

  const drop = (podUid: string, connection: Connection): void => {
    if (streams.get(podUid) === connection) streams.delete(podUid);
    connection.response.destroy();
    connected.set(streams.size);
  };
  const write = (connection: Connection, chunk: string): void => {
    if (connection.response.writableLength > BACKLOG_LIMIT) drop(connection.identity.podUid, connection);
    else connection.response.write(chunk);
  };
  const frame = (event: string, data: JsonMap): string =>
    `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

  const answer = (response: ServerResponse, path: string, status: number, body: JsonMap): void => {
    requests.inc({ path, status });
    response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(JSON.stringify(body));
  };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "https://control");
    const path = url.pathname.startsWith("/v1/bundles/") ? "/v1/bundles" : url.pathname;
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1];
    if (token === undefined) return answer(response, path, 401, { error: "a bearer token is needed" });
    const identity = await options.tokens(token);
    if (identity === undefined)
      return answer(response, path, 401, { error: "no pod's token for this audience" });
    const pod = options.podOf(identity);
    if (pod === undefined || pod.uid !== identity.podUid)
      return answer(response, path, 403, { error: "this pod is not a governed pod of this cluster" });

    if (path === "/v1/nonce" && request.method === "POST")
      return answer(response, path, 200, { nonce: nonces.give(identity.podUid) });
    if (path === "/v1/bundles" && request.method === "GET") {
      const bundle = options.bundleByHash(decodeURIComponent(url.pathname.slice("/v1/bundles/".length)));
      if (bundle === undefined)
        return answer(response, path, 404, { error: "no bundle with this content hash" });
      requests.inc({ path, status: 200 });
      response.writeHead(200, { "content-type": "application/json" }).end(bundle);
      return;
    }
    if (path === "/v1/ledger" && options.ledger !== undefined) {
      // The token says which pod; that the records are its guardian's, their signatures say.
      await options.ledger(pod.uid, request, response);
      requests.inc({ path, status: response.statusCode });
      return;
    }
    // From here on the token alone is not enough: a stolen one must not speak for the pod.
    const publicKey = request.headers["x-atoll-key"];
    const nonce = request.headers["x-atoll-nonce"];
    const signature = request.headers["x-atoll-signature"];
    if (!isPublicKey(publicKey) || typeof nonce !== "string" || typeof signature !== "string")
      return answer(response, path, 401, {
        error: "x-atoll-key, x-atoll-nonce and x-atoll-signature are needed",
      });
    if (!nonces.take(nonce, identity.podUid) || !helloHolds(nonce, identity.podUid, publicKey, signature))
      return answer(response, path, 401, { error: "the nonce is not signed by this key" });
    if (path === "/v1/rotate" && request.method === "POST") {
      // The key that hands over asks, also when it has done so already and the answer was lost.
      if (!(await options.keys.keysOf(identity.podUid)).includes(publicKey))
        return answer(response, path, 403, { error: "this pod has published another key" });
      return answer(response, path, 200, await options.keys.rotate(identity, await readBody(request)));
    }
    const known = await options.keys.keyOf(identity.podUid);
    if ((known !== undefined && known !== publicKey) || !(await options.keys.publish(identity, publicKey)))
      return answer(response, path, 403, { error: "this pod has published another key" });

    if (path === "/v1/stream" && request.method === "GET")
      return open(request, response, identity, pod, await options.trust?.(identity.podUid));
    if (request.method !== "POST" || (path !== "/v1/report" && path !== "/v1/approvals"))
      return answer(response, path, 404, { error: "no such path" });
    const body = await readBody(request);
    if (path === "/v1/report") {
      const decisions = isMap(body["decisions"]) ? body["decisions"] : {};
      options.onReport({
        identity,
        policyHash: text(body["policy_hash"]),
        ceilingHash: text(body["ceiling_hash"]),
        lockProved: body["lock_proved"] === true,
        networkProved: typeof body["network_proved"] === "boolean" ? body["network_proved"] : undefined,
        failing: failingOf(body["failing"]),
        decisions: {
          total: count(decisions["total"]),
          denied: count(decisions["denied"]),
          errors: count(decisions["errors"]),
        },
        approvals: approvalsOf(body["approvals"]),
        at: now(),
      });
      // With the nonce for its next report: one connection less for each.
      return answer(response, path, 200, { nonce: nonces.give(identity.podUid) });
    }
    await options.onChallenge(identity, body);
    return answer(response, path, 200, {});
  }

  function open(
    request: IncomingMessage,
    response: ServerResponse,
    identity: PodIdentity,
    pod: StreamPod,
    trust: JsonMap | undefined,
  ): void {
    requests.inc({ path: "/v1/stream", status: 200 });
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    const connection = { identity, pod, response };
    const before = streams.get(identity.podUid);
    if (before !== undefined) drop(identity.podUid, before);
    streams.set(identity.podUid, connection);
    connected.set(streams.size);
    request.socket.setTimeout(0);
    response.on("close", () => drop(identity.podUid, connection));
    if (trust !== undefined) response.write(frame("trust", trust));
    for (const { event, data } of options.snapshot(pod)) response.write(frame(event, data));
    // All that is in force has been said: what a guardian waits for before it serves.
    response.write(frame("synced", { at: new Date(now()).toISOString() }));
  }

  const server = createServer({ ...options.tls, minVersion: "TLSv1.3" }, (request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else answer(response, "error", 503, { error: error instanceof Error ? error.message : "" });
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, resolve);
  });
  const beat = setInterval(() => {
    const chunk = frame("heartbeat", { at: new Date(now()).toISOString() });
    for (const connection of streams.values()) write(connection, chunk);
  }, options.heartbeatMs ?? 5000);
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : options.port,
    send(to, { event, data }) {
      const chunk = frame(event, data);
      const one = to.podUid === undefined ? undefined : streams.get(to.podUid);
      const heard = to.podUid === undefined ? streams.values() : one === undefined ? [] : [one];
      for (const connection of heard)
        if (to.sidecar === undefined || to.sidecar === connection.pod.sidecar) write(connection, chunk);
    },
    connected: () => streams.size,
    setCertificate: (tls) => server.setSecureContext({ ...tls, minVersion: "TLSv1.3" }),
    sweep() {
      for (const [uid, connection] of streams)
        if (options.podOf(connection.identity)?.uid !== uid) drop(uid, connection);
    },
    async stop() {
      clearInterval(beat);
      for (const [uid, connection] of streams) drop(uid, connection);
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

const oneLine = (v: Json | undefined, most: number): string =>
  text(v)
    .slice(0, most)
    .replaceAll(/[^ -~]/g, "?");
const list = (v: Json | undefined): readonly Json[] => (Array.isArray(v) ? v : []);
const KEY_ID = /^ed25519:[0-9a-f]{16}$/;
const STATES: ReadonlySet<string> = new Set(["pending", "granted", "rejected", "expired", "invalid", "used"]);

const approvalsOf = (v: Json | undefined): readonly ApprovalReport[] =>
  list(v)
    .slice(0, 32)
    .flatMap((each) => {
      if (!isMap(each) || !/^apr_[0-9a-f]{32}$/.test(text(each["id"])) || !STATES.has(text(each["state"])))
        return [];
      const refused = list(each["refused"]).flatMap((r) =>
        isMap(r) && KEY_ID.test(text(r["key_id"]))
          ? [{ key: text(r["key_id"]), message: oneLine(r["message"], 300) }]
          : [],
      );
      return [
        {
          id: text(each["id"]),
          state: text(each["state"]),
          counted: list(each["counted"])
            .map(text)
            .filter((key) => KEY_ID.test(key))
            .slice(0, 32),
          refused: refused.slice(0, 32),
          reviewOpen: each["review_open"] === true,
        },
      ];
    });

/** A guardian's own words end in a condition: few, short, and of one line. */
const failingOf = (v: Json | undefined): GuardianReport["failing"] =>
  (Array.isArray(v) ? v : []).slice(0, 16).flatMap((each: Json) => {
    if (!isMap(each) || (each["leg"] !== "lock" && each["leg"] !== "network")) return [];
    return [
      {
        leg: each["leg"],
        probe: oneLine(each["probe"], 120),
      },
    ];
  });

async function readBody(request: IncomingMessage): Promise<JsonMap> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > BODY_LIMIT) throw new Error("the body is too large");
    parts.push(part);
  }
  const value = JSON.parse(Buffer.concat(parts).toString("utf8")) as Json;
  if (!isMap(value)) throw new Error("the body is no object");
  return value;
}
