// Stands where tests import `vitest`: collects their cases, so that each can be run again and again.

import { expect } from "vitest";

export interface Case {
  readonly file: string;
  readonly name: string;
  readonly run: () => unknown;
}
let file = "";
let cases: Case[] = [];
/** The cases of a file, once it was read. */
export async function casesOf(path: string, read: () => Promise<unknown>): Promise<readonly Case[]> {
  file = path;
  cases = [];
  await read();
  return cases;
}

type Run = (...row: readonly never[]) => unknown;
const isRun = (v: unknown): v is Run => typeof v === "function";
function add(name: string, a: unknown, b: unknown, row: readonly unknown[] = []): void {
  const run = [a, b].find(isRun);
  if (run !== undefined) cases.push({ file, name, run: () => Reflect.apply(run, undefined, row) });
}
const each =
  (table: readonly unknown[]) =>
  (name: string, a: unknown, b?: unknown): void => {
    for (const row of table) add(name, a, b, Array.isArray(row) ? row : [row]);
  };
const test = Object.assign((name: string, a: unknown, b?: unknown): void => add(name, a, b), { each });
const describe = Object.assign((_name: string, run: () => void): void => run(), {
  each:
    (table: readonly unknown[]) =>
    (_name: string, run: Run): void => {
      for (const row of table) Reflect.apply(run, undefined, Array.isArray(row) ? row : [row]);
    },
});
/** What a test finds when it asks for vitest. */
export const STAND_IN = { describe, expect, test, it: test };
