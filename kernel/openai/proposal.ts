// A tool call as a model proposed it, and what became of it: the same for every wire format.

export interface Proposed {
  /** Which of several choices, and which call within it. */
  readonly choice: number;
  readonly index: number;
  readonly id: string;
  readonly name: string;
  /** As the model wrote it; what is released is the canonical text of what was judged. */
  readonly argsText: string;
}

export type Ruling =
  | { readonly state: "released"; readonly argsText: string }
  | { readonly state: "replaced"; readonly text: string };
