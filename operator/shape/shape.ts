// What a GuardianSidecar puts into a pod: three init containers and their volumes, before the API server's defaults.
// Nothing in them depends on the pod, so that admission can compare them as whole objects.

import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { isMap } from "../kinds/kinds.ts";
import type { Json, JsonMap, Shape, SidecarSpec, SizeClass } from "../kinds/kinds.ts";

/** Users of our three containers. Nobody else in a governed pod has them. */
export const LOCK_UID = 64521;
export const GATE_UID = 64522;
export const GUARDIAN_UID = 64523;
export const RESERVED_IDS: readonly number[] = [LOCK_UID, GATE_UID, GUARDIAN_UID];

export const API_PORT = 15080;
export const PROXY_PORT = 15081;
export const HEALTH_PORT = 15090;

/** Where the image has its programs. `nft` carries the file capability, so it has to be the entrypoint itself. */
export const LOCK_COMMAND: readonly string[] = ["/usr/sbin/nft", "-f", "/etc/atoll/lock.nft"];
const NODE: readonly string[] = ["/usr/bin/node", "/opt/atoll/sidecar.js"];
export const GUARDIAN_COMMAND: readonly string[] = [...NODE, "guardian"];
export const GATE_COMMAND: readonly string[] = [...NODE, "gate", "run"];
export const GATE_CHECK_COMMAND: readonly string[] = [...NODE, "gate", "check"];

export const POLICY_MOUNT = "/etc/atoll/policy";
/** WASM modules of a namespace, found by their hash: whoever writes it can withhold one, never pass another off. */
const MODULES_CONFIG_MAP = "atoll-modules";
const MODULES_MOUNT = "/etc/atoll/modules";
export const policyConfigMap = (sidecar: string): string => `atoll-policy-${sidecar}`;
export const TRUST_CONFIG_MAP = "atoll-trust-roots";
export const TOKEN_AUDIENCE = "atoll";

const DEFAULT_SIZES: readonly SizeClass[] = [{ class: "default", cpu: "100m", memory: "256Mi" }];

export interface ShapeSettings {
  /** SHA-256 of the installer's trust roots: a guardian refuses any other copy. */
  readonly trustRootsSha256: string;
  /** An absolute name: the guardian's resolver has no search list. */
  readonly controlUrl: string;
  /** Addresses of the canary (`address:port`, comma-separated) that the gate must not reach, or `none`. */
  readonly canary: string;
  /** `address:port` of the egress gateway for pods without the lock, or "". */
  readonly gateway?: string;
}
export interface RawShape {
  readonly class: string;
  readonly initContainers: readonly JsonMap[];
  readonly volumes: readonly JsonMap[];
}

const security = (uid: number, capabilities: JsonMap): JsonMap => ({
  runAsUser: uid,
  runAsGroup: uid,
  runAsNonRoot: true,
  privileged: false,
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"], ...capabilities },
  seccompProfile: { type: "RuntimeDefault" },
});
// Every request and limit is set: a LimitRange would fill in what is missing, and the shape would no longer be equal.
const resources = (size: Omit<SizeClass, "class">): JsonMap => ({
  requests: { cpu: size.cpu, memory: size.memory, "ephemeral-storage": "64Mi" },
  limits: { cpu: size.cpuLimit ?? "2", memory: size.memory, "ephemeral-storage": "6Gi" },
});
const value = (name: string, text: string): JsonMap => ({ name, value: text });
const field = (name: string, fieldPath: string): JsonMap => ({
  name,
  valueFrom: { fieldRef: { apiVersion: "v1", fieldPath } },
});
const mount = (name: string, mountPath: string, readOnly: boolean): JsonMap => ({
  name,
  mountPath,
  ...(readOnly ? { readOnly } : {}),
});
const health = (path: string, timing: JsonMap): JsonMap => ({
  httpGet: { path, port: HEALTH_PORT, scheme: "HTTP" },
  ...timing,
});

