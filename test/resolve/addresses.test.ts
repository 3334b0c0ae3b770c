import { isIPv4, isIPv6 } from "node:net";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { judgeAddress, parseAddress, parseNetwork, within } from "../../sidecar/resolve/addresses.ts";

const network = (text: string) => {
  const parsed = parseNetwork(text);
  if (parsed === undefined) throw new Error(`${text} is not a network`);
  return parsed;
};
const dotted = (value: number): string => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
const hexWords = (bytes: readonly number[]): string =>
  Array.from({ length: 8 }, (_, at) =>
    (((bytes[at * 2] ?? 0) << 8) | (bytes[at * 2 + 1] ?? 0)).toString(16),
  ).join(":");
const ipv6Bytes = fc.array(fc.nat(255), { minLength: 16, maxLength: 16 });

describe("reading addresses", () => {
  test("agrees with the platform on every string made of an address's characters", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.ipV4(),
          fc.ipV6(),
          fc.string({ unit: fc.constantFrom(...Array.from("0129af:.x%/ ")), maxLength: 40 }),
        ),
        (text) => {
          expect(parseAddress(text) !== undefined).toBe(
            (isIPv4(text) || isIPv6(text)) && !text.includes("%"),
          );
        },
      ),
      { numRuns: 20_000 },
    );
  });

  test("spellings that only some parsers read as loopback are no addresses", () => {
    for (const text of [
      "0177.0.0.1",
      "2130706433",
      "0x7f.1",
      "127.1",
      "127.0.0.1.",
      " 127.0.0.1",
      "[::1]",
      "::1%lo",
      "1::2::3",
      "::ffff:127.0.0.01",
      "1:2:3:4:5:6:7:8::",
      "",
      ":",
      ":::",
      "१२७.0.0.1",
    ])
      expect(judgeAddress(text)).toEqual({ allowed: false, range: "not an address" });
  });

  test("an address reads the same however it is spelt", () => {
    fc.assert(
      fc.property(ipv6Bytes, (bytes) => {
        const long = hexWords(bytes);
        expect(parseAddress(long)?.bytes).toEqual(bytes);
        expect(parseAddress(long.toUpperCase())?.bytes).toEqual(bytes);
        expect(
          parseAddress(`${long.split(":").slice(0, 6).join(":")}:${bytes.slice(12).join(".")}`)?.bytes,
        ).toEqual(bytes);
      }),
    );
    expect(parseAddress("::")?.bytes).toEqual(Array(16).fill(0));
  });

  test("a network holds exactly the addresses whose first bits are its own", () => {
    fc.assert(
      fc.property(fc.nat(32), fc.nat(), fc.nat(), (prefix, base, other) => {
        const mask = prefix === 0 ? 0 : (0xffff_ffff << (32 - prefix)) >>> 0;
        const start = (base & mask) >>> 0;
        const inside = parseAddress(dotted(other));
        if (inside === undefined) throw new Error("no address");
        expect(within(inside, network(`${dotted(start)}/${prefix}`))).toBe((other & mask) >>> 0 === start);
      }),
    );
    for (const text of [
      "10.0.0.1/8",
      "10.0.0.0/33",
      "10.0.0.0",
      "10.0.0.0/08",
      "10.0.0.0/8/8",
      "::/129",
      "x/8",
    ])
      expect(parseNetwork(text)).toBeUndefined();
  });
});

