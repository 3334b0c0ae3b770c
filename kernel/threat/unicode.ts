// Characters that a reader does not see or takes for others. Ordinary writing in any script passes: emoji sequences,
// joiners between letters that use them, marks of right-to-left text in a text that has right-to-left letters.

import type { ThreatLevel } from "../contracts/contracts.ts";

export interface Hidden {
  readonly level: ThreatLevel;
  readonly says: string;
  /** The text as it looks: what is hidden taken out, look-alikes replaced. */
  readonly visible: string;
  /** What the hidden characters spell, where they spell something. */
  readonly smuggled: string;
}

// Classes are put together from pieces, since several of these characters combine with their neighbours in a literal.
const cls = (flags: string, ...pieces: readonly string[]): RegExp =>
  new RegExp(`[${pieces.join("")}]`, flags);
const ZERO = String.raw`\u00ad\u180e\u200b-\u200d\u2060-\u2064\ufeff\u{34f}`;
const MARKS = String.raw`\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f`;
const FILLERS = String.raw`\u115f\u1160\u17b4\u17b5\u3164\uffa0\u{1d173}-\u{1d17a}`;
const TAG = String.raw`\u{e0000}-\u{e007f}`;
const SELECTOR = String.raw`\u{e0100}-\u{e01ef}`;
const INVISIBLE = cls("gu", ZERO, MARKS, FILLERS, TAG, SELECTOR);
const SUSPECT = cls("u", ZERO, MARKS, FILLERS, TAG, SELECTOR);
const TAGS = /[\u{e0020}-\u{e007f}]/gu;
const FLAG = /\u{1f3f4}[\u{e0020}-\u{e007e}]{1,10}\u{e007f}/gu;
const VARIATION = cls("gu", SELECTOR);
const BIDI_OVERRIDE = /[\u202d\u202e]/u;
const BIDI = /[\u202a-\u202c\u2066-\u2069]/u;
const RTL = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;
const ZERO_IN_LATIN = new RegExp(`[A-Za-z0-9][${ZERO}]+[A-Za-z0-9]`, "u");
const WORD_SPACE = /[\u200b\u2060]/gu;

/** Null for text that hides nothing. */
export function hiddenCharacters(text: string): Hidden | null {
  const mixed = mixedWords(text);
  if (!SUSPECT.test(text)) {
    if (mixed === null) return null;
    return {
      level: "HIGH",
      says: `mixes look-alike letters of two scripts in one word`,
      visible: mixed,
      smuggled: "",
    };
  }
  const rest = text.replace(FLAG, "");
  const tags = [...rest.matchAll(TAGS)].map(([c]) =>
    String.fromCodePoint((c.codePointAt(0) ?? 0xe0020) - 0xe0000),
  );
  const selectors = [...rest.matchAll(VARIATION)].map(([c]) => (c.codePointAt(0) ?? 0xe0100) - 0xe0100 + 16);
  let level: ThreatLevel = "NONE";
  let says = "";
  const found = (l: ThreatLevel, s: string): void => {
    if (level === "HIGH") return;
    level = l;
    says = s;
  };
  if (tags.length > 0) found("HIGH", "carries invisible tag characters");
  if (selectors.length >= 4) found("HIGH", "carries bytes in variation selectors");
  if (BIDI_OVERRIDE.test(text)) found("HIGH", "reverses the direction of text");
  if (BIDI.test(text) && !RTL.test(text)) found("HIGH", "changes direction in text that has none");
  if (ZERO_IN_LATIN.test(text)) found("HIGH", "splits words with characters of no width");
  if (
    (text.match(WORD_SPACE) ?? []).length >= 16 &&
    !/[\p{Script=Thai}\p{Script=Khmer}\p{Script=Lao}\p{Script=Myanmar}]/u.test(text)
  )
    found("MEDIUM", "carries many characters of no width");
  if (mixed !== null) found("HIGH", "mixes look-alike letters of two scripts in one word");
  if (level === "NONE") return null;
  const visible = (mixed ?? text).replace(INVISIBLE, "");
  const smuggled =
    tags.length > 0 ? tags.join("") : selectors.length >= 4 ? Buffer.from(selectors).toString("utf8") : "";
  return { level, says, visible, smuggled };
}

// Letters of other scripts that look like a Latin one. A word is suspect only when it mixes these with Latin letters and
// holds no letter of the other script which looks like none: "Москва" and "Ελλάδα" are words, "pаypal" is not.
const LOOKS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    а: "a",
    в: "b",
    е: "e",
    ѕ: "s",
    і: "i",
    ј: "j",
    к: "k",
    м: "m",
    н: "h",
    о: "o",
    р: "p",
    с: "c",
    т: "t",
    у: "y",
    х: "x",
    ԁ: "d",
    ԛ: "q",
    ԝ: "w",
    ɡ: "g",
    һ: "h",
    А: "A",
    В: "B",
    Е: "E",
    Ѕ: "S",
    І: "I",
    Ј: "J",
    К: "K",
    М: "M",
    Н: "H",
    О: "O",
    Р: "P",
    С: "C",
    Т: "T",
    У: "Y",
    Х: "X",
    α: "a",
    ο: "o",
    ρ: "p",
    ν: "v",
    υ: "u",
    ι: "i",
    κ: "k",
    Α: "A",
    Β: "B",
    Ε: "E",
    Ζ: "Z",
    Η: "H",
    Ι: "I",
    Κ: "K",
    Μ: "M",
    Ν: "N",
    Ο: "O",
    Ρ: "P",
    Τ: "T",
    Υ: "Y",
    Χ: "X",
  }),
);
const WORD = /[\p{L}\p{M}]{3,64}/gu;
const LATIN = /\p{Script=Latin}/u;
const FOREIGN = /[\p{Script=Cyrillic}\p{Script=Greek}]/u;

function mixedWords(text: string): string | null {
  if (!FOREIGN.test(text) || !LATIN.test(text)) return null;
  let any = false;
  const visible = text.replace(WORD, (word) => {
    if (!FOREIGN.test(word) || !LATIN.test(word)) return word;
    let out = "";
    for (const c of word) {
      if (!FOREIGN.test(c)) {
        out += c;
        continue;
      }
      const look = LOOKS.get(c);
      if (look === undefined) return word;
      out += look;
    }
    any = true;
    return out;
  });
  return any ? visible : null;
}
