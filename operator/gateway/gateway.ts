// The egress gateway of pods without the in-pod lock. There the network cannot tell agent from guardian, so the NetworkPolicy
// leaves their pod this one way, and here only who shows a guardian's certificate goes on. The certificate is had for the
// pod's token, which no other container of the pod can read. What may be reached is the guardian's judgement.

import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { ServerOptions } from "node:https";
import { BlockList, connect, isIP } from "node:net";
import type { Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { makeLeaf } from "../certificates/certificates.ts";
import type { Authority, Leaf } from "../certificates/certificates.ts";
import type { Found } from "./guardians.ts";

export { guardians, lookup } from "./guardians.ts";
export type { Found } from "./guardians.ts";

export interface GatewayTls {
  readonly leaf: Leaf;
  /** Signs the certificates of guardians. */
  readonly authority: Authority;
  /** All authorities that are trusted now. */
  readonly bundle: string;
}
export interface GatewayOptions {
  readonly port: number;
  readonly tls: GatewayTls;
  /** The pod UID of a guardian's token; undefined for everybody else's. */
  readonly guardianOf: (token: string) => Promise<string | undefined>;
  readonly lookup: (name: string) => Promise<Found>;
  readonly log: (line: { readonly [key: string]: string | number }) => void;
  readonly now?: () => number;
  readonly dial?: (address: string, port: number) => Socket;
}
export interface Gateway {
  readonly port: number;
  setTls(tls: GatewayTls): void;
  stop(): Promise<void>;
}

const GUARDIANS = "atoll:guardian";
const CERTIFICATE_MS = 3_600_000;
const DIAL_MS = 5_000;
const IDLE_MS = 900_000;
const TUNNELS_OF_ONE = 512;
const NAME = /^(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/u;

/** What is reached from here and must be from nowhere: this pod itself, its link, the cloud's metadata. One list for each
 * family, because a list takes an IPv4 address for its mapped form. */
const never = { ipv4: new BlockList(), ipv6: new BlockList() };
for (const [net, prefix] of [
  ["0.0.0.0", 8],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["224.0.0.0", 3],
] as const)
  never.ipv4.addSubnet(net, prefix, "ipv4");
for (const [net, prefix] of [
  ["::", 96],
  ["::ffff:0:0", 96],
  ["64:ff9b::", 96],
  ["fe80::", 10],
  ["ff00::", 8],
  ["fd00:ec2::254", 128],
] as const)
  never.ipv6.addSubnet(net, prefix, "ipv6");

/** `address:port`, IPv6 in brackets; undefined for anything else and for what is never dialled. */
export function destination(text: string): { readonly address: string; readonly port: number } | undefined {
  const [, six, four, digits = ""] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})$/u.exec(text) ?? [];
  const address = six ?? four ?? "";
  const port = Number(digits);
  const family = six === undefined ? "ipv4" : "ipv6";
  if (isIP(address) !== (six === undefined ? 4 : 6) || port < 1 || port > 65_535) return undefined;
  if (never[family].check(address, family)) return undefined;
  const own = new BlockList();
  for (const each of Object.values(networkInterfaces()).flatMap((list) => list ?? []))
    own.addAddress(each.address.replace(/%.*$/u, ""), each.family === "IPv6" ? "ipv6" : "ipv4");
  return own.check(address, family) ? undefined : { address, port };
}

/** The pod that a connection's certificate names; undefined without one of ours that is still good. */
const bearer = (socket: unknown): string | undefined => {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const { subject } = socket.getPeerCertificate();
  return subject.O === GUARDIANS && typeof subject.CN === "string" ? subject.CN : undefined;
};

