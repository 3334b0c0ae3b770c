// The first thing that is wrong with a pack or a store: where, by which code, and why.

import type { Code } from "../contracts/contracts.ts";

export interface Finding {
  readonly file: string;
  /** From 1; 0 when the file as a whole is meant. In a store it is the number of the record in its segment. */
  readonly line: number;
  readonly code: Code;
  readonly reason: string;
}

export class PackInvalid extends Error {
  readonly finding: Finding;
  constructor(finding: Finding) {
    super(
      `${finding.file}${finding.line === 0 ? "" : `:${finding.line}`}: ${finding.code}: ${finding.reason}`,
    );
    this.name = "PackInvalid";
    this.finding = finding;
  }
}

export const broken = (
  file: string,
  line: number,
  reason: string,
  code: Code = "CHAIN_BROKEN",
): PackInvalid => new PackInvalid({ file, line, code, reason });

/** What `read` gives; what it throws becomes the finding of this place. */
export function placed<T>(file: string, line: number, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof PackInvalid || !(error instanceof Error)) throw error;
    throw broken(file, line, error.message);
  }
}