function guardianEnvironment(name: string, spec: SidecarSpec, settings: ShapeSettings): JsonMap[] {
  return [
    // c-ares over TCP, in this container alone: the lock lets no UDP through.
    value("RES_OPTIONS", "use-vc"),
    value("ATOLL_SIDECAR", name),
    value("ATOLL_LEVEL", spec.conformanceLevel),
    value("ATOLL_BUNDLE_ID", spec.policyBundleRef.bundleId),
    value("ATOLL_CEILING_ID", spec.ceilingRef?.bundleId ?? ""),
    value("ATOLL_DURABILITY", spec.durability ?? "local"),
    value("ATOLL_LOCK", spec.island?.inPodLock ?? "nftables"),
    value("ATOLL_PROOF_MAX_AGE_SECONDS", String(spec.island?.probe?.maxAgeSeconds ?? 15)),
    value("ATOLL_POLICY_DIR", POLICY_MOUNT),
    value("ATOLL_TRUST_ROOTS", "/etc/atoll/trust/roots.pem"),
    value("ATOLL_TRUST_ROOTS_SHA256", settings.trustRootsSha256),
    value("ATOLL_CREDENTIALS_DIR", "/etc/atoll/credentials"),
    value("ATOLL_POD_DIR", "/etc/atoll/pod"),
    value("ATOLL_JOURNAL_DIR", "/var/lib/atoll/journal"),
    value("ATOLL_ADMIN_SOCKET", "/var/lib/atoll/admin.sock"),
    value("ATOLL_GATE_SOCKET", "/run/atoll-gate/report.sock"),
    value("ATOLL_CONTROL_URL", settings.controlUrl),
    value("ATOLL_CONTROL_CA", `${POLICY_MOUNT}/control-ca.crt`),
    value("ATOLL_CONTROL_TOKEN", "/var/run/atoll/token"),
    field("ATOLL_POD_NAME", "metadata.name"),
    field("ATOLL_POD_NAMESPACE", "metadata.namespace"),
    field("ATOLL_POD_UID", "metadata.uid"),
    field("ATOLL_SERVICE_ACCOUNT", "spec.serviceAccountName"),
    // Where no NetworkPolicy stands, the guardian reaches the canary, and rightly.
    value("ATOLL_CANARY", spec.island?.networkPolicy === false ? "none" : settings.canary),
    field("ATOLL_NODE_IPS", "status.hostIPs"),
    ...(spec.island?.inPodLock === "none" ? [value("ATOLL_GATEWAY", settings.gateway ?? "")] : []),
  ];
}

function volumes(name: string, spec: SidecarSpec): JsonMap[] {
  const credentials = spec.credentials ?? [];
  return [
    { name: "atoll-policy", configMap: { name: policyConfigMap(name), defaultMode: 0o444 } },
    { name: "atoll-trust", configMap: { name: TRUST_CONFIG_MAP, defaultMode: 0o444 } },
    { name: "atoll-modules", configMap: { name: MODULES_CONFIG_MAP, defaultMode: 0o444, optional: true } },
    {
      name: "atoll-pod",
      downwardAPI: {
        defaultMode: 0o444,
        items: ["labels", "annotations"].map((path) => ({
          path,
          fieldRef: { apiVersion: "v1", fieldPath: `metadata.${path}` },
        })),
      },
    },
    {
      name: "atoll-token",
      projected: {
        defaultMode: 0o444,
        sources: [
          { serviceAccountToken: { audience: TOKEN_AUDIENCE, expirationSeconds: 3600, path: "token" } },
        ],
      },
    },
    // The token's directory is the guardian's alone, so a world-readable mode inside it opens nothing.
    ...(credentials.length === 0
      ? []
      : [
          {
            name: "atoll-credentials",
            projected: {
              defaultMode: 0o444,
              sources: credentials.map((c) => ({
                secret: { name: c.secretRef.name, items: [{ key: c.secretRef.key, path: c.name }] },
              })),
            },
          },
        ]),
    { name: "atoll-journal", emptyDir: { sizeLimit: "4Gi" } },
    { name: "atoll-gate", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } },
  ];
}

function guardian(name: string, spec: SidecarSpec, settings: ShapeSettings, size: SizeClass): JsonMap {
  return {
    name: "atoll-guardian",
    image: spec.image,
    imagePullPolicy: "IfNotPresent",
    restartPolicy: "Always",
    command: GUARDIAN_COMMAND,
    env: guardianEnvironment(name, spec, settings),
    ports: [{ name: "atoll-health", containerPort: HEALTH_PORT, protocol: "TCP" }],
    resources: resources(size),
    securityContext: security(GUARDIAN_UID, {}),
    startupProbe: health("/startupz", { periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 180 }),
    readinessProbe: health("/readyz", { periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 1 }),
    livenessProbe: health("/livez", { periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 }),
    volumeMounts: [
      mount("atoll-policy", POLICY_MOUNT, true),
      mount("atoll-trust", "/etc/atoll/trust", true),
      mount("atoll-modules", MODULES_MOUNT, true),
      mount("atoll-pod", "/etc/atoll/pod", true),
      mount("atoll-token", "/var/run/atoll", true),
      ...((spec.credentials ?? []).length === 0
        ? []
        : [mount("atoll-credentials", "/etc/atoll/credentials", true)]),
      mount("atoll-journal", "/var/lib/atoll", false),
      mount("atoll-gate", "/run/atoll-gate", false),
    ],
  };
}

