// One meaning under every compiler: random modules and fixtures, original against result, and the result's own lines
// the same under the baseline compiler, the optimising one, and another major version of Node.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FIXTURES } from "./fixtures.ts";
import type { Line } from "./observe.ts";
import { randomModule } from "./random.ts";

/** More by hand: ATOLL_RANDOM_MODULES=1000. */
const RANDOM = Number(process.env["ATOLL_RANDOM_MODULES"] ?? 16);
const FIRST = Number(process.env["ATOLL_RANDOM_FIRST"] ?? 1);
const folder = mkdtempSync(join(tmpdir(), "atoll-tiers-"));
const modules = mkdtempSync(join(tmpdir(), "atoll-modules-"));
const program = join(folder, "observe.mjs");

beforeAll(async () => {
  const entry = fileURLToPath(new URL("./observe.ts", import.meta.url));
  buildSync({ entryPoints: [entry], bundle: true, platform: "node", format: "esm", outfile: program });
  for (const fixture of FIXTURES)
    writeFileSync(join(modules, `fixture ${fixture.name}.wasm`), await fixture.build());
  for (let seed = FIRST; seed < FIRST + RANDOM; seed++)
    writeFileSync(join(modules, `random ${seed}.wasm`), randomModule(seed));
}, 3_600_000);
afterAll(() => {
  for (const made of [folder, modules]) rmSync(made, { recursive: true, force: true });
});

function lines(node: string, flags: readonly string[]): Line[] {
  const output = execFileSync(node, [...flags, program, modules, "--observe"], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  return output
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** A `node` of another major version, where the machine has one. */
function otherNode(): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/bin", "/usr/local/bin"];
  const own = process.versions.node.split(".")[0];
  return folders
    .map((place) => join(place, "node"))
    .find((node) => existsSync(node) && versionOf(node) !== own && Number(versionOf(node)) >= 20);
}
const versionOf = (node: string): string | undefined =>
  /^v(\d+)\./.exec(execFileSync(node, ["--version"], { encoding: "utf8" }))?.[1];

test("results mean what the originals mean, and every engine and tier sees the same", () => {
  const here = lines(process.execPath, ["--no-liftoff"]);
  expect(here.filter((line) => !line.same && line.module !== "fixture nan matrix.wasm")).toEqual([]);
  // The one module whose NaNs the engine chose itself: there the rewrite has to show.
  expect(here.filter((line) => !line.same).length).toBeGreaterThan(0);
  expect(here.filter((line) => line.ended).length).toBeGreaterThan(here.length / 2);
  const seen = here.map((line) => `${line.module} ${line.input} ${line.seen}`);
  const same = (node: string, flags: string[]): void =>
    expect(lines(node, flags).map((line) => `${line.module} ${line.input} ${line.seen}`)).toEqual(seen);
  same(process.execPath, ["--liftoff-only"]);
  const other = otherNode();
  if (other === undefined) {
    console.log("no other major version of Node on this machine: only the tiers of one were compared");
    return;
  }
  same(other, ["--no-liftoff"]);
  same(other, ["--liftoff", "--no-wasm-tier-up"]);
}, 3_600_000);
