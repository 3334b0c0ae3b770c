// One interface, two ways to a cluster that runs pods: kind where Docker and kind answer, else one's own.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, realpathSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { Failure } from "./failure.ts";
import {
  NotRunning,
  readState,
  requireState,
  restartHolder,
  runFolder,
  startHolder,
  stopHolder,
} from "./holder.ts";
import { run, type Output } from "./namespaces.ts";
import { importImage } from "./node.ts";
import { programPath, type Report } from "./programs.ts";
import type { Backend } from "./arguments.ts";

export type UpOptions = {
  readonly report?: Report;
  readonly staticPolicies?: string;
  /** The cluster dies with the process that calls; for tests. Embedded only. */
  readonly bound?: boolean;
};

export type Cluster = {
  readonly name: string;
  readonly backend: Backend;
  readonly up: (options?: UpOptions) => Promise<void>;
  /** Ends it and removes all it made; false if none was running. */
  readonly down: () => Promise<boolean>;
  readonly running: () => boolean;
  /** Path of the administrator's kubeconfig. */
  readonly kubeconfig: () => string;
  /** Loads an OCI image archive; the answer, NAME@sha256:…, is what a pod names. */
  readonly loadImage: (archive: string, reference: string) => Promise<string>;
  readonly execOnNode: (argv: readonly string[]) => Promise<Output>;
};

const say: Report = (line) => process.stderr.write(`${line}\n`);
const answers = (command: string, ...args: readonly string[]): boolean =>
  spawnSync(command, args, { stdio: "ignore", timeout: 10_000 }).status === 0;

export const chooseBackend = (): Backend =>
  answers("docker", "info") && answers("kind", "version") ? "kind" : "embedded";

export const openCluster = (name: string, backend: Backend | "auto" = "auto"): Cluster =>
  (backend === "auto" ? (readState(name) ? "embedded" : chooseBackend()) : backend) === "kind"
    ? kind(name)
    : embedded(name);

const embedded = (name: string): Cluster => ({
  name,
  backend: "embedded",
  up: async ({ report = say, staticPolicies, bound = false } = {}) => {
    await startHolder({ name, mode: "node", controllers: false, staticPolicies }, report, bound);
  },
  down: () => stopHolder(name),
  running: () => readState(name)?.phase === "ready",
  kubeconfig: () => requireState(name).kubeconfig,
  loadImage: async (archive, reference) => {
    const state = nodeState(name);
    const file = realpathSync(archive);
    if (file.startsWith("/run/"))
      throw new Failure(`${file}: /run is another one inside the cluster; put the archive elsewhere`);
    return importImage(state.node, programPath("ctr"), file, reference);
  },
  execOnNode: async (argv) => run(nodeState(name).node, argv),
});

const nodeState = (name: string): ReturnType<typeof requireState> => {
  const state = requireState(name);
  if (state.mode !== "node") throw new Failure(`\`${name}\` is a control plane: it has no node`);
  return state;
};

/** As in a power cut: everything of the node ends at once, and starts again over the same disk. */
export const restartCluster = async (name: string): Promise<void> => {
  await restartHolder(name);
};

const call = (command: string, args: readonly string[], input?: string): Promise<Output> =>
  new Promise((done, reject) => {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (d: Buffer) => (stdout += d.toString("utf8")));
    child.stderr.on("data", (d: Buffer) => (stderr += d.toString("utf8")));
    child.on("error", reject);
    child.on("close", (code) => done({ code: code ?? 1, stdout, stderr }));
    child.stdin.end(input ?? "");
  });

const must = async (command: string, args: readonly string[], input?: string): Promise<string> => {
  const done = await call(command, args, input);
  if (done.code !== 0) throw new Failure(`\`${command} ${args.join(" ")}\`: ${done.stderr.trim()}`);
  return done.stdout;
};

// kind's own network plugin enforces NetworkPolicy, so nothing is installed on top.
const kind = (name: string): Cluster => {
  const cluster = `atoll-${name}`;
  const node = `${cluster}-control-plane`;
  const file = join(runFolder(name), "kind.kubeconfig");
  const listed = (): boolean =>
    (spawnSync("kind", ["get", "clusters"], { encoding: "utf8" }).stdout ?? "").split("\n").includes(cluster);
  return {
    name,
    backend: "kind",
    up: async ({ report = say, staticPolicies } = {}) => {
      if (staticPolicies !== undefined) throw new Failure("static policies need `--backend embedded`");
      if (listed()) throw new Failure(`a kind cluster \`${cluster}\` is already there`);
      mkdirSync(runFolder(name), { recursive: true, mode: 0o700 });
      report(`kind creates ${cluster}`);
      await must("kind", ["create", "cluster", "--name", cluster, "--kubeconfig", file, "--wait", "180s"]);
    },
    down: async () => {
      const was = listed();
      if (was) await must("kind", ["delete", "cluster", "--name", cluster, "--kubeconfig", file]);
      rmSync(runFolder(name), { recursive: true, force: true });
      return was;
    },
    running: listed,
    kubeconfig: () => {
      if (!existsSync(file)) throw new NotRunning(`no cluster \`${name}\` is running`);
      return file;
    },
    loadImage: async (archive, reference) => {
      await must("kind", ["load", "image-archive", "--name", cluster, resolve(archive)]);
      const inspect = ["exec", node, "ctr", "--namespace", "k8s.io", "images"];
      const digest = (await must("docker", [...inspect, "list"]))
        .split("\n")
        .map((line) => line.split(/\s+/u))
        .find(([found]) => found === reference)?.[2];
      if (digest === undefined) throw new Failure(`${archive} holds no image \`${reference}\``);
      const byDigest = `${reference.slice(0, reference.lastIndexOf(":"))}@${digest}`;
      await must("docker", [...inspect, "tag", "--force", reference, byDigest]);
      return byDigest;
    },
    execOnNode: (argv) => call("docker", ["exec", node, ...argv]),
  };
};
