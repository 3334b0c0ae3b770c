// The door of the OpenAI formats: strict requests, server-sent events, and answers in which every tool call is ruled.

export * from "./answer.ts";
export * from "./proposal.ts";
export * from "./request.ts";
export * from "./sse.ts";
export * from "./stream.ts";
