// Mutants that change nothing anybody can see, each with its reason. An entry that a test finds, or that is no mutant any
// more, fails the run.

export const EQUAL: readonly {
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly why: string;
}[] = [];
