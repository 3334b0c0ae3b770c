// The island around a governed pod, as the cluster's network enforces it: default-deny, and egress to exactly what the
// guardian needs. Pure: a GuardianSidecar and a namespace in, objects out.

import { HEALTH_PORT } from "../shape/shape.ts";
import { LABEL_SIDECAR, SYSTEM_NAMESPACE } from "../kinds/kinds.ts";
import type { Egress, GuardianSidecar, JsonMap } from "../kinds/kinds.ts";

export { canaryAddresses, canaryText, serveCanary, watchCanary } from "./canary.ts";
export type { CanaryWatch } from "./canary.ts";
export { islandConditions } from "./conditions.ts";
export type { Leg, ProofCount } from "./conditions.ts";
export { added, foreignPolicy, widenings } from "./widening.ts";
export type { ForeignPolicy, Widening } from "./widening.ts";

export const CONTROL_PORT = 8443;
export const CANARY_PORT = 7007;
export const GATEWAY_PORT = 15443;
/** What the gateway's certificate is for. Nobody resolves it: guardians are given the address. */
export const GATEWAY_NAME = `atoll-egress-gateway.${SYSTEM_NAMESPACE}.svc`;
export const GATEWAY_SECRET = "atoll-gateway-ca";
const DNS_PORT = 53;

/**
 * Where a name may lie that a NetworkPolicy cannot express. Everything else of the address space is reached by being
 * declared as a range, or not at all; the guardian decides about the name.
 */
const PUBLIC: readonly { readonly cidr: string; readonly except: readonly string[] }[] = [
  {
    cidr: "0.0.0.0/0",
    except: [
      "0.0.0.0/8",
      "10.0.0.0/8",
      "100.64.0.0/10",
      "127.0.0.0/8",
      "169.254.0.0/16",
      "172.16.0.0/12",
      "192.0.0.0/24",
      "192.168.0.0/16",
      "198.18.0.0/15",
      "224.0.0.0/4",
      "240.0.0.0/4",
    ],
  },
  // The global unicast range, without the forms that carry an IPv4 address inside (NAT64's 64:ff9b::/96 lies outside it).
  { cidr: "2000::/3", except: ["2001::/32", "2002::/16"] },
];

const named = (namespace: string): JsonMap => ({
  namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
});
const pods = (namespace: string, labels: Readonly<Record<string, string>>): JsonMap => ({
  ...named(namespace),
  podSelector: Object.keys(labels).length === 0 ? {} : { matchLabels: labels },
});
const tcp = (ports: readonly number[]): JsonMap[] => ports.map((port) => ({ protocol: "TCP", port }));

const declared = ({ cidr, host, pods: inside, ports }: Egress): JsonMap => ({
  to:
    cidr !== undefined
      ? [{ ipBlock: { cidr } }]
      : host !== undefined
        ? PUBLIC.map(({ cidr: range, except }) => ({ ipBlock: { cidr: range, except } }))
        : inside === undefined
          ? []
          : [pods(inside.namespace, inside.labels ?? {})],
  ports: tcp(ports),
});

const OPERATOR: JsonMap = {
  to: [pods(SYSTEM_NAMESPACE, { "app.kubernetes.io/name": "atoll-operator" })],
  ports: tcp([CONTROL_PORT]),
};
// The lock leaves it to the guardian alone, over TCP.
const DNS: JsonMap = { to: [pods("kube-system", { "k8s-app": "kube-dns" })], ports: tcp([DNS_PORT]) };
const GATEWAY: JsonMap = {
  to: [pods(SYSTEM_NAMESPACE, { "app.kubernetes.io/name": "atoll-egress-gateway" })],
  ports: tcp([GATEWAY_PORT]),
};

/** An egress rule without peers would open everything, so a destination that names none yields none. */
const meansSomething = (rule: JsonMap): boolean => Array.isArray(rule["to"]) && rule["to"].length > 0;

export const egressRules = (sidecar: GuardianSidecar): readonly JsonMap[] => {
  // Without the lock, agent and guardian are one to the network: what one may reach, the other may. So there is one
  // destination, which knows the guardian by its certificate, and names are resolved behind it.
  if (sidecar.spec.island?.inPodLock === "none") return [GATEWAY];
  return [OPERATOR, DNS, ...(sidecar.spec.island?.egress ?? []).map(declared)].filter(meansSomething);
};
/** Probes and metrics. From whom cannot be said: the kubelet is no pod, and the lock opens no other port. */
export const ingressRules = (): readonly JsonMap[] => [{ ports: tcp([HEALTH_PORT]) }];

export const islandPolicyName = (sidecar: string): string => `atoll-island-${sidecar}`;

/** The NetworkPolicy of a sidecar in one namespace, or none where the sidecar does without. */
export const islandPolicies = (sidecar: GuardianSidecar, namespace: string): readonly JsonMap[] =>
  sidecar.spec.island?.networkPolicy === false
    ? []
    : [
        {
          apiVersion: "networking.k8s.io/v1",
          kind: "NetworkPolicy",
          metadata: {
            name: islandPolicyName(sidecar.metadata.name),
            namespace,
            labels: {
              "app.kubernetes.io/managed-by": "atoll",
              [LABEL_SIDECAR]: sidecar.metadata.name,
            },
          },
          spec: {
            podSelector: { matchLabels: { [LABEL_SIDECAR]: sidecar.metadata.name } },
            policyTypes: ["Ingress", "Egress"],
            ingress: ingressRules(),
            egress: egressRules(sidecar),
          },
        },
      ];
