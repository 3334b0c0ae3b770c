// etcd and kube-apiserver on loopback, up in seconds: what tests of admission, RBAC and controllers need of a
// cluster. No node: pods are stored and judged, never run.
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ask, kubeconfig, type Access } from "./access.ts";
import { makeAuthority, makeLeaf, type Authority, type LeafRequest } from "./certificates.ts";
import { Failure } from "./failure.ts";
import { controlPlanePrograms } from "./pins.ts";
import { freePorts } from "./ports.ts";
import { lastLines, removeWithProcess, start, waitFor, type Running } from "./process.ts";
import { ensurePrograms, type Report } from "./programs.ts";

export type ControlPlaneOptions = {
  /** A folder of static ValidatingAdmissionPolicies and bindings (names *.static.k8s.io), alpha in 1.36. */
  readonly staticPolicies?: string;
  /** Also run kube-controller-manager: default service accounts, Jobs, garbage collection, namespaces that end. */
  readonly controllers?: boolean;
  /** More flags for kube-apiserver, such as `--v=4` or `--disable-admission-plugins=ServiceAccount`. */
  readonly apiserverFlags?: readonly string[];
  /** Where progress is told; default standard error, and only if something has to be built. */
  readonly report?: Report;
  readonly name?: string;
};

export type ControlPlane = Access & {
  /** Path of a self-contained kubeconfig of the administrator. */
  readonly kubeconfig: string;
  readonly folder: string;
  /** The processes, by name; their logs lie in the folder. */
  readonly processes: readonly Running[];
  readonly ask: (
    path: string,
    send?: { method?: string; type?: string; body: unknown },
  ) => ReturnType<typeof ask>;
  /** Ends every process and removes the folder. Happens by itself when this process dies. */
  readonly stop: () => Promise<void>;
};

/** kube-apiserver's admission configuration with a folder of static policies. */
export function admissionConfiguration(staticPolicies: string): string {
  return `${JSON.stringify(
    {
      apiVersion: "apiserver.config.k8s.io/v1",
      kind: "AdmissionConfiguration",
      plugins: [
        {
          name: "ValidatingAdmissionPolicy",
          configuration: {
            apiVersion: "apiserver.config.k8s.io/v1",
            kind: "ValidatingAdmissionPolicyConfiguration",
            staticManifestsDir: resolve(staticPolicies),
          },
        },
      ],
    },
    null,
    2,
  )}\n`;
}

export type Credentials = {
  readonly folder: string;
  readonly authority: Authority;
  /** Writes NAME.crt and NAME.key, readable by the owner only. */
  readonly issue: (
    name: string,
    request: LeafRequest,
  ) => { readonly certificate: string; readonly key: string };
};

/** A fresh authority in `folder`, with the leaves and keys that every control plane needs. */
export function makeCredentials(folder: string, addresses: readonly string[]): Credentials {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const authority = makeAuthority("atoll-cluster");
  const write = (name: string, text: string): void =>
    writeFileSync(join(folder, name), text, { mode: 0o600 });
  const issue: Credentials["issue"] = (name, request) => {
    const leaf = makeLeaf(authority, request);
    write(`${name}.crt`, leaf.certificate);
    write(`${name}.key`, leaf.key);
    return leaf;
  };
  write("ca.crt", authority.certificate);
  write("ca.key", authority.key);
  // Another authority for etcd: no client of the API may speak to the store itself.
  const store = makeAuthority("atoll-cluster-etcd");
  write("etcd-ca.crt", store.certificate);
  const etcd = makeLeaf(store, { commonName: "etcd", dnsNames: ["localhost"], addresses: ["127.0.0.1"] });
  write("etcd.crt", etcd.certificate);
  write("etcd.key", etcd.key);
  issue("apiserver", {
    commonName: "kube-apiserver",
    dnsNames: [
      "localhost",
      "kubernetes",
      "kubernetes.default",
      "kubernetes.default.svc",
      "kubernetes.default.svc.cluster.local",
    ],
    addresses: ["127.0.0.1", "10.96.0.1", ...addresses],
  });
  issue("admin", { commonName: "atoll-admin", organizations: ["system:masters"] });
  issue("front-proxy", { commonName: "front-proxy" });
  issue("kubelet-client", { commonName: "kube-apiserver-kubelet-client", organizations: ["system:masters"] });
  const signing = generateKeyPairSync("rsa", { modulusLength: 2048 });
  write("service-account.key", signing.privateKey.export({ type: "pkcs8", format: "pem" }));
  write("service-account.pub", signing.publicKey.export({ type: "spki", format: "pem" }));
  return { folder, authority, issue };
}

