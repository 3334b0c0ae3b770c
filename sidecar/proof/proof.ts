// The standing proof as the guardian sees it: the gate's reports (nothing leaves the pod but through us), and a dial of its
// own to a canary that nobody declared (the network stops even us). When a dial that must fail succeeds, or the proof grows
// old, the guardian stops serving; it goes on by itself when the proof is back.
import { performance } from "node:perf_hooks";
import { type GateReport, receiveReports } from "../gate/gate.ts";
import { dialCanary } from "./dial.ts";

export { canaryList } from "./dial.ts";

/** Which boundary: the lock in the pod, or the NetworkPolicy around it. */
export type LegName = "lock" | "network";
export type Answered = { readonly leg: LegName; readonly probe: string };

export type IslandState = {
  readonly ok: boolean;
  /** A sentence; "" while everything holds. */
  readonly why: string;
  /** Probes that were answered and must not have been. */
  readonly failing: readonly Answered[];
  readonly lockProved: boolean;
  /** Undefined while the guardian has not dialled, or has no canary. */
  readonly networkProved: boolean | undefined;
};

export type IslandOptions = {
  /** `none`: there is no lock and no gate; the network's proof is the only one. */
  readonly lock: "nftables" | "none";
  /** The gate's socket. */
  readonly socket: string;
  /** `ATOLL_CANARY`: addresses that the guardian must not reach either. */
  readonly canaries: readonly { readonly host: string; readonly port: number }[];
  /** Whether a NetworkPolicy is said to stand around the pod: without one the guardian reaches the canary, rightly. */
  readonly network: boolean;
  readonly maxAgeMs: number;
  readonly everyMs?: number;
  readonly dialMs?: number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
  /** Told every state that differs from the one before, with what to write down of it. */
  readonly onChange: (state: IslandState, probes: readonly ProbeNote[]) => void;
};

/** The body of an ATTESTATION: `{type: "atoll.dev/probe/v1", name, target, result}`. */
export type ProbeNote = {
  readonly type: "atoll.dev/probe/v1";
  readonly name: string;
  readonly target: LegName;
  readonly result: "answered" | "held" | "unproved";
};

export type Island = {
  readonly state: () => IslandState;
  readonly close: () => Promise<void>;
};

const note = (name: string, target: LegName, result: ProbeNote["result"]): ProbeNote => ({
  type: "atoll.dev/probe/v1",
  name,
  target,
  result,
});

/** What changed between two states, as notes for the journal: each probe once when it is answered and once when it holds again. */
export const notes = (before: IslandState | undefined, after: IslandState): ProbeNote[] => {
  const was = before?.failing ?? [];
  const has = (list: readonly Answered[], one: Answered): boolean =>
    list.some((each) => each.leg === one.leg && each.probe === one.probe);
  return [
    ...after.failing.filter((each) => !has(was, each)).map((each) => note(each.probe, each.leg, "answered")),
    ...was.filter((each) => !has(after.failing, each)).map((each) => note(each.probe, each.leg, "held")),
    // Silence has no probe's name.
    ...(after.ok || after.failing.length > 0 || before?.ok !== true
      ? []
      : [note(after.why, "lock", "unproved")]),
    ...(after.ok && before !== undefined && !before.ok && before.failing.length === 0
      ? [note("the island is proved", "lock", "held")]
      : []),
  ];
};

export const watchIsland = async (options: IslandOptions): Promise<Island> => {
  const { everyMs = 5000, dialMs = 1000, now = () => performance.now() } = options;
  const dials = options.network ? options.canaries : [];
  const locked = options.lock === "nftables";
  let network: { readonly at: number; readonly answered: readonly string[] } | undefined;
  let told: IslandState | undefined;
  const receiver = locked
    ? await receiveReports({ path: options.socket, now, onReport: (report) => tell(report) })
    : undefined;

  const state = (): IslandState => {
    const verdict = receiver?.verdict();
    const old = network === undefined || now() - network.at >= options.maxAgeMs;
    const failing: Answered[] = [
      ...(verdict?.proved === false ? verdict.failing : []).map((probe) => ({ leg: "lock" as const, probe })),
      ...(network?.answered ?? []).map((probe) => ({ leg: "network" as const, probe })),
    ];
    const lockProved = verdict?.proved === true;
    const networkProved = dials.length === 0 || old ? undefined : network?.answered.length === 0;
    const why =
      failing.length > 0
        ? `reached from inside the pod: ${failing.map((each) => `${each.probe} (${each.leg})`).join(", ")}`
        : verdict?.proved === false
          ? verdict.reason
          : !locked && networkProved !== true
            ? "without the lock the NetworkPolicy has to be proved, and it is not"
            : "";
    return { ok: why === "", why, failing, lockProved, networkProved };
  };
  const tell = (_report?: GateReport): void => {
    const next = state();
    if (told !== undefined && JSON.stringify(told) === JSON.stringify(next)) return;
    const before = told;
    told = next;
    options.onChange(next, notes(before, next));
  };
  let closed = false;
  const look = async (): Promise<void> => {
    const results = await Promise.all(dials.map((each) => dialCanary(each, dialMs)));
    if (closed) return;
    network = {
      at: now(),
      answered: results.filter((result) => result !== undefined),
    };
    tell();
  };
  if (dials.length > 0) await look();
  // The age of a proof grows without anybody's doing, so it is looked at more often than the canary is dialled.
  const ages = setInterval(tell, Math.min(1000, everyMs));
  const rounds = setInterval(() => void look(), everyMs);
  if (dials.length === 0) clearInterval(rounds);
  tell();
  return {
    state,
    close: async () => {
      closed = true;
      clearInterval(ages);
      clearInterval(rounds);
      await receiver?.close();
    },
  };
};
