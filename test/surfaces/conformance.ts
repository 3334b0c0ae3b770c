// The conformance suite of the protocol's authors as a process, its verdict read scenario by scenario.

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Check {
  readonly id: string;
  readonly status: string;
  readonly errorMessage?: string;
}
export const STABLE = "node_modules/@modelcontextprotocol/conformance/dist/index.js";
/** The release that has the scenarios of 2026-07-28. */
export const NEXT = "node_modules/mcp-conformance-next/dist/index.js";

/** Every check of every scenario of a specification, by scenario. */
export async function conformance(
  program: string,
  url: string,
  specification: string,
): Promise<Map<string, readonly Check[]>> {
  const folder = mkdtempSync(join(tmpdir(), "atoll-conformance-"));
  try {
    await new Promise<void>((resolve) =>
      execFile(
        process.execPath,
        [program, "server", "--url", url, "--suite", "all", "--spec-version", specification, "-o", folder],
        { timeout: 240_000, maxBuffer: 64 << 20 },
        () => resolve(),
      ),
    );
    const found = new Map<string, readonly Check[]>();
    for (const name of readdirSync(folder)) {
      const scenario = /^server-(.+?)-\d{4}-\d{2}-\d{2}T/.exec(name)?.[1];
      if (scenario !== undefined)
        found.set(scenario, JSON.parse(readFileSync(join(folder, name, "checks.json"), "utf8")) as Check[]);
    }
    return found;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The checks that fail, as text. */
export const failures = (found: Map<string, readonly Check[]>): string[] =>
  [...found].flatMap(([scenario, checks]) =>
    checks.flatMap((c) =>
      c.status === "FAILURE" ? [`${scenario}/${c.id}: ${c.errorMessage ?? ""}`.slice(0, 300)] : [],
    ),
  );
