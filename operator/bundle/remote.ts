// Contents from outside the cluster: an HTTPS location, or a registry. Who may write a PolicyBundle chooses the address, so
// what we dial is judged at the moment of dialling: never this machine or its link, and after a redirect no private network.

import { createHash } from "node:crypto";
import { lookup as systemLookup } from "node:dns";
import type { LookupAddress } from "node:dns";
import type { IncomingHttpHeaders } from "node:http";
import { request } from "node:https";
import { BlockList, isIP } from "node:net";

export class RemoteError extends Error {
  readonly reason: string;
  /** True where another attempt may go better. */
  readonly again: boolean;
  constructor(reason: string, message: string, again = false) {
    super(message);
    this.reason = reason;
    this.again = again;
  }
}
export interface RemoteOptions {
  /** Authorities beside the system's; for tests. */
  readonly ca?: string;
  /** Whether an address may be dialled; `redirected` once somebody else has chosen it. */
  readonly admits?: (address: string, redirected: boolean) => boolean;
  readonly timeoutMs?: number;
  readonly limit?: number;
}

const LIMIT = 16 << 20;
const MANIFEST_LIMIT = 1 << 20;
const REDIRECTS = 3;
const TIMEOUT_MS = 15_000;

const listOf = (networks: readonly string[]): BlockList => {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits = "0"] = network.split("/");
    list.addSubnet(address, Number(bits), isIP(address) === 6 ? "ipv6" : "ipv4");
  }
  return list;
};
/** This machine, its link, and what is no single host. */
const OWN = listOf(
  "0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4 ::/127 fe80::/10 ff00::/8".split(" "),
);
/** Networks of somebody's own, and those that stand for other addresses. (An IPv4 address inside IPv6 is judged as itself.) */
const PRIVATE = listOf(
  "10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 64:ff9b::/32 100::/64 2001::/23 2001:db8::/32 2002::/16 fc00::/7".split(
    " ",
  ),
);
export function admitsAddress(address: string, redirected: boolean): boolean {
  const family = isIP(address) === 6 ? "ipv6" : "ipv4";
  if (isIP(address) === 0 || OWN.check(address, family)) return false;
  return !(redirected && PRIVATE.check(address, family));
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** One request; the address that is dialled is the one that was judged. */
function once(
  url: URL,
  headers: Readonly<Record<string, string>>,
  redirected: boolean,
  options: RemoteOptions,
  limit: number,
): Promise<Answer> {
  const admits = options.admits ?? admitsAddress;
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const refusal = (): RemoteError =>
    new RemoteError(
      "AddressRefused",
      `${url.host} is at an address that is not dialled${redirected ? " after a redirect" : ""}`,
    );
  if (isIP(host) !== 0 && !admits(host, redirected)) return Promise.reject(refusal());
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host,
        port: url.port === "" ? 443 : Number(url.port),
        path: `${url.pathname}${url.search}`,
        headers: {
          ...headers,
          host: url.host,
          "accept-encoding": "identity",
          "user-agent": "atoll-operator",
        },
        ...(options.ca === undefined ? {} : { ca: options.ca }),
        minVersion: "TLSv1.2",
        agent: false,
        signal: AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS),
        lookup: (name, asked, done) =>
          systemLookup(name, { ...asked, all: true }, (error, found: LookupAddress[]) => {
            const [first] = error === null ? found.filter((a) => admits(a.address, redirected)) : [];
            if (error !== null) return done(error, "", 0);
            if (first === undefined) return done(refusal(), "", 0);
            return asked.all === true ? done(null, [first]) : done(null, first.address, first.family);
          }),
      },
      (response) => {
        const parts: Buffer[] = [];
        let size = 0;
        const tooLarge = (): void => {
          sent.destroy();
          reject(new RemoteError("TooLarge", `${url.host} sends more than ${limit} bytes`));
        };
        if (Number(response.headers["content-length"] ?? 0) > limit) {
          tooLarge();
          return;
        }
        response.on("data", (part: Buffer) => {
          size += part.length;
          if (size > limit) tooLarge();
          else parts.push(part);
        });
        response.on("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(parts),
          }),
        );
        response.on("error", (error) => reject(new RemoteError("Unreachable", error.message, true)));
        response.on("close", () =>
          reject(new RemoteError("Unreachable", `${url.host} ended its answer early`, true)),
        );
      },
    );
    sent.on("error", (error) =>
      reject(error instanceof RemoteError ? error : new RemoteError("Unreachable", error.message, true)),
    );
    sent.end();
  });
}

