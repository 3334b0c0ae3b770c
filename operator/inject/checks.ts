// What a governed pod may not have. The same rules stand in the policy `atoll-shape`, which fails closed without us;
// here each has a sentence that tells the pod's owner what to change.

import { isMap } from "../kinds/kinds.ts";
import type { IndexEntry, Json, JsonMap } from "../kinds/kinds.ts";
import { RESERVED_IDS } from "../shape/shape.ts";

export interface Finding {
  readonly code: RefusalCode;
  readonly message: string;
}
export const REFUSALS = {
  NotAPod: "the object is not a pod that can be read",
  NoSidecar: "no GuardianSidecar takes this pod",
  AmbiguousSidecar: "more than one GuardianSidecar takes this pod",
  SizeUnknown: "the annotation names a size class that is not offered",
  MirrorPod: "a static pod cannot be governed",
  Windows: "the lock exists on Linux only",
  HostNamespace: "the pod shares a namespace of the host",
  SharedProcesses: "the pod's containers share their processes",
  Volume: "a volume would be a way round the guardian",
  Credential: "a credential of the guardian would be reached another way",
  ServiceAccountToken: "a token of the service account would reach the agent",
  Sysctls: "the pod sets sysctls",
  Device: "a device would send packets that the lock does not see",
  Names: "the pod changes how names are resolved",
  RuntimeClass: "the lock is not proved for this RuntimeClass",
  ReservedName: "a name that begins with atoll- is the guardian's",
  ReservedId: "a user or group id is reserved",
  Privilege: "a container has privileges with which the lock could be lifted",
  User: "a container does not say under which user it runs",
  Seccomp: "a container runs without a seccomp profile",
  Probe: "a probe cannot be rewritten",
  Annotation: "an annotation of ours cannot be read",
} as const;
export type RefusalCode = keyof typeof REFUSALS;

const list = (v: Json | undefined): readonly JsonMap[] => (Array.isArray(v) ? v.filter(isMap) : []);
const map = (v: Json | undefined): JsonMap => (isMap(v) ? v : {});
const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
const strings = (v: Json | undefined): string[] =>
  Array.isArray(v) ? v.filter((s): s is string => typeof s === "string") : [];

/** Volume types whose content comes from the API, the node's own disk or a claim; any other dials somewhere itself. */
export const VOLUME_TYPES: readonly string[] = [
  "configMap",
  "csi",
  "downwardAPI",
  "emptyDir",
  "ephemeral",
  "image",
  "persistentVolumeClaim",
  "projected",
  "secret",
];

/** Devices with a network of their own, by the names under which they are asked for; the same expression stands in `atoll-shape`. */
export const NETWORK_DEVICES =
  /rdma|infiniband|roce|hca|efa|sriov|sr-iov|netdevice|hostdev|vfio|vdpa|dpdk|mlnx|mellanox|smartnic/;

export function credentialSecrets(entry: IndexEntry): ReadonlySet<string> {
  const names = new Set<string>();
  for (const shape of entry.shapes)
    for (const volume of shape.volumes)
      for (const source of list(map(volume["projected"])["sources"])) {
        const name = text(map(source["secret"])["name"]);
        if (name !== "") names.add(name);
      }
  return names;
}

export function checkPod(spec: JsonMap, entry: IndexEntry): Finding[] {
  const found: Finding[] = [];
  const say = (code: RefusalCode, message: string): void => void found.push({ code, message });
  if (map(spec["os"])["name"] === "windows")
    say("Windows", "`spec.os.name` is windows: the lock exists on Linux only");
  for (const key of ["hostNetwork", "hostPID", "hostIPC"])
    if (spec[key] === true)
      say(
        "HostNamespace",
        `\`spec.${key}\` is true: remove it, the lock holds in the pod's own namespaces only`,
      );
  if (spec["shareProcessNamespace"] === true)
    say(
      "SharedProcesses",
      "`spec.shareProcessNamespace` is true: remove it, the agent would see the guardian's processes",
    );
  const security = map(spec["securityContext"]);
  if (list(security["sysctls"]).length > 0)
    say("Sysctls", "`spec.securityContext.sysctls` is set: remove it");
  if (list(spec["hostAliases"]).length > 0)
    say("Names", "`spec.hostAliases` is set: remove it, the guardian resolves names");
  if (spec["dnsConfig"] !== undefined)
    say("Names", "`spec.dnsConfig` is set: remove it, the guardian resolves names");
  if (spec["dnsPolicy"] !== undefined && spec["dnsPolicy"] !== "ClusterFirst")
    say("Names", `\`spec.dnsPolicy\` is ${text(spec["dnsPolicy"])}: use ClusterFirst`);
  if (list(spec["resourceClaims"]).length > 0)
    say(
      "Device",
      "`spec.resourceClaims` is set: remove it, what a claim brings in cannot be seen at admission",
    );
  const runtime = spec["runtimeClassName"];
  if (runtime !== undefined && !(entry.runtimeClasses ?? []).includes(text(runtime)))
    say(
      "RuntimeClass",
      `\`spec.runtimeClassName\` is ${text(runtime)}, and GuardianSidecar ${entry.name} admits ${(entry.runtimeClasses ?? []).join(", ") || "none"}: the lock has to be proved for it first`,
    );
  for (const key of ["runAsUser", "runAsGroup", "fsGroup"])
    if (RESERVED_IDS.includes(Number(security[key] ?? 0)))
      say(
        "ReservedId",
        `\`spec.securityContext.${key}\` is ${JSON.stringify(security[key])}, which is reserved for the guardian: choose another`,
      );
  const extra = security["supplementalGroups"];
  for (const id of Array.isArray(extra) ? extra : [])
    if (RESERVED_IDS.includes(Number(id)))
      say(
        "ReservedId",
        `\`spec.securityContext.supplementalGroups\` has ${JSON.stringify(id)}, which is reserved for the guardian`,
      );
  return found;
}

