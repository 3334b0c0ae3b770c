// What the controllers count, under the names that other controllers use too where there are such names.

import { Counter, Gauge, Registry, collectDefaultMetrics } from "prom-client";

export interface Metrics {
  readonly registry: Registry;
  readonly reconciles: Counter<"controller" | "result">;
  readonly restarts: Counter<"kind" | "reason">;
  readonly refused: Counter<"reason">;
  readonly unguarded: Gauge<"sidecar">;
  readonly broken: Gauge<"sidecar" | "leg">;
  readonly repairs: Counter<"name">;
  readonly evictions: Counter<"sidecar" | "result">;
}

export function makeMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  return {
    registry,
    reconciles: new Counter({
      name: "controller_runtime_reconcile_total",
      help: "Reconciliations by controller and result",
      labelNames: ["controller", "result"],
      registers,
    }),
    restarts: new Counter({
      name: "watch_restarts_total",
      help: "Watches begun anew, by reason",
      labelNames: ["kind", "reason"],
      registers,
    }),
    refused: new Counter({
      name: "atoll_bundles_refused_total",
      help: "Bundles refused, by reason",
      labelNames: ["reason"],
      registers,
    }),
    unguarded: new Gauge({
      name: "atoll_pods_unguarded",
      help: "Pods that should be governed and are in no accepted shape",
      labelNames: ["sidecar"],
      registers,
    }),
    broken: new Gauge({
      name: "atoll_island_broken",
      help: "Guardians whose probe was answered that nobody should have answered, by leg",
      labelNames: ["sidecar", "leg"],
      registers,
    }),
    repairs: new Counter({
      name: "atoll_protection_repairs_total",
      help: "Policies and bindings of the installer that were put back",
      labelNames: ["name"],
      registers,
    }),
    evictions: new Counter({
      name: "atoll_pods_evicted_total",
      help: "Unguarded pods for which an eviction was asked, by result",
      labelNames: ["sidecar", "result"],
      registers,
    }),
  };
}
