// A kubeconfig is read as @kubernetes/client-node reads it; what it alone can do is left to it.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { RequestOptions } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { afterAll, describe, expect, test } from "vitest";
import { NoCluster, readKubeconfig } from "../../cli/kubeconfig.ts";

const folder = mkdtempSync(join(tmpdir(), "atoll-kubeconfig-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const textOf = (v: unknown): string =>
  typeof v === "string" ? v : Buffer.isBuffer(v) ? v.toString("utf8") : "";
const b64 = (text: string): string => Buffer.from(text).toString("base64");
for (const name of ["ca", "cert", "key", "token"]) writeFileSync(join(folder, name), `the ${name}\n`);

const config = (cluster: object, user: object, more: object = {}): object => ({
  apiVersion: "v1",
  kind: "Config",
  clusters: [
    { name: "other", cluster: { server: "https://other" } },
    { name: "c", cluster: { server: "https://k8s.example:6443", ...cluster } },
  ],
  users: [{ name: "u", user }],
  contexts: [
    { name: "x", context: { cluster: "c", user: "u", namespace: "team-a" } },
    { name: "y", context: { cluster: "other", user: "u" } },
  ],
  "current-context": "x",
  ...more,
});
let files = 0;
const stored = (value: object): string => {
  const path = join(folder, `config-${++files}`);
  writeFileSync(path, JSON.stringify(value));
  return path;
};

describe("the same identity as the library's:", () => {
  const inline = { "certificate-authority-data": b64("ca") };
  const cases: readonly (readonly [what: string, value: object])[] = [
    [
      "certificates inline",
      config(inline, { "client-certificate-data": b64("c"), "client-key-data": b64("k") }),
    ],
    [
      "certificates in files beside it",
      config({ "certificate-authority": "ca" }, { "client-certificate": "cert", "client-key": "key" }),
    ],
    ["a token", config(inline, { token: "secret" })],
    ["another name in the certificate", config({ ...inline, "tls-server-name": "api" }, { token: "t" })],
    ["no look at the certificate", config({ "insecure-skip-tls-verify": true }, { token: "t" })],
    ["nobody at all", config({}, {})],
  ];
  test.each(cases)("%s", async (_what, value) => {
    const path = stored(value);
    const library = new KubeConfig();
    library.loadFromFile(path);
    const theirs: RequestOptions = {};
    await library.applyToHTTPSOptions(theirs);
    const read = await readKubeconfig(path, undefined);
    const ours = await read.access.identity();
    for (const key of ["ca", "cert", "key", "servername"] as const)
      expect([key, textOf(ours[key])]).toEqual([key, textOf(theirs[key])]);
    expect(ours.rejectUnauthorized !== false).toBe(theirs.rejectUnauthorized !== false);
    const authorization = (o: RequestOptions["headers"]): unknown =>
      Object.entries(o ?? {}).find(([name]) => name.toLowerCase() === "authorization")?.[1];
    expect(authorization(ours.headers)).toBe(authorization(theirs.headers));
    expect(read).toMatchObject({ context: "x", namespace: "team-a" });
    expect(read.access.server).toBe("https://k8s.example:6443");
  });
});

test("YAML, a token in a file, another context, and a namespace that nobody named", async () => {
  const path = join(folder, "config.yaml");
  writeFileSync(
    path,
    "apiVersion: v1\nkind: Config\ncurrent-context: ''\nclusters:\n- {name: c, cluster: {server: 'https://a'}}\nusers:\n- {name: u, user: {tokenFile: token}}\ncontexts:\n- {name: z, context: {cluster: c, user: u}}\n",
  );
  const read = await readKubeconfig(path, "z");
  expect(read).toMatchObject({ context: "z", namespace: "default" });
  expect((await read.access.identity()).headers).toEqual({ authorization: "Bearer the token" });
  await expect(readKubeconfig(path, undefined)).rejects.toThrow(NoCluster);
  await expect(readKubeconfig(path, "none")).rejects.toThrow("no context `none`");
});

test("a user who is made by a program is the library's", async () => {
  const token = stored({
    apiVersion: "client.authentication.k8s.io/v1",
    kind: "ExecCredential",
    status: { token: "made" },
  });
  const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "cat", args: [token] };
  const read = await readKubeconfig(stored(config({}, { exec })), undefined);
  expect(JSON.stringify((await read.access.identity()).headers)).toContain("Bearer made");
});

test("what is no kubeconfig is refused", async () => {
  for (const value of [[], {}, { contexts: [] }, config({ server: "" }, {})])
    await expect(readKubeconfig(stored(value), undefined)).rejects.toThrow();
  await expect(readKubeconfig(join(folder, "none"), undefined)).rejects.toThrow("ENOENT");
});
