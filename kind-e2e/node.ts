// A whole single-node Kubernetes in namespaces of its own: pods run, policies are enforced, names resolve. Root on
// Linux; nothing outside its namespaces is touched but one link and one control group, and both go with it.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { ask, type Access } from "./access.ts";
import { writeImage } from "./archive.ts";
import {
  accessFor,
  admissionConfiguration,
  apiserverFlags,
  controllerManagerFlags,
  etcdFlags,
  makeCredentials,
  ready,
  writeKubeconfig,
} from "./control-plane.ts";
import { Failure } from "./failure.ts";
import { entering, inside, makeControlGroups, run, startMachine, type Machine } from "./namespaces.ts";
import {
  addons,
  cniSettings,
  containerdSettings,
  dnsImage,
  felixEnvironment,
  kubeletSettings,
  kubeProxySettings,
  pauseImage,
  podRange,
  type NodeFacts,
} from "./node-settings.ts";
import { nodePackages, type ProgramName } from "./pins.ts";
import { start, waitFor, type Running } from "./process.ts";
import { ensurePrograms, type Report } from "./programs.ts";

export type NodeOptions = {
  readonly name: string;
  /** Where the cluster keeps its data; on a file system that overlayfs accepts. */
  readonly folder: string;
  readonly staticPolicies?: string;
  readonly report: Report;
};

export type ClusterNode = Access & {
  readonly kubeconfig: string;
  /** The first process of its namespaces. */
  readonly pid: number;
  readonly processes: readonly Running[];
  readonly stop: () => Promise<void>;
};

export const nodePrograms: readonly ProgramName[] = [
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kubectl",
  "kubelet",
  "kube-scheduler",
  "kube-proxy",
  "containerd",
  "containerd-shim-runc-v2",
  "ctr",
  "calico-felix",
  "calico",
  "coredns",
  "pause",
];

/** Installs with apt-get what is missing of Debian's packages. */
export function ensurePackages(report: Report): void {
  const missing = nodePackages.filter((p) => !existsSync(p.file)).map((p) => p.package);
  if (missing.length === 0) return;
  const say = `the cluster's node needs ${missing.join(", ")}`;
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get"))
    throw new Failure(`${say}; install them, or run as root on Debian and they are installed`);
  report(`${say}: installing`);
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  for (const args of [["update"], ["install", "--yes", "--no-install-recommends", ...missing]]) {
    const done = spawnSync("apt-get", args, { encoding: "utf8", env: environment });
    if (done.status !== 0) throw new Failure(`\`apt-get ${args.join(" ")}\`: ${done.stderr.slice(-2000)}`);
  }
}

/** Asked before anything long begins: a quarter of an hour of building should not end in a refusal. */
export const requireRoot = (): void => {
  if (process.platform !== "linux" || process.getuid?.() !== 0)
    throw new Failure(
      "a node needs root on Linux; `--mode control-plane` does not, and `--backend kind` needs Docker",
    );
};

