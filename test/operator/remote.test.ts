// Contents of bundles from an HTTPS location and from a registry, and what either may try with us.
import { createServer } from "node:https";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { makeAuthority, makeLeaf } from "../../operator/certificates/certificates.ts";
import { admitsAddress } from "../../operator/bundle/remote.ts";
import { fetchContent } from "../../operator/bundle/fetch.ts";
import type { RemoteOptions } from "../../operator/bundle/fetch.ts";
import type { PolicyBundle } from "../../operator/kinds/kinds.ts";
import { makeBundles } from "../../operator/controllers/bundles.ts";
import { ApiError } from "../../operator/runtime/runtime.ts";
import type { Client } from "../../operator/runtime/runtime.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { ROOTS, bundle as bundleOf } from "./whole.ts";

const authority = makeAuthority(new Date(), 3_600_000);
const leaf = makeLeaf(
  authority,
  { dnsNames: ["localhost"], addresses: ["127.0.0.1"] },
  new Date(),
  3_600_000,
);
const digest = (text: string | Buffer): string => `sha256:${createHash("sha256").update(text).digest("hex")}`;
const CONTENT = JSON.stringify({ name: "from-afar" });
const MANIFEST = JSON.stringify({
  schemaVersion: 2,
  layers: [{ mediaType: "application/json", digest: digest(CONTENT), size: CONTENT.length }],
});

