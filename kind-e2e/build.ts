#!/usr/bin/env node
// `npm run build`: the programs as single files in dist/, which the images contain. Same sources, same bytes.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { build, type BuildResult, type Plugin } from "esbuild";
import { asked } from "./asked.ts";
import { Failure } from "./failure.ts";
import { buildPrecompiled } from "./precompiled.ts";
import type { Program } from "./precompiled.ts";

export const root: string = join(import.meta.dirname, "..");
export const dist: string = join(root, "dist");

type Bundle = {
  readonly file: string;
  readonly entry: string;
  /** Imports that stay imports, of a bundle beside this one: by what the source names, the file. */
  readonly apart?: Readonly<Record<string, string>>;
};
/** What is built, and from where. */
export const bundles: readonly Bundle[] = [
  // The gate and its startup probe run in every pod and must not read the guardian's five megabytes first.
  { file: "sidecar.js", entry: "sidecar/main.ts", apart: { "./pod/pod.ts": "./guardian.js" } },
  { file: "executor.js", entry: "kernel/runtime/sandbox/executor.ts" },
  { file: "operator.js", entry: "operator/main.ts" },
  { file: "webhook.js", entry: "operator/webhook.ts" },
  { file: "gateway.js", entry: "operator/gateway.ts" },
  { file: "atoll.js", entry: "cli/atoll.ts" },
];

/** What starts in every pod and is waited for. */
export const guardian: Program = { name: "guardian", exports: { runPod: "sidecar/pod/pod.ts" } };

export type Built = {
  readonly files: readonly string[];
  readonly absent: readonly Bundle[];
  /** The packages whose code went in, as in node_modules: `name` → `version`. */
  readonly packages: ReadonlyMap<string, string>;
};

/** The package that a bundled file belongs to: its folder below the last node_modules. */
export function packageOf(path: string): string | undefined {
  const marker = "node_modules/";
  const at = path.lastIndexOf(marker);
  if (at === -1) return undefined;
  const [first = "", second = ""] = path.slice(at + marker.length).split("/");
  return path.slice(0, at + marker.length) + (first.startsWith("@") ? `${first}/${second}` : first);
}

const leaving = (apart: Readonly<Record<string, string>>): Plugin => ({
  name: "apart",
  setup(builder) {
    builder.onResolve({ filter: /^\.\// }, ({ path }) =>
      Object.hasOwn(apart, path) ? { path: apart[path] ?? "", external: true } : undefined,
    );
  },
});

/** Builds one of `bundles` into a folder. */
export async function bundle(file: string, folder: string): Promise<BuildResult<{ metafile: true }>> {
  const found = bundles.find((each) => each.file === file);
  if (found === undefined) throw new Failure(`\`${file}\` is none of our programs`);
  const { entry, apart = {} } = found;
  return build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: join(folder, file),
    bundle: true,
    platform: "node",
    target: "node26",
    format: "esm",
    charset: "utf8",
    legalComments: "eof",
    metafile: true,
    logLevel: "error",
    // CommonJS packages inside ask for Node's own modules by require.
    banner: {
      js: 'import { createRequire as atollRequire } from "node:module"; const require = atollRequire(import.meta.url);',
    },
    // An optional accelerator of pg that is not installed.
    external: ["pg-native"],
    plugins: [leaving(apart)],
  });
}

export async function buildBundles(report: (line: string) => void): Promise<Built> {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist, { recursive: true });
  const present = bundles.filter((b) => existsSync(join(root, b.entry)));
  const folders = new Set<string>();
  const files: string[] = [];
  const note = (done: BuildResult<{ metafile: true }>): void => {
    for (const path of Object.keys(done.metafile.inputs)) {
      const folder = packageOf(relative(root, join(root, path)));
      if (folder !== undefined) folders.add(folder);
    }
  };
  for (const { file, entry } of present) {
    note(await bundle(file, dist));
    files.push(file);
    report(`dist/${file} from ${entry}`);
  }
  note(await buildPrecompiled(guardian, root, dist));
  files.push("guardian.js", "guardian.cjs", "guardian.cache");
  report("dist/guardian.js, .cjs and .cache from sidecar/pod/pod.ts");
  // The folder's own statement that its .js files are modules.
  writeFileSync(join(dist, "package.json"), '{"type":"module"}\n');
  const { lockRules } = await import("../sidecar/lock/lock.ts");
  writeFileSync(join(dist, "lock.nft"), lockRules());
  files.push("package.json", "lock.nft");
  const packages = new Map<string, string>();
  for (const folder of [...folders].sort()) {
    const about: { name: string; version: string } = JSON.parse(
      readFileSync(join(root, folder, "package.json"), "utf8"),
    );
    packages.set(about.name, about.version);
  }
  const absent = bundles.filter((b) => !present.includes(b));
  for (const { file, entry } of absent) report(`dist/${file} not built: ${entry} does not exist`);
  return { files, absent, packages };
}

if (import.meta.main) {
  asked("usage: npm run build\nThe programs of the images as single files, into dist/.", {});
  try {
    await buildBundles((line) => process.stdout.write(`${line}\n`));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
