// Two GuardianSidecars that take the same pods: their pods would be refused, each naming the other. Pure.

import { LABEL_GOVERNED, matchTerms, termHolds } from "../kinds/kinds.ts";
import type { IndexSpec, MatchTerm, SidecarSpec } from "../kinds/kinds.ts";

type Labels = Readonly<Record<string, string>>;

/** Whether some value of the label satisfies all terms about it. */
function satisfiable(terms: readonly MatchTerm[]): boolean {
  const absent = terms.every((t) => t.operator === "NotIn" || t.operator === "DoesNotExist");
  if (absent) return true;
  if (terms.some((t) => t.operator === "DoesNotExist")) return false;
  const wanted = terms.filter((t) => t.operator === "In");
  // Without a list of what it may be, there is always a value that nobody has thought of.
  return (
    wanted.length === 0 ||
    (wanted[0]?.values ?? []).some((value) => terms.every((t) => termHolds(t, { [t.key]: value })))
  );
}
const canMeet = (terms: readonly MatchTerm[]): boolean =>
  [...new Set(terms.map((t) => t.key))].every((key) => satisfiable(terms.filter((t) => t.key === key)));

const ofPods = (terms: readonly MatchTerm[]): readonly MatchTerm[] => terms.filter((t) => t.of === "pod");
const text = (t: MatchTerm): string =>
  JSON.stringify([t.key, t.operator, (t.values ?? []).toSorted((a, b) => (a < b ? -1 : 1))]);
/** Every pod that `narrow` takes, `wide` takes too: it asks for nothing else. */
const within = (narrow: readonly MatchTerm[], wide: readonly MatchTerm[]): boolean => {
  const asked = new Set(narrow.map(text));
  return wide.every((t) => asked.has(text(t)));
};

export interface Overlaps {
  /** With these every pod of one of the two would be refused. */
  readonly certain: readonly string[];
  /** With these some pods could be. */
  readonly possible: readonly string[];
}
export function overlaps(
  name: string,
  spec: Pick<SidecarSpec, "namespaceSelector" | "podSelector">,
  index: IndexSpec,
  namespaces: Iterable<readonly [name: string, labels: Labels]>,
): Overlaps {
  const mine = matchTerms(spec);
  const takes = (terms: readonly MatchTerm[], labels: Labels): boolean => {
    const own = terms.filter((t) => t.of === "namespace");
    return own.length > 0 && own.every((t) => termHolds(t, labels));
  };
  const certain: string[] = [];
  const possible: string[] = [];
  const governed = [...namespaces].filter(
    ([, labels]) => labels[LABEL_GOVERNED] === "true" && takes(mine, labels),
  );
  for (const other of index.sidecars) {
    if (other.name === name) continue;
    const shared = governed.find(([, labels]) => takes(other.match, labels));
    if (shared === undefined) continue;
    const [a, b] = [ofPods(mine), ofPods(other.match)];
    const words = `${other.name} in namespace ${shared[0]}`;
    if (!canMeet([...a, ...b])) continue;
    if (within(a, b) || within(b, a)) certain.push(words);
    else possible.push(words);
  }
  return { certain, possible };
}
