// What happens if a person says yes, in words.

import type { Ceremony, EffectClass, Policy } from "../../contracts/contracts.ts";

const EFFECTS: Readonly<Record<EffectClass, string>> = {
  E0: "computes and changes nothing",
  E1: "reads and changes nothing",
  E2: "changes something that can be changed back",
  E3: "changes something that is hard to change back",
  E4: "changes something that cannot be changed back",
};

export function consequence(target: string, policy: Policy, ceremony: Ceremony): string {
  const tool = policy.tools.get(target);
  const does = tool === undefined ? `reaches ${target}` : `runs ${target}, which ${EFFECTS[tool.effect]}`;
  const others =
    ceremony.quorum > 1
      ? ` once ${ceremony.quorum} of ${ceremony.approvers.length} approvers have said yes`
      : "";
  return `If approved${others}, the agent ${does}: this call with exactly these arguments, once, within ${ceremony.expiresSeconds} s.`;
}
