// The checks, in the order in which a person would mend: each looks at the snapshot alone, and brings a hint that mends it.

import { INSTALLATION } from "./installation.ts";
import { PODS } from "./pods.ts";
import { POLICY } from "./policies.ts";
import type { Check, Finding } from "./finding.ts";
import type { Snapshot } from "./snapshot.ts";

export const CHECKS: readonly Check[] = [...INSTALLATION, ...POLICY, ...PODS];

export interface Result {
  readonly id: string;
  readonly what: string;
  readonly hint: string;
  readonly findings: readonly Finding[];
  /** Why nothing could be said; "" when something was. */
  readonly skipped: string;
}
/** All results in order; after an API server that does not answer nothing else is asked. */
export function judge(s: Snapshot, pre: boolean): Result[] {
  const results: Result[] = [];
  for (const c of CHECKS) {
    if (pre && c.pre !== true) continue;
    const unread = c.reads.find((name) => s.unread[name] !== undefined);
    const skipped = unread === undefined ? "" : `${unread} could not be read: ${s.unread[unread] ?? ""}`;
    const findings = skipped === "" ? c.judge(s) : [];
    results.push({ id: c.id, what: c.what, hint: c.hint, findings, skipped });
    if (c.id === "api" && findings.length > 0) break;
  }
  return results;
}
