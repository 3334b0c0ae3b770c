// What the guardian tells of itself: counters without unbounded labels, and one log line for each decision.
// It listens; nothing waits for it and it can fail no call.

import { Counter, Gauge, Histogram, Registry } from "prom-client";

export interface Decision {
  readonly verdict: "ALLOW" | "DENY" | "ESCALATE";
  readonly reason: string;
  readonly source: string;
  readonly target: string;
  readonly principal: string;
  readonly session: string;
  readonly receipt: string;
  readonly lamport: number;
  readonly ruleId: string;
  readonly at: string;
}

export interface Telemetry {
  decided(decision: Decision, seconds: number): void;
  upstream(seconds: number): void;
  journalSync(seconds: number, batch: number): void;
  gauge(name: "policyAge" | "ledgerLag" | "lockOk" | "frozen" | "reviewsOpen", value: number): void;
  budget(scope: string, field: string, left: number): void;
  policy(hash: string, version: string): void;
  /** Decisions since the start, for the control stream's reports. */
  totals(): { readonly total: number; readonly denied: number; readonly errors: number };
  text(): Promise<string>;
  readonly contentType: string;
}

const BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1];
const SLOW = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120];

export function createTelemetry(log: (line: string) => void): Telemetry {
  const registers = [new Registry()];
  const registry = registers[0] ?? new Registry();
  const decisions = new Counter({
    name: "atoll_decisions_total",
    help: "Verdicts by reason and source",
    labelNames: ["verdict", "reason", "source"],
    registers,
  });
  const decisionSeconds = new Histogram({
    name: "atoll_decision_seconds",
    help: "Time to gather the facts of a call and judge it",
    buckets: BUCKETS,
    registers,
  });
  const upstreamSeconds = new Histogram({
    name: "atoll_upstream_seconds",
    help: "Time an upstream took to answer",
    buckets: SLOW,
    registers,
  });
  const syncSeconds = new Histogram({
    name: "atoll_journal_sync_seconds",
    help: "Time from a record to its sync",
    buckets: BUCKETS,
    registers,
  });
  const batchSize = new Histogram({
    name: "atoll_journal_batch_size",
    help: "Records that were handed to the journal and not yet durable",
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256],
    registers,
  });
  const budgetLeft = new Gauge({
    name: "atoll_budget_remaining",
    help: "What is left of a budget",
    labelNames: ["period", "unit"],
    registers,
  });
  const policyInfo = new Gauge({
    name: "atoll_policy_info",
    help: "The active policy",
    labelNames: ["hash", "version"],
    registers,
  });
  const gauges = {
    policyAge: new Gauge({
      name: "atoll_policy_age_seconds",
      help: "Seconds since the control stream was last heard",
      registers,
    }),
    ledgerLag: new Gauge({
      name: "atoll_ledger_lag",
      help: "Records that the ledger has not acknowledged",
      registers,
    }),
    lockOk: new Gauge({ name: "atoll_lock_ok", help: "1 when the egress lock was proved lately", registers }),
    reviewsOpen: new Gauge({
      name: "atoll_reviews_open",
      help: "Emergency overrides that nobody has reviewed",
      registers,
    }),
    frozen: new Gauge({ name: "atoll_frozen", help: "1 while the agent is frozen", registers }),
  };
  const totals = { total: 0, denied: 0, errors: 0 };
  return {
    totals: () => ({ ...totals }),
    decided(d, seconds) {
      totals.total++;
      if (d.verdict === "DENY") totals.denied++;
      if (d.reason === "POLICY_EVALUATION_ERROR" || d.reason.startsWith("ERR_")) totals.errors++;
      decisions.inc({ verdict: d.verdict, reason: d.reason, source: d.source });
      decisionSeconds.observe(seconds);
      log(lineOf(d));
    },
    upstream: (s) => upstreamSeconds.observe(s),
    journalSync(s, batch) {
      syncSeconds.observe(s);
      batchSize.observe(batch);
    },
    gauge: (name, value) => gauges[name].set(value),
    budget: (period, unit, left) => budgetLeft.set({ period, unit }, left),
    policy(hash, version) {
      policyInfo.reset();
      policyInfo.set({ hash, version }, 1);
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}

// OCSF class 6003 (API Activity): activity and disposition by their numbers, so that a collector needs no mapping.
const DISPOSITION = { ALLOW: 1, DENY: 2, ESCALATE: 4 } as const;
const lineOf = (d: Decision): string =>
  JSON.stringify({
    time: d.at,
    class_uid: 6003,
    severity_id: d.verdict === "DENY" ? 3 : 1,
    disposition_id: DISPOSITION[d.verdict],
    verdict: d.verdict,
    reason_code: d.reason,
    api: { operation: d.target },
    actor: { user: { uid: d.principal }, session: { uid: d.session } },
    source: d.source,
    rule_id: d.ruleId,
    receipt_id: d.receipt,
    lamport: d.lamport,
  });
