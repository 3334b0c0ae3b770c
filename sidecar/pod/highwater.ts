// Which announced policy a guardian may take, whoever announces it. A version that a rollout has committed is never gone
// below; one that is only tried may be left for the committed one, or for something newer.

import { ContractError } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";

export interface Known {
  /** The highest version that a rollout has committed, as the pair that is kept. */
  readonly committed: { readonly version: number; readonly hash: string };
  /** What is in force now. */
  readonly active: { readonly version: number; readonly hash: string };
}

export const versionOf = (bundle: JsonObject | undefined): number =>
  typeof bundle?.["version"] === "number" ? bundle["version"] : 0;
export const hashOf = (bundle: JsonObject | undefined): string =>
  typeof bundle?.["contentHash"] === "string" ? bundle["contentHash"] : "";

/** Throws when `next` must not be taken. */
export function checkStep(what: string, known: Known, next: { version: number; hash: string }): void {
  const { committed, active } = known;
  if (next.version < committed.version)
    throw new ContractError(
      what,
      `version ${next.version} is below the committed version ${committed.version}: a rollback`,
    );
  for (const one of [committed, active])
    if (next.version === one.version && next.hash !== one.hash)
      throw new ContractError(what, `version ${next.version} is known with another content: an equivocation`);
  if (next.version < active.version && next.version !== committed.version)
    throw new ContractError(
      what,
      `version ${active.version} is tried, and may be left only for ${committed.version} or a later one`,
    );
}
