// What the injected container is told, read once: environment, the policy's ConfigMap, the downward API.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { ContractError, LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import type { Durability } from "../ship/ship.ts";

export interface PodSettings {
  readonly sidecar: string;
  readonly level: string;
  readonly lock: "nftables" | "none";
  readonly proofMaxAgeSeconds: number;
  readonly policyDir: string;
  readonly trustRoots: string;
  readonly credentialsDir: string;
  readonly podDir: string;
  readonly journalDir: string;
  readonly adminSocket: string;
  readonly gateSocket: string;
  /** Addresses that must not answer, or `none`. */
  readonly canary: string;
  /** `address:port` of the egress gateway; "" where the pod has a way of its own. */
  readonly gateway: string;
  readonly gatewayCa: string;
  readonly controlUrl: string;
  readonly controlCa: string;
  readonly controlToken: string;
  readonly durability: Durability;
  readonly podName: string;
  readonly namespace: string;
  readonly podUid: string;
  readonly serviceAccount: string;
  readonly bundleId: string;
  readonly ceilingId: string;
}
type Environment = Readonly<Record<string, string | undefined>>;

export function podSettings(env: Environment): PodSettings {
  const need = (name: string): string => {
    const value = env[name];
    if (value === undefined || value === "") throw new ContractError(name, "is needed in the environment");
    return value;
  };
  const lock = need("ATOLL_LOCK");
  if (lock !== "nftables" && lock !== "none")
    throw new ContractError("ATOLL_LOCK", "is neither nftables nor none");
  const durability = env["ATOLL_DURABILITY"] ?? "local";
  if (durability !== "local" && durability !== "ledger")
    throw new ContractError("ATOLL_DURABILITY", "is neither local nor ledger");
  const proofMaxAgeSeconds = Number(env["ATOLL_PROOF_MAX_AGE_SECONDS"] ?? "15");
  if (!Number.isInteger(proofMaxAgeSeconds) || proofMaxAgeSeconds < 1)
    throw new ContractError("ATOLL_PROOF_MAX_AGE_SECONDS", "is no number of seconds");
  const trustRoots = readFileSync(need("ATOLL_TRUST_ROOTS"), "utf8");
  const expected = need("ATOLL_TRUST_ROOTS_SHA256");
  // The variable is fixed by the pod's shape, which the installer's policy compares; the file is the operator's copy.
  if (sha256(trustRoots) !== expected)
    throw new ContractError(
      "ATOLL_TRUST_ROOTS",
      `the file has the hash ${sha256(trustRoots)}, the installer's has ${expected}`,
    );
  return {
    sidecar: need("ATOLL_SIDECAR"),
    level: need("ATOLL_LEVEL"),
    bundleId: need("ATOLL_BUNDLE_ID"),
    ceilingId: env["ATOLL_CEILING_ID"] ?? "",
    lock,
    proofMaxAgeSeconds,
    policyDir: need("ATOLL_POLICY_DIR"),
    trustRoots,
    credentialsDir: env["ATOLL_CREDENTIALS_DIR"] ?? "",
    podDir: need("ATOLL_POD_DIR"),
    journalDir: need("ATOLL_JOURNAL_DIR"),
    adminSocket: need("ATOLL_ADMIN_SOCKET"),
    gateSocket: need("ATOLL_GATE_SOCKET"),
    canary: need("ATOLL_CANARY"),
    gateway: env["ATOLL_GATEWAY"] ?? "",
    gatewayCa: join(need("ATOLL_POLICY_DIR"), "gateway-ca.crt"),
    controlUrl: need("ATOLL_CONTROL_URL"),
    controlCa: need("ATOLL_CONTROL_CA"),
    controlToken: need("ATOLL_CONTROL_TOKEN"),
    durability,
    podName: need("ATOLL_POD_NAME"),
    namespace: need("ATOLL_POD_NAMESPACE"),
    podUid: need("ATOLL_POD_UID"),
    serviceAccount: need("ATOLL_SERVICE_ACCOUNT"),
  };
}

const missing = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ENOENT";

/** `NAME.json`, or `NAME.json.gz`; undefined when neither is there. */
export function readPolicyFile(dir: string, name: string): JsonObject | undefined {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(join(dir, `${name}.json`));
  } catch (error) {
    if (!missing(error)) throw error;
    try {
      bytes = gunzipSync(readFileSync(join(dir, `${name}.json.gz`)), {
        maxOutputLength: LIMITS.policy.bytes,
      });
    } catch (inner) {
      if (missing(inner)) return undefined;
      throw inner;
    }
  }
  const value: JsonValue = parseJson(bytes, LIMITS.policy);
  if (!isObject(value)) throw new ContractError(name, "is no object");
  return value;
}

/** Labels as the downward API writes them: `key="value"`, the value quoted as in Go. */
export function downwardLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = Object.create(null);
  for (const line of text.split("\n")) {
    const [, key, quoted] = /^([^=]+)=("(?:[^"\\]|\\.)*")$/.exec(line) ?? [];
    if (key === undefined || quoted === undefined) continue;
    const value = parseJson(Buffer.from(quoted), LIMITS.args);
    if (typeof value === "string") labels[key] = value;
  }
  return labels;
}

export function namespaceLabels(dir: string): Record<string, string> {
  const about = readPolicyFile(dir, "namespace");
  const labels = about?.["labels"];
  const out: Record<string, string> = Object.create(null);
  if (isObject(labels))
    for (const [key, value] of Object.entries(labels)) if (typeof value === "string") out[key] = value;
  return out;
}

export function readPodLabels(dir: string): Record<string, string> {
  try {
    return downwardLabels(readFileSync(join(dir, "labels"), "utf8"));
  } catch (error) {
    if (missing(error)) return Object.create(null);
    throw error;
  }
}

export function readAnnotation(dir: string, name: string): string {
  try {
    const found: Record<string, string> = downwardLabels(readFileSync(join(dir, "annotations"), "utf8"));
    return found[name] ?? "";
  } catch (error) {
    if (missing(error)) return "";
    throw error;
  }
}
