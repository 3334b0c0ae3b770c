// Writes every mutant of a source into one text: where a mutant differs, the text asks which mutant is meant. So the
// sources are loaded once and each mutant costs only its tests.
//
// Operators: conditions (true, false), comparisons (the neighbour and the opposite), && || ??, arithmetic, !, ++ --,
// booleans, numbers (+1), texts ("" or another), array and object literals (emptied), regular expressions (never, always),
// bodies of functions and of branches (emptied), arrow functions (undefined), methods for their counterparts (every and
// some, min and max, startsWith and endsWith, filter, slice, sort and reverse left out).
// Left out: types, imports, and what only a person reads: texts with a space in them, arguments of errors and denials,
// members named detail, reason and the like.

import { parseSync } from "rolldown/experimental";

export interface Site {
  readonly id: number;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly operator: string;
  readonly from: string;
  readonly to: string;
}

/** Members of which a person is the reader. */
const PEOPLE = /^(detail|reason|message|leaf|error)$/;

interface Ast {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}
const isAst = (v: unknown): v is Ast => typeof v === "object" && v !== null && "type" in v && "start" in v;

const keyOf = (property: Ast): string => {
  const { key } = property;
  return isAst(key) ? String(key["name"] ?? key["value"]) : "";
};
/** A literal that names something and is no value. */
const isName = (n: Ast, parent: Ast): boolean =>
  parent.type === "ExpressionStatement" || (parent["key"] === n && parent["computed"] !== true);
function childrenOf(n: Ast): readonly Ast[] {
  const found: Ast[] = [];
  for (const [name, value] of Object.entries(n)) {
    if (name === "parent") continue;
    for (const v of Array.isArray(value) ? value : [value]) if (isAst(v)) found.push(v);
  }
  // A shorthand property is its key and its value at once.
  return found
    .toSorted((a, b) => a.start - b.start || b.end - a.end)
    .filter((c, i, all) => i === 0 || c.start >= (all[i - 1]?.end ?? 0));
}

const COMPARE: Readonly<Record<string, readonly string[]>> = {
  "<": ["<=", ">="],
  "<=": ["<", ">"],
  ">": [">=", "<="],
  ">=": [">", "<"],
  "===": ["!=="],
  "!==": ["==="],
  in: [],
  instanceof: [],
};
const ARITHMETIC: Readonly<Record<string, string>> = {
  "+": "-",
  "-": "+",
  "*": "/",
  "/": "*",
  "%": "*",
  "**": "*",
};
const LOGIC: Readonly<Record<string, string>> = { "&&": "||", "||": "&&", "??": "&&" };
const METHODS: Readonly<Record<string, string>> = {
  every: "some",
  some: "every",
  min: "max",
  max: "min",
  startsWith: "endsWith",
  endsWith: "startsWith",
};
const DROPPED: ReadonlySet<string> = new Set(["filter", "slice", "sort", "reverse", "toSorted", "trim"]);
/** Calls and constructions of which the texts are for people. */
const TALK =
  /^(denial|over|broken|missing|refuse|refusal|Error|TypeError|RangeError|ContractError|ExpressionError|Refused)$/;

