// NetworkPolicies are a union: one more that selects a governed pod adds whatever it allows to what ours allows. Which
// ones do, and what they add. Pure.

import { BlockList, isIP } from "node:net";
import { isMap } from "../kinds/kinds.ts";
import type { Json, JsonMap } from "../kinds/kinds.ts";

/** What is kept of a NetworkPolicy that is not ours. */
export interface ForeignPolicy {
  readonly namespace: string;
  readonly name: string;
  readonly podSelector: JsonMap;
  readonly types: readonly string[];
  readonly ingress: readonly JsonMap[];
  readonly egress: readonly JsonMap[];
}
export interface GovernedPod {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}
export interface Widening {
  readonly policy: string;
  readonly direction: "ingress" | "egress";
  /** One rule that nothing of ours allows, shortly. */
  readonly what: string;
  readonly pods: readonly string[];
}

const map = (v: Json | undefined): JsonMap => (isMap(v) ? v : {});
const list = (v: Json | undefined): readonly JsonMap[] => (Array.isArray(v) ? v.filter(isMap) : []);
const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
const strings = (v: Json | undefined): readonly string[] =>
  Array.isArray(v) ? v.filter((s): s is string => typeof s === "string") : [];

export function foreignPolicy(object: JsonMap): ForeignPolicy {
  const meta = map(object["metadata"]);
  const spec = map(object["spec"]);
  const types = strings(spec["policyTypes"]);
  return {
    namespace: text(meta["namespace"]),
    name: text(meta["name"]),
    podSelector: map(spec["podSelector"]),
    // As the API server fills it in; of an object that lacks it the worse is believed.
    types: types.length > 0 ? types : ["Ingress", "Egress"],
    ingress: list(spec["ingress"]),
    egress: list(spec["egress"]),
  };
}

/** Whether a label selector takes these labels; one that cannot be read takes everything. */
export function selects(selector: JsonMap, labels: Readonly<Record<string, string>>): boolean {
  const exact = Object.entries(map(selector["matchLabels"])).every(
    ([key, value]) => labels[key] === value && Object.hasOwn(labels, key),
  );
  return (
    exact &&
    list(selector["matchExpressions"]).every((e) => {
      const key = text(e["key"]);
      const has = Object.hasOwn(labels, key);
      const values = strings(e["values"]);
      switch (text(e["operator"])) {
        case "In":
          return has && values.includes(labels[key] ?? "");
        case "NotIn":
          return !has || !values.includes(labels[key] ?? "");
        case "Exists":
          return has;
        case "DoesNotExist":
          return !has;
        default:
          return true;
      }
    })
  );
}

const sorted = (value: Json | undefined): Json | undefined =>
  Array.isArray(value)
    ? value.map((v: Json) => sorted(v) ?? null)
    : isMap(value)
      ? Object.fromEntries(
          Object.entries(value)
            .filter(([, v]) => v !== undefined)
            .toSorted(([a], [b]) => (a < b ? -1 : 1))
            .map(([k, v]) => [k, sorted(v)]),
        )
      : value;
const same = (a: Json | undefined, b: Json | undefined): boolean =>
  JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));

interface Network {
  readonly address: string;
  readonly prefix: number;
  readonly family: "ipv4" | "ipv6";
}
function parseNetwork(cidr: string): Network | undefined {
  const [address = "", prefix = "", more] = cidr.split("/");
  const version = isIP(address);
  if (version === 0 || more !== undefined || !/^\d{1,3}$/.test(prefix)) return undefined;
  const bits = Number(prefix);
  return bits > (version === 4 ? 32 : 128)
    ? undefined
    : { address, prefix: bits, family: version === 4 ? "ipv4" : "ipv6" };
}
function networkHolds(outer: Network, inner: Network): boolean {
  if (outer.family !== inner.family || outer.prefix > inner.prefix) return false;
  const range = new BlockList();
  range.addSubnet(outer.address, outer.prefix, outer.family);
  return range.check(inner.address, inner.family);
}