const refused: [string, string][] = [
  ["127.0.0.1", "loopback"],
  ["127.255.255.254", "loopback"],
  ["::1", "loopback"],
  ["0.0.0.0", "unspecified"],
  ["0.1.2.3", "unspecified"],
  ["::", "unspecified"],
  ["169.254.0.1", "link-local"],
  ["fe80::1", "link-local"],
  ["febf::1", "link-local"],
  ["169.254.169.254", "metadata"],
  ["169.254.170.2", "metadata"],
  ["168.63.129.16", "metadata"],
  ["100.100.100.200", "metadata"],
  ["fd00:ec2::254", "metadata"],
  ["fd20:ce::254", "metadata"],
  ["10.0.0.1", "private"],
  ["172.16.0.1", "private"],
  ["172.31.255.255", "private"],
  ["192.168.1.1", "private"],
  ["100.64.0.1", "shared (CGNAT)"],
  ["100.127.255.255", "shared (CGNAT)"],
  ["fc00::1", "unique local"],
  ["fdff::1", "unique local"],
  ["::ffff:127.0.0.1", "IPv4-mapped"],
  ["::ffff:8.8.8.8", "IPv4-mapped"],
  ["::ffff:7f00:1", "IPv4-mapped"],
  ["::127.0.0.1", "IPv4-compatible"],
  ["::ffff:0:127.0.0.1", "IPv4-translated"],
  ["64:ff9b::7f00:1", "NAT64"],
  ["64:ff9b::8.8.8.8", "NAT64"],
  ["64:ff9b:1::1", "NAT64"],
  ["2002:7f00:1::", "6to4"],
  ["2002:808:808::1", "6to4"],
  ["192.88.99.1", "6to4"],
  ["2001::1", "Teredo"],
  ["fec0::1", "site-local"],
  ["ff02::1", "multicast"],
  ["224.0.0.1", "multicast"],
  ["239.255.255.250", "multicast"],
  ["255.255.255.255", "reserved"],
  ["240.0.0.1", "reserved"],
  ["192.0.2.1", "documentation"],
  ["198.51.100.1", "documentation"],
  ["203.0.113.1", "documentation"],
  ["2001:db8::1", "documentation"],
  ["3fff::1", "documentation"],
  ["198.18.0.1", "benchmarking"],
  ["198.19.255.255", "benchmarking"],
  ["192.0.0.1", "protocol assignments"],
  ["2001:10::1", "protocol assignments"],
  ["100::1", "discard"],
  ["4000::1", "not allocated"],
  ["5f00::1", "not allocated"],
];

describe("judging addresses", () => {
  test.each(refused)("%s is refused as %s", (text, range) =>
    expect(judgeAddress(text)).toEqual({ allowed: false, range }),
  );

  test.each([
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "11.0.0.1",
    "128.0.0.1",
    "223.255.255.255",
    "169.253.0.1",
    "169.255.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
    "2001:4860:4860::8888",
    "2003::1",
    "3ffe::1",
  ])("%s of the public internet is allowed", (text) =>
    expect(judgeAddress(text)).toMatchObject({ allowed: true }),
  );

  test("a private address passes only where listed", () => {
    const listed = [network("10.96.0.0/12"), network("fd00:10::/32")];
    expect(judgeAddress("10.96.0.10", listed)).toMatchObject({ allowed: true });
    expect(judgeAddress("fd00:10::1", listed)).toMatchObject({ allowed: true });
    expect(judgeAddress("10.112.0.1", listed)).toMatchObject({ allowed: false });
    expect(judgeAddress("192.168.1.1", listed)).toMatchObject({ allowed: false });
  });

  test("listing everything opens private networks and nothing else", () => {
    const everything = [network("0.0.0.0/0"), network("::/0")];
    for (const [text, range] of refused)
      expect(judgeAddress(text, everything).allowed, text).toBe(
        ["private", "shared (CGNAT)", "unique local"].includes(range),
      );
  });

  test("no IPv6 form of an IPv4 address is ever allowed, listed or not", () => {
    fc.assert(
      fc.property(
        fc.ipV4(),
        fc.constantFrom("::ffff:", "::", "64:ff9b::", "::ffff:0:"),
        fc.boolean(),
        (v4, form, all) => {
          expect(
            judgeAddress(`${form}${v4}`, all ? [network("::/0"), network("0.0.0.0/0")] : []).allowed,
          ).toBe(false);
        },
      ),
    );
  });

  test("listing more never refuses what was allowed", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.ipV4(), fc.ipV6()),
        fc.constantFrom("10.0.0.0/8", "fc00::/7", "0.0.0.0/0", "::/0"),
        (text, more) => {
          if (judgeAddress(text).allowed) expect(judgeAddress(text, [network(more)]).allowed).toBe(true);
        },
      ),
    );
  });
});
