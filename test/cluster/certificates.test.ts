import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { createServer, request } from "node:https";
import { expect, test } from "vitest";
import { makeAuthority, makeLeaf } from "../../kind-e2e/certificates.ts";

test("a leaf carries its names and verifies under its own authority, not under another", () => {
  const authority = makeAuthority("one");
  const leaf = makeLeaf(authority, {
    commonName: "alice",
    organizations: ["system:masters"],
    dnsNames: ["localhost"],
    addresses: ["127.0.0.1", "10.96.0.1"],
  });
  const certificate = new X509Certificate(leaf.certificate);
  expect(certificate.subject).toBe("O=system:masters\nCN=alice");
  expect(certificate.subjectAltName).toBe("DNS:localhost, IP Address:127.0.0.1, IP Address:10.96.0.1");
  expect(certificate.ca).toBe(false);
  const root = new X509Certificate(authority.certificate);
  expect(root.ca).toBe(true);
  expect(root.verify(root.publicKey)).toBe(true);
  expect(certificate.verify(root.publicKey)).toBe(true);
  expect(certificate.verify(new X509Certificate(makeAuthority("one").certificate).publicKey)).toBe(false);
});

test("a leaf is valid from a day before to a year after it was made", () => {
  const now = new Date("2049-06-01T00:00:00.000Z");
  const { certificate } = makeLeaf(makeAuthority("ca", now), { commonName: "late" }, now);
  const { validFromDate, validToDate } = new X509Certificate(certificate);
  expect(validFromDate.toISOString()).toBe("2049-05-31T00:00:00.000Z");
  expect(validToDate.toISOString()).toBe("2050-06-02T00:00:00.000Z");
});

test("an address that is not IPv4 is refused rather than encoded wrongly", () => {
  const authority = makeAuthority("ca");
  expect(() => makeLeaf(authority, { commonName: "x", addresses: ["300.0.0.1"] })).toThrow(
    "not an IPv4 address",
  );
  expect(() => makeLeaf(authority, { commonName: "x", addresses: ["::1"] })).toThrow("not an IPv4 address");
});

test("a TLS server with a leaf is believed under the authority, and a stranger's client is not let in", async () => {
  const authority = makeAuthority("ca");
  const server = makeLeaf(authority, { commonName: "server", addresses: ["127.0.0.1"] });
  const listening = createServer(
    { cert: server.certificate, key: server.key, ca: authority.certificate, requestCert: true },
    (_, response) => response.end("hello"),
  );
  listening.listen(0, "127.0.0.1");
  await once(listening, "listening");
  const address = listening.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const call = (client: { certificate: string; key: string }): Promise<string> =>
    new Promise((resolve, reject) => {
      request(
        {
          port: address.port,
          host: "127.0.0.1",
          ca: authority.certificate,
          cert: client.certificate,
          key: client.key,
          agent: false,
        },
        (response) => {
          response.resume();
          response.on("end", () => resolve(`${response.statusCode}`));
        },
      )
        .on("error", reject)
        .end();
    });
  try {
    expect(await call(makeLeaf(authority, { commonName: "client" }))).toBe("200");
    await expect(call(makeLeaf(makeAuthority("other"), { commonName: "client" }))).rejects.toThrow();
  } finally {
    listening.close();
  }
});
