// How calls, principals and records are read where the kernel needs no say: names, destinations, stamps.

import { targetFrom } from "../../kernel/contracts/contracts.ts";
import type {
  ConnectorPolicy,
  Facts,
  Policy,
  Profile,
  Receipt,
  SealedNode,
  Target,
} from "../../kernel/contracts/contracts.ts";
import type { Stamp } from "../surfaces/surfaces.ts";
import type { Caller } from "./ask.ts";

export const stampOf = (receipt: Receipt, node: SealedNode): Stamp => ({
  receiptId: receipt.receipt_id,
  verdict: receipt.verdict,
  reason: receipt.reason_code,
  policyHash: receipt.policy_hash,
  lamport: node.node.lamport,
});

/** The caller as a fact: which session a token names is not one. */
export const principalOf = (caller: Caller): Facts["principal"] =>
  caller.state === "refused"
    ? { code: caller.code, detail: caller.detail, state: "refused" }
    : {
        delegator: caller.delegator,
        id: caller.id,
        namespace: caller.namespace,
        roles: caller.roles,
        serviceAccount: caller.serviceAccount,
        state: "verified",
        tenant: caller.tenant,
      };

export function requiresReceipts(policy: Policy): boolean {
  for (const tool of policy.tools.values()) if (tool.rules.some((r) => r.requires !== null)) return true;
  return false;
}

/** A name that is none is still judged, so that its refusal leaves a receipt. */
export function safeTarget(text: string): Target {
  const cleaned = text.replace(/[^A-Za-z0-9._/%:-]/g, (c) =>
    [...new TextEncoder().encode(c)].map((b) => `%${b.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
  );
  try {
    return targetFrom(cleaned, "target");
  } catch {
    return targetFrom("tool:unknown/unnamed", "target");
  }
}

/** The first profile that fits a principal, as the kernel's own gate chooses it. */
export function profileOf(
  policy: Policy,
  caller: Caller & { readonly state: "verified" },
  namespaceLabels: Readonly<Record<string, string>>,
): Profile | undefined {
  return policy.profiles.find((p) => {
    if (p.serviceAccount !== "" && p.serviceAccount !== caller.serviceAccount)
      if (p.serviceAccount !== `${caller.namespace}/${caller.serviceAccount}`) return false;
    if (p.principal !== "" && !p.matchesPrincipal(caller.id)) return false;
    if (p.role !== "" && !caller.roles.includes(p.role)) return false;
    return Object.entries(p.namespaceLabels).every(
      ([k, v]) => Object.hasOwn(namespaceLabels, k) && namespaceLabels[k] === v,
    );
  });
}

export const modelConnector = (target: string): string =>
  target.startsWith("model:") ? (target.slice("model:".length).split("/", 1)[0] ?? "") : "";

function urlOf(text: string): URL | undefined {
  if (text === "") return undefined;
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

export const NET = /^net:(.+):(\d{1,5})$/;
/** Where a connector's address leads, found once for each policy. */
export interface Place {
  readonly destination: Facts["destination"];
  /** Over TLS, or nowhere at all. */
  readonly tls: boolean;
}
const NOWHERE: Place = { destination: { state: "none" }, tls: true };
const places = new WeakMap<ConnectorPolicy, Place>();
export function placeOf(connector: ConnectorPolicy | undefined): Place {
  if (connector === undefined) return NOWHERE;
  let place = places.get(connector);
  if (place === undefined) places.set(connector, (place = placeAt(urlOf(connector.url))));
  return place;
}
function placeAt(url: URL | undefined): Place {
  if (url === undefined) return NOWHERE;
  const tls = url.protocol === "https:";
  const port = url.port === "" ? (tls ? 443 : 80) : Number(url.port);
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return { destination: { host, port, state: "known" }, tls };
}

export function destinationOf(target: string, place: Place): Facts["destination"] {
  const net = target.startsWith("net:") ? NET.exec(target) : null;
  if (net === null) return place.destination;
  return { host: (net[1] ?? "").replaceAll("%3A", ":"), port: Number(net[2]), state: "known" };
}
