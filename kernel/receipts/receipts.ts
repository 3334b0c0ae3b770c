// The door of the receipts: nodes and their bodies, written and read.

export * from "./bodies.ts";
export * from "./nodes.ts";