export const etcdFlags = (secrets: string, data: string, client: number, peer: number): string[] => [
  `--data-dir=${data}`,
  `--listen-client-urls=https://127.0.0.1:${client}`,
  `--advertise-client-urls=https://127.0.0.1:${client}`,
  `--listen-peer-urls=https://127.0.0.1:${peer}`,
  `--initial-advertise-peer-urls=https://127.0.0.1:${peer}`,
  `--initial-cluster=default=https://127.0.0.1:${peer}`,
  ...["", "peer-"].flatMap((kind) => [
    `--${kind}cert-file=${join(secrets, "etcd.crt")}`,
    `--${kind}key-file=${join(secrets, "etcd.key")}`,
    `--${kind}trusted-ca-file=${join(secrets, "etcd-ca.crt")}`,
    `--${kind}client-cert-auth=true`,
  ]),
  "--log-level=warn",
];

export type ApiserverSettings = {
  readonly secrets: string;
  readonly etcdPort: number;
  readonly port: number;
  readonly bindAddress: string;
  readonly advertiseAddress: string;
  readonly admissionFile?: string;
};

export const apiserverFlags = (s: ApiserverSettings): string[] => [
  `--etcd-servers=https://127.0.0.1:${s.etcdPort}`,
  `--etcd-cafile=${join(s.secrets, "etcd-ca.crt")}`,
  `--etcd-certfile=${join(s.secrets, "etcd.crt")}`,
  `--etcd-keyfile=${join(s.secrets, "etcd.key")}`,
  `--bind-address=${s.bindAddress}`,
  `--advertise-address=${s.advertiseAddress}`,
  `--secure-port=${s.port}`,
  `--tls-cert-file=${join(s.secrets, "apiserver.crt")}`,
  `--tls-private-key-file=${join(s.secrets, "apiserver.key")}`,
  `--client-ca-file=${join(s.secrets, "ca.crt")}`,
  `--requestheader-client-ca-file=${join(s.secrets, "ca.crt")}`,
  // One authority for clients and the front proxy: only this name may speak for others.
  "--requestheader-allowed-names=front-proxy",
  "--requestheader-username-headers=X-Remote-User",
  "--requestheader-group-headers=X-Remote-Group",
  "--requestheader-extra-headers-prefix=X-Remote-Extra-",
  `--proxy-client-cert-file=${join(s.secrets, "front-proxy.crt")}`,
  `--proxy-client-key-file=${join(s.secrets, "front-proxy.key")}`,
  `--kubelet-client-certificate=${join(s.secrets, "kubelet-client.crt")}`,
  `--kubelet-client-key=${join(s.secrets, "kubelet-client.key")}`,
  "--service-cluster-ip-range=10.96.0.0/16",
  "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
  `--service-account-key-file=${join(s.secrets, "service-account.pub")}`,
  `--service-account-signing-key-file=${join(s.secrets, "service-account.key")}`,
  "--authorization-mode=Node,RBAC",
  "--enable-admission-plugins=NodeRestriction",
  "--allow-privileged=true",
  "--profiling=false",
  ...(s.admissionFile === undefined
    ? []
    : [
        "--feature-gates=ManifestBasedAdmissionControlConfig=true",
        `--admission-control-config-file=${s.admissionFile}`,
      ]),
];

export const controllerManagerFlags = (secrets: string, kubeconfigFile: string, port: number): string[] => [
  `--kubeconfig=${kubeconfigFile}`,
  `--authentication-kubeconfig=${kubeconfigFile}`,
  `--authorization-kubeconfig=${kubeconfigFile}`,
  "--bind-address=127.0.0.1",
  `--secure-port=${port}`,
  `--root-ca-file=${join(secrets, "ca.crt")}`,
  `--service-account-private-key-file=${join(secrets, "service-account.key")}`,
  `--cluster-signing-cert-file=${join(secrets, "ca.crt")}`,
  `--cluster-signing-key-file=${join(secrets, "ca.key")}`,
  "--use-service-account-credentials=true",
  "--leader-elect=false",
];

/** Is `text` one of the ways in which a server says that its port is taken? */
export const portTaken = (text: string): boolean => /address already in use/iu.test(text);

