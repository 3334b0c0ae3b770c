// The in-pod lock: one nftables table that lets the guardian's TCP through and nothing else, in or out.
//
// Two facts carry the rule set.
// - A packet whose socket has a living owner is judged by that owner. `meta skuid` reads the file of the
//   socket: a passed descriptor keeps its opener's UID, a user namespace does not change it.
// - A packet without one (the kernel's tail after close(), a reset, a connection not yet accepted) is judged by
//   the connection mark, which only a handshake packet of the guardian's own socket can set. Judging such
//   packets by UID cuts streams short; judging owned ones by the mark lets somebody bind the port of a flow that
//   the guardian gave up, and finish its handshake. So both ends of every handshake need the owner: SYN and
//   SYN-ACK going out, and the SYN-ACK coming in (early demultiplexing has found its socket by then; without
//   it the guardian cannot dial, which fails closed).
// Protocols are numbers: an image from scratch has no /etc/protocols, and a file that does not load keeps the pod
// from starting.

export const LOCK_UID = 64521;
export const GATE_UID = 64522;
export const GUARDIAN_UID = 64523;
/** Agent API and forward proxy, on loopback: what the agent may reach. */
export const AGENT_PORTS: readonly [api: number, proxy: number] = [15080, 15081];
/** Health, metrics and rewritten probes, for the kubelet and the monitoring; closed to the agent. */
export const HEALTH_PORT = 15090;
export const LOCK_TABLE = "atoll_lock";
/** Where the image keeps the rule set that the lock container loads (`nft -f`). */
export const LOCK_FILE = "/etc/atoll/lock.nft";

const MARK_BASE = 0x0a70_0000;
export const GENERATIONS = 0x1000;

/**
 * The two connection marks of one generation: flows across the pod's border, and flows on loopback. A reload
 * takes the next generation, so that no connection judged by earlier rules is believed by later ones.
 */
export const lockMarks = (generation: number): { border: number; loopback: number } => {
  if (!Number.isInteger(generation) || generation < 0 || generation >= GENERATIONS)
    throw new RangeError(`lock generation \`${generation}\` is not an integer from 0 to ${GENERATIONS - 1}`);
  return { border: MARK_BASE + generation * 16 + 1, loopback: MARK_BASE + generation * 16 + 2 };
};

/** The generation after the one that a loaded table's marks tell; the first when none is loaded. */
export const nextGeneration = (loaded: number | undefined): number =>
  loaded === undefined ? 0 : (loaded + 1) % GENERATIONS;

/** The generation whose mark this is, or undefined when it is none of ours. */
export const generationOf = (mark: number): number | undefined => {
  const offset = mark - MARK_BASE;
  const kind = offset % 16;
  if (offset < 0 || offset >= GENERATIONS * 16 || (kind !== 1 && kind !== 2)) return undefined;
  return Math.floor(offset / 16);
};

const HANDSHAKE = "tcp flags & (fin | syn | rst | ack)";
const SYN = `${HANDSHAKE} == syn`;
const SYN_ACK = `${HANDSHAKE} == syn | ack`;
const ANY_SYN = "tcp flags & syn == syn";
const NO_SYN = "tcp flags & syn == 0";
const TCP = "meta l4proto 6";
// Neighbour solicitation and advertisement, never routed (hop limit 255): without them IPv6 reaches nobody.
const NEIGHBOUR = "meta l4proto 58 icmpv6 type { 135, 136 } ip6 hoplimit 255";

type Rule = readonly [match: string, verdict: string, comment: string];

