// The door of the policy: document to compiled policy, what is wrong with it, and the signed bundle around it.

export * from "./bundle.ts";
export { compilePolicy, NO_POLICY } from "./compile.ts";
export type { CompileOptions } from "./compile.ts";
export { completeFacts, parseCall, parseFacts } from "./facts.ts";
export { lintPolicy, LINTS, matchesPattern } from "./lint.ts";
export type { LintFinding, LintName } from "./lint.ts";
export { parsePolicy, POLICY } from "./shape.ts";
export type { Shape } from "./shape.ts";
