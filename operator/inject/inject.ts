// A pod and the index of shapes in, a patch or a refusal out. Pure: no clock, no network, the same answer every time.

import {
  ANNOTATION_PROBES,
  ANNOTATION_SIZE,
  LABEL_GOVERNED,
  LABEL_SIDECAR,
  SHAPE_NAMESPACE,
  SYSTEM_NAMESPACE,
  choose,
  isMap,
} from "../kinds/kinds.ts";
import type { IndexEntry, IndexSpec, Json, JsonMap, Shape } from "../kinds/kinds.ts";
import { API_PORT, PROXY_PORT } from "../shape/shape.ts";
import { REFUSALS, checkContainer, checkPod, checkVolumes, credentialSecrets } from "./checks.ts";
import type { Finding, RefusalCode } from "./checks.ts";
import { difference } from "./patch.ts";
import type { Operation } from "./patch.ts";
import { ProbeRefusal, rewriteProbes } from "./probes.ts";
import type { ProbeTarget } from "./probes.ts";

export { REFUSALS } from "./checks.ts";
export type { RefusalCode } from "./checks.ts";
export type { Operation } from "./patch.ts";

/** Why a pod is left as it is. */
export const SKIPS = {
  NotGoverned: "the namespace does not carry the label atoll.dev/governed with the value true",
  ExcludedNamespace: "pods of the cluster itself and of Atoll are never governed",
} as const;
export type SkipCode = keyof typeof SKIPS;

export type Injection =
  | { readonly outcome: "skip"; readonly code: SkipCode; readonly message: string }
  | {
      readonly outcome: "refuse";
      readonly code: RefusalCode;
      readonly message: string;
      readonly findings: readonly Finding[];
    }
  | {
      readonly outcome: "inject";
      readonly sidecar: string;
      readonly size: string;
      readonly patch: readonly Operation[];
      readonly warnings: readonly string[];
    };

export const EXCLUDED_NAMESPACES: readonly string[] = [
  "kube-system",
  "kube-node-lease",
  SYSTEM_NAMESPACE,
  SHAPE_NAMESPACE,
];

/** What an agent is told. The key is a placeholder: real credentials exist in the guardian only. */
export const AGENT_ENVIRONMENT: readonly (readonly [name: string, value: string])[] = [
  ["OPENAI_BASE_URL", `http://127.0.0.1:${API_PORT}/v1`],
  ["OPENAI_API_KEY", "held-by-the-guardian"],
  ["ANTHROPIC_BASE_URL", `http://127.0.0.1:${API_PORT}`],
  ["HTTP_PROXY", `http://127.0.0.1:${PROXY_PORT}`],
  ["HTTPS_PROXY", `http://127.0.0.1:${PROXY_PORT}`],
  ["NO_PROXY", "127.0.0.1,localhost,::1"],
  ["ATOLL_MCP_URL", `http://127.0.0.1:${API_PORT}/mcp`],
  ["ATOLL_SESSION_URL", `http://127.0.0.1:${API_PORT}/atoll/v1/session`],
];

const list = (v: Json | undefined): readonly JsonMap[] => (Array.isArray(v) ? v.filter(isMap) : []);
const map = (v: Json | undefined): JsonMap => (isMap(v) ? v : {});
const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
const labelsOf = (v: Json | undefined): Record<string, string> =>
  Object.fromEntries(Object.entries(map(v)).filter((e): e is [string, string] => typeof e[1] === "string"));

const refuse = (findings: readonly [Finding, ...Finding[]]): Injection => ({
  outcome: "refuse",
  code: findings[0].code,
  message: findings.map((f) => f.message).join("; "),
  findings,
});

const own = (shape: Shape): readonly JsonMap[] =>
  shape.lock !== undefined && shape.gate !== undefined
    ? [shape.lock, shape.guardian, shape.gate]
    : [shape.guardian];

