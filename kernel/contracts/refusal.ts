// Why and where bytes are not strict JSON: the exact grammar, walked byte by byte. Too slow for the way in, and
// never on it: it only runs once it is clear that the bytes will be refused.

import { present } from "./ids.ts";
import type { JsonLimits } from "./json.ts";

export interface Refusal {
  readonly reason: string;
  readonly offset: number;
}

class Found extends Error {
  readonly reason: string;
  readonly offset: number;
  constructor(reason: string, offset: number) {
    super(reason);
    this.reason = reason;
    this.offset = offset;
  }
}

/** The first thing that is wrong; null when the bytes are strict JSON. */
export function locate(bytes: Uint8Array, limits: JsonLimits): Refusal | null {
  try {
    walk(bytes, limits);
    return null;
  } catch (e) {
    if (e instanceof Found) return { reason: e.reason, offset: e.offset };
    throw e;
  }
}

const DECODER = new TextDecoder();

const isDigit = (c: number): boolean => c >= 0x30 && c <= 0x39;
const isSpace = (c: number): boolean => c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09;

function walk(bytes: Uint8Array, limits: JsonLimits): void {
  let at = 0;
  let members = 0;
  // One entry per open container: the keys of an object so far, null for an array.
  const open: (string[] | Set<string> | null)[] = [];
  const peek = (ahead = 0): number => bytes[at + ahead] ?? -1;
  const fail = (reason: string, offset = at): never => {
    throw new Found(offset >= bytes.length ? "the text ends too early" : reason, offset);
  };
  // The decoder costs as much as a dozen letters, and most keys are short.
  const text = (start: number, end: number): string => {
    const decoded = (): string => DECODER.decode(bytes.subarray(start, end));
    if (end - start > 16) return decoded();
    let short = "";
    for (let i = start; i < end; i++) {
      const c = present(bytes[i]);
      if (c >= 0x80) return decoded();
      short += String.fromCharCode(c);
    }
    return short;
  };
  const skip = (): void => {
    while (isSpace(peek())) at++;
  };

  if (peek() === 0xef && peek(1) === 0xbb && peek(2) === 0xbf) fail("a byte order mark");
  skip();
  for (;;) {
    // Here a value is expected.
    const c = peek();
    let ended = true;
    if (c === 0x7b || c === 0x5b) {
      if (open.length >= limits.depth) fail(`deeper than ${limits.depth}`);
      const own: string[] = [];
      open.push(c === 0x7b ? own : null);
      at++;
      skip();
      if (peek() === (c === 0x7b ? 0x7d : 0x5d)) {
        at++;
        open.pop();
      } else {
        ended = false;
        if (c === 0x7b) key(own);
      }
    } else if (c === 0x22) string();
    else if (c === 0x2d || isDigit(c)) number();
    else if (c === 0x74) word("true");
    else if (c === 0x66) word("false");
    else if (c === 0x6e) word("null");
    else fail("a value was expected");
    if (!ended) continue;
    // Here a value has ended: close what closes with it, or go on to the next one.
    let next = false;
    while (!next) {
      skip();
      if (open.length === 0) {
        if (at < bytes.length) fail("something follows the value");
        return;
      }
      const keys = open.at(-1);
      if (peek() === 0x2c) {
        at++;
        skip();
        if (keys) key(keys);
        next = true;
      } else if (peek() === (keys ? 0x7d : 0x5d)) {
        at++;
        open.pop();
      } else fail(`\`,\` or \`${keys ? "}" : "]"}\` was expected`);
    }
  }

  function key(keys: string[] | Set<string>): void {
    const start = at;
    if (peek() !== 0x22) fail("a key was expected");
    // Valid once it has been walked, so the platform may unescape it.
    const name = string() ? String(JSON.parse(text(start, at))) : text(start + 1, at - 1);
    if (++members > limits.keys) fail(`more than ${limits.keys} keys`, start);
    if (keys instanceof Set) {
      if (keys.has(name)) fail("a duplicate key", start);
      keys.add(name);
    } else {
      if (keys.includes(name)) fail("a duplicate key", start);
      if (keys.push(name) === 16) open[open.length - 1] = new Set(keys);
    }
    skip();
    if (peek() !== 0x3a) fail("`:` was expected");
    at++;
    skip();
  }

  function word(w: string): void {
    for (let i = 0; i < w.length; i++) if (peek(i) !== w.charCodeAt(i)) fail("a value was expected", at + i);
    at += w.length;
  }

  function digits(): void {
    if (!isDigit(peek())) fail("a digit was expected");
    while (isDigit(peek())) at++;
  }

  function number(): void {
    const start = at;
    if (peek() === 0x2d) at++;
    if (peek() === 0x30) {
      at++;
      if (isDigit(peek())) fail("a number with a leading zero");
    } else digits();
    let plain = true;
    if (peek() === 0x2e) {
      plain = false;
      at++;
      digits();
    }
    if (peek() === 0x65 || peek() === 0x45) {
      plain = false;
      at++;
      if (peek() === 0x2b || peek() === 0x2d) at++;
      digits();
    }
    const tooLong = plain && at - start > 17;
    const n = tooLong ? 0 : Number(text(start, at));
    if (tooLong || (plain && !Number.isSafeInteger(n))) fail("an integer beyond ±(2^53−1)", start);
    if (!Number.isFinite(n)) fail("a number that is not finite", start);
  }

  /** Steps over a string; whether it has an escape. */
  function string(): boolean {
    let escaped = false;
    at++;
    for (;;) {
      const c = peek();
      if (c === 0x22) break;
      if (c < 0) fail("", bytes.length);
      if (c < 0x20) fail("a control character in a string");
      if (c === 0x5c) {
        escaped = true;
        escape();
      } else if (c < 0x80) at++;
      else at += utf8();
    }
    at++;
    return escaped;
  }

  function escape(): void {
    const start = at;
    if (peek(1) !== 0x75) {
      if (!'"\\/bfnrt'.includes(String.fromCharCode(peek(1)))) fail("an unknown escape", at + 1);
      at += 2;
      return;
    }
    const unit = hex(at + 2);
    at += 6;
    if (unit < 0xd800 || unit > 0xdfff) return;
    if (unit > 0xdbff || peek() !== 0x5c || peek(1) !== 0x75) fail("a lone surrogate", start);
    const low = hex(at + 2);
    if (low < 0xdc00 || low > 0xdfff) fail("a lone surrogate", start);
    at += 6;
  }

  function hex(start: number): number {
    for (let i = start; i < start + 4; i++)
      if (!/[0-9a-fA-F]/.test(String.fromCharCode(bytes[i] ?? 0))) fail("four hex digits were expected", i);
    return Number.parseInt(text(start, start + 4), 16);
  }

  /** Length of the well-formed UTF-8 sequence at `at` (Unicode, table 3-7). */
  function utf8(): number {
    const lead = peek();
    const second = peek(1);
    const more =
      lead >= 0xc2 && lead <= 0xdf
        ? 1
        : lead >= 0xe0 && lead <= 0xef
          ? 2
          : lead >= 0xf0 && lead <= 0xf4
            ? 3
            : 0;
    if (more === 0) fail("bytes that are not UTF-8");
    const least = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const most = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    if (second < least || second > most) fail("bytes that are not UTF-8");
    for (let i = 2; i <= more; i++) if (peek(i) < 0x80 || peek(i) > 0xbf) fail("bytes that are not UTF-8");
    return more + 1;
  }
}
