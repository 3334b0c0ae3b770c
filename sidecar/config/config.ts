// The guardian's one configuration. Whatever starts a guardian fills this in; contradictions are refused by key.

import { ContractError } from "../../kernel/contracts/contracts.ts";
import type { Facts, Hash, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import type { TrustHead } from "../../kernel/proofgraph/proofgraph.ts";
import type { Durability, LedgerLink } from "../ship/ship.ts";

export interface Listen {
  readonly host: string;
  readonly port: number;
}

/** A bundle's manifest, and its content where that lies beside it. */
export interface BundleInput {
  readonly manifest: JsonValue;
  readonly content?: JsonObject | undefined;
}

/** What a governed pod adds; without it the guardian stands alone, as under `atoll guard`. */
export interface PodLinks {
  /** Age of the last heartbeat of the control stream. */
  readonly heartbeatAgeMs: () => Facts["context"]["heartbeatAgeMs"];
  /** Why the island is not proved, and the node that tells it: then no call is allowed. */
  readonly broken: () => { readonly node: Hash; readonly reason: string } | undefined;
  /** A call waits for a person: the challenge has to reach the operator. */
  readonly opened: (challenge: JsonObject) => void;
  /** Brings the old key's act to the registrar; resolves with the registry's head when it is durable there. */
  readonly publish?: (act: JsonObject) => Promise<TrustHead | undefined>;
}

export interface GuardianConfig {
  /** The P1 bundle. */
  readonly bundle: BundleInput;
  /** The P0 bundle above it. */
  readonly ceiling?: BundleInput;
  /** Trust roots: PEM blocks with roles. */
  readonly trust: string;
  /** Folder of the journal, the guardian's key and the admin socket; nobody else may read it. */
  readonly folder: string;
  /** Folder with a file for each credential; "" when the policy names none. */
  readonly credentials: string;
  /** Folder with WASM modules, each named by the hex of its hash; "" when there are none. */
  readonly modules: string;
  readonly api: readonly Listen[];
  readonly proxy: readonly Listen[];
  readonly health: readonly Listen[];
  /** `serviceAccount:<namespace>/<name>`. */
  readonly principal: string;
  readonly podUid?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly namespaceLabels: Readonly<Record<string, string>>;
  readonly modelTimeoutMs: number;
  /** Names are asked for over TCP alone: in a governed pod the lock lets no UDP through. */
  readonly dnsOverTcp: boolean;
  readonly pod?: PodLinks;
  /** Where the journal is shipped to, and whether a call waits for it. */
  /** When the guardian's key is followed by another by itself; 0 = not for this reason. */
  readonly keys?: { readonly maxAgeMs: number; readonly maxNodes: number };
  readonly ledger?: { readonly link: LedgerLink; readonly durability: Durability };
}

export const DEFAULTS = {
  api: [
    { host: "127.0.0.1", port: 15080 },
    { host: "::1", port: 15080 },
  ],
  proxy: [
    { host: "127.0.0.1", port: 15081 },
    { host: "::1", port: 15081 },
  ],
  health: [{ host: "127.0.0.1", port: 15090 }],
  principal: "serviceAccount:local/guard",
  modelTimeoutMs: 120_000,
  keys: { maxAgeMs: 30 * 24 * 3_600_000, maxNodes: 10_000_000 },
} as const;

const PRINCIPAL = /^serviceAccount:([a-z0-9-]{1,63})\/([a-z0-9.-]{1,253})$/;

/** The caller that this configuration speaks for. */
export function principalOf(text: string) {
  const m = PRINCIPAL.exec(text);
  if (m === null) throw new ContractError("principal", "expected `serviceAccount:<namespace>/<name>`");
  return {
    state: "verified",
    id: text,
    serviceAccount: m[2] ?? "",
    namespace: m[1] ?? "",
    roles: [],
    tenant: "",
    delegator: "",
  } as const;
}

export function checkConfig(config: GuardianConfig): void {
  principalOf(config.principal);
  if (config.folder === "") throw new ContractError("folder", "is needed for the journal and the key");
  if (config.api.length === 0) throw new ContractError("api", "at least one address is needed");
  const taken = new Set<string>();
  for (const [key, list] of [
    ["api", config.api],
    ["proxy", config.proxy],
    ["health", config.health],
  ] as const)
    for (const { host, port } of list) {
      if (port !== 0 && taken.has(`${host}:${port}`))
        throw new ContractError(key, `${host}:${port} is listed twice`);
      taken.add(`${host}:${port}`);
      if (key !== "health" && host !== "127.0.0.1" && host !== "::1")
        throw new ContractError(key, `\`${host}\` is no loopback address`);
    }
}
