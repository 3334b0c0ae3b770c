// What a person is shown before they sign, and what they type.

import { createInterface } from "node:readline/promises";
import type { Io, Output } from "./io.ts";

/** Shows the lines, a page at a time where a person sits at a terminal. False when they did not read to the end. */
export async function shownTo(
  io: Io,
  lines: readonly string[],
  interactive: boolean,
  out: Output = io.stdout,
): Promise<boolean> {
  const stream =
    out === process.stdout ? process.stdout : out === process.stderr ? process.stderr : undefined;
  const terminal = interactive && stream?.isTTY === true ? stream : undefined;
  const width = terminal === undefined ? 0 : Math.max(20, terminal.columns || 80);
  // A line wider than the terminal is broken here, so that a page is what fits on the screen.
  const rows = terminal === undefined ? lines : lines.flatMap((l) => pieces(l, width));
  const page = terminal === undefined ? rows.length : Math.max(5, (terminal.rows || 24) - 2);
  for (let at = 0; at < rows.length; at += page) {
    out.write(`${rows.slice(at, at + page).join("\n")}\n`);
    const left = rows.length - at - page;
    if (
      left > 0 &&
      !/^$/.test((await question(io, `-- ${left} more lines: Enter goes on, q ends -- `)).trim())
    )
      return false;
  }
  return true;
}
/** A line in rows of the terminal's width, broken at a space where one is near the end. */
export function pieces(text: string, width: number): string[] {
  const out: string[] = [];
  let row: string[] = [];
  let used = 0;
  for (const character of text) {
    const wide = columnsOf(character);
    if (used + wide > width) {
      const space = row.lastIndexOf(" ");
      const keep = space > row.length / 2 ? row.splice(space + 1) : [];
      out.push(row.join(""));
      row = keep;
      used = keep.reduce((sum, c) => sum + columnsOf(c), 0);
    }
    row.push(character);
    used += wide;
  }
  return [...out, row.join("")];
}
// Rather too wide than too narrow: a page that is longer than the screen would push its beginning out of sight.
const columnsOf = (character: string): number => ((character.codePointAt(0) ?? 0) >= 0x1100 ? 2 : 1);

export async function question(io: Io, text: string): Promise<string> {
  if (io.stdin !== process.stdin) return "";
  // On standard error, so that standard output stays a document.
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await reader.question(text);
  } finally {
    reader.close();
  }
}
