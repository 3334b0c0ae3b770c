// The same judgements on every major of Node: the one that the project brings, the system's, and one from the registry.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, expect, test } from "vitest";

const scratch = mkdtempSync(join(tmpdir(), "atoll-majors-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const majorOf = (node: string): string =>
  execFileSync(node, ["--version"], { encoding: "utf8" }).replace(/^v(\d+)\..*\n$/, "$1");

/** Programs by major. What cannot be had is said and left out. */
function nodes(): ReadonlyMap<string, string> {
  const found = new Map([[majorOf(process.execPath), process.execPath]]);
  const add = (path: string): void => {
    if (existsSync(path) && !found.has(majorOf(path))) found.set(majorOf(path), path);
  };
  for (const folder of ["/usr/local/bin", "/usr/bin", "/opt/node/bin"]) add(join(folder, "node"));
  const name = `node-linux-${process.arch}`;
  try {
    execFileSync("npm", ["install", "--no-save", "--silent", "--prefix", scratch, `${name}@24`], {
      stdio: "pipe",
      timeout: 100_000,
    });
    add(join(scratch, "node_modules", name, "bin", "node"));
  } catch {
    console.log(`${name}@24 could not be had from the registry`);
  }
  return found;
}

test("ten thousand judgements have one hash on all majors of Node", { timeout: 300_000 }, async () => {
  const program = join(scratch, "traces.mjs");
  await build({
    entryPoints: ["test/guardian/traces.ts"],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    banner: {
      js: 'import { createRequire as ownRequire } from "node:module"; const require = ownRequire(import.meta.url);',
    },
    logLevel: "silent",
  });
  const found = nodes();
  expect([...found.keys()].length, "majors of Node at hand").toBeGreaterThanOrEqual(2);
  const traces = [...found.values()].map(
    (node): { node: string; n: number; hash: string; kinds: number; allowed: number } =>
      JSON.parse(execFileSync(node, [program], { encoding: "utf8", timeout: 120_000 })),
  );
  for (const t of traces) console.log(`node ${t.node}: ${t.n} judgements of ${t.kinds} kinds, ${t.hash}`);
  const [first] = traces;
  expect(first?.n).toBe(10_000);
  expect(first?.kinds).toBeGreaterThan(10);
  expect(first?.allowed).toBeGreaterThan(100);
  expect(new Set(traces.map((t) => t.hash)).size).toBe(1);
  expect(new Set(traces.map((t) => t.node.split(".")[0])).size).toBe(traces.length);
});
