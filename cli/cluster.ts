// Where the commands of people go: the admin socket of a guardian on this machine, or a cluster by its kubeconfig.

import { existsSync } from "node:fs";
import { ApiError, clientFrom } from "../operator/runtime/runtime.ts";
import type { Client, Request } from "../operator/runtime/runtime.ts";
import type { JsonMap } from "../operator/kinds/kinds.ts";
import { DEFAULT_SOCKET } from "./admin.ts";
import { UsageError } from "./io.ts";
import { NoCluster, readKubeconfig } from "./kubeconfig.ts";
import { visible } from "./visible.ts";

export const PLACE_OPTIONS = {
  socket: { type: "string" },
  kubeconfig: { type: "string" },
  context: { type: "string" },
  namespace: { type: "string", short: "n" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

export const PLACE_USAGE = `  --socket PATH      a guardian on this machine (${DEFAULT_SOCKET} when there is one and no cluster is named)
  --kubeconfig FILE  --context NAME  -n, --namespace NAME   a cluster
  --json             one JSON document on standard output`;

export interface PlaceValues {
  readonly socket?: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
}
export interface Cluster {
  /** The kubeconfig's context, and the server it names. */
  readonly name: string;
  readonly namespace: string;
  json(path: string, options?: Request): Promise<JsonMap>;
  close(): void;
}
export type Place =
  | { readonly kind: "socket"; readonly path: string }
  | { readonly kind: "cluster"; readonly cluster: Cluster };

/** The place that the options name; `named` = something else on the command line exists in a cluster only. */
export async function placeOf(values: PlaceValues, named: boolean, usage: string): Promise<Place> {
  const cluster =
    named ||
    values.kubeconfig !== undefined ||
    values.context !== undefined ||
    values.namespace !== undefined;
  if (values.socket !== undefined) {
    if (cluster) throw new UsageError("--socket is a guardian on this machine: it names no cluster", usage);
    return { kind: "socket", path: values.socket };
  }
  if (!cluster && existsSync(DEFAULT_SOCKET)) return { kind: "socket", path: DEFAULT_SOCKET };
  return { kind: "cluster", cluster: await openCluster(values) };
}

export async function openCluster(values: PlaceValues): Promise<Cluster> {
  const config = await readKubeconfig(values.kubeconfig, values.context).catch((error: unknown) => {
    if (!(error instanceof NoCluster)) throw error;
    throw new Error(
      `there is no guardian at ${DEFAULT_SOCKET} and no cluster (${error.message}): name one with --socket, --kubeconfig or KUBECONFIG`,
    );
  });
  const { server } = config.access;
  if (!server.startsWith("https://"))
    throw new Error(`the API server ${visible(server)} is not reached by https`);
  const client: Client = clientFrom(config.access);
  return {
    name: `${config.context} (${server})`,
    namespace: values.namespace ?? config.namespace,
    json: (path, options) => client.json(path, options).catch((error: unknown) => refuse(error, server)),
    close: () => client.close(),
  };
}

/** What went wrong, in words for a person; what an API server says is shown as hostile text. */
function refuse(error: unknown, server: string): never {
  if (error instanceof ApiError) {
    const said = visible(error.message).slice(0, 500);
    const words =
      error.status === 401
        ? `${server} does not know you: ${said}`
        : error.status === 403
          ? `you may not do this: ${said}`
          : error.status === 404
            ? `not found: ${said}`
            : said;
    throw new ApiError(error.status, error.reason, words, error.retryAfterMs);
  }
  throw new Error(
    `the API server ${server} does not answer: ${visible(error instanceof Error ? error.message : String(error))}`,
  );
}

/** Asks until `look` finds something, a few times a second. */
export async function within<T>(seconds: number, look: () => Promise<T | undefined>): Promise<T | undefined> {
  for (const end = Date.now() + seconds * 1000; ; ) {
    const found = await look();
    if (found !== undefined || Date.now() >= end) return found;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

const MERGE = "application/merge-patch+json";
export const patch = (cluster: Cluster, path: string, body: JsonMap): Promise<JsonMap> =>
  cluster.json(`${path}?fieldManager=atoll-cli`, { method: "PATCH", body, contentType: MERGE });
