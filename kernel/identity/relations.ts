// Who stands in which relation to what, in the manner of Zanzibar: tuples, and definitions that combine them.
//
//   repo:acme/web#writer@serviceAccount:acme/bot       a subject
//   repo:acme/web#writer@team:core#member              a userset: whoever is member of team:core
//   repo:acme/web#reader@serviceAccount:*              everyone of a type
//   repo#reader = this | writer | parent->reader       union; `&` intersection, `-` exclusion, parentheses
//
// `a->b`: whoever is b of an object that stands in relation a here. Definitions bind `&` before `-` before `|`.

import { ContractError, at } from "../contracts/contracts.ts";

type Rewrite =
  | { readonly is: "this" }
  | { readonly is: "computed"; readonly relation: string }
  | { readonly is: "through"; readonly by: string; readonly relation: string }
  | { readonly is: "union" | "intersection"; readonly of: readonly Rewrite[] }
  | { readonly is: "exclusion"; readonly of: Rewrite; readonly but: Rewrite };

const TUPLE =
  /^([a-zA-Z]+:[A-Za-z0-9._/-]+)#([A-Za-z_][\w-]*)@([a-zA-Z]+:(?:[A-Za-z0-9._/@-]+|\*))(?:#([A-Za-z_][\w-]*))?$/;
const DEFINITION = /^([a-zA-Z]+)#([A-Za-z_][\w-]*)\s*=\s*(.+)$/;
const DEPTH = 32;
const STEPS = 10_000;

interface Subjects {
  readonly direct: Set<string>;
  readonly usersets: { readonly object: string; readonly relation: string }[];
}

export type Relates = (object: string, relation: string, subject: string) => boolean;

/** Compiles the lines of `identity.relations`; each that is neither tuple nor definition is refused by its path. */
export function compileRelations(lines: readonly string[], path: string): Relates {
  const tuples = new Map<string, Subjects>();
  const definitions = new Map<string, Rewrite>();
  for (const [i, line] of lines.entries()) {
    const where = at(path, i);
    const definition = DEFINITION.exec(line);
    if (definition !== null) {
      const [, type = "", relation = "", text = ""] = definition;
      if (definitions.has(`${type}#${relation}`))
        throw new ContractError(where, `\`${type}#${relation}\` is defined twice`);
      definitions.set(`${type}#${relation}`, parseRewrite(text, where));
      continue;
    }
    const tuple = TUPLE.exec(line);
    if (tuple === null)
      throw new ContractError(where, "expected `object#relation@subject` or `type#relation = this | other`");
    const [, object = "", relation = "", subject = "", userset] = tuple;
    const name = `${object}#${relation}`;
    const found = tuples.get(name) ?? { direct: new Set(), usersets: [] };
    if (userset === undefined) found.direct.add(subject);
    else if (subject.endsWith(":*")) throw new ContractError(where, "a userset of everyone");
    else found.usersets.push({ object: subject, relation: userset });
    tuples.set(name, found);
  }

  return (object, relation, subject) => {
    let steps = 0;
    const everyone = `${subject.slice(0, subject.indexOf(":"))}:*`;
    /** `under`: the questions being asked, and whether an exclusion lies between each and here. */
    const ask = (o: string, r: string, under: ReadonlyMap<string, boolean>, depth: number): boolean => {
      if (++steps > STEPS || depth > DEPTH) throw new RangeError("the relations are too deep to be followed");
      const name = `${o}#${r}`;
      const before = under.get(name);
      // A circle proves nothing; across an exclusion that would be a yes, so it is an error.
      if (before === true) throw new RangeError(`\`${name}\` excludes itself`);
      if (before === false) return false;
      const inner = new Map([...under, [name, false]]);
      return holds(
        definitions.get(`${o.slice(0, o.indexOf(":"))}#${r}`) ?? { is: "this" },
        o,
        r,
        inner,
        depth,
      );
    };
    const direct = (o: string, r: string, under: ReadonlyMap<string, boolean>, depth: number): boolean => {
      const found = tuples.get(`${o}#${r}`);
      if (found === undefined) return false;
      if (found.direct.has(subject) || found.direct.has(everyone)) return true;
      return found.usersets.some((u) => ask(u.object, u.relation, under, depth + 1));
    };
    const holds = (
      w: Rewrite,
      o: string,
      r: string,
      under: ReadonlyMap<string, boolean>,
      depth: number,
    ): boolean => {
      switch (w.is) {
        case "this":
          return direct(o, r, under, depth);
        case "computed":
          return ask(o, w.relation, under, depth + 1);
        case "through":
          return [...(tuples.get(`${o}#${w.by}`)?.direct ?? [])].some(
            (parent) => !parent.endsWith(":*") && ask(parent, w.relation, under, depth + 1),
          );
        case "union":
          return w.of.some((x) => holds(x, o, r, under, depth));
        case "intersection":
          return w.of.every((x) => holds(x, o, r, under, depth));
        case "exclusion": {
          const across = new Map([...under.keys()].map((k) => [k, true]));
          return holds(w.of, o, r, under, depth) && !holds(w.but, o, r, across, depth);
        }
      }
    };
    return ask(object, relation, new Map(), 0);
  };
}

function parseRewrite(text: string, path: string): Rewrite {
  const tokens = text.match(/->|[|&()-]|[A-Za-z_]\w*|\S/g) ?? [];
  let next = 0;
  const take = (token: string): boolean => tokens[next] === token && next++ >= 0;
  const fault = (): never => {
    throw new ContractError(path, `\`${tokens[next] ?? "the end"}\` is not expected in the definition`);
  };
  const name = (): string => {
    const token = tokens[next];
    if (token === undefined || !/^[A-Za-z_]/.test(token)) return fault();
    next++;
    return token;
  };
  const term = (depth: number): Rewrite => {
    if (depth > DEPTH) return fault();
    if (take("(")) {
      const inner = union(depth + 1);
      return take(")") ? inner : fault();
    }
    const first = name();
    if (take("->")) return { is: "through", by: first, relation: name() };
    return first === "this" ? { is: "this" } : { is: "computed", relation: first };
  };
  const list = (is: "union" | "intersection", token: string, part: () => Rewrite): Rewrite => {
    const of = [part()];
    while (take(token)) of.push(part());
    const [only] = of;
    return of.length === 1 && only !== undefined ? only : { is, of };
  };
  const exclusion = (depth: number): Rewrite => {
    let of = list("intersection", "&", () => term(depth));
    while (take("-")) of = { is: "exclusion", of, but: list("intersection", "&", () => term(depth)) };
    return of;
  };
  const union = (depth: number): Rewrite => list("union", "|", () => exclusion(depth));
  const rewrite = union(0);
  return next === tokens.length ? rewrite : fault();
}
