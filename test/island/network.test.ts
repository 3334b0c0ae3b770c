import { expect, test } from "vitest";
import {
  added,
  canaryAddresses,
  canaryText,
  egressRules,
  foreignPolicy,
  ingressRules,
  islandConditions,
  islandPolicies,
  serveCanary,
  watchCanary,
  widenings,
} from "../../operator/island/island.ts";
import type { GuardianSidecar, JsonMap } from "../../operator/kinds/kinds.ts";

const sidecar = (island: object = {}): GuardianSidecar => ({
  metadata: { name: "strong" },
  spec: {
    image: "x@sha256:0",
    conformanceLevel: "L1",
    policyBundleRef: { bundleId: "b" },
    namespaceSelector: {},
    island,
  },
});
const egress = [
  { cidr: "203.0.113.0/24", ports: [443] },
  { host: "*.docs.example", ports: [443, 8443] },
  { pods: { namespace: "tools", labels: { app: "search" } }, ports: [8080] },
];

test("the policy is default-deny, selects by the label that admission fixed, and opens what was declared and no more", () => {
  const [policy, more] = islandPolicies(sidecar({ egress }), "team-a");
  expect(more).toBeUndefined();
  expect(policy).toMatchObject({
    metadata: { name: "atoll-island-strong", namespace: "team-a" },
    spec: {
      podSelector: { matchLabels: { "atoll.dev/sidecar": "strong" } },
      policyTypes: ["Ingress", "Egress"],
      ingress: [{ ports: [{ protocol: "TCP", port: 15_090 }] }],
    },
  });
  const text = JSON.stringify(egressRules(sidecar({ egress })));
  expect(text).not.toContain("UDP");
  for (const never of ["10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "127.0.0.0/8"])
    expect(text).toContain(`"${never}"`);
  const everywhere = egressRules(sidecar({ egress })).filter((r) => JSON.stringify(r).includes("0.0.0.0/0"));
  expect(everywhere).toHaveLength(1);
  expect(everywhere[0]).toMatchObject({ ports: [{ port: 443 }, { port: 8443 }] });
});

test("without declared egress there are the operator and the names, without the lock the gateway alone", () => {
  expect(egressRules(sidecar()).map((r) => r["ports"])).toEqual([
    [{ protocol: "TCP", port: 8443 }],
    [{ protocol: "TCP", port: 53 }],
  ]);
  expect(egressRules(sidecar({ inPodLock: "none", egress })).map((r) => r["ports"])).toEqual([
    [{ protocol: "TCP", port: 15_443 }],
  ]);
  expect(islandPolicies(sidecar({ networkPolicy: false }), "team-a")).toEqual([]);
  // No rule is ever without peers: such a rule would open everything.
  for (const island of [{ egress }, {}, { inPodLock: "none" }, { egress: [{ ports: [1] }] }])
    for (const rule of egressRules(sidecar(island)))
      expect(Array.isArray(rule["to"]) && rule["to"].length).toBeGreaterThan(0);
});

const policy = (spec: JsonMap, namespace = "team-a") =>
  foreignPolicy({ metadata: { name: "theirs", namespace }, spec });
const agent = { namespace: "team-a", name: "one", labels: { "atoll.dev/sidecar": "strong", app: "x" } };
const widen = (spec: JsonMap, namespace?: string) =>
  widenings([agent], { ingress: ingressRules(), egress: egressRules(sidecar({ egress })) }, [
    policy(spec, namespace),
  ]).map((w) => w.direction);

test.each<[string, JsonMap, string[]]>([
  ["all egress", { podSelector: {}, policyTypes: ["Egress"], egress: [{}] }, ["egress"]],
  ["all ingress, by an absent type list", { podSelector: {}, ingress: [{}] }, ["ingress"]],
  [
    "one address more",
    {
      podSelector: { matchLabels: { app: "x" } },
      policyTypes: ["Egress"],
      egress: [{ to: [{ ipBlock: { cidr: "10.1.2.3/32" } }], ports: [{ port: 443 }] }],
    },
    ["egress"],
  ],
  [
    "a wider public range, where a name was declared for that port",
    {
      podSelector: {},
      policyTypes: ["Egress"],
      egress: [{ to: [{ ipBlock: { cidr: "203.0.112.0/23" } }], ports: [{ port: 443 }] }],
    },
    [],
  ],
  [
    "a range that holds what ours spares",
    {
      podSelector: {},
      policyTypes: ["Egress"],
      egress: [{ to: [{ ipBlock: { cidr: "8.0.0.0/5" } }], ports: [{ port: 443 }] }],
    },
    ["egress"],
  ],
  [
    "one port more",
    {
      podSelector: {},
      policyTypes: ["Egress"],
      egress: [{ to: [{ ipBlock: { cidr: "203.0.113.0/25" } }], ports: [{ port: 443, endPort: 444 }] }],
    },
    ["egress"],
  ],
  [
    "UDP to what is declared for TCP",
    {
      podSelector: {},
      policyTypes: ["Egress"],
      egress: [{ to: [{ ipBlock: { cidr: "203.0.113.1/32" } }], ports: [{ protocol: "UDP", port: 443 }] }],
    },
    ["egress"],
  ],
  [
    "other pods of a namespace that is open in part",
    {
      podSelector: {},
      policyTypes: ["Egress"],
      egress: [
        {
          to: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "tools" } } }],
          ports: [{ port: 8080 }],
        },
      ],
    },
    ["egress"],
  ],
  [
    "a selector that takes ours by an expression",
    {
      podSelector: { matchExpressions: [{ key: "app", operator: "NotIn", values: ["y"] }] },
      policyTypes: ["Ingress", "Egress"],
      ingress: [{ from: [{ podSelector: {} }] }],
      egress: [{ to: [{ podSelector: {} }] }],
    },
    ["egress", "ingress"],
  ],
])("a policy with %s", (_, spec, directions) => {
  expect(widen(spec)).toEqual(directions);
});

