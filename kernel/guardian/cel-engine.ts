// The engine's environment: what it brings, and our own functions where its own are unbounded, depend on the
// process's time zone, or are not exact.

import {
  CelScalar,
  celEnv,
  celFunc,
  celList,
  celMethod,
  listType,
  mapType,
  objectType,
  parse,
} from "@bufbuild/cel";
import type { CelFunc, CelList, CelMap, CelUint } from "@bufbuild/cel";
import type { Expr } from "@bufbuild/cel-spec/cel/expr/syntax_pb.js";
import { RE2JS } from "re2js";
import { functionsOf } from "./cel-functions.ts";
import { ExpressionError } from "./cel-type.ts";

const { BOOL, DOUBLE, INT, STRING, UINT } = CelScalar;
const LIST = listType(CelScalar.DYN);
const MAP = mapType(CelScalar.DYN, CelScalar.DYN);
const TIMESTAMP = objectType("google.protobuf.Timestamp");

const PATTERNS = new Map<string, RE2JS>();
const PATTERN_LENGTH = 1000;

/** Patterns are literals, so each is compiled once. */
function compiled(pattern: string): RE2JS {
  const known = PATTERNS.get(pattern);
  if (known !== undefined) return known;
  if (pattern.length > PATTERN_LENGTH) throw new ExpressionError(`a pattern longer than ${PATTERN_LENGTH}`);
  let re: RE2JS;
  try {
    re = RE2JS.compile(pattern);
  } catch (error) {
    throw new ExpressionError(
      `pattern \`${pattern}\`: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  PATTERNS.set(pattern, re);
  return re;
}
export const functions = functionsOf((pattern) => compiled(pattern).programSize());

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
const formats = new Map<string, Intl.DateTimeFormat>();

/** A date whose UTC parts are the wall clock's in the zone. */
function wallClock(epochMs: number, zone: string | undefined): Clock {
  if (zone === undefined || zone === "UTC") return new Date(epochMs);
  const fixed = /^([+-]?)(\d\d):(\d\d)$/.exec(zone);
  if (fixed !== null) {
    const offset = (Number(fixed[2]) * 60 + Number(fixed[3])) * 60_000;
    return new Date(fixed[1] === "-" ? epochMs - offset : epochMs + offset);
  }
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("en-US-u-ca-iso8601-nu-latn", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
    formats.set(zone, format);
  }
  const parts = new Map(format.formatToParts(epochMs).map((p) => [p.type, Number(p.value)]));
  const part = (name: Intl.DateTimeFormatPartTypes): number => parts.get(name) ?? Number.NaN;
  const clock = new Date(0);
  clock.setUTCFullYear(part("year"), part("month") - 1, part("day"));
  clock.setUTCHours(part("hour"), part("minute"), part("second"), ((epochMs % 1000) + 1000) % 1000);
  return clock;
}

/** The milliseconds of a timestamp as the engine holds it. */
function epochOf(value: unknown): number {
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
const getters: CelFunc[] = Object.entries(PARTS).flatMap(([name, part]) => [
  celMethod(name, TIMESTAMP, [], INT, function () {
    return BigInt(part(wallClock(epochOf(this), undefined)));
  }),
  celMethod(name, TIMESTAMP, [STRING], INT, function (zone) {
    return BigInt(part(wallClock(epochOf(this), zone)));
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
  celFunc("matches", [STRING, STRING], BOOL, (s, p) => compiled(p).test(s)),
  celMethod("matches", STRING, [STRING], BOOL, function (p) {
    return compiled(p).test(this);
  }),
  ...getters,
];
export const ENVIRONMENT = celEnv({ funcs: OWN });

/**
 * Puts our own test in the place of `has(x.f)` and `"f" in x`: for the engine a member that is null is not there,
 * and `!has(…)` would hold for what was sent.
 */
export function ownPresence(expr: Expr | undefined): void {
  const kind = expr?.exprKind;
  switch (kind?.case) {
    case "selectExpr": {
      const { operand, field, testOnly } = kind.value;
      ownPresence(operand);
      if (!testOnly || expr === undefined || operand === undefined) return;
      const template = parse(`f(x, ${JSON.stringify(field)})`).expr.exprKind;
      if (template.case !== "callExpr") throw new ExpressionError("`has` cannot be rewritten");
      template.value.function = "@has";
      template.value.args[0] = operand;
      expr.exprKind = template;
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
