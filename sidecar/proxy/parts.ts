// What both ways through the proxy are given, and what they ask of a request before they read it.

import type { IncomingMessage } from "node:http";
import type { Caller, Governor } from "../govern/govern.ts";
import type { Resolver } from "../resolve/resolve.ts";
import type { Authority } from "./authority.ts";
import type { Dial } from "./dial.ts";

export interface ProxyParts {
  readonly governor: Governor;
  readonly callerOf: (request: IncomingMessage) => Caller;
  readonly resolver: () => Resolver;
  readonly dial: Dial;
  /** How long a tunnel may be silent. */
  readonly idleMs: number;
  /** How long a client may take to say its hello. */
  readonly helloMs: number;
}
export const netTarget = (to: Authority): string => `net:${to.host.replaceAll(":", "%3A")}:${to.port}`;

const ONCE: ReadonlySet<string> = new Set([
  "host",
  "content-length",
  "transfer-encoding",
  "proxy-authorization",
]);
/** What two parsers may read in two ways is read by none. */
export function faultOf(request: IncomingMessage): string | undefined {
  const seen = new Set<string>();
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    const name = (request.rawHeaders[i] ?? "").toLowerCase();
    if (!ONCE.has(name)) continue;
    if (seen.has(name)) return `header \`${name}\` is given twice`;
    seen.add(name);
  }
  if (seen.has("transfer-encoding") && seen.has("content-length"))
    return "both Content-Length and Transfer-Encoding";
  return undefined;
}