const out = (border: string): Rule[] => [
  ['oifname "lo"', "jump loopback", "to loopback"],
  // First because nearly every packet is one of these; the rules below would come to the same.
  [`${NO_SYN} ct mark ${border} meta skuid ${GUARDIAN_UID}`, "accept", "guardian's live flows out"],
  [NEIGHBOUR, "accept", "neighbour discovery out"],
  ["meta l4proto 17", "drop", "UDP out"],
  ["meta l4proto { 1, 58 }", "drop", "ICMP out"],
  ["meta l4proto != 6", "drop", "other protocols out"],
  [`${TCP} meta skuid != ${GUARDIAN_UID}`, "drop", "TCP out, not the guardian's"],
  [`${SYN} meta skuid ${GUARDIAN_UID}`, `ct mark set ${border} accept`, "guardian dials"],
  [
    `${SYN_ACK} tcp sport ${HEALTH_PORT} meta skuid ${GUARDIAN_UID}`,
    `ct mark set ${border} accept`,
    "guardian answers on its health port",
  ],
  [ANY_SYN, "drop", "handshake out without its owner"],
  [`${TCP} ct mark ${border}`, "accept", "guardian's flows out"],
  [TCP, "drop", "TCP out without owner or mark"],
];

const loopback = (mark: string): Rule[] => {
  const ports = AGENT_PORTS.join(", ");
  return [
    ["meta l4proto != 6", "drop", "loopback, not TCP"],
    // Who may talk to whom is known at the answer: which socket accepts.
    [SYN, "accept", "loopback dial, decided at its answer"],
    [
      `${SYN_ACK} tcp sport { ${ports} } meta skuid ${GUARDIAN_UID}`,
      `ct mark set ${mark} accept`,
      "guardian answers the agent",
    ],
    [
      `${SYN_ACK} tcp sport != { ${ports} } meta skuid != ${GUARDIAN_UID}`,
      `ct mark set ${mark} accept`,
      "others answer on loopback",
    ],
    [ANY_SYN, "drop", "loopback answer refused"],
    ["tcp flags & rst == rst", "accept", "loopback reset"],
    [`${TCP} ct mark ${mark}`, "accept", "loopback flows"],
    [TCP, "drop", "loopback TCP without mark"],
  ];
};

const into = (border: string): Rule[] => [
  ['iifname "lo"', "accept", "from loopback"],
  [`${NO_SYN} ct mark ${border} meta skuid ${GUARDIAN_UID}`, "accept", "guardian's live flows in"],
  [NEIGHBOUR, "accept", "neighbour discovery in"],
  // Path MTU and unreachable messages about the guardian's own flows; an echo is related to nothing.
  [
    `meta l4proto { 1, 58 } ct state related ct mark ${border}`,
    "accept",
    "ICMP errors of the guardian's flows",
  ],
  ["meta l4proto 17", "drop", "UDP in"],
  ["meta l4proto { 1, 58 }", "drop", "ICMP in"],
  ["meta l4proto != 6", "drop", "other protocols in"],
  [`${TCP} meta skuid != ${GUARDIAN_UID}`, "drop", "TCP in, not the guardian's"],
  [`${SYN} tcp dport ${HEALTH_PORT}`, "accept", "dial to the health port, decided at its answer"],
  [`${SYN_ACK} ct mark ${border} meta skuid ${GUARDIAN_UID}`, "accept", "guardian is answered"],
  [ANY_SYN, "drop", "handshake in without its owner"],
  [`${TCP} ct mark ${border}`, "accept", "guardian's flows in"],
  [TCP, "drop", "TCP in without owner or mark"],
];

const chain = (name: string, hook: string, rules: readonly Rule[]): string =>
  [
    `  chain ${name} {`,
    ...(hook === "" ? [] : [`    type filter hook ${hook} priority filter; policy drop;`]),
    ...rules.map(([match, verdict, comment]) => {
      // A verdict that sets the mark does so after it is counted, so that the counter stands before the verdict.
      return `    ${match} counter ${verdict} comment "${comment}"`;
    }),
    "  }",
  ].join("\n");

/** The rule set as `nft -f` reads it: one transaction, so no packet ever meets half of it. */
export const lockRules = (options: { generation?: number } = {}): string => {
  const marks = lockMarks(options.generation ?? 0);
  const border = `0x${marks.border.toString(16).padStart(8, "0")}`;
  const lo = `0x${marks.loopback.toString(16).padStart(8, "0")}`;
  return [
    // Declared first, so that deleting it works whether or not it is there.
    `table inet ${LOCK_TABLE}`,
    `delete table inet ${LOCK_TABLE}`,
    `table inet ${LOCK_TABLE} {`,
    chain("loopback", "", loopback(lo)),
    chain("out", "output", out(border)),
    chain("in", "input", into(border)),
    "}",
    "",
  ].join("\n");
};