/** Starts a node from what its folder holds: nothing at first, everything after a stop. */
export async function startNode(options: NodeOptions): Promise<ClusterNode> {
  requireRoot();
  ensurePackages(options.report);
  const programs = await ensurePrograms(nodePrograms, options.report);
  const program = (name: ProgramName): string => {
    const path = programs[name];
    if (path === undefined) throw new Failure(`no program \`${name}\``);
    return path;
  };
  const { folder, name } = options;
  const began = Date.now();
  const step = (text: string): void =>
    options.report(`[${((Date.now() - began) / 1000).toFixed(1).padStart(5)} s] ${text}`);

  for (const part of ["logs", "cni", "secrets"])
    mkdirSync(join(folder, part), { recursive: true, mode: 0o700 });
  await makeControlGroups(name);
  const machine: Machine = await startMachine(name, folder, join(folder, "logs", "machine.log"));
  step(`machine ${name} has namespaces of its own, address ${machine.address}`);
  const processes: Running[] = [machine.keeper];
  const stop = async (): Promise<void> => {
    await machine.keeper.stop(0);
    for (const running of processes) await running.stop();
  };
  const launch = (
    component: ProgramName,
    flags: readonly string[],
    more: Readonly<Record<string, string>> = {},
  ): void => {
    // containerd looks its shim up by name, the CNI plugins and Felix their tools.
    const path = `${dirname(program("containerd-shim-runc-v2"))}:/usr/sbin:/usr/bin:/sbin:/bin`;
    processes.push(
      start(
        component,
        entering(machine.pid, [program(component), ...flags]),
        join(folder, "logs", `${component}.log`),
        {
          environment: { PATH: path, HOME: "/run", ...more },
        },
      ),
    );
  };

  try {
    const facts: NodeFacts = {
      name,
      address: machine.address,
      cniFolders: ["/usr/lib/cni", dirname(program("calico"))],
    };
    const secrets = join(inside, "secrets");
    const port = 6443;
    // Made once: a node that starts again is the same node, and tokens it gave stay valid.
    if (!existsSync(join(folder, "secrets", "kubelet.key")))
      makeCredentials(join(folder, "secrets"), [machine.address]).issue("kubelet", {
        commonName: `system:node:${name}`,
        organizations: ["system:nodes"],
        dnsNames: [name],
        addresses: [machine.address],
      });
    const access = accessFor(join(folder, "secrets"), `https://${machine.address}:${port}`);
    const kubeconfigFile = writeKubeconfig(folder, name, access);
    mkdirSync(join(folder, "kubelet-access"), { recursive: true, mode: 0o700 });
    writeKubeconfig(join(folder, "kubelet-access"), name, {
      ...access,
      certificateFile: join(folder, "secrets", "kubelet.crt"),
      keyFile: join(folder, "secrets", "kubelet.key"),
    });
    const settings: Readonly<Record<string, string>> = {
      "containerd.toml": containerdSettings(facts),
      "cni/10-atoll.conflist": cniSettings(facts),
      "kubelet.json": kubeletSettings(facts),
      "kube-proxy.json": kubeProxySettings(facts),
      "resolv.conf": "nameserver 127.0.0.1\n",
      "admission.json":
        options.staticPolicies === undefined ? "" : admissionConfiguration(resolve(options.staticPolicies)),
      "addons.json": JSON.stringify({ apiVersion: "v1", kind: "List", items: addons() }),
    };
    for (const [file, text] of Object.entries(settings))
      writeFileSync(join(folder, file), text, { mode: 0o600 });

    launch("etcd", [...etcdFlags(secrets, join(inside, "etcd"), 2379, 2380), "--unsafe-no-fsync"]);
    launch("containerd", ["--config", join(inside, "containerd.toml"), "--log-level", "warn"]);
    launch(
      "kube-apiserver",
      apiserverFlags({
        secrets,
        etcdPort: 2379,
        port,
        bindAddress: "0.0.0.0",
        advertiseAddress: machine.address,
        ...(options.staticPolicies === undefined ? {} : { admissionFile: join(inside, "admission.json") }),
      }).concat("--kubelet-preferred-address-types=InternalIP"),
    );
    await waitFor(
      "containerd",
      30,
      async () => (await run(machine.pid, [program("ctr"), "version"])).code === 0 || "no answer",
      processes,
    );
    await importOwnImages(machine.pid, folder, program);
    step("containerd answers, pause and DNS images loaded");
    await waitFor("the API server", 90, async () => ready(access), processes);
    step("API server ready");

    const admin = join(inside, "kubeconfig");
    launch("kube-controller-manager", [
      ...controllerManagerFlags(secrets, admin, 10257),
      "--allocate-node-cidrs=true",
      `--cluster-cidr=${podRange}`,
      "--service-cluster-ip-range=10.96.0.0/16",
    ]);
    launch("kube-scheduler", [
      `--kubeconfig=${admin}`,
      `--authentication-kubeconfig=${admin}`,
      `--authorization-kubeconfig=${admin}`,
      "--bind-address=127.0.0.1",
      "--leader-elect=false",
    ]);
    launch("kubelet", [
      `--config=${join(inside, "kubelet.json")}`,
      `--kubeconfig=${join(inside, "kubelet-access", "kubeconfig")}`,
      `--root-dir=${join(inside, "kubelet")}`,
      `--hostname-override=${name}`,
      `--node-ip=${machine.address}`,
    ]);
    launch("kube-proxy", [`--config=${join(inside, "kube-proxy.json")}`]);
    apply(program("kubectl"), kubeconfigFile, join(dirname(program("calico")), "calico-crd"));
    await waitFor(
      "Calico's kinds",
      30,
      async () => {
        const { status } = await ask(access, "/apis/crd.projectcalico.org/v1/clusterinformations");
        return status === 200 || `status ${status}`;
      },
      processes,
    );
    apply(program("kubectl"), kubeconfigFile, join(folder, "addons.json"));
    launch("calico-felix", [], felixEnvironment(facts));
    await waitFor("the node", 90, async () => nodeReady(access, name), processes);
    step("node ready");
    await waitFor(
      "network policy (Felix)",
      60,
      async () => {
        const done = await run(machine.pid, [
          "busybox",
          "nc",
          "-w",
          "1",
          "127.0.0.1",
          "9099",
          "-e",
          "/bin/true",
        ]);
        return done.code === 0 || "not listening";
      },
      processes,
    );
    await waitFor("cluster DNS", 90, async () => dnsReady(access), processes);
    step("network policy and cluster DNS work");
    return { ...access, kubeconfig: kubeconfigFile, pid: machine.pid, processes, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

const apply = (kubectl: string, kubeconfig: string, what: string): void => {
  const done = spawnSync(
    kubectl,
    ["--kubeconfig", kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", what],
    { encoding: "utf8" },
  );
  if (done.status !== 0) throw new Failure(`\`kubectl apply -f ${what}\`: ${done.stderr}`);
};

const importOwnImages = async (
  pid: number,
  folder: string,
  program: (name: ProgramName) => string,
): Promise<void> => {
  for (const [name, reference] of [
    ["pause", pauseImage],
    ["coredns", dnsImage],
  ] as const) {
    const archive = join(folder, `${name}.tar`);
    if (existsSync(archive)) continue;
    await writeImage(archive, reference, [[{ path: name, mode: 0o755, from: { file: program(name) } }]], {
      entrypoint: [`/${name}`],
      user: "65532:65532",
    });
    await importImage(pid, program("ctr"), join(inside, `${name}.tar`), reference);
  }
};

/** Imports an archive that is visible inside, and files it by digest too: a tag alone is no name for a pod that pins. */
export async function importImage(
  pid: number,
  ctr: string,
  archive: string,
  reference: string,
): Promise<string> {
  const call = async (...args: readonly string[]): Promise<string> => {
    const done = await run(pid, [ctr, "--namespace", "k8s.io", "images", ...args]);
    if (done.code !== 0) throw new Failure(`\`ctr images ${args.join(" ")}\`: ${done.stderr.trim()}`);
    return done.stdout;
  };
  await call("import", "--all-platforms", "--no-unpack", archive);
  const listed = (await call("list")).split("\n").map((line) => line.split(/\s+/u));
  const digest = listed.find(([name]) => name === reference)?.[2];
  if (digest === undefined || !digest.startsWith("sha256:"))
    throw new Failure(
      `${archive} holds no image \`${reference}\`, but ${listed
        .slice(1)
        .map(([name]) => name)
        .join(", ")}`,
    );
  const byDigest = `${reference.slice(0, reference.lastIndexOf(":"))}@${digest}`;
  await call("tag", "--force", reference, byDigest);
  return byDigest;
}

const nodeReady = async (access: Access, name: string): Promise<true | string> => {
  const { status, text } = await ask(access, `/api/v1/nodes/${name}`);
  if (status !== 200) return `the node is not registered (${status})`;
  const conditions: readonly { type: string; status: string; message: string }[] =
    JSON.parse(text).status.conditions;
  const condition = conditions.find((c) => c.type === "Ready");
  return condition?.status === "True" || (condition?.message ?? "no condition Ready");
};

const dnsReady = async (access: Access): Promise<true | string> => {
  const { status, text } = await ask(access, "/apis/apps/v1/namespaces/kube-system/deployments/coredns");
  return (status === 200 && JSON.parse(text).status.readyReplicas === 1) || "coredns is not ready";
};
