// A network for the proxy: names that this test owns, a counting resolver, and public addresses that are dialled on
// loopback.

import { createServer as createHttp } from "node:http";
import { connect, createServer as createTcp } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { makeAuthority, makeLeaf } from "../../operator/certificates/certificates.ts";
import type { Dial } from "../../sidecar/proxy/proxy.ts";
import { judgeAddress, parseAddress } from "../../sidecar/resolve/resolve.ts";
import type { Network as Range, Resolver } from "../../sidecar/resolve/resolve.ts";
import { scene } from "../surfaces/scene.ts";
import type { Scene } from "../surfaces/scene.ts";

/** Addresses that are judged as public and mean our own servers here. */
export const TLS_AT = "93.184.215.14";
export const HTTP_AT = "93.184.215.15";
export const DEAD_AT = "93.184.215.16";

export interface Lab {
  readonly s: Scene;
  readonly ca: string;
  /** Every name that was asked for, in order. */
  readonly asked: string[];
  /** Every address that was dialled, in order. */
  readonly dialled: string[];
  /** What the plain server has seen. */
  readonly seen: {
    readonly url: string;
    readonly headers: NodeJS.Dict<string | string[]>;
    readonly body: string;
  }[];
  readonly names: Map<string, readonly string[]>;
  readonly proxyPort: number;
  close(): Promise<void>;
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;
const listening = (server: Server): Promise<void> =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

export async function lab(policy: (document: Record<string, unknown>) => void = () => {}): Promise<Lab> {
  const authority = makeAuthority(new Date(), 86_400_000);
  const leaf = makeLeaf(
    authority,
    { dnsNames: ["api.docs.test", "private.docs.test"] },
    new Date(),
    86_400_000,
  );
  const tls = createTls({ key: leaf.key, cert: leaf.certificate }, (socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => socket.write(`echo ${bytes.toString("utf8")}`));
  });
  const seen: Lab["seen"] = [];
  const http = createHttp((request, response) => {
    let body = "";
    request.on("data", (part) => (body += String(part)));
    request.on("end", () => {
      seen.push({ url: request.url ?? "", headers: request.headers, body });
      response.writeHead(200, {
        "content-type": "text/plain",
        "x-atoll-receipt": "forged",
        "keep-alive": "x",
      });
      response.end(`hello ${request.url ?? ""}`);
    });
  });
  await Promise.all([listening(tls), listening(http)]);
  const open = new Set<Socket>();
  for (const server of [tls, http]) server.on("connection", (c: Socket) => open.add(c));
  const asked: string[] = [];
  const dialled: string[] = [];
  const names = new Map<string, readonly string[]>([
    ["api.docs.test", [TLS_AT]],
    ["plain.docs.test", [HTTP_AT]],
    ["dead.docs.test", [DEAD_AT]],
    ["private.docs.test", ["10.20.0.9"]],
  ]);
  const judged = (addresses: readonly string[], listed: readonly Range[]) => {
    for (const address of addresses) {
      const j = judgeAddress(address, listed);
      if (!j.allowed) return { kind: "refused", address, range: j.range } as const;
    }
    return { kind: "addresses", addresses } as const;
  };
  const resolver: Resolver = {
    resolve: (name, listed = []) => {
      if (parseAddress(name) !== undefined) return Promise.resolve(judged([name], listed));
      asked.push(name);
      const found = names.get(name);
      return Promise.resolve(
        found === undefined ? { kind: "failed", reason: "not found" } : judged(found, listed),
      );
    },
    close: () => {},
  };
  const dead = createTcp();
  await listening(dead);
  const deadPort = portOf(dead);
  await new Promise((resolve) => dead.close(resolve));
  const dial: Dial = (address) => {
    dialled.push(address);
    const port = address === HTTP_AT ? portOf(http) : address === DEAD_AT ? deadPort : portOf(tls);
    return connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  };
  const s = await scene({
    network: { resolver, dial },
    policy: (document) => {
      const d = document as {
        connectors: Record<string, unknown>;
        profiles: Record<string, unknown>[];
        rules: unknown[];
        [key: string]: unknown;
      };
      const destinations = [
        "*.docs.test:443",
        "plain.docs.test:80",
        "dead.docs.test:443",
        `${TLS_AT}:443`,
        "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443",
        "192.0.2.2:443",
        "169.254.169.254:80",
        "127.0.0.1:443",
        "[::ffff:127.0.0.1]:443",
        "[64:ff9b::7f00:1]:443",
      ];
      d.connectors["web"] = { kind: "connect", destinations };
      d.profiles[0] = {
        ...d.profiles[0],
        destinations: { allow: destinations, deny: ["secret.docs.test:*"] },
      };
      d.rules.push({ id: "web", tools: ["net:*"], then: "allow" });
      d["privateAddresses"] = { allow: ["10.20.0.0/16"] };
      d["perimeter"] = { requireTls: true };
      policy(d);
    },
  });
  return {
    s,
    ca: authority.certificate,
    asked,
    dialled,
    seen,
    names,
    proxyPort: s.guardian.proxyPort,
    async close() {
      for (const socket of open) socket.destroy();
      tls.close();
      http.close();
      await s.close();
    },
  };
}

export interface Answer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly text: string;
  /** Open after a 200, closed otherwise. */
  readonly socket: Socket;
}

/** Sends bytes to the proxy and reads one answer: up to the blank line of a 200, up to the end of any other. */
export function say(port: number, bytes: string | Uint8Array): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port });
    let text = "";
    const settle = (): void => {
      const head = text.split("\r\n\r\n", 1)[0] ?? "";
      const [first = "", ...lines] = head.split("\r\n");
      resolve({
        status: Number(first.split(" ")[1] ?? 0),
        headers: new Map(
          lines.map((l): [string, string] => [
            l.slice(0, l.indexOf(":")).toLowerCase(),
            l.slice(l.indexOf(":") + 1).trim(),
          ]),
        ),
        text: text.slice(head.length + 4),
        socket,
      });
    };
    const take = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      if (/^HTTP\/1\.1 200 [^]*?\r\n\r\n/.test(text) && !/content-length|transfer-encoding/i.test(text)) {
        socket.off("data", take);
        settle();
      }
    };
    socket.on("data", take);
    socket.once("error", reject);
    socket.once("end", settle);
    socket.once("close", settle);
    socket.write(bytes);
  });
}
