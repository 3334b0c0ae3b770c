// Connections of the pools of upstreams, by way of the gateway.

import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { buildConnector } from "undici";
import { parseNetwork } from "../resolve/resolve.ts";
import type { Network, Resolver } from "../resolve/resolve.ts";
import type { Egress } from "./egress.ts";

/** Connectors stand in the signed policy, and may be neighbours in the cluster; this machine and its link they are not. */
const NEIGHBOURS: readonly Network[] = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "fc00::/7",
]
  .map(parseNetwork)
  .filter((n) => n !== undefined);

export const connectorBy =
  (egress: Egress, resolver: () => Resolver): buildConnector.connector =>
  (to, done) => {
    const tls = to.protocol === "https:";
    const name = to.hostname.replace(/^\[|\]$/g, "");
    const open = async (): Promise<Socket> => {
      const found = await resolver().resolve(name, NEIGHBOURS);
      const address = found.kind === "addresses" ? found.addresses[0] : undefined;
      if (address === undefined)
        throw Object.assign(new Error(`\`${name}\`: ${found.kind}`), { code: "ENOTFOUND" });
      const socket = await egress.dial(address, Number(to.port) || (tls ? 443 : 80));
      return tls ? secured(socket, to.servername ?? name) : socket;
    };
    open().then(
      (socket) => done(null, socket),
      (error: unknown) => done(error instanceof Error ? error : new Error(String(error)), null),
    );
  };

const secured = (socket: Socket, servername: string): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const inner = connectTls({ socket, servername, ALPNProtocols: ["http/1.1"] });
    inner.once("error", reject);
    inner.once("secureConnect", () => {
      inner.off("error", reject);
      resolve(inner);
    });
  });
