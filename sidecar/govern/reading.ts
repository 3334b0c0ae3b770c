// How calls, principals and records are read where the kernel needs no say: names, destinations, stamps.

import { targetFrom } from "../../kernel/contracts/contracts.ts";
import type {
  Facts,
  JsonValue,
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
export function principalOf(caller: Caller): Facts["principal"] {
  const { sid: _sid, ...principal } = caller;
  return principal;
}

export function plain(facts: Facts): JsonValue {
  const value: JsonValue = { ...facts };
  return value;
}

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

export function urlOf(text: string): URL | undefined {
  if (text === "") return undefined;
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

export const NET = /^net:(.+):(\d{1,5})$/;
export function destinationOf(target: string, url: URL | undefined): Facts["destination"] {
  const net = NET.exec(target);
  if (net !== null)
    return { state: "known", host: (net[1] ?? "").replaceAll("%3A", ":"), port: Number(net[2]) };
  if (url === undefined) return { state: "none" };
  const port = url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
  return { state: "known", host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port };
}