/** One rule of a loaded lock, as the kernel lists it. `match` is everything but what it has counted. */
export type CountedRule = {
  readonly chain: string;
  readonly comment: string;
  readonly packets: number;
  readonly bytes: number;
  readonly verdict: string;
  readonly match: string;
};

export type LoadedLock = {
  readonly chains: readonly { name: string; hook: string; policy: string }[];
  readonly rules: readonly CountedRule[];
  readonly generation: number | undefined;
};

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const count = (value: unknown): number => (typeof value === "number" ? value : 0);
const VERDICTS = ["accept", "drop", "jump"];

const countedRule = (rule: Record<string, unknown>): CountedRule => {
  const parts = Array.isArray(rule["expr"]) ? rule["expr"].filter(isRecord) : [];
  const counter = parts.map((part) => part["counter"]).find(isRecord) ?? {};
  const verdict = parts.flatMap((part) => Object.keys(part)).find((key) => VERDICTS.includes(key)) ?? "";
  return {
    chain: text(rule["chain"]),
    comment: text(rule["comment"]),
    packets: count(counter["packets"]),
    bytes: count(counter["bytes"]),
    verdict,
    match: JSON.stringify(parts.filter((part) => !("counter" in part))),
  };
};

/** Reads `nft -j list table inet atoll_lock`; throws on what is not a listing. */
export const readListing = (json: string): LoadedLock => {
  const parsed: unknown = JSON.parse(json);
  if (!isRecord(parsed) || !Array.isArray(parsed["nftables"])) throw new Error("not a listing of nftables");
  const items = parsed["nftables"].filter(isRecord);
  const rules = items
    .map((item) => item["rule"])
    .filter(isRecord)
    .map(countedRule);
  const chains = items
    .map((item) => item["chain"])
    .filter(isRecord)
    .map((each) => ({ name: text(each["name"]), hook: text(each["hook"]), policy: text(each["policy"]) }));
  const marks = rules
    .flatMap((rule) => rule.match.match(/\d{6,}/g) ?? [])
    .map((digits) => generationOf(Number(digits)));
  const known = new Set(marks.filter((generation) => generation !== undefined));
  return { chains, rules, generation: known.size === 1 ? [...known][0] : undefined };
};

/** What of the expected lock is missing or other in the loaded one; empty when they are the same rules. */
export const lockDifferences = (loaded: LoadedLock, expected: LoadedLock): string[] => {
  const found: string[] = [];
  for (const want of expected.chains) {
    const have = loaded.chains.find((each) => each.name === want.name);
    if (have === undefined) found.push(`chain \`${want.name}\` is missing`);
    else if (have.hook !== want.hook || have.policy !== want.policy)
      found.push(`chain \`${want.name}\` has hook \`${have.hook}\`, policy \`${have.policy}\``);
  }
  for (const have of loaded.chains)
    if (!expected.chains.some((want) => want.name === have.name))
      found.push(`chain \`${have.name}\` is not ours`);
  const key = (rule: CountedRule): string => `${rule.chain} ${rule.match}`;
  for (const name of new Set([...loaded.rules, ...expected.rules].map((rule) => rule.chain))) {
    const have = loaded.rules.filter((rule) => rule.chain === name);
    const want = expected.rules.filter((rule) => rule.chain === name);
    for (let at = 0; at < Math.max(have.length, want.length); at++) {
      const [mine, theirs] = [want[at], have[at]];
      if (mine !== undefined && theirs !== undefined && key(mine) === key(theirs)) continue;
      found.push(`rule ${at + 1} of chain \`${name}\` is not \`${mine?.comment ?? "there"}\``);
    }
  }
  return found;
};
