// X.509 for our own services: an authority and leaves, ECDSA P-256, written as DER by hand. Only what TLS peers read is
// encoded.

import { X509Certificate, createPrivateKey, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";

export interface Authority {
  readonly certificate: string;
  /** PKCS#8 PEM. */
  readonly key: string;
}
export interface Leaf {
  readonly certificate: string;
  readonly key: string;
}

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

const serverAuth = oid("1.3.6.1.5.5.7.3.1");
const clientAuth = oid("1.3.6.1.5.5.7.3.2");
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

interface Content {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly spki: Buffer;
  readonly extensions: readonly Buffer[];
  readonly signer: KeyObject;
  readonly now: Date;
  readonly lifeMs: number;
}
// Clocks differ: a certificate is valid from an hour before it was made.
const SLACK_MS = 3_600_000;

const certificate = ({ issuer, subject, spki, extensions, signer, now, lifeMs }: Content): string => {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  const toBeSigned = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, serial),
    ecdsaWithSha256,
    issuer,
    sequence(time(new Date(now.getTime() - SLACK_MS)), time(new Date(now.getTime() + lifeMs))),
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
const pkcs8 = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" });

// Each authority has a name of its own, so that a verifier which holds two of them picks the right one.
export function makeAuthority(
  now: Date,
  lifeMs: number,
  name = `atoll-${randomBytes(6).toString("hex")}`,
): Authority {
  const { privateKey, spki } = keyPair();
  const subject = distinguishedName(name);
  const extensions = [
    extension("2.5.29.19", true, sequence(yes)),
    // keyCertSign, cRLSign
    extension("2.5.29.15", true, bits(Buffer.from([0x06]), 1)),
  ];
  return {
    key: pkcs8(privateKey),
    certificate: certificate({ issuer: subject, subject, spki, extensions, signer: privateKey, now, lifeMs }),
  };
}

export interface LeafNames {
  readonly dnsNames?: readonly string[];
  readonly addresses?: readonly string[];
  /** The first DNS name where it is not said. */
  readonly commonName?: string;
  readonly organizations?: readonly string[];
  /** For a client as well as a server. */
  readonly client?: boolean;
}

export function makeLeaf(authority: Authority, names: LeafNames, now: Date, lifeMs: number): Leaf {
  const { privateKey, spki } = keyPair();
  const issuerName = new X509Certificate(authority.certificate).subject.replace(/^CN=/u, "");
  const alternatives = [
    ...(names.dnsNames ?? []).map((name) => tlv(0x82, Buffer.from(name, "ascii"))),
    ...(names.addresses ?? []).map((address) => tlv(0x87, addressBytes(address))),
  ];
  const extensions = [
    extension("2.5.29.19", true, sequence()),
    // digitalSignature, keyEncipherment
    extension("2.5.29.15", true, bits(Buffer.from([0xa0]), 5)),
    extension("2.5.29.37", false, sequence(serverAuth, ...(names.client === true ? [clientAuth] : []))),
    ...(alternatives.length > 0 ? [extension("2.5.29.17", false, sequence(...alternatives))] : []),
  ];
  return {
    key: pkcs8(privateKey),
    certificate: certificate({
      issuer: distinguishedName(issuerName),
      subject: distinguishedName(names.commonName ?? names.dnsNames?.[0] ?? "atoll", names.organizations),
      spki,
      extensions,
      signer: createPrivateKey(authority.key),
      now,
      lifeMs,
    }),
  };
}

export const expiresAt = (certificatePem: string): number =>
  Date.parse(new X509Certificate(certificatePem).validTo);
export const beganAt = (certificatePem: string): number =>
  Date.parse(new X509Certificate(certificatePem).validFrom) + SLACK_MS;
