// The parts under mutation and the tests that have to find the mutants.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { mutate } from "./mutate.ts";
import type { Site } from "./mutate.ts";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const ROOT = here("../../../");
const PARTS = (process.env["ATOLL_MUTATE"] ?? "guardian,receipts,proofgraph").split(",");

export const TESTS: readonly string[] = [
  "guardian/guardian",
  "guardian/gates",
  "guardian/requirements",
  "guardian/approval",
  "guardian/cel",
  "guardian/expressions",
  "guardian/cel-conformance",
  "guardian/monotone",
  "receipts/nodes",
  "receipts/bodies",
  "proofgraph/chain",
  "proofgraph/notes",
  "proofgraph/merkle",
  "proofgraph/damage",
  "executor/executor",
  "executor/ends",
  "executor/fail-closed",
  "ceremony/ceremony",
];

export const sites: Site[] = [];

export const mutants = () => ({
  name: "mutants",
  enforce: "pre" as const,
  resolveId(source: string, importer: string | undefined) {
    if (source === "vitest" && importer !== undefined && /\/test\/(?!long\/)/.test(importer))
      return here("shim.ts");
    return undefined;
  },
  transform(_code: string, id: string) {
    const path = id.replace(ROOT, "").split("?")[0] ?? "";
    if (!PARTS.some((p) => path.startsWith(`kernel/${p}/`))) return undefined;
    const { text, sites: found } = mutate(
      path,
      readFileSync(id.split("?")[0] ?? id, "utf8"),
      1 + hash(path) * 10_000,
    );
    return { code: `${text}\n(globalThis.__sites ??= []).push(...${JSON.stringify(found)});\n`, map: null };
  },
});
/** A number of its own for each file, whatever the order in which they are read. */
const numbers = new Map<string, number>();
function hash(path: string): number {
  const n = numbers.get(path) ?? numbers.size + 1;
  numbers.set(path, n);
  return n;
}
