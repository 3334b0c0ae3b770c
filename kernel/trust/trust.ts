// The door of trust: which key may say what, and at which height.

export * from "./roots.ts";