export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { now = Date.now, log } = options;
  const dial = options.dial ?? ((host, port) => connect({ host, port, allowHalfOpen: true, noDelay: true }));
  let { tls } = options;
  const context = (): { key: string; cert: string; ca: string } => ({
    key: tls.leaf.key,
    cert: tls.leaf.certificate,
    ca: tls.bundle,
  });
  const open = new Map<string, number>();
  const sockets = new Set<Socket>();

  const certificate = async (request: IncomingMessage): Promise<[number, object]> => {
    const [, token = ""] =
      /^Bearer ([A-Za-z0-9._-]{1,8192})$/u.exec(request.headers.authorization ?? "") ?? [];
    const pod = token === "" ? undefined : await options.guardianOf(token);
    if (pod === undefined) {
      log({ event: "refused", from: request.socket.remoteAddress ?? "", why: "no guardian's token" });
      return [403, { error: "the token is no guardian's" }];
    }
    const names = { commonName: pod, organizations: [GUARDIANS], client: true };
    const leaf = makeLeaf(tls.authority, names, new Date(now()), CERTIFICATE_MS);
    return [200, { key: leaf.key, certificate: leaf.certificate, life_ms: CERTIFICATE_MS }];
  };
  const answer = async (request: IncomingMessage): Promise<[number, object]> => {
    const url = new URL(request.url ?? "/", "https://gateway");
    if (request.method === "POST" && url.pathname === "/v1/certificate") return certificate(request);
    if (bearer(request.socket) === undefined) return [403, { error: "no guardian's certificate" }];
    if (request.method !== "GET" || url.pathname !== "/v1/addresses") return [404, { error: "not served" }];
    const name = url.searchParams.get("name") ?? "";
    return NAME.test(name) ? [200, await options.lookup(name)] : [400, { error: "not a name" }];
  };
  const settings: ServerOptions & { allowHalfOpen: boolean } = {
    ...context(),
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: "TLSv1.3",
    handshakeTimeout: 10_000,
    // A half that has ended leaves the other open, as between the two ends themselves.
    allowHalfOpen: true,
  };
  const server = createServer(settings, (request: IncomingMessage, response: ServerResponse) => {
    request.resume();
    void answer(request)
      .catch((error: unknown): [number, object] => {
        log({ level: "error", event: "failed", message: error instanceof Error ? error.message : "" });
        return [503, { error: "try again" }];
      })
      .then(([status, body]) => {
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
      });
  });
  server.maxConnections = 20_000;
  // Those beneath TLS, so that one that never shakes hands is ended with the rest.
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.on("tlsClientError", (_, socket) => socket.destroy());
  server.on("secureConnection", (socket) => socket.on("error", () => socket.destroy()));

  server.on("connect", (request: IncomingMessage, client: Duplex, head: Buffer) => {
    const refuse = (status: number, why: string): void => {
      client.end(`HTTP/1.1 ${status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
      log({ event: "refused", from: request.socket.remoteAddress ?? "", to: request.url ?? "", why });
    };
    const pod = bearer(client);
    if (pod === undefined) return refuse(403, "no guardian's certificate");
    const to = destination(request.url ?? "");
    if (to === undefined) return refuse(403, "never dialled from here");
    const count = open.get(pod) ?? 0;
    if (count >= TUNNELS_OF_ONE) return refuse(429, "too many tunnels");
    open.set(pod, count + 1);
    const far = dial(to.address, to.port);
    let told = false;
    const end = (status: number): void => {
      clearTimeout(timer);
      if (!told) refuse(status, "not reached");
      told = true;
      far.destroy();
    };
    const timer = setTimeout(() => end(504), DIAL_MS);
    far.setTimeout(IDLE_MS, () => client.destroy());
    far.once("close", () => {
      const left = (open.get(pod) ?? 1) - 1;
      if (left > 0) open.set(pod, left);
      else open.delete(pod);
    });
    far.on("error", () => (told ? client.destroy() : end(502)));
    client.on("error", () => far.destroy());
    client.on("close", () => far.destroy());
    far.once("connect", () => {
      if (told) return;
      told = true;
      clearTimeout(timer);
      client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
      if (head.length > 0) far.write(head);
      far.pipe(client);
      client.pipe(far);
    });
  });

  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, resolve);
  });
  const at = server.address();
  return {
    port: typeof at === "object" && at !== null ? at.port : options.port,
    setTls(next) {
      tls = next;
      server.setSecureContext({ ...context(), minVersion: "TLSv1.3" });
    },
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
