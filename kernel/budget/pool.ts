// A day's limit that several guardians share: the ledger leases parts of it, the guardians spend them locally.
// A lease is gone until it is given back, also when its holder crashes: so the leases never sum above the limit.

import { ContractError } from "../contracts/contracts.ts";
import type { Amounts } from "../contracts/contracts.ts";

export interface Lease {
  readonly id: string;
  readonly holder: string;
  readonly day: string;
  readonly amounts: Amounts;
}
export interface Pool {
  /** As much of what is wanted as is left; -1 in the limit means that there is none. The same id is granted once. */
  lease(wanted: Lease): Lease;
  /** Gives back what of a lease was not used. */
  giveBack(id: string, unused: Amounts): void;
  /** Leased and not given back. */
  outstanding(day: string): Amounts;
  /** The leases in their order: what a restart replays. */
  readonly leases: readonly Lease[];
}

const FIELDS = ["calls", "tokens", "costMicroUsd"] as const;

export function createPool(limit: Amounts, replay: readonly Lease[] = []): Pool {
  const leases = new Map<string, Lease>();
  const outstanding = (day: string): Amounts => {
    const sum = { calls: 0, tokens: 0, costMicroUsd: 0 };
    for (const l of leases.values()) if (l.day === day) for (const f of FIELDS) sum[f] += l.amounts[f];
    return sum;
  };
  const amounts = (of: (field: (typeof FIELDS)[number]) => number): Amounts => ({
    calls: of("calls"),
    tokens: of("tokens"),
    costMicroUsd: of("costMicroUsd"),
  });
  for (const lease of replay) leases.set(lease.id, lease);
  return {
    lease(wanted) {
      const before = leases.get(wanted.id);
      if (before !== undefined) {
        if (before.holder === wanted.holder && before.day === wanted.day) return before;
        throw new ContractError("id", `lease \`${wanted.id}\` belongs to \`${before.holder}\``);
      }
      const taken = outstanding(wanted.day);
      const granted = amounts((f) => {
        const want = wanted.amounts[f];
        if (!Number.isSafeInteger(want) || want < 0) throw new ContractError(f, `${want} is no amount`);
        return limit[f] < 0 ? want : Math.max(0, Math.min(want, limit[f] - taken[f]));
      });
      const lease = { ...wanted, amounts: granted };
      leases.set(wanted.id, lease);
      return lease;
    },
    giveBack(id, unused) {
      const lease = leases.get(id);
      if (lease === undefined) throw new ContractError("id", `no lease \`${id}\``);
      for (const f of FIELDS)
        if (!Number.isSafeInteger(unused[f]) || unused[f] < 0 || unused[f] > lease.amounts[f])
          throw new ContractError(f, `${unused[f]} of ${lease.amounts[f]} cannot be given back`);
      leases.set(id, { ...lease, amounts: amounts((f) => lease.amounts[f] - unused[f]) });
    },
    outstanding,
    get leases() {
      return [...leases.values()];
    },
  };
}