export interface NamespaceFacts {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export function inject(pod: Json, namespace: NamespaceFacts, index: IndexSpec): Injection {
  if (EXCLUDED_NAMESPACES.includes(namespace.name))
    return { outcome: "skip", code: "ExcludedNamespace", message: SKIPS.ExcludedNamespace };
  if (namespace.labels[LABEL_GOVERNED] !== "true")
    return { outcome: "skip", code: "NotGoverned", message: SKIPS.NotGoverned };
  if (!isMap(pod) || !isMap(pod["spec"]) || !Array.isArray(pod["spec"]["containers"]))
    return refuse([{ code: "NotAPod", message: REFUSALS.NotAPod }]);
  const meta = map(pod["metadata"]);
  const annotations = map(meta["annotations"]);
  if (annotations["kubernetes.io/config.mirror"] !== undefined)
    return refuse([
      {
        code: "MirrorPod",
        message: "the kubelet runs this static pod already: move it out of the governed namespace",
      },
    ]);

  const { here, mine } = choose(index, namespace.labels, labelsOf(meta["labels"]));
  const [entry, second] = mine;
  if (entry === undefined)
    return refuse([
      {
        code: "NoSidecar",
        message:
          here.length === 0
            ? `no GuardianSidecar selects namespace ${namespace.name}: create one, or remove the label ${LABEL_GOVERNED}`
            : `no GuardianSidecar takes this pod; in this namespace there are ${here.map((s) => s.name).join(", ")}: give the pod the labels that one of them selects, or name one on the namespace by the label atoll.dev/default-sidecar`,
      },
    ]);
  if (second !== undefined)
    return refuse([
      {
        code: "AmbiguousSidecar",
        message: `GuardianSidecars ${mine.map((s) => s.name).join(", ")} all take this pod: change its labels, or their selectors, so that exactly one does`,
      },
    ]);
  const shape = sizeOf(annotations, entry);
  if ("message" in shape) return refuse([shape]);
  return injectShape(pod, pod["spec"], entry, shape);
}

function sizeOf(annotations: JsonMap, entry: IndexEntry): Shape | Finding {
  const offered = entry.shapes.map((s) => s.class).join(", ");
  const asked = annotations[ANNOTATION_SIZE];
  const shape = asked === undefined ? entry.shapes[0] : entry.shapes.find((s) => s.class === asked);
  return (
    shape ?? {
      code: "SizeUnknown",
      message: `annotation ${ANNOTATION_SIZE} is \`${text(asked)}\`; GuardianSidecar ${entry.name} offers ${offered}`,
    }
  );
}

function injectShape(pod: JsonMap, spec: JsonMap, entry: IndexEntry, shape: Shape): Injection {
  const ours = own(shape);
  // By name: what another webhook has changed in ours, or what somebody has put in their place, gives way to ours.
  const isOurs = (c: JsonMap): boolean => ours.some((o) => o["name"] === c["name"]);
  const isOurVolume = (v: JsonMap): boolean => shape.volumes.some((o) => o["name"] === v["name"]);
  const injected = ours.every((o) => list(spec["initContainers"]).some((c) => o["name"] === c["name"]));
  const annotations = map(map(pod["metadata"])["annotations"]);
  const targets = injected ? knownTargets(annotations) : [];
  if (targets === undefined)
    return refuse([
      { code: "Annotation", message: `annotation ${ANNOTATION_PROBES} is not ours: remove it` },
    ]);

  const tokens = new Set(
    list(spec["volumes"])
      .filter((v) => text(v["name"]).startsWith("kube-api-access-") && isMap(v["projected"]))
      .map((v) => text(v["name"])),
  );
  const edit = { entry, tokens, targets, known: targets.length };
  let containers: Json[];
  let init: Json[];
  try {
    init = list(spec["initContainers"])
      .filter((c) => !isOurs(c))
      .map((c) => editContainer(c, spec, edit));
    containers = list(spec["containers"]).map((c) => editContainer(c, spec, edit));
  } catch (error) {
    if (error instanceof ProbeRefusal) return refuse([{ code: "Probe", message: error.message }]);
    throw error;
  }
  const volumes = list(spec["volumes"]).filter((v) => !isOurVolume(v) && !tokens.has(text(v["name"])));
  const after: JsonMap = {
    ...pod,
    metadata: {
      ...map(pod["metadata"]),
      labels: { ...map(map(pod["metadata"])["labels"]), [LABEL_SIDECAR]: entry.name },
      ...(targets.length > 0
        ? { annotations: { ...annotations, [ANNOTATION_PROBES]: JSON.stringify(targets) } }
        : annotations[ANNOTATION_PROBES] === undefined
          ? {}
          : {
              annotations: Object.fromEntries(
                Object.entries(annotations).filter(([k]) => k !== ANNOTATION_PROBES),
              ),
            }),
    },
    spec: {
      ...spec,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      initContainers: [...ours, ...init],
      containers,
      volumes: [...volumes, ...shape.volumes],
    },
  };
  const secrets = credentialSecrets(entry);
  const [first, ...more] = [
    ...checkPod(spec, entry),
    ...checkVolumes(volumes, secrets),
    ...[...init, ...containers].flatMap((c) => checkContainer(map(c), spec, secrets)),
  ];
  if (first !== undefined) return refuse([first, ...more]);
  return {
    outcome: "inject",
    sidecar: entry.name,
    size: shape.class,
    patch: difference(pod, after),
    warnings: list(spec["containers"])
      .filter((c) => list(c["ports"]).length > 0)
      .map(
        (c) =>
          `container \`${text(c["name"])}\` declares ports: nothing reaches a governed agent from outside`,
      ),
  };
}

function knownTargets(annotations: JsonMap): ProbeTarget[] | undefined {
  const stored = annotations[ANNOTATION_PROBES];
  if (stored === undefined) return [];
  try {
    const parsed: unknown = JSON.parse(text(stored));
    // Its members are the guardian's to check; here only their count matters.
    return Array.isArray(parsed) ? (parsed as ProbeTarget[]) : undefined;
  } catch {
    return undefined;
  }
}

interface Edit {
  readonly entry: IndexEntry;
  readonly tokens: ReadonlySet<string>;
  readonly targets: ProbeTarget[];
  readonly known: number;
}

/** Safe values where the owner has said nothing, the agent's environment, no token, and probes by the guardian. */
function editContainer(container: JsonMap, spec: JsonMap, edit: Edit): JsonMap {
  const result: Record<string, Json | undefined> = { ...rewriteProbes(container, edit.targets, edit.known) };
  const security = map(container["securityContext"]);
  const shared = map(spec["securityContext"]);
  const capabilities = map(security["capabilities"]);
  result["securityContext"] = {
    ...security,
    ...(security["allowPrivilegeEscalation"] === undefined ? { allowPrivilegeEscalation: false } : {}),
    ...(capabilities["drop"] === undefined ? { capabilities: { ...capabilities, drop: ["ALL"] } } : {}),
    ...(security["runAsNonRoot"] === undefined && shared["runAsNonRoot"] === undefined
      ? { runAsNonRoot: true }
      : {}),
    ...(security["seccompProfile"] === undefined && shared["seccompProfile"] === undefined
      ? { seccompProfile: { type: "RuntimeDefault" } }
      : {}),
  };
  if (Array.isArray(container["volumeMounts"])) {
    const kept = list(container["volumeMounts"]).filter((m) => !edit.tokens.has(text(m["name"])));
    if (kept.length === 0) delete result["volumeMounts"];
    else result["volumeMounts"] = kept;
  }
  const agents = edit.entry.agentContainers ?? [];
  if (agents.length === 0 || agents.includes(text(container["name"]))) {
    const given = new Set(AGENT_ENVIRONMENT.map(([name]) => name));
    result["env"] = [
      ...list(container["env"]).filter((e) => !given.has(text(e["name"]))),
      ...AGENT_ENVIRONMENT.map(([name, value]) => ({ name, value })),
    ];
  }
  return result;
}
