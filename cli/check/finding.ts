// What a check is, and what it finds.

import type { ListName, Snapshot } from "./snapshot.ts";

export type Level = "fail" | "warn" | "info";
export interface Finding {
  readonly level: Level;
  readonly message: string;
}
export interface Check {
  readonly id: string;
  /** Also before an installation. */
  readonly pre?: true;
  /** What is true when nothing is found. */
  readonly what: string;
  /** What to do. */
  readonly hint: string;
  /** Lists without which nothing can be said. */
  readonly reads: readonly ListName[];
  readonly judge: (s: Snapshot) => readonly Finding[];
}

export const fail = (message: string): Finding => ({ level: "fail", message });
export const warn = (message: string): Finding => ({ level: "warn", message });
export const info = (message: string): Finding => ({ level: "info", message });
export const when = (broken: boolean, message: string, level: Level = "fail"): Finding[] =>
  broken ? [{ level, message }] : [];
