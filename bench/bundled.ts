// A program as it ships: one file, as `npm run build` makes it. From source Node would load a TypeScript stripper beside it,
// and a figure of memory would be that one's too.
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";

export async function bundled(entry: string): Promise<string> {
  const outfile = join(mkdtempSync(join(tmpdir(), "atoll-bench-")), "program.mjs");
  await build({
    entryPoints: [join(import.meta.dirname, "..", entry)],
    outfile,
    bundle: true,
    platform: "node",
    target: "node26",
    format: "esm",
    logLevel: "error",
    banner: {
      js: 'import { createRequire as atollRequire } from "node:module"; const require = atollRequire(import.meta.url);',
    },
    external: ["pg-native", "esbuild"],
  });
  return outfile;
}