export function mutate(
  file: string,
  text: string,
  first: number,
): { readonly text: string; readonly sites: readonly Site[] } {
  const { program } = parseSync(file, text, { lang: "ts", sourceType: "module" });
  const sites: Site[] = [];
  const lineOf = (at: number): number => text.slice(0, at).split("\n").length;
  const source = (n: Ast): string => text.slice(n.start, n.end);

  /** The text of the node with the mutants of its parts in it. */
  function write(n: Ast, talk: boolean): string {
    let out = "";
    let at = n.start;
    for (const child of childrenOf(n)) {
      out += text.slice(at, child.start) + part(child, n, talk);
      at = child.end;
    }
    return out + text.slice(at, n.end);
  }
  const mark = (n: Ast, operator: string, to: string): string => {
    const id = first + sites.length;
    sites.push({
      id,
      file,
      line: lineOf(n.start),
      column: n.start - text.lastIndexOf("\n", n.start - 1),
      operator,
      from: source(n).replace(/\s+/g, " ").slice(0, 60),
      to: to.replace(/\s+/g, " ").slice(0, 60),
    });
    return `(__m.hits[${id}] = 1, __m.active === ${id})`;
  };
  const choose = (n: Ast, inner: string, mutants: readonly (readonly [string, string])[]): string =>
    mutants.reduce((rest, [operator, to]) => `(${mark(n, operator, to)} ? (${to}) : ${rest})`, `(${inner})`);

  function visit(n: Ast, parent: Ast, talk: boolean): string {
    if (
      n.type.startsWith("TS") &&
      !["TSAsExpression", "TSSatisfiesExpression", "TSNonNullExpression"].includes(n.type)
    )
      return source(n);
    if (
      n.type === "ImportDeclaration" ||
      (n.type.startsWith("Export") && n["source"] !== null && n["source"] !== undefined)
    )
      return source(n);
    const callee = n.type === "CallExpression" || n.type === "NewExpression" ? n["callee"] : undefined;
    const name = isAst(callee)
      ? String(
          callee["type"] === "Identifier"
            ? callee["name"]
            : isAst(callee["property"])
              ? callee["property"]["name"]
              : "",
        )
      : "";
    const inner = write(n, talk || TALK.test(name));
    switch (n.type) {
      case "BinaryExpression": {
        const operator = String(n["operator"]);
        const { left, right } = n;
        if (!isAst(left) || !isAst(right)) return inner;
        const sides = (o: string): string => `${source(left)} ${o} ${source(right)}`;
        const compared = Object.hasOwn(COMPARE, operator) ? COMPARE[operator] : undefined;
        if (compared !== undefined)
          return choose(n, inner, [
            ...compared.map((o) => ["comparison", sides(o)] as const),
            ["condition", "true"],
            ["condition", "false"],
          ]);
        const other = ARITHMETIC[operator];
        if (other === undefined || talk || [left, right].some((s) => s.type === "TemplateLiteral"))
          return inner;
        return choose(n, inner, [["arithmetic", sides(other)]]);
      }
      case "LogicalExpression": {
        const operator = String(n["operator"]);
        const { left, right } = n;
        if (!isAst(left) || !isAst(right)) return inner;
        const swapped = `(${source(left)}) ${LOGIC[operator] ?? "&&"} (${source(right)})`;
        return choose(n, inner, [
          ["logic", operator === "??" ? source(left) : swapped],
          ...(operator === "??"
            ? []
            : ([
                ["condition", "true"],
                ["condition", "false"],
              ] as const)),
        ]);
      }
      case "UnaryExpression": {
        const { argument } = n;
        if (!isAst(argument)) return inner;
        if (n["operator"] === "!") return choose(n, inner, [["negation", source(argument)]]);
        if (n["operator"] === "-" && argument.type !== "Literal")
          return choose(n, inner, [["arithmetic", source(argument)]]);
        return inner;
      }
      case "UpdateExpression": {
        const { argument } = n;
        if (!isAst(argument)) return inner;
        return choose(n, inner, [
          ["update", source(n).includes("++") ? `${source(argument)}--` : `${source(argument)}++`],
        ]);
      }
      case "ConditionalExpression":
      case "IfStatement":
        return inner;
      case "Literal": {
        if (talk || parent.type.startsWith("TS") || isName(n, parent)) return inner;
        const { value } = n;
        if (typeof value === "boolean") return choose(n, inner, [["boolean", String(!value)]]);
        if (typeof value === "number") return choose(n, inner, [["number", `${source(n)} + 1`]]);
        // What has a space in it is a sentence.
        if (typeof value === "string" && value.includes(" ")) return inner;
        if (typeof value === "string") return choose(n, inner, [["text", value === "" ? '"mutant"' : '""']]);
        if (n["regex"] !== undefined && n["regex"] !== null)
          return choose(n, inner, [
            ["pattern", "/(?!)/"],
            ["pattern", "/^/"],
          ]);
        return inner;
      }
      case "TemplateLiteral":
        return talk ||
          parent.type === "TaggedTemplateExpression" ||
          source(n)
            .replaceAll(/\$\{[^}]*\}/g, "")
            .includes(" ")
          ? inner
          : choose(n, inner, [["text", '""']]);
      case "ArrayExpression":
        return Array.isArray(n["elements"]) && n["elements"].length > 0 && !talk
          ? choose(n, inner, [["array", "[]"]])
          : inner;
      case "ObjectExpression":
        return Array.isArray(n["properties"]) && n["properties"].length > 0 && !talk
          ? choose(n, inner, [["object", "{}"]])
          : inner;
      case "CallExpression": {
        if (!isAst(callee) || callee.type !== "MemberExpression") return inner;
        const { object, property } = callee;
        if (!isAst(object) || !isAst(property) || talk) return inner;
        const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
        const tail = text.slice(callee.end, n.end);
        if (method !== undefined)
          return choose(n, inner, [["method", `${text.slice(n.start, property.start)}${method}${tail}`]]);
        return DROPPED.has(name) ? choose(n, inner, [["method", source(object)]]) : inner;
      }
      default:
        return inner;
    }
  }

  /** A condition that decides what is done: taken, and not taken. */
  function decided(n: Ast, of: Ast, talk: boolean): string {
    const inner = visit(n, of, talk);
    if (n.type === "BinaryExpression" || n.type === "LogicalExpression") return inner;
    return choose(n, inner, [
      ...(of.type === "IfStatement" || of.type === "ConditionalExpression"
        ? ([["condition", "true"]] as const)
        : []),
      ["condition", "false"],
    ]);
  }

  function block(n: Ast, parent: Ast, talk: boolean): string {
    const inner = write(n, talk);
    const body = n["body"];
    if (!Array.isArray(body) || body.length === 0) return inner;
    const loop = /^(For|While|DoWhile)/.test(parent.type) ? "__m.tick();" : "";
    const isBody = /Function/.test(parent.type);
    const emptied = isBody
      ? `if (${mark(n, "body", "{}")}) return;`
      : parent.type === "IfStatement" || parent.type === "TryStatement"
        ? `if (${mark(n, "branch", "{}")}) {} else `
        : "";
    return isBody
      ? `{ ${emptied} ${inner.slice(1)}`
      : emptied === ""
        ? `{ ${loop} ${inner.slice(1)}`
        : `{ ${emptied} ${inner} }`;
  }

  /** One part of a node: a block, what decides, or any expression. */
  function part(n: Ast, parent: Ast, talk: boolean): string {
    if (n.type === "BlockStatement") return block(n, parent, talk);
    if (n === parent["body"] && parent.type === "ArrowFunctionExpression")
      return `(${mark(n, "arrow", "undefined")} ? undefined : (${visit(n, parent, talk)}))`;
    if (n === parent["test"] && /^(If|Conditional|While|DoWhile|For)/.test(parent.type))
      return decided(n, parent, talk);
    if (n === parent["body"] && /^(For|While|DoWhile)/.test(parent.type))
      return `{ __m.tick(); ${visit(n, parent, talk)} }`;
    if (parent.type === "Property" && n === parent["value"] && PEOPLE.test(keyOf(parent)))
      return visit(n, parent, true);
    return visit(n, parent, talk);
  }
  const written = write(isAst(program) ? program : { type: "", start: 0, end: 0 }, false);
  return { text: `const __m = globalThis.__mutation; ${written}`, sites };
}
