// The names that a policy's expressions may read, with their types and sizes.

import type { Names } from "./cel-check.ts";
import { BOOL, DYN, INT, TIMESTAMP, list, map, text } from "./cel-type.ts";
import type { Known } from "./cel-type.ts";

const space = (name: string, members: Readonly<Record<string, Known>>): Known => ({
  ...DYN,
  space: name,
  members: new Map(Object.entries(members)),
});
const name: Known = text(256);
const amounts = { calls: INT, tokens: INT, costMicroUsd: INT };
/** As many roles, labels and annotations as the API server and a token of some kilobytes can carry. */
export const ROLES = 256;
export const LABELS = 512;

const FIXED: ReadonlyMap<string, Known> = new Map([
  [
    "principal",
    space("principal", {
      id: text(512),
      serviceAccount: name,
      namespace: name,
      roles: list(name, ROLES),
      tenant: name,
      delegator: text(512),
    }),
  ],
  ["session", space("session", { calls: INT, tainted: BOOL, ageSeconds: INT })],
  [
    "budget",
    space("budget", { session: space("budget.session", amounts), daily: space("budget.daily", amounts) }),
  ],
  ["pod", space("pod", { labels: map(name, LABELS), namespace: name })],
  ["now", TIMESTAMP],
]);

const TYPES: ReadonlySet<string> = new Set([
  "bool",
  "int",
  "uint",
  "double",
  "string",
  "bytes",
  "list",
  "map",
  "null_type",
  "type",
]);

/** The names, with the arguments as the pinned schema describes them. */
export function policyNames(args: Known): Names {
  const call = space("call", {
    tool: text(320),
    connector: name,
    name: text(320),
    effect: text(2),
    sideEffect: text(16),
    source: text(16),
    destination: text(320),
    args,
  });
  return { of: (n) => (n === "call" ? call : (FIXED.get(n) ?? null)), types: TYPES };
}
