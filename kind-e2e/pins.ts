// What the embedded cluster is made of. The versions themselves are pinned, with checksums, in the go.mod and
// go.sum of each module under modules/; here stands what to build from them, and how.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const kubernetesVersion = "1.36.3";

export type ModuleName = "etcd" | "kubernetes" | "containerd" | "calico" | "coredns" | "helm" | "pause";
export type ProgramName =
  | "etcd"
  | "kube-apiserver"
  | "kube-controller-manager"
  | "kube-scheduler"
  | "kubelet"
  | "kube-proxy"
  | "kubectl"
  | "containerd"
  | "containerd-shim-runc-v2"
  | "ctr"
  | "calico-felix"
  | "calico"
  | "coredns"
  | "helm"
  | "pause";

export type Program = {
  readonly name: ProgramName;
  readonly module: ModuleName;
  readonly package: string;
  readonly tags?: string;
  /** A folder of the module named `of` that the program needs beside it, and its name there. */
  readonly beside?: { readonly of: string; readonly folder: string; readonly name: string };
  /** Seconds of a cold build on two cores, in this order: what an estimate of the time left starts from. */
  readonly seconds: number;
};

const kube = (name: ProgramName, seconds: number): Program => ({
  name,
  module: "kubernetes",
  package: `k8s.io/kubernetes/cmd/${name}`,
  seconds,
});
const containerd = (name: ProgramName, seconds: number): Program => ({
  name,
  module: "containerd",
  package: `github.com/containerd/containerd/v2/cmd/${name}`,
  // btrfs wants C headers; this cluster uses overlayfs.
  tags: "no_btrfs",
  seconds,
});

/** In building order: what the control plane needs comes first, so that it can be used while the rest is built. */
export const programs: readonly Program[] = [
  { name: "etcd", module: "etcd", package: "go.etcd.io/etcd/server/v3", seconds: 60 },
  kube("kube-apiserver", 240),
  kube("kube-controller-manager", 60),
  kube("kubectl", 25),
  kube("kubelet", 25),
  kube("kube-scheduler", 8),
  kube("kube-proxy", 8),
  containerd("containerd", 90),
  containerd("containerd-shim-runc-v2", 10),
  containerd("ctr", 10),
  {
    name: "calico-felix",
    module: "calico",
    package: "github.com/projectcalico/calico/felix/cmd/calico-felix",
    seconds: 120,
  },
  {
    name: "calico",
    module: "calico",
    package: "github.com/projectcalico/calico/cni-plugin/cmd/calico",
    seconds: 20,
    beside: { of: "github.com/projectcalico/calico", folder: "libcalico-go/config/crd", name: "calico-crd" },
  },
  { name: "coredns", module: "coredns", package: ".", seconds: 90 },
  { name: "pause", module: "pause", package: ".", seconds: 2 },
  { name: "helm", module: "helm", package: "helm.sh/helm/v4/cmd/helm", seconds: 110 },
];

export const controlPlanePrograms: readonly ProgramName[] = ["etcd", "kube-apiserver"];

/** Debian packages of a node: too bound to the system to be built from Go modules, or not written in Go. */
export const nodePackages: readonly { readonly package: string; readonly file: string }[] = [
  { package: "runc", file: "/usr/sbin/runc" },
  { package: "containernetworking-plugins", file: "/usr/lib/cni/host-local" },
  { package: "buildah", file: "/usr/bin/buildah" },
  { package: "nftables", file: "/usr/sbin/nft" },
  { package: "conntrack", file: "/usr/sbin/conntrack" },
  { package: "iproute2", file: "/usr/bin/ip" },
  { package: "iptables", file: "/usr/sbin/iptables" },
  { package: "ipset", file: "/usr/sbin/ipset" },
  { package: "busybox-static", file: "/usr/bin/busybox" },
];

/** The linker's flags: stripped, and telling clients the version, which an untagged build would call v0.0.0. */
export function linkerFlags(module: ModuleName): string {
  const strip = "-s -w -buildid=";
  if (module !== "kubernetes") return strip;
  const [major, minor] = kubernetesVersion.split(".");
  const variables = {
    gitVersion: `v${kubernetesVersion}`,
    gitMajor: `${major}`,
    gitMinor: `${minor}`,
    gitTreeState: "clean",
    gitCommit: "",
  };
  return [
    strip,
    ...Object.entries(variables).map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`),
  ].join(" ");
}

/** Changes in place of a module: said once, applied to its vendored source before the build. */
export type Patch = { readonly file: string; readonly from: string; readonly to: string };
export const patches: Readonly<Partial<Record<ModuleName, readonly Patch[]>>> = {
  // The published API module types these constants; Calico's own source tree, at that commit, does not.
  calico: ["Auto", "NFTables", "Legacy"].map((name) => ({
    file: "vendor/github.com/projectcalico/calico/libcalico-go/lib/validator/v3/validator.go",
    from: `s == api.IptablesBackend${name}`,
    to: `s == string(api.IptablesBackend${name})`,
  })),
};

export const modulesFolder: string = join(import.meta.dirname, "modules");

/** A name for what a module's programs are built from: same pins and recipe, same name. */
export function pinHash(module: ModuleName): string {
  const hash = createHash("sha256");
  const folder = join(modulesFolder, module);
  for (const name of readdirSync(folder).sort())
    hash.update(`${name}\0`).update(readFileSync(join(folder, name)));
  hash.update(
    JSON.stringify([linkerFlags(module), patches[module] ?? [], programs.filter((p) => p.module === module)]),
  );
  return hash.digest("hex").slice(0, 16);
}
