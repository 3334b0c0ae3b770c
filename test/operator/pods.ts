// Pods as nobody would write them: most members at random, some of them of the wrong kind.
import fc from "fast-check";
import type { Json } from "../../operator/kinds/kinds.ts";

/** Mostly the first ones, now and then one of the others. */
const mostly = <T>(usual: readonly T[], rare: readonly T[]): fc.Arbitrary<T> =>
  fc.oneof(
    { weight: 14, arbitrary: fc.constantFrom(...usual) },
    { weight: 1, arbitrary: fc.constantFrom(...rare) },
  );
const word = fc.constantFrom(
  "agent",
  "helper",
  "mesh",
  "a",
  "web",
  "atoll-lock",
  "atoll-guardian",
  "atoll-x",
  "__proto__",
  "constructor",
);
const name = fc.oneof({ weight: 40, arbitrary: fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/) }, word);
const maybe = <T>(a: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(a, { nil: undefined, freq: 3 });
const port = fc.oneof(
  { weight: 14, arbitrary: fc.integer({ min: 1, max: 14999 }) },
  { weight: 1, arbitrary: fc.constantFrom<number | string>("web", "8080", 15080, 15090, 0) },
);
const handler = fc.oneof(
  fc.record({
    httpGet: fc.record({
      path: maybe(fc.constantFrom("/", "/probe/0", "/x")),
      port,
      host: maybe(mostly(["", "127.0.0.1"], ["evil.example"])),
    }),
  }),
  fc.record({ tcpSocket: fc.record({ port }) }),
  fc.record({ grpc: fc.record({ port: fc.integer({ min: 1, max: 65535 }) }) }),
  fc.record({ exec: fc.constant({ command: ["true"] }) }),
  fc.record({ sleep: fc.constant({ seconds: 1 }) }),
);
const id = mostly([1, 1000, 2000], [0, 64521, 64523]);
const security = fc.record(
  {
    runAsUser: id,
    runAsGroup: id,
    runAsNonRoot: mostly([true], [false]),
    privileged: mostly([false], [true]),
    allowPrivilegeEscalation: mostly([false], [true]),
    readOnlyRootFilesystem: fc.boolean(),
    seccompProfile: mostly([{ type: "RuntimeDefault" }], [{ type: "Unconfined" }]),
    capabilities: fc.record({
      drop: maybe(mostly([["ALL"]], [["NET_RAW"]])),
      add: maybe(mostly([["NET_BIND_SERVICE"]], [["NET_ADMIN"]])),
    }),
  },
  { requiredKeys: [] },
);
const container = fc.record(
  {
    name,
    image: fc.constant("image:1"),
    securityContext: fc.oneof({ weight: 3, arbitrary: fc.constant({ runAsUser: 1000 }) }, security),
    env: fc.array(
      fc.record({ name: fc.constantFrom("A", "OPENAI_API_KEY", "NODE_OPTIONS"), value: fc.string() }),
      { maxLength: 3 },
    ),
    ports: fc.constantFrom([], [{ name: "web", containerPort: 8080 }]),
    volumeMounts: fc.array(
      fc.record({
        name: mostly(["v0", "v1", "kube-api-access-abcde"], ["atoll-journal"]),
        mountPath: fc.constantFrom("/a", "/b"),
      }),
      { maxLength: 2 },
    ),
    startupProbe: handler,
    readinessProbe: handler,
    livenessProbe: handler,
    lifecycle: fc.record({ preStop: maybe(handler), postStart: maybe(handler) }),
    restartPolicy: fc.constant("Always"),
    extra: fc.jsonValue({ maxDepth: 2 }),
  },
  { requiredKeys: ["name", "image"] },
);
const volume = fc.oneof(
  { arbitrary: fc.record({ name: fc.constant("v1"), hostPath: fc.constant({ path: "/" }) }), weight: 1 },
  fc.record({ name: mostly(["v0", "v1"], ["atoll-mine"]), emptyDir: fc.constant({}) }),
  fc.record({ name: fc.constantFrom("v0", "v1"), configMap: fc.constant({ name: "c" }) }),
  fc.record({
    name: fc.constant("kube-api-access-abcde"),
    projected: fc.constant({ sources: [{ serviceAccountToken: { path: "token" } }] }),
  }),
);
const text = fc.oneof(fc.stringMatching(/^[a-z0-9]{0,6}$/), fc.string({ maxLength: 8 }));

/** Any pod, also one that no API server would take. */
export const anyPod: fc.Arbitrary<Json> = fc.oneof(
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }) },
  {
    weight: 20,
    arbitrary: fc.record(
      {
        apiVersion: fc.constant("v1"),
        kind: fc.constant("Pod"),
        metadata: fc.record(
          {
            name: fc.constant("x"),
            labels: fc.dictionary(
              fc.constantFrom("app", "atoll.dev/sidecar", "a~b", "a/b", "__proto__"),
              text,
              { maxKeys: 3 },
            ),
            annotations: fc.dictionary(
              fc.constantFrom("note", "atoll.dev/size", "atoll.dev/probes", "a~1b"),
              fc.oneof(
                { weight: 1, arbitrary: text },
                { weight: 8, arbitrary: fc.constantFrom("large", "[]") },
              ),
              { maxKeys: 2 },
            ),
            extra: fc.jsonValue({ maxDepth: 2 }),
          },
          { requiredKeys: [] },
        ),
        spec: fc.record(
          {
            containers: fc.array(container, { minLength: 1, maxLength: 3 }),
            initContainers: fc.array(container, { maxLength: 2 }),
            volumes: fc.array(volume, { maxLength: 3 }),
            securityContext: security,
            hostNetwork: mostly([false], [true]),
            dnsPolicy: mostly(["ClusterFirst"], ["None"]),
            enableServiceLinks: fc.boolean(),
            automountServiceAccountToken: fc.boolean(),
            runtimeClassName: mostly(["proved"], ["strange"]),
            extra: fc.jsonValue({ maxDepth: 3 }),
          },
          { requiredKeys: ["containers"] },
        ),
        extra: fc.jsonValue({ maxDepth: 2 }),
      },
      { requiredKeys: ["metadata", "spec"] },
    ),
  },
);

