// The forward proxy of 5.4, for what the agent's own programs open: the policy is asked before any name is resolved,
// the connection goes to an address that was judged, and it leaves one record.

import { createServer } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import type { ProxyParts } from "./parts.ts";
import { plainRequest } from "./plain.ts";
import { tunnel } from "./tunnel.ts";

export { dialAddress } from "./dial.ts";
export type { Dial } from "./dial.ts";
export type { ProxyParts } from "./parts.ts";

export const PROXY_WAITS = { idleMs: 600_000, helloMs: 10_000 } as const;

export interface ForwardProxy {
  server(): Server;
  /** Ends every connection as it is; its record says how far it came. */
  end(): void;
}

const MOST_CLIENTS = 1_024;

export function createProxy(parts: ProxyParts): ForwardProxy {
  const closing = new AbortController();
  return {
    server() {
      const server = createServer(
        {
          maxHeaderSize: 16 << 10,
          headersTimeout: 10_000,
          requestTimeout: 30_000,
          keepAliveTimeout: 5_000,
          connectionsCheckingInterval: 2_000,
          requireHostHeader: false,
        },
        (request, response) => {
          plainRequest(parts, request, response, closing.signal).catch(() => response.destroy());
        },
      );
      server.maxConnections = MOST_CLIENTS;
      server.maxHeadersCount = 128;
      server.on("connect", (request: IncomingMessage, socket: Socket, head: Buffer) => {
        tunnel(parts, request, socket, head, closing.signal).catch(() => socket.destroy());
      });
      server.on("upgrade", (_request, socket) => socket.destroy());
      server.on("clientError", (_error, socket) => {
        if (socket.writable)
          socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        else socket.destroy();
      });
      return server;
    },
    end: () => closing.abort(),
  };
}
