// What to do about the installer's policies and bindings. Pure: what they should be and what is stored in, what to create
// out. Only creating is possible: the operator's rights reach no policy that exists, so that taking the operator over opens
// none. One that was changed stays as it is, and a second one with the installer's words is put beside it for as long as needed.

import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { isMap } from "../kinds/kinds.ts";
import type { JsonMap } from "../kinds/kinds.ts";

export const PLURALS = {
  ValidatingAdmissionPolicy: "validatingadmissionpolicies",
  ValidatingAdmissionPolicyBinding: "validatingadmissionpolicybindings",
} as const;
export type ProtectionKind = keyof typeof PLURALS;

/** A policy or a binding with its spec as the API server stores it, defaults included. */
export interface Wanted {
  readonly kind: ProtectionKind;
  readonly name: string;
  readonly spec: JsonMap;
}
/** Specs that are stored, as canonical text, by kind and name. */
export type Stored = Readonly<Record<ProtectionKind, ReadonlyMap<string, string>>>;

export interface Plan {
  readonly create: readonly Wanted[];
  /** Copies that nothing needs any more. */
  readonly remove: readonly Pick<Wanted, "kind" | "name">[];
  /** Those of the installer's that are not as installed, and what stands in for each. */
  readonly changed: readonly string[];
}

/** The names of copies, which the chart's rights list one by one: the operator can delete these and no other. */
export const copiesOf = (name: string): string[] => [`${name}-again-1`, `${name}-again-2`];
export const textOf = (spec: JsonMap): string => canonicalize(JSON.parse(JSON.stringify(spec)) as JsonValue);
const policyOf = (binding: Wanted): string => {
  const name = binding.spec["policyName"];
  return typeof name === "string" ? name : "";
};

export function planProtection(wanted: readonly Wanted[], stored: Stored): Plan {
  const create: Wanted[] = [];
  const changed: string[] = [];
  /** The name under which an object with these words stands, or the first free one. */
  const place = (one: Wanted): { readonly name: string; readonly there: boolean } | undefined => {
    const names = [one.name, ...copiesOf(one.name)];
    const held = stored[one.kind];
    const text = textOf(one.spec);
    // Its own place first: whoever deletes a changed one gets the installer's back.
    if (!held.has(one.name)) return { name: one.name, there: false };
    const whole = names.find((n) => held.get(n) === text);
    if (whole !== undefined) return { name: whole, there: true };
    const free = names.find((n) => !held.has(n));
    return free === undefined ? undefined : { name: free, there: false };
  };
  const remove: Pick<Wanted, "kind" | "name">[] = [];
  const put = (one: Wanted): string | undefined => {
    const at = place(one);
    for (const name of copiesOf(one.name))
      if (stored[one.kind].has(name) && at !== undefined && name !== at.name)
        remove.push({ kind: one.kind, name });
    if (at?.there === false) create.push({ ...one, name: at.name });
    if (at === undefined) changed.push(`${one.name} (changed, and no name is left for another)`);
    else if (!at.there)
      changed.push(at.name === one.name ? `${one.name} (missing)` : `${one.name} (changed)`);
    else if (at.name !== one.name) changed.push(`${one.name} (changed; ${at.name} stands in)`);
    return at?.name;
  };
  for (const policy of wanted.filter((w) => w.kind === "ValidatingAdmissionPolicy")) {
    const name = put(policy);
    if (name === undefined) continue;
    for (const binding of wanted)
      if (binding.kind === "ValidatingAdmissionPolicyBinding" && policyOf(binding) === policy.name)
        put({ ...binding, spec: { ...binding.spec, policyName: name } });
  }
  return { create, remove, changed: changed.toSorted() };
}

/** Objects of one YAML or JSON text, those that are ours to keep. */
export function protectionObjects(documents: readonly unknown[]): Wanted[] {
  return documents.flatMap((d): Wanted[] => {
    if (!isMap(d) || !isMap(d["metadata"]) || !isMap(d["spec"])) return [];
    const [kind, name] = [d["kind"], d["metadata"]["name"]];
    if (typeof name !== "string" || typeof kind !== "string" || !Object.hasOwn(PLURALS, kind)) return [];
    return [{ kind: kind as ProtectionKind, name, spec: d["spec"] }];
  });
}
