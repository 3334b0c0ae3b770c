// The kubeconfig as most people have it (certificates, keys and tokens, inline or in files), read here; what runs programs or
// goes through proxies is left to @kubernetes/client-node, whose loading alone takes half a second that a freeze has not got.

import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { isMap } from "../operator/kinds/kinds.ts";
import type { Json, JsonMap } from "../operator/kinds/kinds.ts";
import { accessFromConfig } from "../operator/runtime/runtime.ts";
import type { Access, Identity } from "../operator/runtime/runtime.ts";

export interface Kubeconfig {
  readonly context: string;
  readonly namespace: string;
  readonly access: Access;
}
/** There is none, or it names no cluster. */
export class NoCluster extends Error {}

const text = (o: JsonMap, key: string): string => {
  const v = o[key];
  return typeof v === "string" ? v : "";
};
const mapIn = (o: JsonMap | undefined, key: string): JsonMap => (isMap(o?.[key]) ? o[key] : {});
const named = (o: JsonMap, list: string, name: string, member: string): JsonMap | undefined => {
  const all = Array.isArray(o[list]) ? o[list] : [];
  const found = all.find((e: Json) => isMap(e) && e["name"] === name);
  return isMap(found) ? mapIn(found, member) : undefined;
};

export async function readKubeconfig(
  file: string | undefined,
  context: string | undefined,
): Promise<Kubeconfig> {
  const given = file ?? process.env["KUBECONFIG"] ?? "";
  const path = given === "" ? join(homedir(), ".kube", "config") : given;
  const plain = file !== undefined || !path.includes(delimiter);
  // A file that was named and is not there is the caller's mistake; without any, we may be in a pod.
  const config = plain && (file !== undefined || existsSync(path)) ? await parsed(path) : undefined;
  const simple = config === undefined ? undefined : read(config, path, context);
  return simple ?? (await byLibrary(file, context));
}

async function parsed(path: string): Promise<JsonMap> {
  const words = readFileSync(path, "utf8");
  const value: unknown = words.trimStart().startsWith("{")
    ? JSON.parse(words)
    : (await import("yaml")).parse(words);
  if (!isMap(value)) throw new Error(`\`${path}\` is no kubeconfig`);
  return value;
}

const COMPLICATED = ["exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups"] as const;

function read(config: JsonMap, path: string, asked: string | undefined): Kubeconfig | undefined {
  const name = asked ?? text(config, "current-context");
  const context = named(config, "contexts", name, "context");
  if (context === undefined)
    throw asked === undefined
      ? new NoCluster("the kubeconfig has no current context")
      : new Error(`the kubeconfig has no context \`${asked}\``);
  const cluster = named(config, "clusters", text(context, "cluster"), "cluster");
  const user = named(config, "users", text(context, "user"), "user") ?? {};
  const server = cluster === undefined ? "" : text(cluster, "server");
  if (cluster === undefined || server === "")
    throw new NoCluster("the kubeconfig's context names no cluster");
  if (COMPLICATED.some((key) => user[key] !== undefined) || cluster["proxy-url"] !== undefined)
    return undefined;
  const bytes = (o: JsonMap, key: string): Buffer | undefined => {
    const inline = text(o, `${key}-data`);
    if (inline !== "") return Buffer.from(inline, "base64");
    const at = text(o, key);
    return at === "" ? undefined : readFileSync(resolve(dirname(path), at));
  };
  const ca = bytes(cluster, "certificate-authority");
  const cert = bytes(user, "client-certificate");
  const key = bytes(user, "client-key");
  const servername = text(cluster, "tls-server-name");
  const tokenFile = text(user, "tokenFile");
  const token =
    tokenFile === "" ? text(user, "token") : readFileSync(resolve(dirname(path), tokenFile), "utf8").trim();
  const identity: Identity = {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(servername === "" ? {} : { servername }),
    ...(cluster["insecure-skip-tls-verify"] === true ? { rejectUnauthorized: false } : {}),
    headers: token === "" ? {} : { authorization: `Bearer ${token}` },
  };
  return {
    context: name,
    namespace: text(context, "namespace") || "default",
    access: { server, identity: () => Promise.resolve(identity) },
  };
}

// What the library makes up when it finds no configuration at all.
const NOWHERE = "http://localhost:8080";

async function byLibrary(file: string | undefined, context: string | undefined): Promise<Kubeconfig> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  if (file === undefined) config.loadFromDefault();
  else config.loadFromFile(file);
  if (context !== undefined) {
    if (config.getContextObject(context) === null)
      throw new Error(`the kubeconfig has no context \`${context}\``);
    config.setCurrentContext(context);
  }
  const server = config.getCurrentCluster()?.server;
  if (server === undefined || server === NOWHERE) throw new NoCluster("there is no kubeconfig");
  const name = config.getCurrentContext();
  return {
    context: name,
    namespace: config.getContextObject(name)?.namespace ?? "default",
    access: accessFromConfig(config),
  };
}
