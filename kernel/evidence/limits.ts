// What a pack that verifies does not prove. Said with every verdict, so that nobody takes more from it than it holds.

export const NOT_PROVED: readonly string[] = [
  "time: `issued_at` is the guardian's clock; the order of nodes is proved, the hour is not",
  "completeness after the last checkpoint: nodes written later may have been left out",
  "completeness of the whole: a guardian's disk can be rolled back or destroyed, which shows only at the ledger",
  "the outside world: an EFFECT says what the connector answered, not what it did",
  "the model's honesty: arguments and outputs are recorded as they were, true or not",
  "redacted inputs: a redacted value is not bound to the hash beside it",
  "the guardian itself: whoever held its key could sign as it until the key was revoked",
];