function lock(spec: SidecarSpec): JsonMap {
  return {
    name: "atoll-lock",
    image: spec.image,
    imagePullPolicy: "IfNotPresent",
    command: LOCK_COMMAND,
    resources: resources({ cpu: "10m", cpuLimit: "1", memory: "32Mi" }),
    securityContext: security(LOCK_UID, { add: ["NET_ADMIN"] }),
  };
}

function gate(spec: SidecarSpec, settings: ShapeSettings): JsonMap {
  return {
    name: "atoll-gate",
    image: spec.image,
    imagePullPolicy: "IfNotPresent",
    restartPolicy: "Always",
    command: GATE_COMMAND,
    env: [
      value("ATOLL_GATE_SOCKET", "/run/atoll-gate/report.sock"),
      value("ATOLL_GATE_STATE", "/run/atoll-gate/report.json"),
      value("ATOLL_CANARY", settings.canary),
      field("ATOLL_NODE_IPS", "status.hostIPs"),
    ],
    resources: resources({ cpu: "10m", cpuLimit: "1", memory: "128Mi" }),
    securityContext: security(GATE_UID, {}),
    // The gate listens to nobody, so its first proof is asked for inside its container.
    startupProbe: {
      exec: { command: GATE_CHECK_COMMAND },
      periodSeconds: 1,
      timeoutSeconds: 5,
      failureThreshold: 60,
    },
    volumeMounts: [mount("atoll-gate", "/run/atoll-gate", false)],
  };
}

/** One shape for each size class that the sidecar offers; the first is the default. */
export function buildShapes(name: string, spec: SidecarSpec, settings: ShapeSettings): RawShape[] {
  const sizes = spec.resources !== undefined && spec.resources.length > 0 ? spec.resources : DEFAULT_SIZES;
  return sizes.map((size) => {
    const one = guardian(name, spec, settings, size);
    return {
      class: size.class,
      initContainers:
        (spec.island?.inPodLock ?? "nftables") === "none" ? [one] : [lock(spec), one, gate(spec, settings)],
      volumes: volumes(name, spec),
    };
  });
}

/** A pod for the dry-run create in the shape namespace, from which the API server's defaults are learned. */
export function shapePod(name: string, raw: RawShape): JsonMap {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { generateName: `${name}-`, labels: { "app.kubernetes.io/managed-by": "atoll" } },
    spec: {
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      initContainers: raw.initContainers,
      containers: [{ name: "agent", image: "agent", resources: {} }],
      volumes: raw.volumes,
    },
  };
}

const list = (v: Json | undefined): readonly JsonMap[] => (Array.isArray(v) ? v.filter(isMap) : []);

/** The shape as the API server stores it, from its answer to the dry run. */
export function canonicalShape(raw: RawShape, answer: JsonMap): Shape {
  const spec = isMap(answer["spec"]) ? answer["spec"] : {};
  const container = (name: string): JsonMap | undefined =>
    list(spec["initContainers"]).find((c) => c["name"] === name);
  const guardianContainer = container("atoll-guardian");
  if (guardianContainer === undefined)
    throw new Error("the API server's answer to the dry run has no guardian");
  const lockContainer = container("atoll-lock");
  const gateContainer = container("atoll-gate");
  const members = {
    ...(lockContainer === undefined ? {} : { lock: lockContainer }),
    guardian: guardianContainer,
    ...(gateContainer === undefined ? {} : { gate: gateContainer }),
    volumes: list(spec["volumes"]).filter(
      (v) => typeof v["name"] === "string" && v["name"].startsWith("atoll-"),
    ),
  };
  return { class: raw.class, hash: shapeHash(members), ...members };
}

/** Hash of what the watchdog finds in a running pod, or of what new pods are given. */
export const shapeHash = (members: Omit<Shape, "class" | "hash">): string =>
  sha256(canonicalize(JSON.parse(JSON.stringify(members))));
