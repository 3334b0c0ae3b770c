// What the gate tries to reach, gathered from what a pod knows of its surroundings. Pure.
import { parseAddress } from "../resolve/resolve.ts";

/** One address that must not answer, by any protocol. */
export type Target = {
  /** canary, node, gateway, apiserver, dns, metadata or neighbours: the first word of a probe's name. */
  readonly name: string;
  readonly address: string;
  /** Interface index, for link-local and multicast addresses. */
  readonly scope: number;
  /** Port for TCP and UDP; 0 where only ICMP makes sense. */
  readonly port: number;
};

export type Surroundings = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly resolvConf: string;
  /** `/proc/net/route` and `/proc/net/ipv6_route`. */
  readonly routes4: string;
  readonly routes6: string;
  /** Indices of the interfaces that are not loopback. */
  readonly interfaces: readonly number[];
};

const KUBELET = 10250;
const DNS = 53;
const HTTP = 80;

const target = (name: string, address: string, port: number, scope = 0): Target => {
  if (parseAddress(address) === undefined) throw new Error(`${name} \`${address}\` is not an address`);
  return { name, address, port, scope };
};

const list = (text: string | undefined): string[] => (text ?? "").split(",").filter((word) => word !== "");

/** `address:port`, IPv6 in brackets. */
const endpoint = (name: string, text: string): Target => {
  const [, six, four, port = ""] = /^(?:\[([^\]]+)\]|([0-9.]+)):([0-9]{1,5})$/.exec(text) ?? [];
  const address = six ?? four;
  if (address === undefined || Number(port) < 1 || Number(port) > 65_535)
    throw new Error(`${name} \`${text}\` is not address:port`);
  return target(name, address, Number(port));
};

const gateways4 = (routes: string): string[] =>
  routes
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([, destination, gateway]) =>
        destination === "00000000" && gateway !== undefined && gateway !== "00000000",
    )
    // The kernel prints the address as one number in the machine's (little-endian) order.
    .map(([, , gateway = ""]) =>
      (gateway.match(/../g) ?? [])
        .reverse()
        .map((byte) => Number.parseInt(byte, 16))
        .join("."),
    );

const gateways6 = (routes: string): { address: string; global: boolean }[] =>
  routes
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([destination, length, , , next]) =>
        destination === "0".repeat(32) && length === "00" && next !== undefined && next !== "0".repeat(32),
    )
    .map(([, , , , next = ""]) => ({
      address: (next.match(/..../g) ?? []).join(":"),
      global: !/^fe[89ab]/.test(next),
    }));

/**
 * The targets of a pod. Environment: `ATOLL_CANARY` (address:port, comma-separated), `ATOLL_NODE_IPS` (the downward API's
 * status.hostIPs), `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`. Throws on what cannot be read, and when no
 * canary is named and none waived (`ATOLL_CANARY=none`): a gate with nothing to reach would always pass.
 */
export const gateTargets = (around: Surroundings): Target[] => {
  const { env } = around;
  if (env["ATOLL_CANARY"] === undefined || env["ATOLL_CANARY"] === "")
    throw new Error("`ATOLL_CANARY` names no canary");
  const canaries =
    env["ATOLL_CANARY"] === "none" ? [] : list(env["ATOLL_CANARY"]).map((text) => endpoint("canary", text));
  const nodes = list(env["ATOLL_NODE_IPS"]).map((address) => target("node", address, KUBELET));
  const host = env["KUBERNETES_SERVICE_HOST"] ?? "";
  const api = host === "" ? [] : [target("apiserver", host, Number(env["KUBERNETES_SERVICE_PORT"] ?? 443))];
  const servers = around.resolvConf
    .split("\n")
    .map((line) => /^\s*nameserver\s+([^\s%]+)/.exec(line)?.[1])
    .filter((address) => address !== undefined && !address.startsWith("127.") && address !== "::1");
  const dns = servers.map((address) => target("dns", address ?? "", DNS));
  const gateways = [
    ...gateways4(around.routes4).map((address) => target("gateway", address, HTTP)),
    ...gateways6(around.routes6).flatMap(({ address, global }) =>
      global
        ? [target("gateway", address, HTTP)]
        : around.interfaces.map((index) => target("gateway", address, HTTP, index)),
    ),
  ];
  const neighbours = around.interfaces.map((index) => target("neighbours", "ff02::1", 0, index));
  const metadata = [target("metadata", "169.254.169.254", HTTP), target("metadata", "fd00:ec2::254", HTTP)];
  return [...canaries, ...nodes, ...gateways, ...api, ...dns, ...metadata, ...neighbours];
};
