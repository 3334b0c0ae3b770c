// How a journal fails: for now (the disk), or for good (what is on it cannot be proved).

import type { Code } from "../../kernel/contracts/contracts.ts";

/** The disk cannot be written. Nothing may happen until it can; the journal comes back by itself. */
export class JournalUnavailable extends Error {
  readonly code: Code = "JOURNAL_UNAVAILABLE";
  constructor(cause: unknown) {
    super(`the journal cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
    this.name = "JournalUnavailable";
  }
}

/** What is on the disk is not what was acknowledged. Nothing is changed; a person decides. */
export class JournalRefused extends Error {
  readonly code: Code;
  constructor(code: Code, message: string) {
    super(message);
    this.name = "JournalRefused";
    this.code = code;
  }
}
