// What the parts of a node are told, rendered from a few facts. Paths are those inside the machine.
import { join } from "node:path";
import { controlGroup, inside } from "./namespaces.ts";

export type NodeFacts = {
  readonly name: string;
  readonly address: string;
  /** Folders in which CNI plugins lie. */
  readonly cniFolders: readonly string[];
};

export const podRange = "10.244.0.0/16";
export const dnsAddress = "10.96.0.10";
export const pauseImage = "localhost/atoll-cluster/pause:1";
export const dnsImage = "localhost/atoll-cluster/coredns:1";

const within = (...parts: readonly string[]): string => join(inside, ...parts);
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

export const containerdSettings = (facts: NodeFacts): string => `version = 3
root = "${within("containerd")}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${pauseImage}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE a lower score than one's own is refused, and with it every pod.
  restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = [${facts.cniFolders.map((f) => JSON.stringify(f)).join(", ")}]
  conf_dir = "${within("cni")}"

[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "/usr/sbin/runc"
  SystemdCgroup = false
`;

export const cniSettings = (facts: NodeFacts): string =>
  json({
    name: "atoll-cluster",
    cniVersion: "0.3.1",
    plugins: [
      {
        type: "calico",
        datastore_type: "kubernetes",
        nodename: facts.name,
        // The file is written by a container that does not run here.
        nodename_file_optional: true,
        ipam: { type: "host-local", subnet: "usePodCidr", dataDir: "/run/cni-addresses" },
        policy: { type: "k8s" },
        kubernetes: { kubeconfig: within("kubeconfig") },
        log_level: "info",
      },
      { type: "portmap", snat: true, capabilities: { portMappings: true } },
    ],
  });

export const kubeletSettings = (facts: NodeFacts): string =>
  json({
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: within("secrets", "ca.crt") },
    },
    authorization: { mode: "Webhook" },
    tlsCertFile: within("secrets", "kubelet.crt"),
    tlsPrivateKeyFile: within("secrets", "kubelet.key"),
    containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${controlGroup(facts.name)}`,
    failCgroupV1: false,
    failSwapOn: false,
    clusterDNS: [dnsAddress],
    clusterDomain: "cluster.local",
    resolvConf: within("resolv.conf"),
    podLogsDir: "/var/log/pods",
    // The disk and memory are shared with everything else on this machine: only a real lack should evict.
    evictionHard: {
      "memory.available": "50Mi",
      "nodefs.available": "1%",
      "nodefs.inodesFree": "1%",
      "imagefs.available": "1%",
    },
    imageGCHighThresholdPercent: 100,
    registryPullQPS: 0,
    eventRecordQPS: 0,
    shutdownGracePeriod: "0s",
    // Tests kill containers again and again; the usual pause grows to five minutes.
    featureGates: { KubeletCrashLoopBackOffMax: true },
    crashLoopBackOff: { maxContainerRestartPeriod: "5s" },
    rotateCertificates: false,
    maxPods: 200,
    logging: { format: "text" },
  });

export const kubeProxySettings = (facts: NodeFacts): string =>
  json({
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: "nftables",
    clusterCIDR: podRange,
    hostnameOverride: facts.name,
    clientConnection: { kubeconfig: within("kubeconfig") },
    // The table's size belongs to the whole machine, not to this namespace.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
  });

export const felixEnvironment = (facts: NodeFacts): Readonly<Record<string, string>> => ({
  FELIX_DATASTORETYPE: "kubernetes",
  FELIX_FELIXHOSTNAME: facts.name,
  FELIX_LOGFILEPATH: "none",
  FELIX_LOGSEVERITYFILE: "none",
  FELIX_LOGSEVERITYSYS: "none",
  FELIX_LOGSEVERITYSCREEN: "warning",
  FELIX_USAGEREPORTINGENABLED: "false",
  FELIX_IPINIPENABLED: "false",
  FELIX_VXLANENABLED: "false",
  FELIX_BPFENABLED: "false",
  FELIX_IPTABLESBACKEND: "NFT",
  FELIX_DEFAULTENDPOINTTOHOSTACTION: "ACCEPT",
  FELIX_HEALTHENABLED: "true",
  FELIX_HEALTHHOST: "127.0.0.1",
  FELIX_HEALTHPORT: "9099",
  KUBECONFIG: within("kubeconfig"),
});

const labels = { "k8s-app": "kube-dns" };
const meta = (name: string, namespaced = true): object => ({
  name,
  ...(namespaced ? { namespace: "kube-system" } : {}),
});

/** Cluster DNS, and the object without which Calico waits. */
export const addons = (): readonly object[] => [
  {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "ClusterInformation",
    metadata: { name: "default" },
    spec: { datastoreReady: true, clusterType: "k8s" },
  },
  { apiVersion: "v1", kind: "ServiceAccount", metadata: meta("coredns") },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: meta("atoll-cluster:coredns", false),
    rules: [
      { apiGroups: [""], resources: ["services", "pods", "namespaces"], verbs: ["list", "watch"] },
      { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
    ],
  },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: meta("atoll-cluster:coredns", false),
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "atoll-cluster:coredns" },
    subjects: [{ kind: "ServiceAccount", name: "coredns", namespace: "kube-system" }],
  },
  {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: meta("coredns"),
    data: {
      Corefile: `.:53 {
  errors
  health :8080
  ready :8181
  cache 30
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    pods insecure
    ttl 30
  }
}
`,
    },
  },
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: meta("kube-dns"),
    spec: {
      clusterIP: dnsAddress,
      selector: labels,
      ports: [
        { name: "dns", port: 53, protocol: "UDP" },
        { name: "dns-tcp", port: 53, protocol: "TCP" },
      ],
    },
  },
  {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: meta("coredns"),
    spec: {
      replicas: 1,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          serviceAccountName: "coredns",
          priorityClassName: "system-cluster-critical",
          dnsPolicy: "Default",
          containers: [
            {
              name: "coredns",
              image: dnsImage,
              imagePullPolicy: "IfNotPresent",
              args: ["-conf", "/etc/coredns/Corefile"],
              ports: [
                { name: "dns", containerPort: 53, protocol: "UDP" },
                { name: "dns-tcp", containerPort: 53, protocol: "TCP" },
              ],
              readinessProbe: { httpGet: { path: "/ready", port: 8181 }, periodSeconds: 1 },
              resources: { requests: { cpu: "20m", memory: "32Mi" }, limits: { memory: "128Mi" } },
              securityContext: {
                runAsNonRoot: true,
                runAsUser: 65532,
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
                seccompProfile: { type: "RuntimeDefault" },
              },
              volumeMounts: [{ name: "config", mountPath: "/etc/coredns", readOnly: true }],
            },
          ],
          volumes: [{ name: "config", configMap: { name: "coredns" } }],
        },
      },
    },
  },
];
