// Staged: a new policy runs on some pods first. Pure: what guardians reported and the time in, what to do out.

import type { SidecarSpec } from "../kinds/kinds.ts";

export interface Totals {
  readonly total: number;
  readonly denied: number;
  readonly errors: number;
}
/** A living pod of the sidecar, as it reported last. */
export interface StagedPod {
  readonly uid: string;
  readonly hash: string;
  readonly totals: Totals;
  /** When it said so. */
  readonly at: number;
}
export interface Stage {
  readonly hash: string;
  readonly since: number;
  /** Pods that run it, and what every pod had counted when the stage began. */
  readonly uids: ReadonlySet<string>;
  readonly before: ReadonlyMap<string, Totals>;
}
export interface Rates {
  readonly calls: number;
  readonly deny: number;
  readonly error: number;
}
export type Outcome =
  | { readonly kind: "hold"; readonly message: string; readonly againMs: number }
  | { readonly kind: "commit"; readonly message: string }
  | { readonly kind: "rollback"; readonly message: string };

/** Below so many calls a rate says nothing. */
const FEWEST = 10;
const LOOK_MS = 2000;
/** Guardians report every ten seconds: one that is silent for longer after the end has something to hide or is dead. */
const PATIENCE_MS = 45_000;
const NONE: Totals = { total: 0, denied: 0, errors: 0 };

/** The first share of the pods, and at least one of them: the same ones for as long as the pods are the same. */
export function choosePods(uids: readonly string[], percent: number): Set<string> {
  const count = Math.max(1, Math.floor((uids.length * percent) / 100));
  return new Set(uids.toSorted().slice(0, count));
}

export function beginStage(
  hash: string,
  pods: readonly StagedPod[],
  percent: number,
  now: number,
): Stage | undefined {
  if (pods.length === 0) return undefined;
  return {
    hash,
    since: now,
    uids: choosePods(
      pods.map((p) => p.uid),
      percent,
    ),
    before: new Map(pods.map((p) => [p.uid, p.totals])),
  };
}

function rates(of: readonly Totals[]): Rates {
  const calls = of.reduce((n, t) => n + t.total, 0);
  const share = (n: number): number => (calls === 0 ? 0 : (100 * n) / calls);
  return {
    calls,
    deny: share(of.reduce((n, t) => n + t.denied, 0)),
    error: share(of.reduce((n, t) => n + t.errors, 0)),
  };
}
/** What was counted since; a guardian that has restarted counts from nothing. */
const since = (now: Totals, before: Totals): Totals =>
  now.total < before.total
    ? now
    : {
        total: now.total - before.total,
        denied: Math.max(0, now.denied - before.denied),
        errors: Math.max(0, now.errors - before.errors),
      };

export function judgeStage(
  stage: Stage,
  pods: readonly StagedPod[],
  rollout: SidecarSpec["rollout"],
  now: number,
): Outcome {
  const band = { denyPercent: 10, errorPercent: 5, seconds: 300, ...rollout?.band };
  const grown = (p: StagedPod): Totals => since(p.totals, stage.before.get(p.uid) ?? NONE);
  const staged = pods.filter((p) => stage.uids.has(p.uid));
  const running = staged.filter((p) => p.hash === stage.hash);
  const mine = rates(running.map(grown));
  // Compared with the other pods at the same time; where they are silent, with everybody's calls before.
  const others = rates(pods.filter((p) => !stage.uids.has(p.uid)).map(grown));
  const earlier = rates([...stage.before.values()]);
  const usual = others.calls >= FEWEST ? others : earlier.calls >= FEWEST ? earlier : rates([]);
  const rise = { deny: mine.deny - usual.deny, error: mine.error - usual.error };
  const words = `${running.length} of ${stage.uids.size} staged pods run it, ${mine.calls} calls, denied ${mine.deny.toFixed(1)} % (usually ${usual.deny.toFixed(1)} %), failed ${mine.error.toFixed(1)} % (usually ${usual.error.toFixed(1)} %)`;
  if (mine.calls >= FEWEST && (rise.deny > band.denyPercent || rise.error > band.errorPercent))
    return { kind: "rollback", message: `outside the band: ${words}` };
  const end = stage.since + band.seconds * 1000;
  const left = end - now;
  if (left > 0) return { kind: "hold", message: words, againMs: Math.min(left, LOOK_MS) };
  // What was counted until the end has to be known, or the end tells nothing.
  const late = staged.filter((p) => p.at < end);
  if (late.length > 0 && left > -PATIENCE_MS)
    return { kind: "hold", message: `${words}; ${late.length} have still to report`, againMs: LOOK_MS };
  if (running.length < staged.length || late.length > 0)
    return { kind: "rollback", message: `not taken up by every staged pod: ${words}` };
  return { kind: "commit", message: words };
}
