// Where the API server is and who we are to it. In a pod that is two files; @kubernetes/client-node is loaded only for a
// kubeconfig, for importing it costs 85 MB.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { RequestOptions } from "node:https";
import { join } from "node:path";
import type { KubeConfig } from "@kubernetes/client-node";

export type Identity = Pick<
  RequestOptions,
  "ca" | "cert" | "key" | "rejectUnauthorized" | "servername" | "headers"
>;
export interface Access {
  readonly server: string;
  identity(): Promise<Identity>;
}
/** A pod's way to the API server. */
export interface PodAccess {
  readonly host: string;
  readonly port: string;
  /** Holds `token` and `ca.crt`, which the kubelet keeps current. */
  readonly folder: string;
}

const AGAIN_MS = 30_000;

export function accessFromPod(pod: PodAccess, now: () => number = () => performance.now()): Access {
  let known: { readonly identity: Identity; readonly at: number } | undefined;
  return {
    server: `https://${pod.host.includes(":") ? `[${pod.host}]` : pod.host}:${pod.port}`,
    async identity() {
      if (known !== undefined && now() - known.at < AGAIN_MS) return known.identity;
      const [ca, token] = await Promise.all([
        readFile(join(pod.folder, "ca.crt"), "utf8"),
        readFile(join(pod.folder, "token"), "utf8"),
      ]);
      known = { identity: { ca, headers: { authorization: `Bearer ${token.trim()}` } }, at: now() };
      return known.identity;
    },
  };
}

export function accessFromConfig(config: KubeConfig): Access {
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error("the kubeconfig has no current cluster");
  return {
    server: cluster.server,
    async identity() {
      const settings: RequestOptions = {};
      await config.applyToHTTPSOptions(settings);
      return settings;
    },
  };
}

/** The pod's own, if it has one, else the kubeconfig's (KUBECONFIG or the default file). */
export async function findAccess(pod: PodAccess | undefined): Promise<Access> {
  if (pod !== undefined && existsSync(join(pod.folder, "token"))) return accessFromPod(pod);
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  config.loadFromDefault();
  return accessFromConfig(config);
}
