// The functions that expressions may call: by name, with the types they take, what they yield and what they cost.
// A unit is about ten nanoseconds of the reference machine; bench/worst-rule.ts holds it to that.

import { present } from "../contracts/contracts.ts";
import {
  BOOL,
  DOUBLE,
  DURATION,
  DYN,
  ExpressionError,
  INT,
  TIMESTAMP,
  TYPE,
  UINT,
  VALUES_LIMIT,
  bytes,
  either,
  elements,
  list,
  nameOf,
  product,
  text,
} from "./cel-type.ts";
import type { Kind, Known } from "./cel-type.ts";

export interface Called {
  readonly yields: Known;
  readonly cost: number;
}
type Overload = readonly [kinds: readonly Kind[], yields: (a: readonly Known[]) => Known];
interface Callable {
  readonly overloads: readonly Overload[];
  readonly cost: (a: readonly Known[]) => number;
  /** `x.f()`, or both that and `f(x)`; else `f(x)` alone. */
  readonly form?: "method" | "both";
  /** Positions whose argument has to be a literal text, and what else it has to be. */
  readonly literal?: { readonly at: number; readonly check: (text: string) => string | null };
}

const CALL = 30;
/** What is not known at all is still no larger than a call's arguments may be. */
function size(known: Known | undefined): number {
  const k = present(known);
  return k.kind === "dyn" ? Math.min(k.size, DYN.weight) : k.size;
}
const weight = (k: Known | undefined): number => k?.weight ?? 0;
const both = (a: readonly Known[]): number => Math.min(weight(a[0]), weight(a[1]));
const sum = (a: readonly Known[]): number => size(a[0]) + size(a[1]);
const always =
  (k: Known): Overload[1] =>
  () =>
    k;
const each = (kinds: readonly Kind[], yields: Known): Overload[] => kinds.map((k) => [[k], always(yields)]);
const pairs = (kinds: readonly Kind[], yields: Known | null = null): Overload[] =>
  kinds.map((k) => [[k, k], yields === null ? (a) => either(present(a[0]), present(a[1])) : always(yields)]);
const constant = (n: number) => (): number => n;

const NUMBERS: readonly Kind[] = ["int", "uint", "double"];
const ORDERED: readonly Overload[] = [
  ...pairs(["bool", "string", "bytes", "timestamp", "duration"], BOOL),
  ...NUMBERS.flatMap((l) => NUMBERS.map((r): Overload => [[l, r], always(BOOL)])),
];
const order: Callable = { overloads: ORDERED, cost: (a) => CALL + both(a) / 20 };
const equality: Callable = {
  overloads: [[["dyn", "dyn"], always(BOOL)]],
  cost: (a) => CALL + both(a) * 8,
};
const joined =
  (make: (n: number) => Known): Overload[1] =>
  (a) =>
    make(sum(a));
const arithmetic = (...overloads: readonly Overload[]): Callable => ({
  overloads,
  cost: constant(CALL),
});
const substring = (worst: (n: number, m: number) => number): Callable => ({
  overloads: [[["string", "string"], always(BOOL)]],
  cost: (a) => CALL + worst(size(a[0]), size(a[1])) / 20,
  form: "method",
});
const converts = (to: Known, from: readonly Kind[], perUnit = 1): Callable => ({
  overloads: each(from, to),
  cost: (a) => CALL + (a[0]?.kind === "string" || a[0]?.kind === "dyn" ? 10 + size(a[0]) * perUnit : 20),
});
const getter = (of: readonly Kind[]): Callable => ({
  overloads: [...each(of, INT), [["timestamp", "string"], always(INT)]],
  cost: (a) => CALL + (a.length > 1 ? 1500 : 60),
  form: "method",
  literal: { at: 1, check: (zone) => (isZone(zone) ? null : `\`${zone}\` is no time zone`) },
});

export function isZone(zone: string): boolean {
  if (/^[+-]?\d\d:\d\d$/.test(zone)) return true;
  try {
    void new Intl.DateTimeFormat("en", { timeZone: zone });
    return true;
  } catch {
    return false;
  }
}

/** How many steps of the matcher a character of the text can cost. */
export type PatternSize = (pattern: string) => number;

