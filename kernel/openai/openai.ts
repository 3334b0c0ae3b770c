// The door of the models' wire formats (OpenAI's and Anthropic's): strict requests, server-sent events, and answers in
// which every tool call is ruled.

export * from "./answer.ts";
export * from "./asked.ts";
export * from "./embeddings.ts";
export * from "./messages.ts";
export * from "./messages-stream.ts";
export * from "./proposal.ts";
export * from "./request.ts";
export * from "./responses.ts";
export * from "./responses-stream.ts";
export * from "./sse.ts";
export * from "./stream.ts";
