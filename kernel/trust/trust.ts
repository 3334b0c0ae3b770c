// The door of trust: which key may say what, and at which height.

export * from "./acts.ts";
export * from "./freezes.ts";
export * from "./registry.ts";
export * from "./roots.ts";
export * from "./succession.ts";
