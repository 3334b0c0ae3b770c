// The engine's environment: what it brings, and our own functions where its own are unbounded, depend on the
// process's time zone, or are not exact.

import { CelScalar, celEnv, celFunc, celList, celMethod, listType, mapType, objectType } from "@bufbuild/cel";
import type { CelEnv, CelFunc, CelList, CelMap, CelUint } from "@bufbuild/cel";
import type { Constant, Expr } from "@bufbuild/cel-spec/cel/expr/syntax_pb.js";
import { RE2JS } from "re2js";
import { messageOf, present } from "../contracts/contracts.ts";
import { functionsOf } from "./cel-functions.ts";
import type { Functions } from "./cel-functions.ts";
import { ExpressionError } from "./cel-type.ts";

const { BOOL, DOUBLE, INT, STRING, UINT } = CelScalar;
const LIST = listType(CelScalar.DYN);
const MAP = mapType(CelScalar.DYN, CelScalar.DYN);
const TIMESTAMP = objectType("google.protobuf.Timestamp");

const PATTERN_LENGTH = 1000;
function compiled(pattern: string): RE2JS {
  if (pattern.length > PATTERN_LENGTH) throw new ExpressionError(`a pattern longer than ${PATTERN_LENGTH}`);
  try {
    return RE2JS.compile(pattern);
  } catch (error) {
    throw new ExpressionError(`pattern \`${pattern}\`: ${messageOf(error)}`);
  }
}
/** Each is made once. */
function kept<T>(make: (name: string) => T): (name: string) => T {
  const made = new Map<string, T>();
  return (name) => {
    const known = made.get(name) ?? make(name);
    made.set(name, known);
    return known;
  };
}

function points(text: string): bigint {
  let n = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0xd800 && unit < 0xdc00) n--;
  }
  return BigInt(n);
}

const inMap = (key: string | bigint | boolean | number | CelUint, map: CelMap): boolean =>
  map.get(key) !== undefined;
const joined = (a: CelList, b: CelList): CelList => celList([...a, ...b]);

const INTEGER = /^-?[0-9]{1,20}$/;
function integer(text: string, min: bigint, max: bigint): bigint {
  if (!INTEGER.test(text)) throw new RangeError(`\`${text.slice(0, 40)}\` is no integer`);
  const n = BigInt(text);
  if (n < min || n > max) throw new RangeError("the integer is out of range");
  return n;
}
const INT64 = 2n ** 63n;
const FLOAT = /^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$/;
const WORDS = new Map([
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["+Infinity", Number.POSITIVE_INFINITY],
  ["-Infinity", Number.NEGATIVE_INFINITY],
]);
function double(text: string): number {
  const word = WORDS.get(text);
  if (word !== undefined) return word;
  if (!FLOAT.test(text)) throw new RangeError(`\`${text.slice(0, 40)}\` is no number`);
  return Number(text);
}

/** A moment on the clock of a zone, of which only the parts are ever asked. */
type Clock = Date;

const formatOf = (timeZone: string): Intl.DateTimeFormat =>
  new Intl.DateTimeFormat("en-US-u-ca-iso8601-nu-latn", {
    timeZone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });

/** A date whose UTC parts are the wall clock's in the zone. */
function wallClock(epochMs: number, zone: string, formats: typeof formatOf): Clock {
  const fixed = /^([+-]?)(\d\d):(\d\d)$/.exec(zone);
  if (fixed !== null) {
    const offset = (Number(fixed[2]) * 60 + Number(fixed[3])) * 60_000;
    return new Date(fixed[1] === "-" ? epochMs - offset : epochMs + offset);
  }
  const parts = new Map(
    formats(zone)
      .formatToParts(epochMs)
      .map((p) => [p.type, Number(p.value)]),
  );
  const part = (name: Intl.DateTimeFormatPartTypes): number => present(parts.get(name));
  const clock = new Date(0);
  clock.setUTCFullYear(part("year"), part("month") - 1, part("day"));
  clock.setUTCHours(part("hour"), part("minute"), part("second"), ((epochMs % 1000) + 1000) % 1000);
  return clock;
}

/** The milliseconds of a timestamp as the engine holds it. */
export function epochOf(value: unknown): number {
  if (typeof value === "object" && value !== null && "message" in value) {
    const { message } = value;
    if (typeof message === "object" && message !== null && "seconds" in message && "nanos" in message)
      if (typeof message.seconds === "bigint" && typeof message.nanos === "number")
        return Number(message.seconds) * 1000 + Math.floor(message.nanos / 1_000_000);
  }
  throw new TypeError("not a timestamp");
}

