// From nothing to an installed Atoll on a running cluster: images made and loaded, keys, chart.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeImage, type Entry } from "../archive.ts";
import type { Cluster } from "../backends.ts";
import { makeBase } from "../base.ts";
import { dist, root } from "../build.ts";
import { baseFor, imagesFolder, makeImages, referenceOf } from "../images.ts";
import { runFolder } from "../holder.ts";
import { ensurePrograms, type Report } from "../programs.ts";
import { INSTALLER, must, until, type Json, type Kube } from "./kube.ts";

export const CHART: string = join(root, "charts/atoll");
export const STATIC: string = join(CHART, "static");

export type Loaded = { readonly sidecar: string; readonly operator: string; readonly trial: string };

/** The trial's own image: Node and one file. It is never published. */
async function trialImage(folder: string): Promise<string> {
  const { build } = await import("esbuild");
  await build({
    absWorkingDir: root,
    entryPoints: ["kind-e2e/trial/program.ts"],
    outfile: join("dist", "trial.js"),
    bundle: true,
    platform: "node",
    target: "node26",
    format: "esm",
    logLevel: "error",
    banner: {
      js: 'import { createRequire as atollRequire } from "node:module"; const require = atollRequire(import.meta.url);',
    },
  });
  const archive = join(folder, "trial.tar");
  const own: Entry[] = ["trial.js", "package.json"].map((file) => ({
    path: `opt/atoll/${file}`,
    mode: 0o644,
    from: { file: join(dist, file) },
  }));
  await writeImage(
    archive,
    referenceOf("trial"),
    [
      baseFor(
        "operator",
        makeBase(() => undefined),
      ),
      own,
    ],
    { user: "10001:10001", entrypoint: ["/usr/bin/node", "/opt/atoll/trial.js"] },
    { compress: false },
  );
  return archive;
}

/** Makes the images and loads them; the answer names them by digest. */
export async function loadImages(cluster: Cluster, report: Report): Promise<Loaded> {
  const made = await makeImages(report, false);
  const trial = await trialImage(imagesFolder);
  const load = async (name: "sidecar" | "operator"): Promise<string> => {
    const image = made.get(name);
    if (image === undefined) throw new Error(`the image ${name} was not made`);
    return cluster.loadImage(image.archive, image.reference);
  };
  const loaded = {
    sidecar: await load("sidecar"),
    operator: await load("operator"),
    trial: await cluster.loadImage(trial, referenceOf("trial")),
  };
  report("images are on the node");
  return loaded;
}

const ATOLL = join(root, "cli/atoll.ts");
/** The command line, as a reader would call it. */
export const atoll = (...args: readonly string[]): Promise<string> =>
  must(process.execPath, [ATOLL, ...args]);

/** Where the keys, policies and values of a cluster's trial lie; gone with the cluster. */
export const trialFolder = (name: string): string => {
  const folder = join(runFolder(name), "trial");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
};

export type Keys = { readonly folder: string; readonly roots: string; readonly approver: string };
export async function makeKeys(folder: string): Promise<Keys> {
  const at = (name: string): string => join(folder, name);
  const ids: Record<string, string> = {};
  for (const role of ["policy", "approver"]) {
    if (!existsSync(at(`${role}.key`)))
      writeFileSync(at(`${role}.id`), await atoll("keygen", "--out", at(`${role}.key`)));
    ids[role] = readFileSync(at(`${role}.id`), "utf8").trim();
  }
  writeFileSync(
    at("roots.pem"),
    ["policy", "approver"]
      .map((role) => `role: ${role}\n${readFileSync(at(`${role}.key.pub`), "utf8")}`)
      .join(""),
  );
  return { folder, roots: at("roots.pem"), approver: ids["approver"] ?? "" };
}

/** A policy text as a signed bundle file. */
export async function signPolicy(
  keys: Keys,
  text: string,
  bundleId: string,
  version: number,
): Promise<string> {
  const source = join(keys.folder, `policy-v${version}.yaml`);
  const file = join(keys.folder, `bundle-v${version}.yaml`);
  writeFileSync(source, text);
  await atoll(
    "bundle",
    "build",
    source,
    "--bundle-id",
    bundleId,
    "--version",
    String(version),
    "--sign",
    join(keys.folder, "policy.key"),
    "-o",
    file,
  );
  return file;
}

const digestOf = (image: string): string => image.slice(image.indexOf("@") + 1);

/** The values file of a trial. */
export function valuesOf(loaded: Loaded, keys: Keys): string {
  const values = join(keys.folder, "values.json");
  writeFileSync(
    values,
    JSON.stringify({
      operator: { image: loaded.operator, replicas: 1, webhookReplicas: 2 },
      guardian: { digests: [digestOf(loaded.sidecar)] },
      trust: { roots: readFileSync(keys.roots, "utf8") },
    }),
  );
  return values;
}

/** Installs or upgrades the chart, the first time as the administrator and then as the installer. */
export async function installChart(kube: Kube, loaded: Loaded, keys: Keys, chart = CHART): Promise<void> {
  await ensurePrograms(["helm"], () => undefined);
  const there = (await kube.tryKubectl("get", "namespace", "atoll-shape")).code === 0;
  await kube.helm(
    "upgrade",
    "--install",
    "atoll",
    chart,
    "--namespace",
    "atoll-system",
    "--create-namespace",
    "--values",
    valuesOf(loaded, keys),
    "--wait=legacy",
    "--timeout",
    "180s",
    ...(there ? ["--kube-as-user", INSTALLER] : []),
  );
}

export const available = async (kube: Kube, name: string, seconds: number): Promise<void> => {
  await until(`deployment ${name} is available`, seconds, async () => {
    const status = (await kube.get("deployment", name, "--namespace", "atoll-system"))["status"];
    const ready: Json = typeof status === "object" && status !== null ? { ...status } : {};
    return ready["availableReplicas"] === ready["replicas"] && Number(ready["availableReplicas"]) > 0
      ? true
      : undefined;
  });
};
