// Bundles kept in the guardian's own volume, so that a restart goes on with what was in force and not with an older
// ConfigMap. They are verified again at every start: whoever owns the disk can withhold them, never widen them.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";

export interface Pair {
  readonly bundle: JsonObject | undefined;
  readonly ceiling: JsonObject | undefined;
}
const fileOf = (journalDir: string): string => join(journalDir, "policy", "kept.json");

export function keptBundles(journalDir: string): readonly Pair[] {
  try {
    const value = parseJson(readFileSync(fileOf(journalDir)), LIMITS.policy);
    if (!isObject(value)) return [];
    const { bundle, ceiling } = value;
    return [
      {
        bundle: isObject(bundle) ? bundle : undefined,
        ceiling: isObject(ceiling) ? ceiling : undefined,
      },
    ];
  } catch {
    return [];
  }
}

export function createKeeper(
  journalDir: string,
): (bundle: JsonObject, ceiling: JsonObject | undefined) => void {
  const file = fileOf(journalDir);
  return (bundle, ceiling) => {
    mkdirSync(join(journalDir, "policy"), { recursive: true, mode: 0o700 });
    writeFileSync(`${file}.new`, JSON.stringify({ bundle, ...(ceiling === undefined ? {} : { ceiling }) }), {
      mode: 0o600,
    });
    renameSync(`${file}.new`, file);
  };
}
