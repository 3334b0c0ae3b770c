// The executor as it ships: one file. Built once per test file, into a folder of its own.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";

export function buildExecutor(): { readonly entry: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "atoll-executor-"));
  const entry = join(folder, "executor.mjs");
  buildSync({
    entryPoints: [fileURLToPath(new URL("../../kernel/runtime/sandbox/executor.ts", import.meta.url))],
    bundle: true,
    platform: "node",
    format: "esm",
    outfile: entry,
    logLevel: "error",
  });
  return { entry, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
