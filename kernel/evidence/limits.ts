// What a pack that verifies does not prove: the words of SECURITY.md, said with every verdict, so that nobody takes more
// from it than it holds.

export const NOT_PROVED: readonly string[] = [
  "The time: the guardian's clock is its own; only order is proved.",
  "Completeness before the first checkpoint and after the last one, or of a journal whose whole volume was rolled back or destroyed and which has no ledger.",
  "That the model, the tool or the connector told the truth: what is recorded is what the guardian saw; an EFFECT says what the connector answered, not what it did.",
  "That the policy was wise, or that a verdict follows from it: `atoll replay` decides each call again.",
  "Redacted inputs and condensed nodes: that they were there is proved, not what they said.",
  "The guardian itself: whoever held its key could sign as it until the key was revoked.",
];
