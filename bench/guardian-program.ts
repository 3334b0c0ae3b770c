// The guardian as it ships, for `bench/guardian.ts`: one file with V8's code beside it, made by the same build as the
// image's, with `atoll guard`'s command line before it.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildPrecompiled } from "../kind-e2e/precompiled.ts";

const root = join(import.meta.dirname, "..");

/** Builds it into a folder; the file to start with the arguments of `atoll`. */
export async function guardianProgram(folder: string, from = root): Promise<string> {
  mkdirSync(folder, { recursive: true });
  await buildPrecompiled({ name: "guardian", exports: { guard: "cli/guard.ts" } }, from, folder);
  writeFileSync(join(folder, "package.json"), '{"type":"module"}\n');
  const file = join(folder, "atoll.js");
  writeFileSync(
    file,
    `import { guard } from "./guardian.js";
const [, , name, ...rest] = process.argv;
if (name !== "guard") throw new Error("this program knows \`guard\` alone");
process.exitCode = await guard(rest, process);
`,
  );
  return file;
}