const DAY = 86_400_000;
const PARTS: Readonly<Record<string, (c: Clock) => number>> = {
  getFullYear: (c) => c.getUTCFullYear(),
  getMonth: (c) => c.getUTCMonth(),
  getDate: (c) => c.getUTCDate(),
  getDayOfMonth: (c) => c.getUTCDate() - 1,
  getDayOfWeek: (c) => c.getUTCDay(),
  getDayOfYear: (c) => {
    const start = new Date(0);
    start.setUTCFullYear(c.getUTCFullYear(), 0, 1);
    return Math.floor((c.getTime() - start.getTime()) / DAY);
  },
  getHours: (c) => c.getUTCHours(),
  getMinutes: (c) => c.getUTCMinutes(),
  getSeconds: (c) => c.getUTCSeconds(),
  getMilliseconds: (c) => c.getUTCMilliseconds(),
};
const getters = (formats: typeof formatOf): CelFunc[] =>
  Object.entries(PARTS).flatMap(([name, part]) => [
    celMethod(name, TIMESTAMP, [], INT, function () {
      return BigInt(part(new Date(epochOf(this))));
    }),
    celMethod(name, TIMESTAMP, [STRING], INT, function (zone) {
      return BigInt(part(wallClock(epochOf(this), zone, formats)));
    }),
  ]);

const OWN: CelFunc[] = [
  celFunc("_+_", [LIST, LIST], LIST, joined),
  celFunc("size", [STRING], INT, points),
  celMethod("size", STRING, [], INT, function () {
    return points(this);
  }),
  celFunc("@has", [MAP, STRING], BOOL, (map, name) => map.get(name) !== undefined),
  celFunc("@in", [STRING, MAP], BOOL, inMap),
  celFunc("@in", [INT, MAP], BOOL, inMap),
  celFunc("@in", [UINT, MAP], BOOL, inMap),
  celFunc("@in", [DOUBLE, MAP], BOOL, inMap),
  celFunc("@in", [BOOL, MAP], BOOL, inMap),
  celFunc("int", [STRING], INT, (s) => integer(s, -INT64, INT64 - 1n)),
  celFunc("double", [STRING], DOUBLE, double),
];

export interface Engine {
  readonly functions: Functions;
  readonly environment: CelEnv;
}

/** Patterns and zones are literals: what was made of each is kept as long as the engine, which a policy has of its own. */
export function createEngine(): Engine {
  const patterns = kept(compiled);
  return {
    functions: functionsOf((pattern) => patterns(pattern).programSize()),
    environment: celEnv({
      funcs: [
        ...OWN,
        celFunc("matches", [STRING, STRING], BOOL, (s, p) => patterns(p).test(s)),
        celMethod("matches", STRING, [STRING], BOOL, function (p) {
          return patterns(p).test(this);
        }),
        ...getters(kept(formatOf)),
      ],
    }),
  };
}

const constant = (constantKind: Constant["constantKind"]): Expr => ({
  $typeName: "cel.expr.Expr",
  id: 0n,
  exprKind: { case: "constExpr", value: { $typeName: "cel.expr.Constant", constantKind } },
});
/**
 * Puts our own test in the place of `has(x.f)` and `"f" in x`: for the engine a member that is null is not there,
 * and `!has(…)` would hold for what was sent.
 */
export function ownPresence(expr: Expr | undefined): void {
  if (expr === undefined) return;
  const kind = expr.exprKind;
  switch (kind.case) {
    case "selectExpr": {
      const { operand, field, testOnly } = kind.value;
      ownPresence(operand);
      if (!testOnly || operand === undefined) return;
      const name = constant({ case: "stringValue", value: field });
      expr.exprKind = {
        case: "callExpr",
        value: { $typeName: "cel.expr.Expr.Call", function: "@has", args: [operand, name] },
      };
      return;
    }
    case "callExpr":
      ownPresence(kind.value.target);
      kind.value.args.forEach(ownPresence);
      return;
    case "listExpr":
      kind.value.elements.forEach(ownPresence);
      return;
    case "structExpr":
      for (const entry of kind.value.entries) {
        if (entry.keyKind.case === "mapKey") ownPresence(entry.keyKind.value);
        ownPresence(entry.value);
      }
      return;
    case "comprehensionExpr": {
      const c = kind.value;
      [c.iterRange, c.accuInit, c.loopCondition, c.loopStep, c.result].forEach(ownPresence);
      return;
    }
    case "constExpr":
    case "identExpr":
    case undefined:
  }
}