const table = (patternSize: PatternSize): ReadonlyMap<string, Callable> =>
  new Map<string, Callable>([
    ["!_", { overloads: each(["bool"], BOOL), cost: constant(CALL) }],
    ["-_", arithmetic([["int"], always(INT)], [["double"], always(DOUBLE)])],
    ["_==_", equality],
    ["_!=_", equality],
    ["_<_", order],
    ["_<=_", order],
    ["_>_", order],
    ["_>=_", order],
    [
      "_+_",
      {
        overloads: [
          ...pairs(["int", "uint", "double", "duration"]),
          [["timestamp", "duration"], always(TIMESTAMP)],
          [["duration", "timestamp"], always(TIMESTAMP)],
          [["string", "string"], joined(text)],
          [["bytes", "bytes"], joined(bytes)],
          [["list", "list"], (a) => list(either(elements(present(a[0])), elements(present(a[1]))), sum(a))],
        ],
        cost: (a) =>
          CALL +
          (a[0]?.kind === "list" || a[0]?.kind === "dyn"
            ? sum(a) * 6
            : a.some((x) => x.size > 1)
              ? sum(a)
              : 0),
      },
    ],
    [
      "_-_",
      arithmetic(
        ...pairs(["int", "uint", "double", "duration"]),
        [["timestamp", "timestamp"], always(DURATION)],
        [["timestamp", "duration"], always(TIMESTAMP)],
      ),
    ],
    ["_*_", arithmetic(...pairs(["int", "uint", "double"]))],
    ["_/_", arithmetic(...pairs(["int", "uint", "double"]))],
    ["_%_", arithmetic(...pairs(["int", "uint"]))],
    [
      "@in",
      {
        overloads: [
          [["dyn", "list"], always(BOOL)],
          [["dyn", "map"], always(BOOL)],
        ],
        cost: (a) =>
          a[1]?.kind === "map"
            ? CALL + 40
            : CALL +
              product(Math.min(size(a[1]), VALUES_LIMIT), 10 + Math.min(weight(a[0]), weight(a[1]?.of)) / 20),
      },
    ],
    [
      "size",
      {
        overloads: each(["string", "bytes", "list", "map"], INT),
        cost: (a) => CALL + (a[0]?.kind === "string" || a[0]?.kind === "dyn" ? size(a[0]) / 4 : 1),
        form: "both",
      },
    ],
    ["startsWith", substring((_, m) => m)],
    ["endsWith", substring((_, m) => m)],
    ["contains", substring((n, m) => product(n, m))],
    [
      "matches",
      {
        overloads: [[["string", "string"], always(BOOL)]],
        cost: (a) => CALL + 100 + product(size(a[0]), patternSize(present(present(a[1]).literal)) * 4),
        form: "both",
        literal: { at: 1, check: () => null },
      },
    ],
    ["int", converts(INT, ["int", "uint", "double", "string", "timestamp", "duration"])],
    ["uint", converts(UINT, ["int", "uint", "double", "string"])],
    ["double", converts(DOUBLE, ["int", "uint", "double", "string"])],
    ["bool", converts(BOOL, ["bool", "string"])],
    [
      "bytes",
      {
        overloads: [
          [["bytes"], (a) => present(a[0])],
          [["string"], (a) => bytes(size(a[0]) * 3)],
        ],
        cost: (a) => CALL + size(a[0]),
      },
    ],
    [
      "string",
      {
        overloads: [
          [["string"], (a) => present(a[0])],
          [["bytes"], (a) => text(size(a[0]))],
          ...each(["bool", "int", "uint", "double", "timestamp", "duration"], text(64)),
        ],
        cost: (a) => CALL + (a[0]?.kind === "bytes" || a[0]?.kind === "dyn" ? size(a[0]) : 200),
      },
    ],
    ["timestamp", converts(TIMESTAMP, ["timestamp", "string"], 60)],
    ["duration", converts(DURATION, ["duration", "string"], 60)],
    ["type", { overloads: [[["dyn"], always(TYPE)]], cost: constant(CALL) }],
    [
      "dyn",
      {
        overloads: [[["dyn"], (a) => ({ ...present(a[0]), kind: "dyn" })]],
        cost: constant(CALL),
      },
    ],
    ...["getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"].map(
      (n): [string, Callable] => [n, getter(["timestamp"])],
    ),
    ...["getHours", "getMinutes", "getSeconds", "getMilliseconds"].map((n): [string, Callable] => [
      n,
      getter(["timestamp", "duration"]),
    ]),
  ]);

export type Functions = (name: string, method: boolean, args: readonly Known[]) => Called;

/** What the call of a function yields and costs, or why it is refused. */
export function functionsOf(patternSize: PatternSize): Functions {
  const functions = table(patternSize);
  return (name, method, args) => {
    const shown = name.replace(/^@/, "");
    const f = functions.get(name);
    if (f === undefined) throw new ExpressionError(`function \`${shown}\` is not supported`);
    if (f.form !== "both" && (f.form === "method") !== method)
      throw new ExpressionError(`\`${shown}\` is ${f.form === "method" ? "called on a value" : "no method"}`);
    const fits = f.overloads.filter(
      ([kinds]) =>
        kinds.length === args.length &&
        kinds.every((k, i) => k === "dyn" || args[i]?.kind === "dyn" || args[i]?.kind === k),
    );
    const [first] = fits;
    if (first === undefined)
      throw new ExpressionError(`\`${shown}\` does not take ${args.map(nameOf).join(", ") || "nothing"}`);
    if (f.literal !== undefined && args.length > f.literal.at) {
      const literal = args[f.literal.at]?.literal;
      if (literal === undefined) throw new ExpressionError(`\`${shown}\` takes only a literal text here`);
      const fault = f.literal.check(literal);
      if (fault !== null) throw new ExpressionError(fault);
    }
    const yields = fits.map(([, y]) => y(args)).reduce(either);
    return { yields, cost: f.cost(args) };
  };
}
