// The objects of the trial: stand-ins for model and tools, a namespace with one GuardianSidecar, an agent.
import { GITHUB_TOKEN, MODEL_KEY } from "./secrets.ts";
import type { Json } from "./kube.ts";

export const WORLD = "world";
export const TEAM = "team-a";
export const SIDECAR = "repo-agents";
const address = (port: number, path = ""): string =>
  `http://stand-ins.${WORLD}.svc.cluster.local:${port}${path}`;
export const MODEL_URL: string = address(8080, "/v1");
export const TOOLS_URL: string = address(8081, "/mcp");
export const DONE_URL: string = address(8082);

const TRIAL = ["/usr/bin/node", "/opt/atoll/trial.js"];
const restricted = {
  runAsNonRoot: true,
  runAsUser: 10001,
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

export const world = (image: string): Json[] => [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: WORLD } },
  {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "stand-ins", namespace: WORLD },
    spec: {
      selector: { matchLabels: { app: "stand-ins" } },
      template: {
        metadata: { labels: { app: "stand-ins" } },
        spec: {
          automountServiceAccountToken: false,
          terminationGracePeriodSeconds: 1,
          containers: [
            {
              name: "stand-ins",
              image,
              command: [...TRIAL, "serve"],
              env: [
                { name: "MODEL_KEY", value: MODEL_KEY },
                { name: "GITHUB_TOKEN", value: GITHUB_TOKEN },
              ],
              readinessProbe: { httpGet: { path: "/", port: 8082 }, periodSeconds: 1 },
              securityContext: restricted,
            },
          ],
        },
      },
    },
  },
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "stand-ins", namespace: WORLD },
    spec: {
      selector: { app: "stand-ins" },
      ports: [8080, 8081, 8082].map((port) => ({ name: `p${port}`, port })),
    },
  },
];

export const team = (): Json[] => [
  {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: TEAM, labels: { "atoll.dev/governed": "true" } },
  },
  {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "repo-agents", namespace: TEAM },
    stringData: { MODEL_KEY, GITHUB_TOKEN },
  },
  { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "agent", namespace: TEAM } },
];

export const guardianSidecar = (image: string, more: Json = {}): Json => ({
  apiVersion: "atoll.dev/v1alpha1",
  kind: "GuardianSidecar",
  metadata: { name: SIDECAR },
  spec: {
    image,
    conformanceLevel: "L1",
    policyBundleRef: { bundleId: SIDECAR },
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": TEAM } },
    credentials: ["MODEL_KEY", "GITHUB_TOKEN"].map((name) => ({
      name,
      secretRef: { name: "repo-agents", key: name },
    })),
    island: {
      inPodLock: "nftables",
      networkPolicy: true,
      egress: [{ pods: { namespace: WORLD, labels: { app: "stand-ins" } }, ports: [8080, 8081] }],
    },
    ...more,
  },
});

/** An agent as its owner writes it: nothing in it knows of a guardian. */
export const agent = (name: string, image: string, sink: string, command = "agent"): Json => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: TEAM, labels: { app: "agent" } },
  spec: {
    serviceAccountName: "agent",
    terminationGracePeriodSeconds: 5,
    containers: [
      {
        name: "agent",
        image,
        command: [...TRIAL, command],
        env: [{ name: "TRIAL_SINK", value: sink }],
        securityContext: restricted,
      },
    ],
  },
});

export const trial = (...argv: readonly string[]): readonly string[] => [...TRIAL, ...argv];
