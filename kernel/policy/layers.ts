// P0 ∩ P1: a policy that asks for more than its ceiling does not load, and both paths are named.

import { ContractError, EFFECT_CLASSES, at } from "../contracts/contracts.ts";
import type { PolicyDoc } from "../contracts/contracts.ts";

export function checkConsistency(p0: PolicyDoc, p1: PolicyDoc): void {
  if (p0.layer !== "P0") throw new ContractError("layer", "the ceiling's layer is not P0");
  const granting = ["tools", "models", "toolsets", "profiles", "rules", "approvals", "connectors"] as const;
  for (const name of granting)
    if (p0[name] !== undefined)
      throw new ContractError(name, "belongs to a P1 document; a ceiling grants nothing");
  const max = p0.ceiling?.maxEffect;
  if (max !== undefined)
    for (const [i, tool] of (p1.tools ?? []).entries())
      if (EFFECT_CLASSES.indexOf(tool.effect) > EFFECT_CLASSES.indexOf(max))
        throw new ContractError(
          at(at("tools", i), "effect"),
          `${tool.effect} is above ${max} of the ceiling (ceiling.maxEffect)`,
        );
  for (const period of ["session", "daily"] as const)
    for (const field of ["calls", "tokens", "costMicroUsd", "durationSeconds"] as const) {
      const bound = p0.ceiling?.budgets?.[period]?.[field];
      if (bound === undefined) continue;
      for (const [i, profile] of (p1.profiles ?? []).entries()) {
        const asked = profile.budgets?.[period]?.[field];
        if (asked !== undefined && asked > bound)
          throw new ContractError(
            `${at("profiles", i)}.budgets.${period}.${field}`,
            `${asked} is above ${bound} of the ceiling (ceiling.budgets.${period}.${field})`,
          );
      }
    }
}
