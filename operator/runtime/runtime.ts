// The door of the controller runtime: reach the API server, keep copies, work keys, hold a lease, tell what happened.

export * from "./access.ts";
export * from "./client.ts";
export * from "./events.ts";
export * from "./lease.ts";
export * from "./queue.ts";
export * from "./reflector.ts";
