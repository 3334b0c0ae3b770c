// The programs as they ship, side by side in one folder: the sandbox finds its executor there.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { afterAll, expect, test } from "vitest";
import { bundles, root } from "../../kind-e2e/build.ts";
import { recipes } from "../../kind-e2e/images.ts";
import { guest, print } from "./wat.ts";

const folder = mkdtempSync(join(tmpdir(), "atoll-shipped-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a shipped program runs a module by the executor beside it, and says so when it is not there", () => {
  writeFileSync(join(folder, "package.json"), '{"type":"module"}\n');
  for (const { file, entry } of bundles)
    if (file === "atoll.js" || file === "executor.js")
      buildSync({
        absWorkingDir: root,
        entryPoints: [entry],
        outfile: join(folder, file),
        bundle: true,
        platform: "node",
        format: "esm",
        logLevel: "error",
        external: ["pg-native"],
        banner: {
          js: 'import { createRequire as atollRequire } from "node:module"; const require = atollRequire(import.meta.url);',
        },
      });
  const module = join(folder, "hello.wasm");
  writeFileSync(
    module,
    guest({ imports: ["fd_write"], before: '(data (i32.const 64) "hello")', body: print(64, 5) }),
  );
  const run = (): string =>
    execFileSync(process.execPath, [join(folder, "atoll.js"), "wasm", "run", module], { encoding: "utf8" });
  expect(run()).toBe("hello");
  rmSync(join(folder, "executor.js"));
  expect(run).toThrow("ERR_COMPUTE_HOST_FAULT");
});

test("the guardian's image holds the executor beside the guardian", () => {
  const sidecar = recipes.find(({ name }) => name === "sidecar");
  const paths = sidecar?.parts.map(({ path }) => path);
  expect(paths).toEqual(
    expect.arrayContaining(["opt/atoll/sidecar.js", "opt/atoll/executor.js", "opt/atoll/package.json"]),
  );
});
