// `pattern` in linear time. ECMA-262 writes the patterns and RE2 runs them: what both read alike is passed on, what
// RE2 reads otherwise is rewritten, and what it cannot do (lookaround, backreferences) is refused when pinned.

import { RE2JS } from "re2js";
import { ContractError, present } from "../contracts/contracts.ts";

export interface LinearPattern {
  test(text: string): boolean;
  /** Instructions of the compiled program: what one character costs at most. */
  readonly size: number;
}

const MAX_PATTERN = 1024;
const MAX_PROGRAM = 5000;

export function linearPattern(pattern: string): LinearPattern {
  if (pattern.length > MAX_PATTERN)
    throw new ContractError("pattern", `longer than ${MAX_PATTERN} characters`);
  if (!isPattern(pattern)) throw new ContractError("pattern", `\`${pattern}\` is not an ECMA-262 pattern`);
  const compiled = compile(translate(pattern), pattern);
  const size = compiled.programSize();
  if (size > MAX_PROGRAM) throw new ContractError("pattern", `\`${pattern}\` is too large`);
  return { size, test: (text) => compiled.test(text) };
}

/** Compiled and never run. */
function isPattern(pattern: string): boolean {
  try {
    return new RegExp(pattern, "u") instanceof RegExp;
  } catch {
    return false;
  }
}

function compile(translated: string, pattern: string): RE2JS {
  try {
    return RE2JS.compile(translated);
  } catch {
    throw new ContractError("pattern", `\`${pattern}\` cannot be matched in linear time`);
  }
}

// WhiteSpace and LineTerminator of ECMA-262.
const SPACE =
  "\\x{9}-\\x{d}\\x{20}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}\\x{feff}";
const NOT_LINE_END = "[^\\x{a}\\x{d}\\x{2028}\\x{2029}]";
const ESCAPE =
  /^\\(?:u\{([0-9a-fA-F]+)\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|c([A-Za-z])|(p|P)\{([^}]*)\}|(.))/gsu;
const CONTROL: Readonly<Record<string, string>> = { t: "9", n: "a", v: "b", f: "c", r: "d", "0": "0" };

function translate(pattern: string): string {
  const refuse = (what: string): never => {
    throw new ContractError("pattern", `\`${what}\` in \`${pattern}\` is not supported`);
  };
  let out = "";
  let inClass = false;
  for (let i = 0; i < pattern.length; ) {
    const rest = pattern.slice(i);
    const c = rest.charAt(0);
    if (c === "\\") {
      const [escape] = rest.matchAll(ESCAPE);
      const [whole, braced, four, two, control, property, name, one] = present(escape);
      i += whole.length;
      const hex = braced ?? four ?? two;
      if (hex !== undefined) {
        const code = Number.parseInt(hex, 16);
        if (code >= 0xd800 && code <= 0xdfff) return refuse(whole);
        out += `\\x{${code.toString(16)}}`;
      } else if (control !== undefined) out += `\\x{${(control.charCodeAt(0) % 32).toString(16)}}`;
      else if (property !== undefined)
        out += `\\${property}{${propertyName(present(name)) ?? refuse(whole)}}`;
      else if (one === "s") out += inClass ? SPACE : `[${SPACE}]`;
      else if (one === "S") out += inClass ? refuse("[\\S]") : `[^${SPACE}]`;
      else if (one !== undefined && "dDwW".includes(one)) out += `\\${one}`;
      else if (one === "b" && inClass) out += "\\x{8}";
      else if (one === "b" || one === "B") out += `\\${one}`;
      else if (one !== undefined && Object.hasOwn(CONTROL, one)) out += `\\x{${present(CONTROL[one])}}`;
      else if (one !== undefined && /^[\^$\\.*+?()[\]{}|/-]$/.test(one))
        out += one === "/" ? "/" : `\\${one}`;
      else return refuse(whole);
      continue;
    }
    if (inClass) {
      if (c === "]") inClass = false;
      // RE2 reads `[:alpha:]` in a class and ECMA-262 does not.
      out += c === "[" ? "\\[" : c;
      i++;
    } else if (c === "[") {
      if (/^\[\^?\]/.test(rest)) return refuse(rest.slice(0, 3));
      inClass = true;
      out += rest.startsWith("[^") ? "[^" : "[";
      i += rest.startsWith("[^") ? 2 : 1;
    } else if (c === ".") {
      out += NOT_LINE_END;
      i++;
    } else if (c === "$") {
      out += "\\z";
      i++;
    } else if (c === "^") {
      out += "\\A";
      i++;
    } else if (rest.startsWith("(?") && !rest.startsWith("(?:")) return refuse(rest.slice(0, 4));
    else {
      const point = String.fromCodePoint(present(pattern.codePointAt(i)));
      out += point;
      i += point.length;
    }
  }
  return out;
}

// General categories by their long names, of which the specification's own example makes use.
const CATEGORIES: Readonly<Record<string, string>> = {
  Letter: "L",
  Uppercase_Letter: "Lu",
  Lowercase_Letter: "Ll",
  Number: "N",
  Decimal_Number: "Nd",
  Punctuation: "P",
  Symbol: "S",
  Separator: "Z",
  Mark: "M",
  digit: "Nd",
};
function propertyName(name: string): string | undefined {
  if (/^(L[ultmo]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?|M[nce]?)$/.test(name)) return name;
  if (Object.hasOwn(CATEGORIES, name)) return CATEGORIES[name];
  return /^Script=(Latin|Greek|Cyrillic|Han|Hiragana|Katakana|Arabic|Hebrew)$/.exec(name)?.[1];
}