async function get(
  from: URL,
  headers: Readonly<Record<string, string>>,
  options: RemoteOptions,
  limit = options.limit ?? LIMIT,
): Promise<Answer> {
  let url = from;
  for (let hop = 0; ; hop++) {
    if (url.protocol !== "https:" || url.username !== "" || url.password !== "")
      throw new RemoteError("AddressRefused", `${url.protocol}//${url.host} is no plain HTTPS location`);
    // Credentials are for the host that asked for them.
    const own = url.host === from.host ? headers : { accept: headers["accept"] ?? "*/*" };
    const answer = await once(url, own, hop > 0, options, limit);
    if (![301, 302, 303, 307, 308].includes(answer.status)) return answer;
    const { location } = answer.headers;
    if (location === undefined || !URL.canParse(location, url))
      throw new RemoteError("Unreachable", `${url.host} redirects to no address`);
    if (hop === REDIRECTS) throw new RemoteError("Unreachable", `${from.host} redirects too often`);
    url = new URL(location, url);
  }
}
const found = (answer: Answer, what: string): Buffer => {
  if (answer.status === 200) return answer.body;
  const again = answer.status === 429 || answer.status >= 500;
  throw new RemoteError(
    answer.status === 404 ? "NotFound" : "Unreachable",
    `${what}: status ${answer.status}`,
    again || answer.status === 404,
  );
};

export const fromUrl = async (url: string, options: RemoteOptions = {}): Promise<Buffer> =>
  found(await get(new URL(url), { accept: "application/json" }, options), url);

const MANIFESTS =
  "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
const digestOf = (bytes: Buffer): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/** A registry that lets anybody read may still want a token for it. */
async function anonymousToken(
  challenge: string | undefined,
  options: RemoteOptions,
): Promise<string | undefined> {
  if (challenge === undefined || !/^bearer /i.test(challenge)) return undefined;
  const fields = new Map([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, k = "", v = ""]) => [k, v]));
  const realm = fields.get("realm") ?? "";
  if (!URL.canParse(realm)) return undefined;
  const url = new URL(realm);
  for (const key of ["service", "scope"]) {
    const value = fields.get(key);
    if (value !== undefined) url.searchParams.set(key, value);
  }
  const answer = await get(url, { accept: "application/json" }, options, MANIFEST_LIMIT);
  const { token, access_token: other } = JSON.parse(found(answer, url.host).toString("utf8")) as {
    token?: unknown;
    access_token?: unknown;
  };
  const word = typeof token === "string" ? token : typeof other === "string" ? other : "";
  return /^[\x21-\x7e]{1,16384}$/.test(word) ? word : undefined;
}

/** The first layer of the artifact that the reference pins by digest. */
export async function fromRegistry(reference: string, options: RemoteOptions = {}): Promise<Buffer> {
  const [, registry, repository, digest] =
    /^([a-z0-9.-]+(?::[0-9]{1,5})?)\/([a-z0-9._/-]+)@(sha256:[0-9a-f]{64})$/.exec(reference) ?? [];
  if (registry === undefined || repository === undefined || digest === undefined)
    throw new RemoteError("Malformed", `${reference} is no reference with a digest`);
  if (repository.split("/").some((part) => part === "" || part === "." || part === ".."))
    throw new RemoteError("Malformed", `${repository} is no name of a repository`);
  let authorization: string | undefined;
  const ask = async (path: string, accept: string, limit: number): Promise<Buffer> => {
    const url = new URL(`https://${registry}/v2/${repository}/${path}`);
    const headers = (): Record<string, string> => ({
      accept,
      ...(authorization === undefined ? {} : { authorization }),
    });
    let answer = await get(url, headers(), options, limit);
    if (answer.status === 401 && authorization === undefined) {
      const token = await anonymousToken(answer.headers["www-authenticate"], options);
      if (token === undefined)
        throw new RemoteError("Unauthorized", `${registry} lets nobody read ${repository} without a name`);
      authorization = `Bearer ${token}`;
      answer = await get(url, headers(), options, limit);
    }
    return found(answer, `${registry}/${repository}`);
  };
  const manifest = await ask(`manifests/${digest}`, MANIFESTS, MANIFEST_LIMIT);
  if (digestOf(manifest) !== digest)
    throw new RemoteError("DigestMismatch", `${registry} answers with another manifest than ${digest}`);
  let layer: { digest?: unknown; size?: unknown } | undefined;
  try {
    layer = (JSON.parse(manifest.toString("utf8")) as { layers?: { digest?: unknown; size?: unknown }[] })
      .layers?.[0];
  } catch {
    layer = undefined;
  }
  const { digest: blob, size } = layer ?? {};
  if (typeof blob !== "string" || !/^sha256:[0-9a-f]{64}$/.test(blob) || typeof size !== "number")
    throw new RemoteError("Malformed", `${digest} is no manifest with a layer`);
  const limit = options.limit ?? LIMIT;
  if (size > limit) throw new RemoteError("TooLarge", `the layer has ${size} bytes, more than ${limit}`);
  const content = await ask(`blobs/${blob}`, "*/*", limit);
  if (digestOf(content) !== blob)
    throw new RemoteError("DigestMismatch", `${registry} answers with another layer than ${blob}`);
  return content;
}