function blockCovers(ours: JsonMap, theirs: JsonMap): boolean {
  const [our, their] = [parseNetwork(text(ours["cidr"])), parseNetwork(text(theirs["cidr"]))];
  if (our === undefined || their === undefined || !networkHolds(our, their)) return false;
  const spared = strings(theirs["except"]).map(parseNetwork);
  return strings(ours["except"]).every((hole) => {
    const out = parseNetwork(hole);
    if (out === undefined) return false;
    // A hole of ours is no matter where their range misses it, or leaves out the whole of it too.
    const overlaps = networkHolds(their, out) || networkHolds(out, their);
    return !overlaps || spared.some((each) => each !== undefined && networkHolds(each, out));
  });
}

function peerCovers(ours: JsonMap, theirs: JsonMap): boolean {
  const [our, their] = [ours["ipBlock"], theirs["ipBlock"]];
  if (isMap(our) && isMap(their)) return blockCovers(our, their);
  // Selectors are compared as they stand: which pods they would take tomorrow cannot be known.
  return !isMap(our) && !isMap(their) && same(ours, theirs);
}

function portCovers(ours: JsonMap, theirs: JsonMap): boolean {
  if ((text(ours["protocol"]) || "TCP") !== (text(theirs["protocol"]) || "TCP")) return false;
  if (ours["port"] === undefined) return true;
  if (typeof ours["port"] !== "number" || typeof theirs["port"] !== "number")
    return ours["port"] === theirs["port"];
  const end = (port: JsonMap, from: number): number =>
    typeof port["endPort"] === "number" ? port["endPort"] : from;
  return theirs["port"] >= ours["port"] && end(theirs, theirs["port"]) <= end(ours, ours["port"]);
}

/** An absent or empty list of peers or ports means all of them. */
function ruleCovers(
  ours: JsonMap,
  peer: JsonMap | undefined,
  port: JsonMap | undefined,
  side: string,
): boolean {
  const [peers, ports] = [list(ours[side]), list(ours["ports"])];
  return (
    (peers.length === 0 || (peer !== undefined && peers.some((p) => peerCovers(p, peer)))) &&
    (ports.length === 0 || (port !== undefined && ports.some((p) => portCovers(p, port))))
  );
}

const shortly = (peer: JsonMap | undefined, port: JsonMap | undefined): string =>
  `${peer === undefined ? "anywhere" : JSON.stringify(peer)}${
    port === undefined
      ? ""
      : ` ${text(port["protocol"]) || "TCP"}${port["port"] === undefined ? "" : ` ${JSON.stringify(port["port"])}`}`
  }`.slice(0, 200);

/** The first thing that rules add to ours, or undefined. */
export function added(
  rules: readonly JsonMap[],
  ours: readonly JsonMap[],
  side: "to" | "from",
): string | undefined {
  for (const rule of rules) {
    const peers = list(rule[side]);
    const ports = list(rule["ports"]);
    for (const peer of peers.length === 0 ? [undefined] : peers)
      for (const port of ports.length === 0 ? [undefined] : ports)
        if (!ours.some((own) => ruleCovers(own, peer, port, side))) return shortly(peer, port);
  }
  return undefined;
}

/** Everything that widens what the island's own rules allow to these pods. */
export function widenings(
  pods: readonly GovernedPod[],
  own: { readonly ingress: readonly JsonMap[]; readonly egress: readonly JsonMap[] },
  foreign: Iterable<ForeignPolicy>,
): Widening[] {
  const found: Widening[] = [];
  const places = Map.groupBy(pods, (p) => p.namespace);
  for (const policy of foreign) {
    const selected = (places.get(policy.namespace) ?? []).filter((p) =>
      selects(policy.podSelector, p.labels),
    );
    if (selected.length === 0) continue;
    const names = selected.map((p) => `${p.namespace}/${p.name}`);
    for (const [direction, side, type] of [
      ["egress", "to", "Egress"],
      ["ingress", "from", "Ingress"],
    ] as const) {
      if (!policy.types.includes(type)) continue;
      const what = added(policy[direction], own[direction], side);
      if (what !== undefined)
        found.push({ policy: `${policy.namespace}/${policy.name}`, direction, what, pods: names });
    }
  }
  return found;
}