export function checkVolumes(volumes: readonly JsonMap[], secrets: ReadonlySet<string>): Finding[] {
  const found: Finding[] = [];
  const say = (code: RefusalCode, message: string): void => void found.push({ code, message });
  for (const volume of volumes) {
    const name = text(volume["name"]);
    if (name.startsWith("atoll-"))
      say("ReservedName", `volume \`${name}\`: names that begin with atoll- are the guardian's`);
    const types = Object.keys(volume).filter(
      (k) => k !== "name" && volume[k] !== undefined && volume[k] !== null,
    );
    for (const type of types)
      if (!VOLUME_TYPES.includes(type))
        say(
          "Volume",
          `volume \`${name}\` is of type ${type}, which reaches the node or the network by itself: use one of ${VOLUME_TYPES.join(", ")}`,
        );
    if (secrets.has(text(map(volume["secret"])["secretName"])))
      say(
        "Credential",
        `volume \`${name}\` mounts Secret ${text(map(volume["secret"])["secretName"])}, which is a credential of the guardian`,
      );
    for (const source of list(map(volume["projected"])["sources"])) {
      if (source["serviceAccountToken"] !== undefined || source["podCertificate"] !== undefined)
        say(
          "ServiceAccountToken",
          `volume \`${name}\` projects an identity of the pod: remove it, an agent has no way to the API server`,
        );
      if (secrets.has(text(map(source["secret"])["name"])))
        say(
          "Credential",
          `volume \`${name}\` projects Secret ${text(map(source["secret"])["name"])}, which is a credential of the guardian`,
        );
    }
  }
  return found;
}

export function checkContainer(container: JsonMap, pod: JsonMap, secrets: ReadonlySet<string>): Finding[] {
  const found: Finding[] = [];
  const name = text(container["name"]);
  const say = (code: RefusalCode, message: string): void =>
    void found.push({ code, message: `container \`${name}\`: ${message}` });
  const own = map(container["securityContext"]);
  const shared = map(pod["securityContext"]);
  const effective = (key: string): Json | undefined => own[key] ?? shared[key];
  if (name.startsWith("atoll-")) say("ReservedName", "names that begin with atoll- are the guardian's");
  for (const key of ["volumeMounts", "volumeDevices"])
    for (const mount of list(container[key]))
      if (text(mount["name"]).startsWith("atoll-"))
        say("ReservedName", `${key} has \`${text(mount["name"])}\`, which is the guardian's`);
  if (own["privileged"] === true) say("Privilege", "`privileged` is true: remove it");
  if (own["allowPrivilegeEscalation"] === true)
    say("Privilege", "`allowPrivilegeEscalation` is true: set it to false");
  const capabilities = map(own["capabilities"]);
  const added = strings(capabilities["add"]).filter((c) => c !== "NET_BIND_SERVICE");
  if (added.length > 0)
    say("Privilege", `capabilities ${added.join(", ")} are added: only NET_BIND_SERVICE may be`);
  if (!strings(capabilities["drop"]).includes("ALL")) say("Privilege", "set `capabilities.drop` to [ALL]");
  const mountType = own["procMount"];
  if (mountType !== undefined && mountType !== "Default")
    say("Privilege", "`procMount` is not Default: remove it");
  if (effective("runAsNonRoot") !== true) say("User", "`runAsNonRoot` is not true: set it");
  const user = effective("runAsUser");
  if (typeof user !== "number")
    say("User", "set `runAsUser` to a number from 1 on: the image's own user is not known at admission");
  else if (user === 0) say("User", "`runAsUser` is 0: choose another user");
  for (const key of ["runAsUser", "runAsGroup"])
    if (RESERVED_IDS.includes(Number(effective(key) ?? 0)))
      say(
        "ReservedId",
        `\`${key}\` is ${JSON.stringify(effective(key))}, which is reserved for the guardian: choose another`,
      );
  const profile = text(map(effective("seccompProfile"))["type"]);
  if (profile !== "RuntimeDefault" && profile !== "Localhost")
    say("Seccomp", "set `seccompProfile.type` to RuntimeDefault or Localhost");
  const resources = map(container["resources"]);
  for (const device of new Set([
    ...Object.keys(map(resources["limits"])),
    ...Object.keys(map(resources["requests"])),
  ]))
    if (device.includes("/") && NETWORK_DEVICES.test(device))
      say("Device", `resource \`${device}\` has a network of its own, past the lock: remove it`);
  for (const variable of list(container["env"])) {
    const secret = text(map(map(variable["valueFrom"])["secretKeyRef"])["name"]);
    if (secrets.has(secret))
      say("Credential", `env reads Secret ${secret}, which is a credential of the guardian`);
  }
  for (const from of list(container["envFrom"])) {
    const secret = text(map(from["secretRef"])["name"]);
    if (secrets.has(secret))
      say("Credential", `envFrom reads Secret ${secret}, which is a credential of the guardian`);
  }
  return found;
}
