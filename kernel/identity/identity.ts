// The door of identity: relations between subjects and objects, and bearer tokens.

export { compileRelations } from "./relations.ts";
export type { Relates } from "./relations.ts";
export { tokenVerifier } from "./token.ts";
export type { Claims, TokenAnswer, TokenRules, VerifyToken } from "./token.ts";
