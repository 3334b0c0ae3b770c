// The conformance suite of the language: each case comes out right or is refused at load, none comes out wrong.

import {
  celList,
  celMap,
  celUint,
  isCelError,
  isCelList,
  isCelMap,
  isCelType,
  isCelUint,
  parse,
  plan,
} from "@bufbuild/cel";
import type { CelInput } from "@bufbuild/cel";
import type { Value } from "@bufbuild/cel-spec/cel/expr/value_pb.js";
import { getConformanceSuite } from "@bufbuild/cel-spec/testdata/tests.js";
import type { IncrementalTest, IncrementalTestSuite } from "@bufbuild/cel-spec/testdata/tests.js";
import { expect, test } from "vitest";
import { checkParts } from "../../kernel/guardian/cel-check.ts";
import { createEngine, ownPresence } from "../../kernel/guardian/cel-engine.ts";
import type { Engine } from "../../kernel/guardian/cel-engine.ts";
import {
  BOOL,
  DOUBLE,
  DYN,
  ExpressionError,
  INT,
  NULL,
  UINT,
  bytes,
  either,
  list,
  map,
  text,
} from "../../kernel/guardian/cel-type.ts";
import type { Known } from "../../kernel/guardian/cel-type.ts";

class Outside extends Error {}
const TYPES = new Set([
  "bool",
  "int",
  "uint",
  "double",
  "string",
  "bytes",
  "list",
  "map",
  "null_type",
  "type",
]);

/** A value of the suite as the engine takes it, and what a check would know of it. */
function valueOf(v: Value): readonly [CelInput, Known] {
  const k = v.kind;
  switch (k.case) {
    case "int64Value":
      return [k.value, INT];
    case "uint64Value":
      return [celUint(k.value), UINT];
    case "doubleValue":
      return [k.value, DOUBLE];
    case "boolValue":
      return [k.value, BOOL];
    case "nullValue":
      return [null, NULL];
    case "stringValue":
      return [k.value, text(k.value.length)];
    case "bytesValue":
      return [k.value, bytes(k.value.length)];
    case "listValue": {
      const items = k.value.values.map(valueOf);
      const of = items.map(([, known]) => known);
      return [celList(items.map(([x]) => x)), list(of.length === 0 ? DYN : of.reduce(either), items.length)];
    }
    case "mapValue": {
      const held: Known[] = [];
      const entries = k.value.entries.map(({ key, value }): [string | bigint | boolean, CelInput] => {
        if (key === undefined || value === undefined) throw new Outside("an entry without a value");
        const [name] = valueOf(key);
        const [input, known] = valueOf(value);
        held.push(known);
        if (typeof name !== "string" && typeof name !== "bigint" && typeof name !== "boolean")
          throw new Outside("key");
        return [name, input];
      });
      return [celMap(new Map(entries)), map(held.length === 0 ? DYN : held.reduce(either), held.length)];
    }
    case "enumValue":
    case "objectValue":
    case "typeValue":
    case undefined:
      throw new Outside(`a value of kind ${k.case ?? "none"}`);
  }
}

/** One text for equal values, whichever side they come from. */
function show(v: unknown): string {
  if (typeof v === "bigint") return `int ${v}`;
  if (typeof v === "number") return `double ${v === 0 ? 0 : v}`;
  if (typeof v === "string" || typeof v === "boolean" || v === null) return JSON.stringify(v);
  if (v instanceof Uint8Array) return `bytes ${Buffer.from(v).toString("hex")}`;
  if (isCelUint(v)) return `uint ${v.value}`;
  if (isCelType(v)) return `type ${v.name}`;
  if (isCelList(v)) return `[${[...v].map(show).join()}]`;
  if (isCelMap(v))
    return `{${[...v]
      .map(([a, b]) => `${show(a)}:${show(b)}`)
      .sort()
      .join()}}`;
  return "other";
}

function judge(t: IncrementalTest, engine: Engine): string {
  const { original } = t;
  const expected = original.resultMatcher;
  try {
    const bound: Record<string, CelInput> = {};
    const known = new Map<string, Known>();
    for (const [name, value] of Object.entries(original.bindings)) {
      if (value.kind.case !== "value") throw new Outside("no value");
      const [input, of] = valueOf(value.kind.value);
      bound[name] = input;
      known.set(name, of);
    }
    let wanted = "an error";
    if (expected.case === "value") {
      if (expected.value.kind.case === "typeValue") wanted = `type ${expected.value.kind.value}`;
      else wanted = show(valueOf(expected.value)[0]);
    } else if (expected.case === "typedResult") {
      if (expected.value.result === undefined) throw new Outside("a type alone");
      wanted = show(valueOf(expected.value.result)[0]);
    } else if (expected.case === undefined) wanted = "true";
    else if (expected.case !== "evalError") throw new Outside(expected.case);
    if (original.container !== "") throw new Outside("a container");
    const parsed = parse(original.expr);
    checkParts(parsed.expr, { of: (n) => known.get(n) ?? null, types: TYPES }, engine.functions);
    ownPresence(parsed.expr);
    const result = plan(engine.environment, parsed)(bound);
    const found = isCelError(result) ? "an error" : show(result);
    return found === wanted ? "right" : `${original.expr}: wanted ${wanted}, found ${found}`;
  } catch (error) {
    if (error instanceof Outside) return "outside";
    if (error instanceof ExpressionError) return "refused";
    // What the parser refuses never loads either.
    return "refused";
  }
}

const cases = (s: IncrementalTestSuite): readonly IncrementalTest[] => [
  ...s.tests,
  ...s.suites.flatMap(cases),
];

test("every case of the conformance suite is right or refused, none is wrong", () => {
  const counts = { right: 0, refused: 0, outside: 0 };
  const engine = createEngine();
  const wrong: string[] = [];
  const bySuite = new Map<string, { right: number; refused: number; outside: number }>();
  for (const suite of getConformanceSuite().suites) {
    const own = { right: 0, refused: 0, outside: 0 };
    bySuite.set(suite.name, own);
    for (const t of cases(suite)) {
      const result = judge(t, engine);
      if (result === "right" || result === "refused" || result === "outside") {
        counts[result]++;
        own[result]++;
      } else wrong.push(`${suite.name}/${t.name} ${result}`);
    }
  }
  console.log(JSON.stringify(counts), JSON.stringify(Object.fromEntries(bySuite)));
  expect(wrong).toEqual([]);
  expect(counts.right).toBeGreaterThan(500);
});
