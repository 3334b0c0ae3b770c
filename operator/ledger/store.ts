// What a ledger needs of its store. Whoever owns the store can withhold or destroy; what is in it carries signatures of
// keys that the store does not have, so it can neither forge nor alter without being found out.

/** The records of one guardian, or of the ledger itself under the name "". */
export interface Shelf {
  readonly pod: string;
  /** Number of records that are stored, from 0 without a gap. */
  readonly count: number;
  /** What the ledger wrote with the last records: enough to go on verifying. */
  readonly state: string;
}

export interface LedgerStore {
  shelf(pod: string): Promise<Shelf | undefined>;
  shelves(): Promise<readonly Shelf[]>;
  /**
   * Stores `lines` as the records `from`, `from` + 1 … with the state, all or none; durable when it resolves. False,
   * and nothing stored, when the shelf does not end at `from` (any more).
   */
  put(pod: string, from: number, lines: readonly string[], state: string): Promise<boolean>;
  /** Up to `most` records from `from` on. */
  lines(pod: string, from: number, most: number): Promise<readonly string[]>;
  close(): Promise<void>;
}