test.each<[string, JsonMap, string?]>([
  ["denies only", { podSelector: {}, policyTypes: ["Ingress", "Egress"] }],
  [
    "leaves governed pods out",
    {
      podSelector: { matchExpressions: [{ key: "atoll.dev/sidecar", operator: "DoesNotExist" }] },
      policyTypes: ["Egress"],
      egress: [{}],
    },
  ],
  ["is of another namespace", { podSelector: {}, policyTypes: ["Egress"], egress: [{}] }, "team-b"],
  [
    "repeats a part of what is declared",
    {
      podSelector: {},
      policyTypes: ["Egress"],
      egress: [{ to: [{ ipBlock: { cidr: "203.0.113.128/25" } }], ports: [{ protocol: "TCP", port: 443 }] }],
    },
  ],
])("a policy that %s widens nothing", (_, spec, namespace) => {
  expect(widen(spec, namespace)).toEqual([]);
});

test("our own rules add nothing to themselves, and each of them does to the rules of a bare sidecar", () => {
  const ours = egressRules(sidecar({ egress }));
  expect(added(ours, ours, "to")).toBeUndefined();
  for (const rule of ours.slice(2)) expect(added([rule], egressRules(sidecar()), "to")).toBeDefined();
});

test("the canary is alive only when it says its own word, and its death is seen", async () => {
  const bird = await serveCanary(0);
  const changes: (readonly string[] | undefined)[] = [];
  const addresses = canaryText(["127.0.0.1", "::1"], bird.port);
  expect(canaryAddresses(addresses)).toEqual([
    { host: "127.0.0.1", port: bird.port },
    { host: "::1", port: bird.port },
  ]);
  const told = Promise.withResolvers<void>();
  const died = Promise.withResolvers<void>();
  const watch = watchCanary({
    addresses,
    everyMs: 20,
    timeoutMs: 500,
    onChange: () => {
      changes.push(watch.dead());
      (changes.length === 1 ? told : died).resolve();
    },
  });
  expect(watch.dead()).toBeUndefined();
  await told.promise;
  await bird.stop();
  await died.promise;
  watch.stop();
  expect(changes[0]).toEqual([]);
  expect(changes.at(-1)?.length).toBeGreaterThan(0);
  expect(() => canaryAddresses("example.com:7")).toThrow("is not address:port");
  expect(canaryAddresses("none")).toEqual([]);
});

const facts = {
  sidecar: sidecar(),
  proofs: { reported: 2, proved: 2, networkTried: 2, networkProved: 2, broken: [] },
  canary: [] as readonly string[],
  applied: true,
  widenings: [],
  exposed: [],
};
test("both legs are proved only while the canary lives", () => {
  expect(islandConditions(facts)).toMatchObject({
    lock: { ok: true, reason: "Proved" },
    network: { ok: true, reason: "Proved" },
    drift: { drifted: false },
  });
  for (const canary of [["10.0.0.1:7007"], undefined] as const) {
    const { lock, network } = islandConditions({ ...facts, canary });
    expect([lock.ok, network.ok]).toEqual([undefined, undefined]);
  }
});

test.each([
  ["lock", "canary TCP 10.96.0.9:7007", { ok: false }, { ok: true }],
  ["network", "canary TCP 10.96.0.9:7007 by the guardian", { ok: true }, { ok: false }],
] as const)("an answered probe of the %s is named, and the other leg stands", (leg, probe, lock, network) => {
  const broken = [{ leg, pod: "team-a/one", probe }];
  const said = islandConditions({ ...facts, proofs: { ...facts.proofs, broken } });
  expect(said).toMatchObject({ lock, network });
  expect(said[leg]).toMatchObject({ reason: "ProbeAnswered" });
  expect(said[leg].message).toContain(`team-a/one: ${probe}`);
  // Also while the canary is dead: what was reached was reached.
  expect(islandConditions({ ...facts, canary: ["x"], proofs: { ...facts.proofs, broken } })[leg].ok).toBe(
    false,
  );
});

test("a missing policy, a silent guardian, a widening and its after-effect are told", () => {
  expect(islandConditions({ ...facts, applied: false }).network).toMatchObject({
    ok: false,
    reason: "NotApplied",
  });
  expect(islandConditions({ ...facts, proofs: { ...facts.proofs, proved: 1 } }).lock).toMatchObject({
    ok: false,
    reason: "NotProved",
  });
  expect(islandConditions({ ...facts, canary: "none" }).network).toMatchObject({
    ok: undefined,
    reason: "NoCanary",
  });
  expect(
    islandConditions({
      ...facts,
      widenings: [{ policy: "team-a/theirs", direction: "egress", what: "anywhere", pods: ["team-a/one"] }],
    }).drift,
  ).toEqual({ drifted: true, message: "NetworkPolicy team-a/theirs adds egress of 1 pods: anywhere" });
  expect(islandConditions({ ...facts, exposed: ["team-a/one"] }).drift).toMatchObject({ drifted: true });
});