/** Brings up a control plane of one's own; several can run side by side. */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const programs = await ensurePrograms(
    [...controlPlanePrograms, ...(options.controllers ? (["kube-controller-manager"] as const) : [])],
    options.report,
  );
  // Another process may take a port between our asking and the server's binding; then all is begun anew.
  for (let attempt = 1; ; attempt++) {
    try {
      return await attemptControlPlane(options, programs);
    } catch (error) {
      if (attempt === 4 || !(error instanceof Failure) || !portTaken(error.message)) throw error;
    }
  }
}

const attemptControlPlane = async (
  options: ControlPlaneOptions,
  programs: Readonly<Record<string, string>>,
): Promise<ControlPlane> => {
  const folder = mkdtempSync(join(tmpdir(), "atoll-control-plane-"));
  const remains = removeWithProcess(folder);
  const processes: Running[] = [];
  const stop = async (): Promise<void> => {
    for (const running of processes.toReversed()) await running.stop();
    await remains.now();
  };
  const launch = (name: string, flags: readonly string[]): Running => {
    const running = start(name, [programs[name] ?? name, ...flags], join(folder, `${name}.log`));
    processes.push(running);
    return running;
  };
  try {
    const secrets = join(folder, "secrets");
    makeCredentials(secrets, []);
    const [etcdPort = 0, peerPort = 0, port = 0, managerPort = 0] = await freePorts(4);
    // The store lives as long as this process: nothing is gained by waiting for the disk.
    launch("etcd", [...etcdFlags(secrets, join(folder, "etcd"), etcdPort, peerPort), "--unsafe-no-fsync"]);
    const admissionFile = join(folder, "admission.json");
    if (options.staticPolicies !== undefined)
      writeFileSync(admissionFile, admissionConfiguration(options.staticPolicies));
    launch("kube-apiserver", [
      ...apiserverFlags({
        secrets,
        etcdPort,
        port,
        bindAddress: "127.0.0.1",
        advertiseAddress: "127.0.0.1",
        ...(options.staticPolicies === undefined ? {} : { admissionFile }),
      }),
      // Its own address is loopback, which is no Service's endpoint.
      "--endpoint-reconciler-type=none",
      `--cert-dir=${folder}`,
      ...(options.apiserverFlags ?? []),
    ]);
    const access = accessFor(secrets, `https://127.0.0.1:${port}`);
    const file = writeKubeconfig(folder, options.name ?? "atoll", access);
    await waitFor("the API server", 60, async () => ready(access), processes);
    if (options.controllers) {
      launch("kube-controller-manager", controllerManagerFlags(secrets, file, managerPort));
      await waitFor(
        "the first service account",
        60,
        async () => found(access, "/api/v1/namespaces/default/serviceaccounts/default"),
        processes,
      );
    }
    return {
      ...access,
      kubeconfig: file,
      folder,
      processes,
      ask: (path, send) => ask(access, path, send),
      stop,
    };
  } catch (error) {
    const logs = processes.map((r) => lastLines(r.log, 40)).join("\n");
    await stop();
    if (portTaken(logs)) throw new Failure("address already in use");
    throw error;
  }
};

export function accessFor(secrets: string, url: string): Access {
  return {
    url,
    caFile: join(secrets, "ca.crt"),
    caPem: readFileSync(join(secrets, "ca.crt"), "utf8"),
    certificateFile: join(secrets, "admin.crt"),
    keyFile: join(secrets, "admin.key"),
  };
}

export function writeKubeconfig(folder: string, name: string, access: Access): string {
  const file = join(folder, "kubeconfig");
  writeFileSync(
    file,
    kubeconfig(name, {
      url: access.url,
      caPem: access.caPem,
      certificate: readFileSync(access.certificateFile, "utf8"),
      key: readFileSync(access.keyFile, "utf8"),
    }),
    { mode: 0o600 },
  );
  return file;
}

const found = async (access: Access, path: string): Promise<true | string> => {
  const { status } = await ask(access, path);
  return status === 200 ? true : `${path} answered ${status}`;
};

/** Ready, its bootstrap roles stored, and the namespaces there that everybody takes for granted. */
export async function ready(access: Access): Promise<true | string> {
  for (const path of ["/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system"]) {
    const answer = await found(access, path);
    if (answer !== true) return answer;
  }
  return true;
}
