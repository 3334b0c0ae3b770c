// Inputs for the policy parser and the loader of expressions: by grammar, and by mutation of what the project ships.
// Execution n of a seed is the same whatever ran before it, so that what breaks can be asked again alone.

import { isArray, isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import {
  BY_NAME,
  CEILING,
  DOCUMENTS,
  EVERYTHING,
  EXPRESSIONS,
  FIELDS,
  FORMS,
  KINDS,
  LIGHT,
  LITERALS,
  NAMES,
  ODD,
  PIECES,
  POLICIES,
  SYMBOLS,
  TRAPS,
} from "./fuzz-seeds.ts";

export type Execution =
  | { readonly kind: "expression"; readonly text: string; readonly open: boolean }
  | { readonly kind: "yaml"; readonly text: string }
  | { readonly kind: "document"; readonly value: JsonValue; readonly ceiling: JsonValue | undefined }
  | { readonly kind: "policy"; readonly text: string };
/** What the sources of chance are asked for: xorshift over the seed and the number of the execution. */
class Chance {
  private a: number;
  private b: number;
  constructor(seed: number, index: number) {
    this.a = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35);
    this.b = Math.imul(index ^ 0x27d4eb2f, 0x165667b1) ^ seed ^ (index / 2 ** 32);
    if ((this.a | this.b) === 0) this.a = 1;
    for (let i = 0; i < 8; i++) this.next();
  }
  private next(): number {
    let t = this.a;
    const s = this.b;
    this.a = s;
    t ^= t << 23;
    t ^= t >>> 17;
    t ^= s ^ (s >>> 26);
    this.b = t;
    return (t + s) >>> 0;
  }
  /** From 0 to n − 1. */
  below(n: number): number {
    return this.next() % n;
  }
  of<T>(list: readonly [T, ...T[]] | readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
  in(n: number): boolean {
    return this.below(n) === 0;
  }
}

/** An expression by the grammar: of kinds that fit, but for one part in thirty. */
function expression(c: Chance, depth: number, kind = "bool"): string {
  const forms = FORMS[c.in(30) ? c.of(Object.keys(FORMS)) : kind] ?? [];
  const leaves = depth > 0 ? forms : forms.filter((f) => !/\b[BISLDTUMAPZN]\b/.test(f));
  return c.of(leaves.length > 0 ? leaves : LITERALS).replace(/\b[BISLDTUMAPZN]\b/g, (letter) => {
    const inner = expression(c, depth - 1, KINDS[letter]);
    return /^[\w.]+$/.test(inner) || c.in(10) ? inner : `(${inner})`;
  });
}

/** The text with some of its pieces gone, doubled, exchanged, or replaced by words that mean something. */
function mutated(c: Chance, text: string, words: readonly string[], others: readonly string[]): string {
  let out = text;
  for (let n = 1 + c.below(3); n > 0; n--) {
    const at = c.below(out.length + 1);
    const to = Math.min(out.length, at + 1 + c.below(c.in(4) ? 40 : 4));
    switch (c.below(9)) {
      case 0:
        out = out.slice(0, at) + out.slice(to);
        break;
      case 1:
        out = out.slice(0, to) + out.slice(at);
        break;
      case 2:
      case 3:
        out = out.slice(0, at) + c.of(words) + out.slice(at);
        break;
      case 4:
        out = out.slice(0, at) + c.of(words) + out.slice(to);
        break;
      case 5:
        out = out.slice(0, at) + String.fromCharCode(c.in(4) ? c.below(65536) : c.below(128)) + out.slice(to);
        break;
      case 6:
        out = out.slice(0, at) + c.of(others).slice(0, 200);
        break;
      case 7: {
        const lines = out.split("\n");
        const line = c.below(lines.length);
        lines[line] = c.in(2) ? `  ${lines[line] ?? ""}` : (lines[c.below(lines.length)] ?? "");
        out = lines.join("\n");
        break;
      }
      default:
        out = out.slice(0, at) + out.slice(at, to).repeat(c.of([2, 2, 3, 8])) + out.slice(to);
    }
  }
  return out;
}

/** The value with one of its parts set to something else, gone, doubled, renamed or exchanged. */
function altered(c: Chance, value: JsonValue, donor: JsonValue): JsonValue {
  const part = (v: JsonValue): JsonValue => {
    let at = v;
    for (let steps = c.below(6); steps > 0; steps--) {
      const inner: readonly JsonValue[] = isArray(at) ? at : isObject(at) ? Object.values(at) : [];
      if (inner.length === 0) break;
      at = c.of(inner);
    }
    return at;
  };
  const turn = (v: JsonValue, steps: number): JsonValue => {
    if (isArray(v) && v.length > 0 && steps > 0) {
      const i = c.below(v.length);
      if (steps === 1 && c.in(4)) return c.in(2) ? v.toSpliced(i, 1) : v.toSpliced(i, 0, v[i] ?? null);
      return v.with(i, turn(v[i] ?? null, steps - 1));
    }
    if (isObject(v) && steps > 0) {
      const entries = Object.entries(v);
      if (entries.length > 0) {
        const i = c.below(entries.length);
        const [key, inner] = entries[i] ?? ["", null];
        const fits = BY_NAME.get(key);
        if (fits !== undefined && c.in(4)) return Object.fromEntries(entries.with(i, [key, c.of(fits)]));
        if (steps > 1 || !c.in(3)) return Object.fromEntries(entries.with(i, [key, turn(inner, steps - 1)]));
        if (c.in(2)) return Object.fromEntries(entries.toSpliced(i, 1));
        return Object.fromEntries(entries.with(i, [c.of(FIELDS), inner]));
      }
      return { [c.of(FIELDS)]: c.of(ODD) };
    }
    if (typeof v === "string" && c.in(3)) return mutated(c, v, SYMBOLS, EXPRESSIONS).toWellFormed();
    if (typeof v === "number" && c.in(2)) return v + c.of([-1, 1, 0.5, 2 ** 31, -(2 ** 53)]);
    return c.in(3) ? part(donor) : c.of(ODD);
  };
  return turn(value, 1 + c.below(6));
}

/** One of the inputs that are large: deep, long, wide, or the same over and over. */
function large(c: Chance): Execution {
  const n = 1 << (4 + c.below(10));
  const word = c.of(SYMBOLS);
  switch (c.below(6)) {
    case 0:
      return {
        kind: "expression",
        open: c.in(2),
        text: word.repeat(Math.ceil(Math.min(n, 9000) / word.length)),
      };
    case 1: {
      const part = c.of([
        "+1",
        ".s",
        "[0]",
        "&&true",
        " ? true : true",
        "||!x",
        "-1u",
        "=='x'",
        ",1",
        " in []",
      ]);
      return {
        kind: "expression",
        open: c.in(2),
        text: `${c.of(NAMES)}${part.repeat(Math.min(n, 9000 / part.length))}`,
      };
    }
    case 2: {
      const [a, b] = c.of([
        ["[", "]"],
        ["{a: ", "}"],
        ["- ", ""],
        ["? ", ""],
        ["a:\n ", ""],
        ["!t ", ""],
        ["&a ", ""],
      ] as const);
      return { kind: "yaml", text: `${a.repeat(n)}x${b.repeat(c.in(3) ? n - 1 : n)}` };
    }
    case 3:
      return { kind: "yaml", text: `${c.of(PIECES)}${c.of(TRAPS)}`.repeat(Math.min(n, 400)) };
    case 4: {
      let value: JsonValue = c.of(ODD);
      for (let i = Math.min(n, 4000); i > 0; i--)
        value = c.in(2) ? [value] : { [c.of(["all", "not", "x"])]: value };
      return {
        kind: "document",
        value: { ...EVERYTHING, [c.of(FIELDS)]: value, rules: [value] },
        ceiling: undefined,
      };
    }
    default: {
      const list = Array.from({ length: Math.min(n, 2000) }, () => c.of(ODD));
      return {
        kind: "document",
        value: { ...EVERYTHING, [c.of(Object.keys(EVERYTHING))]: list },
        ceiling: undefined,
      };
    }
  }
}

/** Execution number `index` of a seed. */
export function executionAt(seed: number, index: number): Execution {
  const c = new Chance(seed, index);
  const kind = c.below(10_000);
  if (kind < 2) return large(c);
  if (kind < 5) return { kind: "policy", text: mutated(c, c.of(POLICIES), TRAPS, PIECES) };
  if (kind < 70) {
    const heavy = c.in(200);
    let value: JsonValue = heavy ? c.of(DOCUMENTS) : c.of(LIGHT);
    for (let n = c.in(2) ? 1 : 1 + c.below(4); n > 0; n--) value = altered(c, value, c.of(LIGHT));
    return { kind: "document", value, ceiling: c.in(4) ? altered(c, CEILING, EVERYTHING) : undefined };
  }
  if (kind < 600) {
    const seedText = c.in(6) ? c.of(TRAPS) + c.of(TRAPS) : c.of(PIECES);
    return { kind: "yaml", text: c.in(20) ? seedText : mutated(c, seedText, TRAPS, PIECES) };
  }
  const text = c.in(6) ? c.of(EXPRESSIONS) : expression(c, c.of([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3]));
  return { kind: "expression", open: c.in(2), text: c.in(4) ? mutated(c, text, SYMBOLS, EXPRESSIONS) : text };
}
