// Nothing in an argument may move the cursor, hide a character or turn the direction of what a person reads.

// Controls, formats (bidirectional marks, tags, zero widths), private and unassigned characters, every space but the
// plain one, what fonts draw as nothing, and the combining marks after the second on one letter.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{Zl}\p{Zp}\p{DI}\u2800]|(?! )\p{Zs}|(?<=\p{M}{2})\p{M}/gu;

const escaped = (c: string): string => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`;

/** One line of text with everything that a reader would not see written out. */
export const visible = (text: string): string => text.replace(HIDDEN, escaped);

/** How many characters of a text were hidden. */
export const hiddenIn = (text: string): number => [...text.matchAll(HIDDEN)].length;
