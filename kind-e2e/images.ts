#!/usr/bin/env node
// Our two images as archives in dist/images, with their bills of materials and provenance. They are written here byte
// for byte, without a builder; Dockerfile.sidecar and Dockerfile.operator say the same over any base.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { asked } from "./asked.ts";
import { writeImage, sha256, type Entry, type Image, type ImageConfig } from "./archive.ts";
import { makeBase, type Base } from "./base.ts";
import { buildBundles, dist, root } from "./build.ts";
import { Failure } from "./failure.ts";
import { billOfMaterials, provenance, type Contents } from "./statements.ts";
import type { Report } from "./programs.ts";
import { LOCK_FILE } from "../sidecar/lock/lock.ts";

export const imagesFolder: string = join(dist, "images");

type Part = { readonly file: string; readonly path: string };
export type Recipe = {
  readonly name: "sidecar" | "operator";
  readonly parts: readonly Part[];
  readonly config: ImageConfig;
  /** Empty folders for what a pod mounts, so that a read-only root has somewhere to mount it. */
  readonly folders: readonly string[];
};

/**
 * How the guardian's process keeps its memory: a nursery in which a call under load ends before it is collected (a small
 * one costs a third of a call more), a heap that is collected before it has grown to many times what lives in it, and
 * freed blocks given back to the system.
 */
export const GUARDIAN_MEMORY: Readonly<Record<string, string>> = {
  NODE_OPTIONS: "--max-semi-space-size=8 --max-old-space-size=160",
  MALLOC_ARENA_MAX: "2",
  MALLOC_MMAP_THRESHOLD_: "131072",
  MALLOC_TRIM_THRESHOLD_: "131072",
};

export const recipes: readonly Recipe[] = [
  {
    name: "sidecar",
    parts: [
      { file: "sidecar.js", path: "opt/atoll/sidecar.js" },
      { file: "guardian.js", path: "opt/atoll/guardian.js" },
      { file: "guardian.cjs", path: "opt/atoll/guardian.cjs" },
      { file: "guardian.cache", path: "opt/atoll/guardian.cache" },
      { file: "executor.js", path: "opt/atoll/executor.js" },
      { file: "package.json", path: "opt/atoll/package.json" },
      { file: "lock.nft", path: LOCK_FILE.slice(1) },
    ],
    folders: [
      "etc/atoll/policy",
      "etc/atoll/trust",
      "etc/atoll/modules",
      "etc/atoll/pod",
      "etc/atoll/credentials",
      "var/lib/atoll",
      "var/run/atoll",
      "run/atoll",
    ],
    config: {
      user: "64523:64523",
      entrypoint: ["/usr/bin/node", "/opt/atoll/sidecar.js"],
      command: ["guardian"],
      environment: GUARDIAN_MEMORY,
    },
  },
  {
    name: "operator",
    parts: [
      { file: "operator.js", path: "opt/atoll/operator.js" },
      { file: "webhook.js", path: "opt/atoll/webhook.js" },
      { file: "gateway.js", path: "opt/atoll/gateway.js" },
      { file: "atoll.js", path: "opt/atoll/atoll.js" },
      { file: "package.json", path: "opt/atoll/package.json" },
    ],
    folders: [],
    config: { user: "65532:65532", entrypoint: ["/usr/bin/node", "/opt/atoll/operator.js"] },
  },
];

export const referenceOf = (name: string): string => `localhost/atoll/${name}:${version()}`;
const version = (): string => {
  const about: { version: string } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return about.version;
};

export type Made = Image & { readonly archive: string };

const commit = (): string => {
  const done = spawnSync("git", ["rev-parse", "HEAD"], { cwd: root, encoding: "utf8" });
  return done.status === 0 ? done.stdout.trim() : "unknown";
};

/** The operator has no use for nft, and so no file with a capability. */
export const baseFor = (name: Recipe["name"], base: Base): readonly Entry[] =>
  name === "sidecar" ? base.entries : base.entries.filter((e) => e.path !== "usr/sbin/nft");

/** Writes an image and its statements; two calls with the same inputs write the same bytes. */
export async function makeImage(
  recipe: Recipe,
  base: Base,
  packages: ReadonlyMap<string, string>,
  folder: string,
  compress: boolean,
): Promise<Made> {
  const own = recipe.parts.map(
    ({ file, path }): Entry => ({ path, mode: 0o644, from: { file: join(dist, file) } }),
  );
  const folders = recipe.folders.map((path): Entry => ({ path, from: { folder: true } }));
  const archive = join(folder, `${recipe.name}.tar`);
  const image = await writeImage(
    archive,
    referenceOf(recipe.name),
    [baseFor(recipe.name, base), [...own, ...folders]],
    recipe.config,
    { compress },
  );
  const contents: Contents = {
    name: `atoll/${recipe.name}`,
    version: version(),
    base,
    packages,
    files: new Map(recipe.parts.map(({ file, path }) => [path, sha256(readFileSync(join(dist, file)))])),
  };
  writeFileSync(join(folder, `${recipe.name}.cdx.json`), billOfMaterials(contents, image));
  const source = { commit: commit(), lockfile: sha256(readFileSync(join(root, "package-lock.json"))) };
  writeFileSync(join(folder, `${recipe.name}.provenance.json`), provenance(contents, image, source));
  return { ...image, archive };
}

/** Builds the programs and then every image whose parts are there. */
export async function makeImages(report: Report, compress = true): Promise<ReadonlyMap<string, Made>> {
  const built = await buildBundles(report);
  const base = makeBase(report);
  mkdirSync(imagesFolder, { recursive: true });
  await writeImage(
    join(imagesFolder, "base.tar"),
    "localhost/atoll/base:1",
    [base.entries],
    { entrypoint: ["/usr/bin/node"] },
    { compress },
  );
  const made = new Map<string, Made>();
  for (const recipe of recipes) {
    const absent = recipe.parts.filter(({ file }) => !existsSync(join(dist, file)));
    if (absent.length > 0) {
      report(`image ${recipe.name} not made: no dist/${absent.map((p) => p.file).join(", dist/")}`);
      continue;
    }
    const began = Date.now();
    const image = await makeImage(recipe, base, built.packages, imagesFolder, compress);
    made.set(recipe.name, image);
    const size = (statSync(image.archive).size / 1e6).toFixed(0);
    report(`${image.reference} ${image.digest} ${size} MB, ${((Date.now() - began) / 1000).toFixed(1)} s`);
  }
  return made;
}

if (import.meta.main) {
  const { uncompressed } = asked(
    "usage: npm run images [-- --uncompressed]\nThe images with their bills of materials and provenance, into dist/images/.",
    { uncompressed: false },
  );
  try {
    const made = await makeImages((line) => process.stdout.write(`${line}\n`), !uncompressed);
    if (made.size < recipes.length) process.exitCode = 1;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
