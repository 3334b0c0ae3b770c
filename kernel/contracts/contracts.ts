// The door of the contracts: bytes to values, names, codes, and the shapes that pass between the parts.

export * from "./codes.ts";
export * from "./document.ts";
export * from "./ids.ts";
export * from "./json.ts";
export * from "./shape.ts";
export * from "./policy.ts";
export * from "./values.ts";