/** Pods that an API server takes when it is not governed: for the question whether what the injector makes is admitted. */
export const goodPod: fc.Arbitrary<Json> = fc
  .record({
    containers: fc.uniqueArray(container, { minLength: 1, maxLength: 3, selector: (c) => c.name }),
    initContainers: fc.uniqueArray(container, { maxLength: 2, selector: (c) => c.name }),
    volumes: fc.uniqueArray(volume, { maxLength: 2, selector: (v) => v.name }),
    securityContext: maybe(security),
    annotations: fc.dictionary(
      fc.constantFrom("note", "atoll.dev/size"),
      fc.constantFrom("large", "default"),
      { maxKeys: 2 },
    ),
  })
  .map(({ annotations, containers, initContainers, volumes, securityContext }): Json => {
    const mounted = new Set(volumes.map((v) => v.name));
    const tidy = (c: (typeof containers)[number], init: boolean): Json => {
      const {
        extra: _,
        restartPolicy,
        startupProbe,
        readinessProbe,
        livenessProbe,
        lifecycle,
        securityContext: own,
        ...rest
      } = c;
      const named = /^[a-z][a-z0-9-]*$/.test(c.name) ? c.name : "odd";
      const mounts = [...new Map((c.volumeMounts ?? []).map((m) => [m.mountPath, m])).values()].filter((m) =>
        mounted.has(m.name as "v0"),
      );
      const lasting = !init || restartPolicy !== undefined;
      const { privileged, allowPrivilegeEscalation, ...secured } = (own ?? {}) as Record<string, Json>;
      return JSON.parse(
        JSON.stringify({
          ...rest,
          name: named,
          volumeMounts: mounts,
          securityContext: {
            ...secured,
            privileged,
            ...(privileged === true ? {} : { allowPrivilegeEscalation }),
          },
          ...(lasting
            ? {
                startupProbe: probe(startupProbe),
                readinessProbe: probe(readinessProbe),
                livenessProbe: probe(livenessProbe),
                lifecycle,
              }
            : {}),
          ...(init && restartPolicy !== undefined ? { restartPolicy } : {}),
        }),
      ) as Json;
    };
    const probe = (h: unknown): unknown =>
      typeof h === "object" && h !== null && "sleep" in h ? undefined : h;
    const {
      privileged: _p,
      allowPrivilegeEscalation: _a,
      capabilities: _c,
      readOnlyRootFilesystem: _r,
      ...podSecurity
    } = (securityContext ?? {}) as Record<string, Json>;
    return {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "x", annotations },
      spec: {
        containers: containers.map((c) => tidy(c, false)),
        initContainers: initContainers.map((c) => tidy(c, true)),
        volumes,
        securityContext: podSecurity,
      },
    };
  });
