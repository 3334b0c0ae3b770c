// What the environment decides for a program of the operator, read once; what contradicts itself is refused by name.

import { hostname } from "node:os";
import type { JsonMap } from "../kinds/kinds.ts";
import type { PodAccess } from "../runtime/runtime.ts";

export interface Config {
  readonly requireSignature: boolean;
  readonly clusterDomain: string;
  /** `service` (the Service atoll-canary), `none`, or addresses. */
  readonly canary: string;
  /** Where this program answers as the canary; 0 = not at all. */
  readonly canaryPort: number;
  /** Whether the Service atoll-egress-gateway is there for pods without the lock. */
  readonly gateway: boolean;
  readonly port: number;
  readonly healthPort: number;
  readonly identity: string;
  /** Where guardians' records are kept: a folder, or `postgres://…`; "" = nowhere. */
  readonly ledger: string;
  /** File of the ledger's own key; "" = one in the ledger's folder, made when there is none. */
  readonly ledgerKey: string;
  /** File of the registrar's key; "" = one in the ledger's folder, made when there is none. */
  readonly registrarKey: string;
  /** Addresses for which the serving certificates are also good, for API servers that reach us without a Service. */
  readonly addresses: readonly string[];
  /** The API server as a pod finds it; undefined outside a pod. */
  readonly pod: PodAccess | undefined;
}

export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const flag = env["ATOLL_REQUIRE_SIGNATURE"] ?? "true";
  if (flag !== "true" && flag !== "false") throw new Error("ATOLL_REQUIRE_SIGNATURE: expected true or false");
  const port = (name: string, otherwise: number): number => {
    const value = Number(env[name] ?? otherwise);
    if (!Number.isInteger(value) || value < 0 || value > 65535) throw new Error(`${name}: expected a port`);
    return value;
  };
  const host = env["KUBERNETES_SERVICE_HOST"] ?? "";
  return {
    requireSignature: flag === "true",
    clusterDomain: env["ATOLL_CLUSTER_DOMAIN"] ?? "cluster.local",
    canary: env["ATOLL_CANARY"] ?? "none",
    canaryPort: port("ATOLL_CANARY_LISTEN", 0),
    gateway: (env["ATOLL_GATEWAY"] ?? "") === "service",
    port: port("ATOLL_PORT", 8443),
    healthPort: port("ATOLL_HEALTH_PORT", 8080),
    ledger: env["ATOLL_LEDGER_URL"] ?? "",
    ledgerKey: env["ATOLL_LEDGER_KEY"] ?? "",
    registrarKey: env["ATOLL_REGISTRAR_KEY"] ?? "",
    identity: env["POD_NAME"] ?? hostname(),
    addresses: (env["ATOLL_EXTRA_ADDRESSES"] ?? "").split(",").filter((a) => a !== ""),
    pod:
      host === "" || env["KUBECONFIG"] !== undefined
        ? undefined
        : {
            host,
            port: env["KUBERNETES_SERVICE_PORT"] ?? "443",
            folder: env["ATOLL_SERVICE_ACCOUNT"] ?? "/var/run/secrets/kubernetes.io/serviceaccount",
          },
  };
}

/** One JSON line for each thing worth knowing. */
export const log = (line: JsonMap): void => {
  process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), ...line })}\n`);
};

/** Resolves when the process is asked to stop. */
export function untilStopped(): AbortSignal {
  const stopping = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stopping.abort());
  return stopping.signal;
}

/** Runs a program to its end; a failure is one line and exit code 1. */
export async function runProgram(
  program: (config: Config, stop: AbortSignal) => Promise<void>,
): Promise<never> {
  try {
    await program(readConfig(process.env), untilStopped());
    process.exit(0);
  } catch (error) {
    log({ level: "error", event: "fatal", message: error instanceof Error ? error.message : String(error) });
    process.exit(1);
  }
}
