// The door of the proof graph: the tree over all nodes, checkpoints, and the check of chains and their links.

export * from "./chain.ts";
export * from "./checkpoint.ts";
export * from "./merkle.ts";
