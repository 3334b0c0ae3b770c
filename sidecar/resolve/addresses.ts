// Which addresses a name may lead to. Pure: text in, judgement out. Everything that is not plainly a unicast address of
// the public internet is refused; private networks of an operator pass when listed, and nothing else can be listed.

/** An address as its bytes: 4 or 16 of them. */
export type Address = { readonly bytes: readonly number[] };
export type Network = { readonly bytes: readonly number[]; readonly prefix: number };

export type Judgement =
  | { readonly allowed: true; readonly address: Address }
  | { readonly allowed: false; readonly range: string };

const parseIpv4 = (text: string): number[] | undefined => {
  const parts = text.split(".");
  // Decimal without leading zeros only: `0177.1`, `2130706433` and `0x7f.1` are loopback to some parsers.
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part))) return undefined;
  const bytes = parts.map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : undefined;
};

const parseWords = (text: string): number[] | undefined => {
  if (text === "") return [];
  const bytes: number[] = [];
  const parts = text.split(":");
  for (const [at, part] of parts.entries()) {
    if (part.includes(".")) {
      const tail = at === parts.length - 1 ? parseIpv4(part) : undefined;
      if (tail === undefined) return undefined;
      bytes.push(...tail);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
      const word = Number.parseInt(part, 16);
      bytes.push(word >> 8, word & 255);
    }
  }
  return bytes;
};

const parseIpv6 = (text: string): number[] | undefined => {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseWords(halves[0] ?? "");
  if (head === undefined) return undefined;
  if (halves.length === 1) return head.length === 16 ? head : undefined;
  const tail = parseWords(halves[1] ?? "");
  // An IPv4 tail stands at the end of the whole, and `::` for at least one word.
  if (tail === undefined || (halves[0] ?? "").includes(".") || head.length + tail.length > 14)
    return undefined;
  return [...head, ...Array.from({ length: 16 - head.length - tail.length }, () => 0), ...tail];
};

/** Reads an IPv4 or IPv6 address; zones, brackets, ports and unusual spellings of IPv4 are not addresses. */
export const parseAddress = (text: string): Address | undefined => {
  const bytes = text.includes(":") ? parseIpv6(text) : parseIpv4(text);
  return bytes === undefined ? undefined : { bytes };
};

/** Reads `address/prefix`; bits beyond the prefix must be zero. */
export const parseNetwork = (text: string): Network | undefined => {
  const [address = "", length = "", ...rest] = text.split("/");
  const parsed = parseAddress(address);
  if (parsed === undefined || rest.length > 0 || !/^(0|[1-9][0-9]{0,2})$/.test(length)) return undefined;
  const network = { bytes: parsed.bytes, prefix: Number(length) };
  if (network.prefix > parsed.bytes.length * 8) return undefined;
  const strayBits = parsed.bytes.some((byte, at) => (byte & ~maskByte(network.prefix, at)) !== 0);
  return strayBits ? undefined : network;
};

const maskByte = (prefix: number, at: number): number => {
  const bits = Math.min(8, Math.max(0, prefix - at * 8));
  return (0xff << (8 - bits)) & 0xff;
};

/** Whether the address lies in the network; never across families. */
export const within = (address: Address, network: Network): boolean =>
  address.bytes.length === network.bytes.length &&
  network.bytes.every((byte, at) => ((address.bytes[at] ?? 0) & maskByte(network.prefix, at)) === byte);

const table = (
  rows: readonly (readonly [network: string, name: string])[],
): { network: Network; name: string }[] =>
  rows.map(([text, name]) => {
    const network = parseNetwork(text);
    if (network === undefined) throw new Error(`\`${text}\` is not a network`);
    return { network, name };
  });

/** Never reachable, whatever is listed. The first row that holds gives the name, so single addresses come first. */
const NEVER = table([
  ["169.254.169.254/32", "metadata"],
  ["169.254.170.2/32", "metadata"],
  ["168.63.129.16/32", "metadata"],
  ["100.100.100.200/32", "metadata"],
  ["192.0.0.192/32", "metadata"],
  ["fd00:ec2::254/128", "metadata"],
  ["fd00:ec2::23/128", "metadata"],
  ["fd20:ce::254/128", "metadata"],
  ["0.0.0.0/8", "unspecified"],
  ["127.0.0.0/8", "loopback"],
  ["169.254.0.0/16", "link-local"],
  ["192.0.0.0/24", "protocol assignments"],
  ["192.0.2.0/24", "documentation"],
  ["198.51.100.0/24", "documentation"],
  ["203.0.113.0/24", "documentation"],
  ["192.88.99.0/24", "6to4"],
  ["198.18.0.0/15", "benchmarking"],
  ["224.0.0.0/4", "multicast"],
  ["240.0.0.0/4", "reserved"],
  ["::/128", "unspecified"],
  ["::1/128", "loopback"],
  // Forms that carry an IPv4 address: what they reach is decided by a translator that we do not see.
  ["::ffff:0:0/96", "IPv4-mapped"],
  ["::ffff:0:0:0/96", "IPv4-translated"],
  ["::/96", "IPv4-compatible"],
  ["64:ff9b::/96", "NAT64"],
  ["64:ff9b:1::/48", "NAT64"],
  ["2002::/16", "6to4"],
  ["2001::/32", "Teredo"],
  ["2001:2::/48", "benchmarking"],
  ["2001:db8::/32", "documentation"],
  ["3fff::/20", "documentation"],
  ["2001::/23", "protocol assignments"],
  ["100::/64", "discard"],
  ["fe80::/10", "link-local"],
  ["fec0::/10", "site-local"],
  ["ff00::/8", "multicast"],
]);

/** Reachable only where listed. */
const PRIVATE = table([
  ["10.0.0.0/8", "private"],
  ["172.16.0.0/12", "private"],
  ["192.168.0.0/16", "private"],
  ["100.64.0.0/10", "shared (CGNAT)"],
  ["fc00::/7", "unique local"],
]);

const GLOBAL_IPV6 = table([["2000::/3", "global"]]);

/** The range that refuses an address, or undefined for an address of the public internet. */
const refusingRange = (address: Address, listed: readonly Network[]): string | undefined => {
  const never = NEVER.find(({ network }) => within(address, network));
  if (never !== undefined) return never.name;
  const own = PRIVATE.find(({ network }) => within(address, network));
  if (own !== undefined) return listed.some((network) => within(address, network)) ? undefined : own.name;
  if (address.bytes.length === 16 && !GLOBAL_IPV6.some(({ network }) => within(address, network)))
    return "not allocated";
  return undefined;
};

/** Judges one address as a destination. `listed` opens private networks and nothing else. */
export const judgeAddress = (text: string, listed: readonly Network[] = []): Judgement => {
  const address = parseAddress(text);
  if (address === undefined) return { allowed: false, range: "not an address" };
  const range = refusingRange(address, listed);
  return range === undefined ? { allowed: true, address } : { allowed: false, range };
};
