// What a budget counts.

import type { Amounts, Usage } from "../contracts/contracts.ts";

export type Sum = { calls: number; tokens: number; costMicroUsd: number };

export const NOTHING: Amounts = { calls: 0, costMicroUsd: 0, tokens: 0 };
export const FIELDS = ["calls", "tokens", "costMicroUsd"] as const;

/** What a usage costs a budget. */
export const amountsOf = (u: Usage): Amounts => ({
  calls: u.calls,
  costMicroUsd: u.cost_microusd,
  tokens: u.tokens_in + u.tokens_out,
});
