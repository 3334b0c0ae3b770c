// Certificates of a throw-away cluster: an authority and leaves, ECDSA P-256, written as DER by hand,
// so that a cluster needs no openssl. Only what Kubernetes reads is encoded.
import { generateKeyPairSync, randomBytes, sign, type KeyObject } from "node:crypto";

export type Authority = { readonly name: string; readonly certificate: string; readonly key: KeyObject };
export type Leaf = { readonly certificate: string; readonly key: string };
export type LeafRequest = {
  readonly commonName: string;
  readonly organizations?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly addresses?: readonly string[];
};

const tlv = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const body = Buffer.concat(parts);
  const length =
    body.length < 0x80
      ? Buffer.from([body.length])
      : body.length < 0x100
        ? Buffer.from([0x81, body.length])
        : Buffer.from([0x82, body.length >> 8, body.length & 0xff]);
  return Buffer.concat([Buffer.from([tag]), length, body]);
};
const sequence = (...parts: readonly Uint8Array[]): Buffer => tlv(0x30, ...parts);
const set = (...parts: readonly Uint8Array[]): Buffer => tlv(0x31, ...parts);
const octets = (bytes: Uint8Array): Buffer => tlv(0x04, bytes);
const bits = (bytes: Uint8Array, unused = 0): Buffer => tlv(0x03, Buffer.from([unused]), bytes);
const utf8 = (text: string): Buffer => tlv(0x0c, Buffer.from(text, "utf8"));
const yes = tlv(0x01, Buffer.from([0xff]));

/** An object identifier in dotted form. */
const oid = (dotted: string): Buffer => {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return tlv(0x06, Buffer.from(bytes));
};

// A time before 2050 is a UTCTime, a later one a GeneralizedTime (RFC 5280, 4.1.2.5).
const time = (at: Date): Buffer => {
  const text = `${at.toISOString().replace(/[-:T]/gu, "").slice(0, 14)}Z`;
  return at.getUTCFullYear() < 2050
    ? tlv(0x17, Buffer.from(text.slice(2), "ascii"))
    : tlv(0x18, Buffer.from(text, "ascii"));
};

const attribute = (type: string, value: string): Buffer => set(sequence(oid(type), utf8(value)));
const distinguishedName = (commonName: string, organizations: readonly string[] = []): Buffer =>
  sequence(...organizations.map((o) => attribute("2.5.4.10", o)), attribute("2.5.4.3", commonName));

const ecdsaWithSha256 = sequence(oid("1.2.840.10045.4.3.2"));
const extension = (id: string, critical: boolean, value: Uint8Array): Buffer =>
  critical ? sequence(oid(id), yes, octets(value)) : sequence(oid(id), octets(value));

const addressBytes = (address: string): Buffer => {
  const parts = address.split(".").map(Number);
  if (parts.length !== 4 || parts.some((p) => !Number.isInteger(p) || p < 0 || p > 255))
    throw new Error(`not an IPv4 address: \`${address}\``);
  return Buffer.from(parts);
};

const pem = (label: string, der: Uint8Array): string =>
  `-----BEGIN ${label}-----\n${(
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/gu) ?? []
  ).join("\n")}\n-----END ${label}-----\n`;

type Certificate = {
  issuer: Buffer;
  subject: Buffer;
  spki: Buffer;
  extensions: readonly Buffer[];
  signer: KeyObject;
  now: Date;
};

const certificate = ({ issuer, subject, spki, extensions, signer, now }: Certificate): string => {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  // A day of slack before, for a virtual machine whose clock was just set back; a year after.
  const validity = sequence(
    time(new Date(now.getTime() - 86_400_000)),
    time(new Date(now.getTime() + 366 * 86_400_000)),
  );
  const toBeSigned = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, serial),
    ecdsaWithSha256,
    issuer,
    validity,
    subject,
    spki,
    tlv(0xa3, sequence(...extensions)),
  );
  return pem("CERTIFICATE", sequence(toBeSigned, ecdsaWithSha256, bits(sign("sha256", toBeSigned, signer))));
};

const keyPair = (): { privateKey: KeyObject; spki: Buffer } => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { privateKey, spki: publicKey.export({ type: "spki", format: "der" }) };
};

/** A self-signed authority that lives in memory; its key reaches the disk only if the caller writes it. */
export function makeAuthority(name: string, now: Date = new Date()): Authority {
  const { privateKey, spki } = keyPair();
  const subject = distinguishedName(name);
  const extensions = [
    extension("2.5.29.19", true, sequence(yes)),
    // keyCertSign, cRLSign
    extension("2.5.29.15", true, bits(Buffer.from([0x06]), 1)),
  ];
  return {
    name,
    key: privateKey,
    certificate: certificate({ issuer: subject, subject, spki, extensions, signer: privateKey, now }),
  };
}

/** A leaf for servers and clients alike; Kubernetes takes a user's name from the CN and groups from the Os. */
export function makeLeaf(authority: Authority, request: LeafRequest, now: Date = new Date()): Leaf {
  const { privateKey, spki } = keyPair();
  const names = [
    ...(request.dnsNames ?? []).map((name) => tlv(0x82, Buffer.from(name, "ascii"))),
    ...(request.addresses ?? []).map((address) => tlv(0x87, addressBytes(address))),
  ];
  const extensions = [
    extension("2.5.29.19", true, sequence()),
    // digitalSignature, keyEncipherment
    extension("2.5.29.15", true, bits(Buffer.from([0xa0]), 5)),
    extension("2.5.29.37", false, sequence(oid("1.3.6.1.5.5.7.3.1"), oid("1.3.6.1.5.5.7.3.2"))),
    ...(names.length > 0 ? [extension("2.5.29.17", false, sequence(...names))] : []),
  ];
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }),
    certificate: certificate({
      issuer: distinguishedName(authority.name),
      subject: distinguishedName(request.commonName, request.organizations),
      spki,
      extensions,
      signer: authority.key,
      now,
    }),
  };
}
