// The requirement graph: which proofs a rule asks for, judged by what this guardian itself saw.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import type { Ceremony, EvidenceFact, Requirement } from "../contracts/contracts.ts";
import type { Question } from "./question.ts";

export type Holding =
  | { readonly state: "held"; readonly ceremonies: readonly Ceremony[] }
  | { readonly state: "missing"; readonly leaf: string };

const HELD: Holding = { state: "held", ceremonies: [] };
const missing = (leaf: string): Holding => ({ state: "missing", leaf });

/** `held` with ceremonies = held as soon as those approve. */
export function holds(r: Requirement, q: Question): Holding {
  switch (r.kind) {
    case "all": {
      const ceremonies: Ceremony[] = [];
      for (const part of r.of) {
        const result = holds(part, q);
        if (result.state === "missing") return result;
        ceremonies.push(...result.ceremonies);
      }
      return { state: "held", ceremonies };
    }
    case "any":
      return any(r.of, q);
    case "not":
      return holds(r.of, q).state === "missing" ? HELD : missing("`not` does not hold");
    case "cel":
      return r.program.test(q.bindings()) ? HELD : missing(`cel \`${r.program.text}\``);
    case "approval":
      return { state: "held", ceremonies: [r.ceremony] };
    case "receipt":
      return q.facts.evidence.some((e) => isReceipt(e, r, q))
        ? HELD
        : missing(`receipt of \`${r.tool}\` with status ${r.status}`);
    case "artifact":
      return q.facts.evidence.some(
        (e) => e.kind === "artifact" && e.artifactType === r.artifactType && e.signer === r.signer,
      )
        ? HELD
        : missing(`artifact \`${r.artifactType}\` signed by ${r.signer}`);
  }
}

/** The first way that needs nobody's approval, else the first that approvals can complete. */
function any(of: readonly Requirement[], q: Question): Holding {
  let waiting: Holding | null = null;
  let first: Holding | null = null;
  for (const part of of) {
    const result = holds(part, q);
    if (result.state === "held" && result.ceremonies.length === 0) return result;
    if (result.state === "held") waiting ??= result;
    else first ??= result;
  }
  return waiting ?? first ?? missing("`any` of nothing");
}

function isReceipt(e: EvidenceFact, r: Requirement & { readonly kind: "receipt" }, q: Question): boolean {
  if (e.kind !== "receipt" || !r.matches(e.tool) || e.status !== r.status) return false;
  // What the agent says of its own tools is no proof.
  if (e.tool.startsWith("tool:agent/")) return false;
  const age = q.now - Date.parse(e.at);
  if (!(age >= 0) || (r.withinMs >= 0 && !(age <= r.withinMs))) return false;
  return r.sameArgs.every((name) => {
    const before = Object.hasOwn(e.args, name) ? e.args[name] : undefined;
    const now = Object.hasOwn(q.call.args, name) ? q.call.args[name] : undefined;
    return before !== undefined && now !== undefined && canonicalize(before) === canonicalize(now);
  });
}