let server: Server;
let place = "";
let seen: string[] = [];
let answer: (request: IncomingMessage, response: ServerResponse) => void = () => undefined;
const registry = (request: IncomingMessage, response: ServerResponse): void => {
  const path = request.url ?? "";
  if (path === `/v2/team/policy/manifests/${digest(MANIFEST)}`) response.end(MANIFEST);
  else if (path === `/v2/team/policy/blobs/${digest(CONTENT)}`) response.end(CONTENT);
  else response.writeHead(404).end();
};
beforeAll(async () => {
  server = createServer({ key: leaf.key, cert: leaf.certificate }, (request, response) => {
    seen.push(`${request.url ?? ""} ${request.headers.authorization ?? ""}`.trim());
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  place = `localhost:${typeof address === "object" && address !== null ? address.port : 0}`;
});
beforeEach(() => {
  seen = [];
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const nobody = {} as Client;
const bundle = (source: PolicyBundle["spec"]["source"]): PolicyBundle =>
  ({ metadata: { name: "b" }, spec: { source } }) as PolicyBundle;
/** The test's own server is on this machine: there the first address may be, and none after a redirect. */
const here: RemoteOptions = { ca: authority.certificate, admits: (_, redirected) => !redirected };
const url = (path: string, options = here): ReturnType<typeof fetchContent> =>
  fetchContent(nobody, bundle({ url: { url: `https://${place}${path}` } }), options);
const oci = (reference: string, options = here): ReturnType<typeof fetchContent> =>
  fetchContent(nobody, bundle({ oci: { reference } }), options);
const good = (from: string): object => ({ ok: true, content: { name: "from-afar" }, from });

test("a content comes from an HTTPS location, plain or compressed", async () => {
  answer = (_, response) => response.end(CONTENT);
  expect(await url("/policy.json")).toEqual(good("Url"));
  answer = (_, response) => response.end(gzipSync(CONTENT));
  expect(await url("/policy.json.gz")).toEqual(good("Url"));
});

test("what is too large is not read to its end, nor unpacked", async () => {
  answer = (_, response) => response.writeHead(200, { "content-length": 99_999_999 }).end();
  expect(await url("/")).toMatchObject({ ok: false, reason: "TooLarge" });
  let written = 0;
  answer = (_, response) => {
    const more = (): void => {
      if (response.destroyed || written > 64 << 20) return;
      written += 1 << 20;
      response.write(Buffer.alloc(1 << 20), () => more());
    };
    more();
  };
  expect(await url("/")).toMatchObject({ ok: false, reason: "TooLarge" });
  expect(written).toBeLessThan(40 << 20);
  answer = (_, response) => response.end(gzipSync(Buffer.alloc(64 << 20)));
  expect(await url("/bomb.gz")).toMatchObject({ ok: false, reason: "Malformed" });
});

test("faults of the place are told apart: absent, failing, silent, cut, another authority, no JSON", async () => {
  answer = (_, response) => response.writeHead(404).end();
  expect(await url("/")).toMatchObject({ reason: "NotFound", again: true });
  answer = (_, response) => response.writeHead(503).end();
  expect(await url("/")).toMatchObject({ reason: "Unreachable", again: true });
  answer = () => undefined;
  expect(await url("/", { ...here, timeoutMs: 200 })).toMatchObject({ reason: "Unreachable", again: true });
  answer = (_, response) => {
    response.writeHead(200, { "content-length": 100 }).write("{");
    setTimeout(() => response.destroy(), 20);
  };
  expect(await url("/")).toMatchObject({ reason: "Unreachable", again: true });
  answer = (_, response) => response.end(CONTENT);
  expect(await url("/", { admits: () => true })).toMatchObject({ reason: "Unreachable", again: true });
  answer = (_, response) => response.end("name: yaml");
  expect(await url("/")).toMatchObject({ reason: "Malformed" });
  answer = (_, response) => response.end("[]");
  expect(await url("/")).toMatchObject({ reason: "Malformed" });
});

test("a redirect is followed to where one may go, and to no private network, no other scheme, and not for ever", async () => {
  const to =
    (location: string) =>
    (request: IncomingMessage, response: ServerResponse): void =>
      void (request.url === "/there" ? response.end(CONTENT) : response.writeHead(302, { location }).end());
  answer = to("/there");
  expect(await url("/", { ...here, admits: () => true })).toEqual(good("Url"));
  seen = [];
  expect(await url("/")).toMatchObject({ ok: false, reason: "AddressRefused" });
  expect(seen).toEqual(["/"]);
  for (const target of [
    "https://10.0.0.1/",
    "https://169.254.169.254/",
    "https://[::1]/",
    "http://93.184.216.34/",
  ]) {
    answer = to(target);
    expect([
      target,
      await url("/", { ca: authority.certificate, admits: (a, r) => !r || admitsAddress(a, r) }),
    ]).toEqual([target, { ok: false, reason: "AddressRefused", message: expect.any(String), again: false }]);
  }
  answer = to("/");
  seen = [];
  expect(await url("/", { ...here, admits: () => true })).toMatchObject({ reason: "Unreachable" });
  expect(seen).toHaveLength(4);
});

test("this machine and its link are never dialled; private networks only where the bundle itself names them", async () => {
  for (const address of [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "169.254.169.254",
    "::1",
    "::",
    "fe80::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "nonsense",
  ])
    expect([address, admitsAddress(address, false), admitsAddress(address, true)]).toEqual([
      address,
      false,
      false,
    ]);
  for (const address of [
    "10.1.2.3",
    "172.20.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
  ])
    expect([address, admitsAddress(address, false), admitsAddress(address, true)]).toEqual([
      address,
      true,
      false,
    ]);
  for (const address of ["93.184.216.34", "2606:2800:220:1::1"])
    expect([address, admitsAddress(address, false), admitsAddress(address, true)]).toEqual([
      address,
      true,
      true,
    ]);
  answer = (_, response) => response.end(CONTENT);
  // By name and by address, with the rules as they are outside of tests.
  expect(await url("/", { ca: authority.certificate })).toMatchObject({
    ok: false,
    reason: "AddressRefused",
  });
  expect(
    await fetchContent(nobody, bundle({ url: { url: `https://127.0.0.1:${place.split(":")[1] ?? ""}/` } })),
  ).toMatchObject({ ok: false, reason: "AddressRefused" });
  expect(seen).toEqual([]);
});

test("the first layer of an artifact comes from a registry, with an anonymous token where it wants one", async () => {
  answer = registry;
  const reference = `${place}/team/policy@${digest(MANIFEST)}`;
  expect(await oci(reference)).toEqual(good("Oci"));
  answer = (request, response) => {
    if (request.url === "/token?service=s&scope=repository%3Ateam%2Fpolicy%3Apull")
      response.end('{"token":"t0k"}');
    else if (request.headers.authorization !== "Bearer t0k")
      response
        .writeHead(401, {
          "www-authenticate": `Bearer realm="https://${place}/token",service="s",scope="repository:team/policy:pull"`,
        })
        .end();
    else registry(request, response);
  };
  expect(await oci(reference)).toEqual(good("Oci"));
  answer = (_, response) => response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
  expect(await oci(reference)).toMatchObject({ ok: false, reason: "Unauthorized" });
});

test("a registry's token goes to no other host", async () => {
  const other = place.replace("localhost", "127.0.0.1");
  answer = (request, response) => {
    if (request.headers.host === other) response.end(CONTENT);
    else if (request.url?.startsWith("/token") === true) response.end('{"token":"t0k"}');
    else if (request.headers.authorization === undefined)
      response.writeHead(401, { "www-authenticate": `Bearer realm="https://${place}/token"` }).end();
    else if (request.url?.includes("/blobs/") === true)
      response.writeHead(307, { location: `https://${other}/elsewhere` }).end();
    else registry(request, response);
  };
  expect(await oci(`${place}/team/policy@${digest(MANIFEST)}`, { ...here, admits: () => true })).toEqual(
    good("Oci"),
  );
  expect(seen).toContain("/elsewhere");
});

test("a registry that answers with anything but what the digests say is found out", async () => {
  const reference = `${place}/team/policy@${digest(MANIFEST)}`;
  answer = (request, response) =>
    request.url?.includes("manifests") === true
      ? void response.end(`${MANIFEST} `)
      : registry(request, response);
  expect(await oci(reference)).toMatchObject({ ok: false, reason: "DigestMismatch" });
  answer = (request, response) =>
    request.url?.includes("blobs") === true ? void response.end("{}") : registry(request, response);
  expect(await oci(reference)).toMatchObject({ ok: false, reason: "DigestMismatch" });
  for (const [text, reason] of [
    ["{}", "Malformed"],
    ["no json", "Malformed"],
    [JSON.stringify({ layers: [{ digest: "sha256:../../x", size: 1 }] }), "Malformed"],
    [JSON.stringify({ layers: [{ digest: digest("x"), size: 1e12 }] }), "TooLarge"],
  ] as const) {
    answer = (_, response) => void response.end(text);
    expect([text, await oci(`${place}/team/policy@${digest(text)}`)]).toEqual([
      text,
      expect.objectContaining({ ok: false, reason }),
    ]);
  }
  seen = [];
  expect(await oci(`${place}/../admin@${digest(MANIFEST)}`)).toMatchObject({ reason: "Malformed" });
  expect(seen).toEqual([]);
});

test("a place that does not answer holds up nothing else, and what it says later is taken up", async () => {
  const signed = bundleOf({ version: 1 });
  const inline = { ...signed, metadata: { name: "inline", uid: "1" } } as unknown as PolicyBundle;
  const { content, ...spec } = inline.spec;
  const afar: PolicyBundle = {
    metadata: { name: "afar", uid: "2" },
    spec: { ...spec, bundleId: spec.bundleId, source: { url: { url: `https://${place}/policy.json` } } },
  };
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  answer = (_, response) => void released.then(() => response.end(JSON.stringify(content)));
  const said = new Map<string, string>();
  const waits: number[] = [];
  const controller = makeBundles({
    client: {
      json: () => Promise.reject(new ApiError(404, "NotFound", "there is none")),
      stream: () => Promise.reject(new Error("nobody watches")),
      close: () => undefined,
    },
    saying: {
      status: (_, object, status) => {
        for (const c of status.conditions ?? [])
          said.set(`${object.metadata.name} ${c.type}`, `${c.status} ${c.reason}`);
        return Promise.resolve();
      },
      warn: () => undefined,
    },
    bundles: new Map([inline, afar].map((b) => [b.metadata.name, b])),
    sidecars: new Map(),
    roots: () => parseTrustRoots(ROOTS),
    requireSignature: true,
    running: () => [],
    now: Date.now,
    remote: here,
    onCommitted: () => undefined,
    again: (ms) => void waits.push(ms),
  });
  await controller.reconcile();
  expect(said.get("inline Active")).toBe("True Active");
  expect(said.get("afar Fetched")).toBe("Unknown Fetching");
  while (seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(seen).toEqual(["/policy.json"]);
  // Asked once, however often the controller looks.
  await controller.reconcile();
  expect(seen).toEqual(["/policy.json"]);
  release();
  while (!waits.includes(0)) await new Promise((resolve) => setTimeout(resolve, 10));
  await controller.reconcile();
  expect(said.get("afar Fetched")).toBe("True Url");
  expect(said.get("afar Compiled")).toBe("True Compiled");
  await controller.reconcile();
  expect(seen).toEqual(["/policy.json"]);
});
